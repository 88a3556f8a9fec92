"""What explanations say of a lack besides its numbers: whether releases would help, and which members of a server group
keep a node from serving one more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.classes.resource_class import Granted
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.model.request import Ask
from vacancy.resources.model.server_group import ServerGroupMembership, group_cell, group_name
from vacancy.resources.state.rows import AllocationPart, AllocationRow
from vacancy.resources.state.tables import ALLOCATIONS, GROUPS, PROVIDERS, key, split_key

_NAMES_SHOWN = 5


class EmptyProviders:
    """The providers of a cell as if nobody held anything of them."""

    def __init__(self, reader: StoreReader, cell: str) -> None:
        self._reader, self._cell = reader, cell
        self._held: dict[tuple[str, str], list[AllocationPart]] | None = None

    def would_fit(self, provider: str, name: str, ask: Ask) -> bool:
        """Whether a provider would then serve an ask for a class."""
        view = self._reader.view
        row = view.row_of.get(key(self._cell, provider))
        found = None if row is None else view.class_row(row, name)
        if found is None or name not in view.classes:
            return False
        if self._held is None:
            self._held = {}
            for part in (part for allocation in self._allocations() for part in allocation.parts):
                self._held.setdefault((part.provider, part.resource_class), []).append(part)
        record, resource_class = found.record, view.classes[name].resource_class
        for part in self._held.get((provider, name), ()):
            record = resource_class.release(record, part.grant)
        return isinstance(resource_class.claim(record, ask), Granted)

    def _allocations(self) -> Iterator[AllocationRow]:
        partition = partition_for(self._cell, self._reader.manifest.partitions)
        for name, data in self._reader.raw(partition, ALLOCATIONS.family):
            if split_key(name)[0] == self._cell:
                yield ALLOCATIONS.decode(data)


def members_text(reader: StoreReader, membership: ServerGroupMembership, cell: str, root: str) -> str:
    """Which members of a server group keep a node from serving one more, '' if that is not known."""
    row = reader.get(GROUPS, key(group_cell(membership.group), group_name(membership.group)))
    if row is None or group_cell(membership.group) != cell:
        return ""
    nodes: dict[str, set[str]] = {}
    for member in row.members:
        held = reader.get(ALLOCATIONS, key(cell, member.consumer))
        for part in () if held is None else held.parts:
            provider = reader.get(PROVIDERS, key(cell, part.provider))
            if provider is not None:
                nodes.setdefault(provider.root, set()).add(member.consumer)
    if membership.policy == "affinity":
        return f"its members are on {_listed(nodes)}" if nodes else ""
    if membership.policy == "anti-affinity" and membership.scope is None and root in nodes:
        return f"its members here: {_listed(nodes[root])}"
    return ""


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:_NAMES_SHOWN])
    left = len(names) - _NAMES_SHOWN
    return f"{shown} and {left} more" if left > 0 else shown
