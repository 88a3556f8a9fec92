"""The members of server groups: those in the store, and those of the scheduler's own claims without a verdict."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from vacancy.resources.state.rows import ServerGroupRow
from vacancy.resources.state.tables import GROUPS


class ReservedMembership(NamedTuple):
    """A membership that a claim without a verdict asks for. `providers` has a tuple of provider keys for each copy."""

    group: bytes
    consumer: str
    providers: tuple[tuple[bytes, ...], ...]


class GroupMembers:
    """The server groups of all cells, by key. A consumer that is a member in the store is not counted again."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._decoded: dict[bytes, ServerGroupRow] = {}
        self.reserved: dict[bytes, dict[str, ReservedMembership]] = {}
        """The memberships of the scheduler's own claims without a verdict, by group and consumer."""

    def feed(self, items: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Apply rows of the table. None means that the group was deleted."""
        for key, data in items:
            self._decoded.pop(key, None)
            if data is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = data

    def reserve(self, memberships: Iterable[ReservedMembership]) -> None:
        """Count these memberships until `unreserve`: their claim has no verdict yet."""
        for one in memberships:
            self.reserved.setdefault(one.group, {})[one.consumer] = one

    def unreserve(self, memberships: Iterable[ReservedMembership]) -> None:
        """Remove the memberships of a claim that has a verdict: the store now contains its members."""
        for one in memberships:
            there = self.reserved.get(one.group, {})
            if there.get(one.consumer) is one:
                del there[one.consumer]
                if not there:
                    del self.reserved[one.group]

    def row(self, key: bytes) -> ServerGroupRow | None:
        """The group's row in the store, or None."""
        found = self._decoded.get(key)
        if found is None and (data := self._rows.get(key)) is not None:
            found = self._decoded[key] = GROUPS.decode(data)
        return found

    def places(self, key: bytes) -> list[tuple[bytes, ...]]:
        """The provider keys of each copy of each member."""
        row = self.row(key)
        cell = key[: key.index(b"\0") + 1]
        members = row.members if row is not None else ()
        found = [tuple(cell + id_.encode() for id_ in place) for member in members for place in member.places]
        known = {member.consumer for member in members}
        for one in self.reserved.get(key, {}).values():
            if one.consumer not in known:
                found += one.providers
        return found
