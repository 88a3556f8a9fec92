"""Server groups as a scheduler sees them: who is in them by the store, and by its own claims under way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from vacancy.resources.state.rows import ServerGroupRow
from vacancy.resources.state.tables import GROUPS


class ReservedMembership(NamedTuple):
    """A claim under way makes a consumer a member of a group. `providers` are keys, those of each copy together."""

    group: bytes
    consumer: str
    providers: tuple[tuple[bytes, ...], ...]


class GroupMembers:
    """The groups of all cells by key. A consumer that the store knows as a member counts once."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._decoded: dict[bytes, ServerGroupRow] = {}
        self.joining: dict[bytes, dict[str, ReservedMembership]] = {}
        """Claims of one's own that have no verdict yet, by group and consumer."""

    def feed(self, items: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Take in rows of the table."""
        for key, data in items:
            self._decoded.pop(key, None)
            if data is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = data

    def join(self, them: Iterable[ReservedMembership]) -> None:
        """A claim is under way."""
        for one in them:
            self.joining.setdefault(one.group, {})[one.consumer] = one

    def leave(self, them: Iterable[ReservedMembership]) -> None:
        """That claim is decided: the rows of the store contain it."""
        for one in them:
            there = self.joining.get(one.group, {})
            if there.get(one.consumer) is one:
                del there[one.consumer]
                if not there:
                    del self.joining[one.group]

    def row(self, key: bytes) -> ServerGroupRow | None:
        """The group as the store has it."""
        found = self._decoded.get(key)
        if found is None and (data := self._rows.get(key)) is not None:
            found = self._decoded[key] = GROUPS.decode(data)
        return found

    def places(self, key: bytes) -> list[tuple[bytes, ...]]:
        """For each member's each copy the keys of the providers that it is on."""
        row = self.row(key)
        cell = key[: key.index(b"\0") + 1]
        members = row.members if row is not None else ()
        found = [tuple(cell + id_.encode() for id_ in place) for member in members for place in member.places]
        known = {member.consumer for member in members}
        for one in self.joining.get(key, {}).values():
            if one.consumer not in known:
                found += one.providers
        return found
