"""The nodes of a view, numbered by cell and name, and columns with one slot for each node.

A node's amount of a class is the sum over the providers of its tree. All of it is read from the columns in memory, but for
totals and reserved amounts, which only the records have: these are read once, and again where a record has changed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from os_resource_classes import STANDARDS

from vacancy.clients.inspection.answers import NodeAnswer
from vacancy.clients.inspection.lookup import node_of
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.state.tables import FACTS, NODES, PROVIDERS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STATES: Final = (
    *("open", "disabled", "draining", "incomplete", "contested", "retired", "in two cells", "two names"),
)
"""The states of nodes; a column has their places in this list."""

OPEN: Final = 0
RETIRED: Final = STATES.index("retired")

_DIGITS: Final = re.compile(rb"(\d+)")
_STANDARD: Final = {name: at for at, name in enumerate(STANDARDS)}
_STATE_TABLES: Final = frozenset({PROVIDERS.name, NODES.name, FACTS.name})
_LABEL_TABLES: Final = frozenset({PROVIDERS.name, FACTS.name})
_AGAIN_LAYOUT_MS: Final = 2_000
_STATES_KEPT: Final = 200_000
_STATES_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class NodeIndex:
    """The nodes of a view by cell and name. `rows` are the rows of their roots. `of_row` is row -> number of the node, -1 for
    none. `cell_of` is the number of a node's cell in `cells`. `generation` is another one when the nodes are others."""

    rows: Ints
    of_row: Ints
    names: tuple[str, ...]
    cells: tuple[str, ...]
    cell_of: Ints
    partition_of: Ints
    generation: int

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, slots=True)
class NodeAmounts:
    """The amounts of one class, for each node: what there is (`total`), what of it is reserved, what can be allocated
    (`capacity`: without the reserved, times the ratio), and what of that is `used`. A node over capacity uses more than it."""

    total: Floats
    reserved: Floats
    capacity: Floats
    used: Floats


class _Records:
    """Totals and reserved amounts of one class, by row. `dirty` are the rows to read again."""

    def __init__(self, slots: int) -> None:
        self.total = np.zeros(slots)
        self.reserved = np.zeros(slots)
        self.dirty: set[bytes] = set()

    def grow(self, slots: int) -> None:
        for name in ("total", "reserved"):
            before = getattr(self, name)
            if len(before) < slots:
                larger = np.zeros(max(slots, 2 * len(before)))
                larger[: len(before)] = before
                setattr(self, name, larger)


