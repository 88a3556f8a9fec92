"""What differs between two stores: nodes and their inventories, who took and gave back what, and the totals.

Both are read once, in the order of their keys, and compared row by row (a merge join), so the memory is that of what differs
and of the totals. Rows are compared as bytes first: most are equal. No resource class is known here: an inventory is what its
class shows, and an amount what it counts.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

import msgspec

from vacancy.clients.history.row_changes import (
    FieldChange,
    account_fields,
    changed_fields,
    inventory_changes,
    inventory_text,
    parts_text,
    reported_fields,
    settings_fields,
    settings_text,
)
from vacancy.clients.inspection.usage import GrantCounter
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.errors import StoreMismatch
from vacancy.resources.state.rows import AllocationRow, NodeRow
from vacancy.resources.state.tables import (
    ALLOCATIONS,
    CUSTOM_FAMILY,
    FACTS,
    NODES,
    PROVIDERS,
    ClassTable,
    Table,
    key,
    split_key,
)

Row = TypeVar("Row")
What = Literal["came", "gone", "changed"]
Held = Literal["took", "gave back", "changed"]

_CHUNK: Final = 4_096
_decode = msgspec.msgpack.Decoder().decode
_PROJECT = AllocationRow.__struct_fields__.index("project")
_PARTS = AllocationRow.__struct_fields__.index("parts")


@dataclass(frozen=True, slots=True)
class InventoryDifference:
    """What differs of a provider's inventory of one class. The capacity is 0 where there is no inventory."""

    resource_class: str
    capacity_before: int
    capacity_after: int
    changes: tuple[FieldChange, ...]


@dataclass(frozen=True, slots=True)
class ProviderDifference:
    """What differs of a provider: what its node says of it (`changes`), its operator settings, its inventories."""

    provider: str
    what: What
    changes: tuple[FieldChange, ...]
    settings: tuple[FieldChange, ...]
    inventories: tuple[InventoryDifference, ...]

    @property
    def text(self) -> str:
        """The differences in one line for people."""
        texts: list[str] = [self.what] if self.what != "changed" else []
        if self.what == "changed":
            texts += [one.text for one in self.changes]
        texts += [inventory_text(one.resource_class, one.changes) for one in self.inventories]
        if self.settings:
            texts.append(settings_text(self.settings))
        return ", ".join(texts)


@dataclass(frozen=True, slots=True)
class NodeDifference:
    """What differs of a node: `state` is whether it is retired and complete. `cell` is its cell."""

    node: str
    cell: str
    what: What
    state: tuple[FieldChange, ...]
    providers: tuple[ProviderDifference, ...]

    @property
    def text(self) -> str:
        """The differences in one line for people."""
        state = [one.text for one in self.state] if self.what == "changed" else []
        parts = [
            one.text if one.provider == self.node else f"{one.provider}: {one.text}" for one in self.providers
        ]
        return "; ".join([*state, *parts]) or self.what


@dataclass(frozen=True, slots=True)
class ConsumerDifference:
    """What differs of what a consumer holds in a cell. `before` and `after` are what it held and holds: provider -> unit ->
    amount. `changes` are its claim, project, user, type, server groups and hold."""

    consumer: str
    cell: str
    what: Held
    project: str
    before: dict[str, dict[str, int]]
    after: dict[str, dict[str, int]]
    changes: tuple[FieldChange, ...]
    text: str


