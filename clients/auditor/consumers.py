"""What consumers hold by the auditor's ledger, and which server groups they are in."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

Key = tuple[str, str]
"""(cell, id)."""


class HeldByConsumer(NamedTuple):
    """What a consumer holds: (provider, class, amount) each. `hold_until_ms` is None once it is kept. `memberships`
    are the server groups it is in, `copies` the providers that each of its copies is on; `grants` name the devices
    among what it holds, as the store's verdict tells."""

    claim: str
    generation: int
    parts: tuple[tuple[str, str, int], ...]
    hold_until_ms: int | None
    memberships: tuple[Mapping[str, Any], ...] = ()
    copies: tuple[Collection[str], ...] = ()
    grants: tuple[Mapping[str, Any], ...] = ()


class Consumers(dict[Key, HeldByConsumer]):
    """Who holds what. `groups` has by group's id who is in it, in the order in which they joined, `granted` by cell,
    provider and class what of its devices is held by whom."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: dict[str, dict[Key, None]] = {}
        self.granted: dict[tuple[str, str, str], dict[Key, list[Any]]] = {}

    def enter(self, key: Key, held: HeldByConsumer) -> None:
        """A consumer holds this, and nothing that it held before."""
        self._leave(key)
        self[key] = held
        for membership in held.memberships:
            self.groups.setdefault(membership["group"], {})[key] = None
        for one in held.grants:
            there = self.granted.setdefault((key[0], one["provider"], one["resource_class"]), {})
            there.setdefault(key, []).append(one["grant"])

    def remove(self, key: Key) -> HeldByConsumer:
        """A consumer holds nothing any more."""
        self._leave(key)
        return self.pop(key)

    def keep(self, cell: str, consumers: Iterable[str]) -> None:
        """What these hold is no hold any more."""
        for consumer in consumers:
            if (held := self.get((cell, consumer))) is not None:
                self[(cell, consumer)] = held._replace(hold_until_ms=None)

    def _leave(self, key: Key) -> None:
        held = self.get(key)
        for one in held.grants if held is not None else ():
            self.granted[(key[0], one["provider"], one["resource_class"])].pop(key, None)
        for membership in held.memberships if held is not None else ():
            there = self.groups[membership["group"]]
            there.pop(key, None)
            if not there:
                del self.groups[membership["group"]]
