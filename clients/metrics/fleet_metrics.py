"""The metrics of the fleet, as the tables of one host have it: nodes, silent nodes, capacity by class, cell and aggregate, snapshots.

One program of a fleet should serve them (`vacancy metrics`): the tables of all hosts have the same content.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from vacancy.resources.fold.transactions.made import MADE_INCARNATION
from vacancy.resources.model.errors import VacancyError
from vacancy.resources.state.rows import NodeRow, ProviderRow, why_closed
from vacancy.resources.state.tables import CUSTOM_FAMILY, NODES, PROVIDERS, ClassTable, key, split_key
from vacancy.streams.clocks.clock import wall_ms
from vacancy.streams.pages.metric_definition import MetricDefinition

if TYPE_CHECKING:
    from vacancy.projections.reader.store_reader import StoreReader
    from vacancy.projections.snapshots.storage import SnapshotStorage

SILENT_S: Final = 90.0
"""A node that was not heard from for so long counts as silent: publishers send something at least every 30 s."""

CLASSES_MAX: Final = 32
CELLS_MAX: Final = 64
AGGREGATES_MAX: Final = 64
"""The numbers of classes, cells and aggregates with series of their own: those with the most providers. What other cells have is
counted together in the cell `(others)`, which no cell can be called; other classes and aggregates are left out."""

SERIES_MAX: Final = 5 * CLASSES_MAX * (CELLS_MAX + 1 + AGGREGATES_MAX) + 3 * (CELLS_MAX + 1) + 6
"""The most series that one process serves."""

OTHERS: Final = "(others)"

_SNAPSHOTS_S: Final = 60.0
"""For so long the list of snapshots is not read again: it may be far away."""


def _fleet(name: str, help_: str, *labels: str) -> MetricDefinition:
    return MetricDefinition(f"vacancy_fleet_{name}", "gauge", help_, labels)


NODES_COUNT: Final = _fleet(
    "nodes", "Nodes that are not retired: open, or closed to new claims", "cell", "state"
)
SILENT_NODES: Final = _fleet("silent_nodes", "Nodes that were not heard from for a while", "cell")
TABLES_AGE: Final = _fleet(
    "tables_age_seconds", "How long ago the newest record in this host's tables was appended"
)
SNAPSHOT_AGE: Final = _fleet(
    "snapshot_age_seconds", "How long ago the newest snapshot of this log was made; no sample without one"
)
LEFT_OUT: Final = _fleet("left_out", "Classes, cells and aggregates that have no series of their own", "kind")
_AMOUNTS: Final = (
    ("total", "What nodes report of a class, in its own unit"),
    ("reserved", "What of it is reserved for the nodes themselves"),
    ("capacity", "What can be allocated of it, after reservations and allocation ratios"),
    ("used", "What is allocated of it"),
    ("free", "What is free of it on providers that take new claims"),
)
BY_CELL: Final = tuple(_fleet(f"{name}_units", help_, "cell", "class") for name, help_ in _AMOUNTS)
BY_AGGREGATE: Final = tuple(
    _fleet(f"aggregate_{name}_units", f"{help_}, by aggregate", "aggregate", "class")
    for name, help_ in _AMOUNTS
)

FLEET_METRICS: Final = (
    *(NODES_COUNT, SILENT_NODES, TABLES_AGE, SNAPSHOT_AGE, LEFT_OUT),
    *BY_CELL,
    *BY_AGGREGATE,
)
"""All metrics of the fleet."""


class _Group(NamedTuple):
    """Providers that count alike."""

    cell: str
    aggregates: frozenset[str]
    open: bool


class _Fleet(NamedTuple):
    """The providers of the tables: key -> the number of its group. `nodes` counts (cell, state), `silent` cells."""

    group_of: Mapping[bytes, int]
    groups: list[_Group]
    nodes: Counter[tuple[str, str]]
    silent: Counter[str]


class FleetMetrics(Collector):
    """Collects the metrics of the fleet from the store of `reader`; register it with a registry of prometheus_client.

    It reads all providers and inventories at each collection: about a second of one processor for 100,000 nodes with three classes.
    `snapshots` is where snapshots are kept, if anywhere. `silent_s`: see `SILENT_S`. Threads collect one after the other; nobody else may
    use the reader.
    """

    def __init__(
        self, reader: StoreReader, *, snapshots: SnapshotStorage | None = None, silent_s: float = SILENT_S
    ) -> None:
        self._reader, self._snapshots, self._silent_s = reader, snapshots, silent_s
        self._lock = threading.Lock()
        self._snapshot_ms: int | None = None
        self._listed_s = -_SNAPSHOTS_S

    def describe(self) -> Iterator[Metric]:
        """What is collected: so registering it reads no tables."""
        return (metric.family({}) for metric in FLEET_METRICS)

    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        with self._lock:
            yield from list(self._collect())

    def _collect(self) -> Iterator[Metric]:
        self._reader.catch_up()
        # Where the log is silent, log time stands still: this host's clock tells that nodes are silent.
        now_ms = max(wall_ms(), self._reader.newest_ms)
        fleet = _read_fleet(self._reader, now_ms - int(self._silent_s * 1000))
        cells = _most(Counter(cell for cell, _ in fleet.nodes.elements()), CELLS_MAX)
        yield NODES_COUNT.family(_merged(fleet.nodes.items(), cells))
        silent = {(cell,): 0 for cell, _ in fleet.nodes} | {(cell,): n for cell, n in fleet.silent.items()}
        yield SILENT_NODES.family(_merged(silent.items(), cells))
        yield TABLES_AGE.family({(): (now_ms - self._reader.newest_ms) / 1000})
        made_ms = self._newest_snapshot_ms()
        yield SNAPSHOT_AGE.family({} if made_ms is None else {(): max(0, now_ms - made_ms) / 1000})
        yield from self._amounts(fleet, cells)

    def _newest_snapshot_ms(self) -> int | None:
        """When the newest snapshot of this log was made. Where the list cannot be read, the last one that was seen counts: it grows older."""
        now_s = time.monotonic()
        if self._snapshots is not None and now_s - self._listed_s >= _SNAPSHOTS_S:
            self._listed_s = now_s
            try:
                found = [one.manifest for one in self._snapshots.snapshots() if one.manifest is not None]
            except VacancyError:
                return self._snapshot_ms
            made = [one.made_ms for one in found if one.log == self._reader.manifest.log]
            self._snapshot_ms = max(made, default=None)
        return self._snapshot_ms

    def _amounts(self, fleet: _Fleet, cells: frozenset[str]) -> Iterator[Metric]:
        sums = self._sums(fleet)
        classes = sorted(sums, key=lambda name: (-sums[name].providers, name))[:CLASSES_MAX]
        named = Counter(name for group in fleet.groups for name in group.aggregates)
        members: Counter[str] = Counter()
        counts = np.bincount(np.fromiter(fleet.group_of.values(), np.int64), minlength=len(fleet.groups))
        for group, count in zip(fleet.groups, counts.tolist(), strict=True):
            members.update(dict.fromkeys(group.aggregates, count))
        aggregates = _most(members, AGGREGATES_MAX)
        left_out = {
            "class": len(sums) - len(classes),
            "cell": len({group.cell for group in fleet.groups} - cells),
            "aggregate": len(named) - len(aggregates),
        }
        yield LEFT_OUT.family({(kind,): count for kind, count in left_out.items()})
        shown = {name: sums[name] for name in classes}
        in_cell = [(group.cell if group.cell in cells else OTHERS,) for group in fleet.groups]
        in_aggregate = [tuple(group.aggregates & aggregates) for group in fleet.groups]
        yield from _families(BY_CELL, shown, in_cell)
        yield from _families(BY_AGGREGATE, shown, in_aggregate)

    def _sums(self, fleet: _Fleet) -> dict[str, ClassSums]:
        """Class -> what the groups have of it."""
        found: dict[str, ClassSums] = {}
        open_groups = np.array([group.open for group in fleet.groups], dtype=np.bool_)
        for table, keys, encoded in _class_rows(self._reader):
            of = table.resource_class
            columns = dict(zip(of.columns, of.project(encoded), strict=True))
            total, reserved = of.inventory_totals(encoded)
            numbers = np.fromiter((fleet.group_of.get(one, -1) for one in keys), np.int64, len(keys))
            known = numbers >= 0
            numbers, free, capacity = numbers[known], columns["free"][known], columns["capacity"][known]
            offered = np.where(open_groups[numbers], np.maximum(free, 0), 0)
            amounts = (total[known], reserved[known], capacity, capacity - free, offered)
            found.setdefault(table.name, ClassSums()).add(numbers, amounts)
        return found


class ClassSums:
    """What the groups have of one class: group -> the amount for each of `_AMOUNTS`. Groups without the class are left out, as nodes
    can name many classes. Amounts are floats, as in Prometheus: the largest ones of many nodes do not fit into 64 bits."""

    def __init__(self) -> None:
        self.amounts: dict[int, list[float]] = {}
        self.providers = 0

    def add(self, numbers: NDArray[np.int64], amounts: Iterable[NDArray[np.int64]]) -> None:
        """Add rows: their groups, and their amounts."""
        self.providers += len(numbers)
        groups, at = np.unique(numbers, return_inverse=True)
        sums = [np.bincount(at, weights=amount, minlength=len(groups)).tolist() for amount in amounts]
        for group, *more in zip(groups.tolist(), *sums, strict=True):
            before = self.amounts.get(group)
            self.amounts[group] = (
                more if before is None else [one + other for one, other in zip(before, more, strict=True)]
            )


def _families(
    metrics: Iterable[MetricDefinition], sums: Mapping[str, ClassSums], names: Sequence[tuple[str, ...]]
) -> Iterator[Metric]:
    """One metric for each of `_AMOUNTS`. `names` has the values of the first label for each group."""
    for number, metric in enumerate(metrics):
        found: dict[tuple[str, ...], float] = {}
        for resource_class, one in sums.items():
            for group, amounts in one.amounts.items():  # 0 of a class is something else than none of it
                for name in names[group]:
                    found[name, resource_class] = found.get((name, resource_class), 0) + amounts[number]
        yield metric.family(found)


def _read_fleet(reader: StoreReader, heard_since_ms: int) -> _Fleet:
    nodes: dict[bytes, NodeRow] = {name: row for _, name, row in reader.scan(NODES)}
    providers: dict[bytes, ProviderRow] = {name: row for _, name, row in reader.scan(PROVIDERS)}
    counted: Counter[tuple[str, str]] = Counter()
    silent: Counter[str] = Counter()
    group_of: dict[bytes, int] = {}
    numbers: dict[_Group, int] = {}
    for name, row in providers.items():
        cell, id_ = split_key(name)
        root_key = key(cell, row.root)
        node, root = nodes.get(root_key), providers.get(root_key)
        closed = why_closed(node, row, root)
        aggregates = frozenset(row.aggregates) | frozenset(() if root is None else root.aggregates)
        group = _Group(cell, aggregates, closed is None)
        group_of[name] = numbers.setdefault(group, len(numbers))
        if id_ != row.root or node is None or node.retired or not row.reported:
            continue
        counted[cell, "open" if closed is None else "closed"] += 1
        # Nobody sends heartbeats of a node that a transaction made.
        if node.heard_ms < heard_since_ms and node.incarnations[0][0] != MADE_INCARNATION:
            silent[cell] += 1
    return _Fleet(group_of, list(numbers), counted, silent)


def _class_rows(reader: StoreReader) -> Iterator[tuple[ClassTable, list[bytes], list[bytes]]]:
    """The inventories of each partition, class by class: its table, the keys of the providers, the encoded records."""
    skip = ClassTable.HEAD_BYTES
    for partition in reader.position:
        for name in reader.registry.names:
            table = reader.registry.table(name)
            items = list(reader.raw(partition, table.family))
            if items:
                yield table, [one for one, _ in items], [data[skip:] for _, data in items]
        customs: dict[bytes, tuple[list[bytes], list[bytes]]] = {}
        for row_key, data in reader.raw(partition, CUSTOM_FAMILY):
            name_bytes, _, rest = row_key.partition(b"\0")
            keys, values = customs.setdefault(name_bytes, ([], []))
            keys.append(rest)
            values.append(data[skip:])
        for name_bytes, (keys, values) in customs.items():
            yield reader.registry.table(name_bytes.decode()), keys, values


def _most(counts: Counter[str], most: int) -> frozenset[str]:
    """The names with the largest counts; of equal ones the first by name, so that series do not come and go."""
    return frozenset(sorted(counts, key=lambda name: (-counts[name], name))[:most])


def _merged(
    counts: Iterable[tuple[tuple[str, ...], int]], cells: frozenset[str]
) -> Mapping[tuple[str, ...], float]:
    """The counts, those of cells that are not shown together."""
    found: Counter[tuple[str, ...]] = Counter()
    for (cell, *rest), count in counts:
        found[(cell if cell in cells else OTHERS, *rest)] += count
    return dict(found)
