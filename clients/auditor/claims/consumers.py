"""What consumers hold, in the auditor's ledger, and which server groups they are in."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

Key = tuple[str, str]
"""(cell, id)."""


GRANTED_BY_NAME: Final = 64
"""What a part counts where parts are limited, if it was granted by name (devices, CPUs); any other counts 1."""


class Asked(NamedTuple):
    """One ask of a claim: of one class, at one provider, for one request group."""

    provider: str
    name: str
    ask: Any
    group: str


class HeldByConsumer(NamedTuple):
    """What a consumer holds: (provider, class, amount) each. `hold_until_ms` is None once the allocation is confirmed.
    `memberships`: its server groups; `copies`: the providers of each of its copies; `grants`: what it was granted by
    name, from the store's verdict; `asked`: the asks of its claim, in order."""

    claim: str
    generation: int
    parts: tuple[tuple[str, str, int], ...]
    hold_until_ms: int | None
    memberships: tuple[Mapping[str, Any], ...] = ()
    copies: tuple[Collection[str], ...] = ()
    grants: tuple[Mapping[str, Any], ...] = ()
    asked: tuple[Asked, ...] = ()

    def weight(self, of_group: int) -> int:
        """Its parts, as the limits of a record count them. A server group of the consumer counts as `of_group`."""
        return len(self.parts) + (GRANTED_BY_NAME - 1) * len(self.grants) + of_group * len(self.memberships)


class Consumers(dict[Key, HeldByConsumer]):
    """Consumer -> what it holds. `groups`: group id -> its members in the order in which they joined; `granted`: (cell,
    provider, class) -> consumer -> its grants."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: dict[str, dict[Key, None]] = {}
        self.granted: dict[tuple[str, str, str], dict[Key, list[Any]]] = {}

    def enter(self, key: Key, held: HeldByConsumer) -> None:
        """Replace what a consumer holds."""
        self._leave(key)
        self[key] = held
        for membership in held.memberships:
            self.groups.setdefault(membership["group"], {})[key] = None
        for one in held.grants:
            there = self.granted.setdefault((key[0], one["provider"], one["resource_class"]), {})
            there.setdefault(key, []).append(one["grant"])

    def remove(self, key: Key) -> HeldByConsumer:
        """Remove a consumer, and return what it held."""
        self._leave(key)
        return self.pop(key)

    def keep(self, cell: str, consumers: Iterable[str]) -> None:
        """Confirm the holds of these consumers: they no longer expire."""
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