@dataclass(slots=True)
class Total:
    """The total of one unit (`VCPU`, `NUMA_CELL.memory_mb`). The capacity is None where a class offers no capacity in it."""

    unit: str
    capacity_before: int | None = None
    capacity_after: int | None = None
    used_before: int = 0
    used_after: int = 0

    @property
    def changed(self) -> bool:
        """Whether it differs."""
        return (self.capacity_before, self.used_before) != (self.capacity_after, self.used_after)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two stores: its log, its position (partition -> next offset), and its newest log time (milliseconds since
    1970, UTC)."""

    log: str
    position: dict[int, int]
    time_ms: int


@dataclass(frozen=True, slots=True)
class Differences:
    """All that differs between two stores. Nodes and consumers are ordered by cell and name, totals by unit. `by_project` and
    `by_cell` are totals by unit of each project and each cell."""

    before: Side
    after: Side
    nodes: list[NodeDifference]
    consumers: list[ConsumerDifference]
    totals: list[Total]
    by_project: dict[str, list[Total]]
    by_cell: dict[str, list[Total]]


def differences(
    before: StoreReader,
    after: StoreReader,
    *,
    across_logs: bool = False,
    names: tuple[str, str] | None = None,
) -> Differences:
    """What differs between two stores, as of their positions: what `after` has and `before` has not, and so on.

    Raises `StoreMismatch` for stores of different logs unless `across_logs`, with `names` (default: their directories);
    `StoreError` where they cannot be read.
    """
    if before.manifest.log != after.manifest.log and not across_logs:
        raise StoreMismatch(
            f"the stores are of different logs: {before.manifest.log} and {after.manifest.log}",
            where=", ".join(names or (str(before.path), str(after.path))),
            do="give --across-logs if they are to be compared",
        )
    return _Comparison(before, after).result()


def joined(
    before: Iterable[tuple[bytes, bytes]], after: Iterable[tuple[bytes, bytes]]
) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    """(key, row before, row after) of two sequences that are sorted by key; None where one has no row."""
    ours, theirs = iter(before), iter(after)
    one, other = next(ours, None), next(theirs, None)
    while one is not None and other is not None:
        if one[0] < other[0]:
            yield one[0], one[1], None
            one = next(ours, None)
        elif other[0] < one[0]:
            yield other[0], None, other[1]
            other = next(theirs, None)
        else:
            yield one[0], one[1], other[1]
            one, other = next(ours, None), next(theirs, None)
    while one is not None:
        yield one[0], one[1], None
        one = next(ours, None)
    while other is not None:
        yield other[0], None, other[1]
        other = next(theirs, None)


@dataclass(slots=True)
class _Provider:
    """What was found of a provider."""

    came: bool = False
    gone: bool = False
    root: str = ""
    changes: list[FieldChange] = field(default_factory=list)
    settings: list[FieldChange] = field(default_factory=list)
    inventories: list[InventoryDifference] = field(default_factory=list)


class _Comparison:
    """Compares two stores."""

    def __init__(self, before: StoreReader, after: StoreReader) -> None:
        self._before, self._after = before, after
        self._registry: Registry = after.registry
        self._providers: dict[tuple[str, str], _Provider] = {}
        self._states: dict[tuple[str, str], tuple[What, tuple[FieldChange, ...]]] = {}
        self._consumers: list[ConsumerDifference] = []
        self._totals = _Totals()

    def result(self) -> Differences:
        """All differences."""
        self._compare_providers()
        self._compare_settings()
        self._compare_nodes()
        newest = RULES_VERSIONS.newest
        for family in sorted(self._registry.families_of(newest.classes)):
            self._compare_inventories(family)
        self._compare_allocations()
        by_cell, by_project = self._totals.by_cell, self._totals.by_project
        return Differences(
            before=_side(self._before),
            after=_side(self._after),
            nodes=self._nodes(),
            consumers=self._consumers,
            totals=_sorted(self._totals.all),
            by_project={name: _sorted(by_project[name]) for name in sorted(by_project)},
            by_cell={name: _sorted(by_cell[name]) for name in sorted(by_cell)},
        )

    # -- rows ---------------------------------------------------------------------------------------------------------

    def _join(self, family: str) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
        """The rows of a family in both stores, by key; in stores with the same partitions one partition after the other."""
        partitions = self._before.manifest.partitions
        if partitions == self._after.manifest.partitions:
            for partition in range(partitions):
                yield from joined(self._before.raw(partition, family), self._after.raw(partition, family))
        else:
            yield from joined(_all_rows(self._before, family), _all_rows(self._after, family))

    def _changed(self, table: Table[Row]) -> Iterator[tuple[str, str, Row | None, Row | None]]:
        """(cell, id, row before, row after) of the rows that differ."""
        for name, before, after in self._join(table.family):
            if before != after:
                yield (
                    *split_key(name),
                    None if before is None else table.decode(before),
                    None if after is None else table.decode(after),
                )

    # -- nodes --------------------------------------------------------------------------------------------------------

    def _compare_providers(self) -> None:
        for cell, id_, before, after in self._changed(PROVIDERS):
            row = after or before
            changes = changed_fields(reported_fields(before), reported_fields(after))
            if row is not None and changes:
                found = self._provider(cell, id_, row.root)
                found.came, found.gone, found.changes = before is None, after is None, changes

    def _compare_settings(self) -> None:
        for cell, id_, before, after in self._changed(FACTS):
            changes = changed_fields(settings_fields(before), settings_fields(after))
            if changes:
                self._provider(cell, id_).settings = changes

    def _compare_nodes(self) -> None:
        """Whether nodes are open. Their incarnations, sequences and times differ with each heartbeat."""
        for cell, root, before, after in self._changed(NODES):
            what: What = "came" if before is None else "gone" if after is None else "changed"
            changes = tuple(changed_fields(_state(before), _state(after)))
            if changes:
                self._states[cell, root] = what, changes

    def _provider(self, cell: str, id_: str, root: str = "") -> _Provider:
        """What was found of a provider. Its root is that of the rows, or itself where there are none."""
        found = self._providers.get((cell, id_))
        if found is None:
            found = self._providers[cell, id_] = _Provider()
        if root:
            found.root = root
        elif not found.root:
            place = key(cell, id_)
            row = self._after.get(PROVIDERS, place) or self._before.get(PROVIDERS, place)
            found.root = id_ if row is None else row.root
        return found

    def _compare_inventories(self, family: str) -> None:
        count = _CapacityCount(self._totals)
        for name, before, after in self._join(family):
            table, place = self._table(family, name)
            cell, id_ = split_key(place)
            count.add(table, cell, before, after)
            if before == after:
                continue
            of = table.resource_class
            old = None if before is None else table.decode(before)
            new = None if after is None else table.decode(after)
            changes = inventory_changes(of, old, new)
            if changes:
                capacity = of.columns.index("capacity")
                found = InventoryDifference(
                    table.name,
                    0 if old is None else of.row(old.record)[capacity],
                    0 if new is None else of.row(new.record)[capacity],
                    tuple(changes),
                )
                self._provider(cell, id_).inventories.append(found)
        count.flush()

    def _table(self, family: str, name: bytes) -> tuple[ClassTable, bytes]:
        """The table of a row of a class's family, and its key without the prefix."""
        if family != CUSTOM_FAMILY:
            return self._registry.table(family), name
        class_name, _, place = name.partition(b"\0")
        return self._registry.table(class_name.decode()), place

    def _nodes(self) -> list[NodeDifference]:
        trees: dict[tuple[str, str], list[ProviderDifference]] = {place: [] for place in self._states}
        for (cell, id_), one in sorted(self._providers.items()):
            what: What = "came" if one.came else "gone" if one.gone else "changed"
            found = ProviderDifference(
                id_, what, tuple(one.changes), tuple(one.settings), tuple(one.inventories)
            )
            trees.setdefault((cell, one.root), []).append(found)
        result = []
        for (cell, root), providers in sorted(trees.items()):
            providers.sort(key=lambda one: (one.provider != root, one.provider))
            state: tuple[What, tuple[FieldChange, ...]] = self._states.get((cell, root), ("changed", ()))
            whole = providers[0].what if providers and providers[0].provider == root else state[0]
            result.append(NodeDifference(root, cell, whole, state[1], tuple(providers)))
        return result

    # -- consumers ----------------------------------------------------------------------------------------------------

    def _compare_allocations(self) -> None:
        counters = GrantCounter(self._before), GrantCounter(self._after)
        for name, before, after in self._join(ALLOCATIONS.family):
            cell = split_key(name)[0]
            held = [self._count(counters[0], name, before), self._count(counters[1], name, after)]
            for at, (project, amounts) in enumerate(held):
                for by_unit in amounts.values():
                    self._totals.add_used(project, cell, by_unit, later=bool(at))
            if before != after:
                self._consumers.append(self._consumer(name, before, after, held[0][1], held[1][1]))

    def _count(
        self, counter: GrantCounter, name: bytes, data: bytes | None
    ) -> tuple[str, dict[str, dict[str, int]]]:
        """The project of an allocation, and what it holds: provider -> unit -> amount."""
        if data is None:
            return "", {}
        row: list[Any] = _decode(data)
        found: dict[str, dict[str, int]] = {}
        for provider, resource_class, _, grant in row[_PARTS]:
            amounts = found.setdefault(provider, {})
            for unit, amount in counter.amounts(name, provider, resource_class, grant).items():
                amounts[unit] = amounts.get(unit, 0) + amount
        return row[_PROJECT], found

    def _consumer(
        self,
        name: bytes,
        before: bytes | None,
        after: bytes | None,
        had: dict[str, dict[str, int]],
        has: dict[str, dict[str, int]],
    ) -> ConsumerDifference:
        cell, consumer = split_key(name)
        old = None if before is None else ALLOCATIONS.decode(before)
        new = None if after is None else ALLOCATIONS.decode(after)
        was, now = (parts_text(self._registry, row.parts) if row is not None else "" for row in (old, new))
        changes = changed_fields(_holder(old), _holder(new))
        project = "".join(row.project for row in (new or old,) if row is not None)
        if old is None or new is None:
            what: Held = "took" if old is None else "gave back"
            return ConsumerDifference(consumer, cell, what, project, had, has, tuple(changes), now or was)
        text = "; ".join(one.text for one in changes) if was == now else f"{now}; before: {was}"
        return ConsumerDifference(consumer, cell, "changed", project, had, has, tuple(changes), text)


