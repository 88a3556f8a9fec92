"""A view for one consumer that moves or is resized: what it holds counts as free, and it is in no server group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.group_members import GroupMembers
from vacancy.projections.view.reserved_view import ReservedView
from vacancy.resources.state.rows import AllocationPart, ClassRow, ServerGroupRow
from vacancy.resources.state.tables import ClassTable, key


class ConsumerView(ReservedView):
    """The view `base` without what `consumer` holds: `held` has its parts by cell. The base does not change. It is valid as
    long as the base does not change."""

    def __init__(self, base: FleetView, consumer: str, held: Mapping[str, Sequence[AllocationPart]]) -> None:
        super().__init__(base)
        self._freed: dict[tuple[str, bytes], ClassRow] = {}
        self._read = self._read_freed
        self._read_base = base._read
        self.groups = _MembersWithout(base.groups, consumer)
        for cell, parts in held.items():
            for part in parts:
                self._free(cell, part)

    def _free(self, cell: str, part: AllocationPart) -> None:
        """Count what a part gives as free."""
        row, name = self.row_of.get(key(cell, part.provider)), part.resource_class
        columns = self.classes.get(name)
        found = None if row is None else self.class_row(row, name)
        if row is None or columns is None or found is None:
            return  # its provider is gone, or the class is left out
        record = columns.resource_class.release(found.record, part.grant)
        self._freed[name, self.keys[row]] = replace(found, record=record)
        self.copy_columns(name)
        self._refresh(row, name)

    def _read_freed(self, table: ClassTable, row_key: bytes) -> ClassRow | None:
        freed = self._freed.get((table.name, row_key[len(table.prefix) :]))
        return self._read_base(table, row_key) if freed is None else freed


class _MembersWithout(GroupMembers):
    """The server groups without one consumer."""

    def __init__(self, base: GroupMembers, consumer: str) -> None:
        self.__dict__.update(base.__dict__)
        self._base, self._consumer = base, consumer

    def row(self, key: bytes) -> ServerGroupRow | None:
        """See `GroupMembers.row`."""
        found = self._base.row(key)
        if found is None:
            return None
        return replace(found, members=tuple(one for one in found.members if one.consumer != self._consumer))