class FleetNodes:
    """The nodes of the tables that `reader` reads. It is for the thread of the reader, and answers as of where that is."""

    def __init__(self, reader: StoreReader) -> None:
        self.reader = reader
        self._index: NodeIndex | None = None
        self._built = (-1, 0)
        self._built_ms = 0.0
        self._records: dict[str, _Records] = {}
        self._states: dict[bytes, int] = {}
        self._states_until = 0.0
        self.labels = 0
        """Increases when a provider, or what an operator set for one, may have changed: aggregates, attributes."""
        if not reader.still:
            reader.watch(self._changed)

    def _changed(self, table: str, keys: Sequence[bytes]) -> None:
        """Rows of a table have changed; no name: all of them may have."""
        self.labels += not table or table in _LABEL_TABLES
        if not table:
            self._records.clear()
            self._states.clear()
            self._built = (-1, 0)
        elif (records := self._records.get(table)) is not None:
            records.dirty.update(keys)
        elif table in _STATE_TABLES:
            for key in keys:
                self._states.pop(key, None)

    # -- which nodes ----------------------------------------------------------------------------------------------

    def index(self, now_ms: float = 0.0) -> NodeIndex:
        """The nodes. While they change all the time, the index is made again every two seconds at most (`now_ms`: any clock)."""
        view = self.reader.view
        now = (view.layout, id(view))
        recent = now_ms and now_ms - self._built_ms < _AGAIN_LAYOUT_MS and now[1] == self._built[1]
        if self._index is None or (now != self._built and not recent):
            self._index = self._made(self._index)
            self._built, self._built_ms = now, now_ms
        return self._index

    def _made(self, before: NodeIndex | None) -> NodeIndex:
        view = self.reader.view
        live = np.fromiter(view.row_of.values(), dtype=np.int64, count=len(view.row_of))
        roots = live[view.root[live] == live].tolist()
        keys = view.keys
        ordered = sorted((_natural(keys[row]), row) for row in roots)
        rows = np.array([row for _, row in ordered], dtype=np.int64)
        names, cell_names = [], []
        for row in rows.tolist():
            cell, _, name = keys[row].partition(b"\0")
            names.append(name.decode())
            cell_names.append(cell)
        cells = list(dict.fromkeys(cell_names))
        number = {cell: at for at, cell in enumerate(cells)}
        partitions = {cell: partition_for(cell, self.reader.manifest.partitions) for cell in cells}
        of_row = np.full(view.size, -1, dtype=np.int64)
        of_row[rows] = np.arange(len(rows))
        of_row[live] = of_row[view.root[live]]
        decoded = tuple(cell.decode() for cell in cells)
        cell_of = np.fromiter((number[cell] for cell in cell_names), np.int64, len(names))
        same = (
            before is not None
            and before.names == tuple(names)
            and before.cells == decoded
            and bool(np.array_equal(before.cell_of, cell_of))
        )
        generation = 1 if before is None else before.generation + (not same)
        partition_of = np.fromiter((partitions[cell] for cell in cell_names), np.int64, len(names))
        return NodeIndex(rows, of_row, tuple(names), decoded, cell_of, partition_of, generation)

    # -- their columns --------------------------------------------------------------------------------------------

    def classes(self) -> list[str]:
        """The classes that any provider has: those that most have first."""
        view = self.reader.view
        return sorted(
            view.classes, key=lambda name: (-view.classes[name].count, _STANDARD.get(name, 999), name)
        )

    def amounts(self, name: str, index: NodeIndex) -> NodeAmounts:
        """The amounts of one class. Without totals and reserved amounts (they are 0) it is `capacity_and_use`."""
        capacity, used = self.capacity_and_use(name, index)
        zero = np.zeros(len(index))
        columns = self.reader.view.classes.get(name)
        if columns is None:
            return NodeAmounts(zero, zero, capacity, used)
        records = self._up_to_date(name)
        rows, at = _nodes_of(columns.rows, index)
        total, reserved = (_summed(at, one[rows], index) for one in (records.total, records.reserved))
        return NodeAmounts(total, reserved, capacity, used)

    def capacity_and_use(self, name: str, index: NodeIndex) -> tuple[Floats, Floats]:
        """What can be allocated of a class, and what is used of it, for each node."""
        columns = self.reader.view.classes.get(name)
        if columns is None:
            return np.zeros(len(index)), np.zeros(len(index))
        rows, at = _nodes_of(columns.rows, index)
        capacity = np.asarray(columns.arrays["capacity"][rows], dtype=np.float64)
        free = np.asarray(columns.arrays["free"][rows], dtype=np.float64)
        sums = _summed(at, capacity, index)
        return sums, sums - _summed(at, free, index)

    def _up_to_date(self, name: str) -> _Records:
        view, reader = self.reader.view, self.reader
        table = reader.registry.table(name)
        records = self._records.get(name)
        if records is None:
            records = self._records[name] = _Records(view.size)
            for _, key, row in reader.scan(table):
                at = view.row_of.get(key[len(table.prefix) :])
                if at is not None:
                    self._set(records, at, table.resource_class, row.record)
            return records
        records.grow(view.size)
        dirty, records.dirty = records.dirty, set()
        for key in dirty:
            own = key[len(table.prefix) :]
            at = view.row_of.get(own)
            if at is None:
                continue
            now = reader.get(table, key, cell=own.partition(b"\0")[0].decode())
            records.total[at] = records.reserved[at] = 0
            if now is not None:
                self._set(records, at, table.resource_class, now.record)
        return records

    @staticmethod
    def _set(records: _Records, at: int, of: Any, record: Any) -> None:
        inventory = of.inventory_set(record)
        if inventory:
            records.total[at] = inventory.get("total", 0)
            records.reserved[at] = inventory.get("reserved", 0)
        else:  # no plain amount, for example CPUs of a NUMA cell: what there is is what can be allocated
            columns = dict(zip(of.columns, of.row(record), strict=True))
            records.total[at] = columns["capacity"]

    def heard_ms(self, index: NodeIndex) -> Ints:
        """The log time of each node's last event, in ms since 1970, UTC; 0 where there was none."""
        return self.reader.view.heard_ms[index.rows].copy()

    def states(self, index: NodeIndex) -> NDArray[np.uint8]:
        """The state of each node, as its place in `STATES`. Only those that are not open are read from the tables."""
        view = self.reader.view
        found = np.zeros(len(index), dtype=np.uint8)
        now = time.monotonic()
        if now > self._states_until or len(self._states) > _STATES_KEPT:
            self._states.clear()  # operator settings are not in the feed
            self._states_until = now + _STATES_S
        for at in np.flatnonzero(~view.open[index.rows]).tolist():
            key = view.keys[int(index.rows[at])]
            state = self._states.get(key)
            if state is None:
                cell, _, name = key.partition(b"\0")
                answer: NodeAnswer | None = node_of(self.reader, cell.decode(), name.decode())
                state = RETIRED if answer is None else STATES.index(answer.state)
                self._states[key] = state
            found[at] = state
        return found


def _summed(at: Ints, values: Floats, index: NodeIndex) -> Floats:
    """The sum of the values of each node."""
    return np.bincount(at, weights=values, minlength=len(index)).astype(np.float64)


def _nodes_of(rows: Ints, index: NodeIndex) -> tuple[Ints, Ints]:
    """Those of these rows that belong to a node of the index, and the numbers of their nodes."""
    known = rows[rows < len(index.of_row)]
    at = index.of_row[known]
    return known[at >= 0], at[at >= 0]


def _natural(key: bytes) -> tuple[bytes, list[bytes | int]]:
    """What nodes are ordered by: the cell, then the name, with numbers in it by value."""
    cell, _, name = key.partition(b"\0")
    pieces: list[bytes | int] = list(_DIGITS.split(name))
    pieces[1::2] = map(int, pieces[1::2])
    return cell, pieces