def _holder(row: AllocationRow | None) -> dict[str, Any]:
    return {} if row is None else {"claim": row.claim, **account_fields(row)}


def _state(row: NodeRow | None) -> dict[str, Any]:
    return {} if row is None else {"retired": row.retired, "complete": row.complete}


def _side(reader: StoreReader) -> Side:
    return Side(reader.manifest.log, dict(reader.position), reader.newest_ms)


def _all_rows(reader: StoreReader, family: str) -> Iterator[tuple[bytes, bytes]]:
    return heapq.merge(*(reader.raw(partition, family) for partition in range(reader.manifest.partitions)))


# -- totals ---------------------------------------------------------------------------------------------------------


def _sorted(totals: dict[str, Total]) -> list[Total]:
    return [totals[unit] for unit in sorted(totals)]


class _Totals:
    """The totals by unit: of all, by project, and by cell."""

    def __init__(self) -> None:
        self.all: dict[str, Total] = {}
        self.by_project: dict[str, dict[str, Total]] = {}
        self.by_cell: dict[str, dict[str, Total]] = {}

    def add_capacity(self, cell: str, unit: str, before: int, after: int) -> None:
        """Add capacities of a class."""
        for totals in (self.all, self.by_cell.setdefault(cell, {})):
            total = _of(totals, unit)
            total.capacity_before = (total.capacity_before or 0) + before
            total.capacity_after = (total.capacity_after or 0) + after

    def add_used(self, project: str, cell: str, amounts: dict[str, int], *, later: bool) -> None:
        """Add what a consumer holds, in the store `before` or, with `later`, in `after`."""
        for totals in (
            self.all,
            self.by_cell.setdefault(cell, {}),
            self.by_project.setdefault(project, {}),
        ):
            for unit, amount in amounts.items():
                total = _of(totals, unit)
                if later:
                    total.used_after += amount
                else:
                    total.used_before += amount


def _of(totals: dict[str, Total], unit: str) -> Total:
    found = totals.get(unit)
    if found is None:
        found = totals[unit] = Total(unit)
    return found


class _CapacityCount:
    """Adds up the capacities of rows, some thousand of one class and cell at a time: classes do that by arrays."""

    def __init__(self, totals: _Totals) -> None:
        self._totals = totals
        self._table: ClassTable | None = None
        self._cell = ""
        self._rows: tuple[list[bytes], list[bytes], list[bytes]] = ([], [], [])

    def add(self, table: ClassTable, cell: str, before: bytes | None, after: bytes | None) -> None:
        """Count a row. Rows of one class and cell come one after the other."""
        both, older, newer = self._rows
        if table is not self._table or cell != self._cell or sum(map(len, self._rows)) >= _CHUNK:
            self.flush()
            both, older, newer = self._rows
            self._table, self._cell = table, cell
        skip = ClassTable.HEAD_BYTES
        if before is not None and before == after:
            both.append(before[skip:])
            return
        if before is not None:
            older.append(before[skip:])
        if after is not None:
            newer.append(after[skip:])

    def flush(self) -> None:
        """Add what was counted to the totals."""
        if self._table is None or not any(self._rows):
            return
        of = self._table.resource_class
        at = of.columns.index("capacity")
        both, older, newer = (int(of.project(rows)[at].sum()) if rows else 0 for rows in self._rows)
        self._totals.add_capacity(self._cell, self._table.name, both + older, both + newer)
        self._rows = ([], [], [])


def changed_totals(totals: Iterable[Total]) -> list[Total]:
    """The totals that differ."""
    return [one for one in totals if one.changed]


def counts(found: Differences) -> tuple[Counter[str], Counter[str]]:
    """How many nodes came, are gone and changed; how many consumers took, gave back and changed."""
    return Counter(one.what for one in found.nodes), Counter(one.what for one in found.consumers)
