"""Columns of resource classes, traits and aggregates: arrays of names that many providers have, sparse rows of the others.

A name gets arrays when many rows have it, and loses them when few have it (`sparse_rows`). When the last row loses a name,
its columns go. Queries keep the columns that they read. So the view clears its cache (`FleetView.derived`) when a name
comes or goes, or changes its form.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vacancy.projections.view.admission import LeftOut
from vacancy.projections.view.sparse_rows import (
    SPARSE_BYTES,
    BitColumn,
    IntColumn,
    SparseBits,
    SparseRows,
    is_frequent,
    is_rare,
    rows_with,
)
from vacancy.projections.view.sparse_rows import Bools as Bools
from vacancy.projections.view.sparse_rows import Ints as Ints
from vacancy.resources.classes.resource_class import Exactness, ResourceClass
from vacancy.resources.state.rows import ProviderRow

Floats = NDArray[np.float64]

NAME_BYTES: Final = 200
"""About what a name and its places in dicts need."""

_IN_TUPLE_BYTES: Final = 60
"""About what a name in a tuple needs, without its characters."""

ROW_BYTES: Final = 8
"""A row number."""

_EXPANDED_BYTES: Final = {SparseBits: 1, SparseRows: 4}
"""For each row, of what is expanded."""


def grown(array: NDArray[Any], size: int) -> NDArray[Any]:
    """The array with at least `size` slots; new slots are zero. Untouched pages of a large array use no memory."""
    if len(array) >= size:
        return array
    larger = np.zeros(size, dtype=array.dtype)
    larger[: len(array)] = array
    return larger


class Meter:
    """About how many bytes the columns of a view use, all names together; and what is expanded: sparse columns that keep an
    array over all rows besides, because queries read them. `expanded_bytes` are the bytes of these arrays. They have at
    most the `room` that is set, which is none at first."""

    def __init__(self) -> None:
        self.bytes = 0
        self.expanded_bytes = 0
        self._room = 0
        self._expanded: list[SparseBits | SparseRows] = []

    def expand(self, sparse: SparseBits | SparseRows, slots: int) -> None:
        """Expand columns to `slots` rows, if there is room. Where there is none left, all others are folded first."""
        if sparse.is_expanded:
            return
        sparse_bytes = slots * _EXPANDED_BYTES[type(sparse)]
        if self.expanded_bytes + sparse_bytes > self._room:
            self.fold()
        if sparse_bytes <= self._room:
            self.expanded_bytes += sparse.expand(slots)
            self._expanded.append(sparse)

    def fold(self) -> None:
        """Fold what is expanded."""
        for sparse in self._expanded:
            sparse.fold()
        self._expanded.clear()
        self.expanded_bytes = 0

    def set_room(self, room: int) -> None:
        """How many bytes may be used for what is expanded."""
        self._room = room
        if self.expanded_bytes > room:
            self.fold()


class ClassColumns:
    """A view's data of one resource class: for each of the class's columns an int64 array, or a sparse column.

    `count` is the number of rows that have the class. `arrays` is replaced when the form changes: the methods that set or
    clear rows return whether it did.
    """

    def __init__(self, resource_class: ResourceClass[Any], slots: int, meter: Meter) -> None:
        self.resource_class = resource_class
        self.count = 0
        self._slots = slots
        self._meter = meter
        self._bytes = 0
        self.sparse: SparseRows | None = SparseRows(resource_class.columns)
        self.arrays: Mapping[str, IntColumn] = self.sparse
        self._has: Bools = np.zeros(0, dtype=np.bool_)
        """Of arrays: by row, whether it has the class. A record may be 0 in all columns."""
        self._weigh()

    def grow(self, slots: int) -> None:
        """Extend to `slots` rows."""
        self._slots = slots
        self._meter.fold()
        if self.sparse is not None:
            return
        if is_rare(self.count, slots):
            self._make_sparse()
        else:
            self.arrays = {name: grown(np.asarray(array), slots) for name, array in self.arrays.items()}
            self._has = grown(self._has, slots)
            self._weigh()

    def has(self, row: int) -> bool:
        """Whether a row has the class."""
        return self.sparse.place(row) >= 0 if self.sparse is not None else bool(self._has[row])

    @property
    def rows(self) -> Ints:
        """The rows that have the class, ascending. Do not write to it."""
        return self.sparse.rows if self.sparse is not None else np.flatnonzero(self._has)

    def set_many(self, rows: Ints, encoded: Sequence[bytes]) -> Ints:
        """Set the columns of these rows, each given once, from encoded records. Returns those that sparse columns did not have
        before."""
        values = self.resource_class.project(encoded)
        if self.sparse is not None:
            if not is_frequent(self.count + len(rows), self._slots):
                new = self.sparse.set_many(rows, values)
                self.count = self.sparse.count
                self._weigh()
                return new
            self._make_dense()
        for array, column in zip(self.arrays.values(), values, strict=True):
            array[rows] = column  # type: ignore[index]
        self.count += len(rows) - int(np.count_nonzero(self._has[rows]))
        self._has[rows] = True
        return rows[:0]

    def set_one(self, row: int, record: Any) -> bool:
        """Set the columns of one row. Returns whether the row is new."""
        values = self.resource_class.row(record)
        if self.sparse is not None:
            new = self.sparse.set(row, values)
            if new:
                self.count += 1
                if is_frequent(self.count, self._slots):
                    self._make_dense()
                else:
                    self._weigh()
            return new
        for array, value in zip(self.arrays.values(), values, strict=True):
            array[row] = value
        new = not self._has[row]
        self._has[row] = True
        self.count += new
        return new

    def for_queries(self) -> Mapping[str, IntColumn]:
        """The columns; sparse ones are expanded."""
        if self.sparse is not None:
            self._meter.expand(self.sparse, self._slots)
        return self.arrays

    def add(self, row: int, by: Mapping[str, int], times: int) -> None:
        """Add `times` these amounts to the columns of one row. A row without the class stays as it is."""
        if self._has[row] if self.sparse is None else self.sparse.place(row) >= 0:
            arrays = self.arrays
            for name, amount in by.items():
                arrays[name][row] += times * amount

    def clear(self, row: int) -> bool:
        """Remove one row: the provider has no inventory of this class. Returns whether it had."""
        if self.sparse is not None:
            removed = self.sparse.remove(row)
            self.count = self.sparse.count
            self._weigh()
            return removed
        removed = bool(self._has[row])
        if removed:
            for array in self.arrays.values():
                array[row] = 0
            self._has[row] = False
            self.count -= 1
            if is_rare(self.count, self._slots):
                self._make_sparse()
        return removed

    def forget(self) -> None:
        """No longer count the bytes of these columns: they are dropped."""
        self._meter.bytes -= self._bytes
        self._bytes = 0

    def _make_dense(self) -> None:
        assert self.sparse is not None  # noqa: S101 - the callers ask
        self.arrays = {name: column.dense(self._slots) for name, column in self.sparse.items()}
        self._has = np.zeros(self._slots, dtype=np.bool_)
        self._has[self.sparse.rows] = True
        self.sparse = None
        self._weigh()

    def _make_sparse(self) -> None:
        rows = np.flatnonzero(self._has)
        self.sparse = SparseRows(self.resource_class.columns)
        self.sparse.set_many(rows, np.stack([array[rows] for array in self.arrays.values()]))
        self.arrays = self.sparse
        self._has = np.zeros(0, dtype=np.bool_)
        self._weigh()

    def _weigh(self) -> None:
        now = NAME_BYTES + self.nbytes
        self._meter.bytes += now - self._bytes
        self._bytes = now

    @property
    def nbytes(self) -> int:
        """Bytes of the columns."""
        if self.sparse is not None:
            return SPARSE_BYTES + self.sparse.nbytes
        return self._has.nbytes + sum(np.asarray(array).nbytes for array in self.arrays.values())


def is_exact(classes: Mapping[str, ClassColumns], name: str, ask: Any) -> bool:
    """Whether the columns of a class decide the next claim for an ask (see `Exactness`)."""
    columns = classes.get(name)
    return columns is not None and columns.resource_class.exactness(ask) is not Exactness.NEEDS_CLAIM


class RowNames:
    """The names that each row has. Rows with equal names share one tuple."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._of: list[tuple[str, ...]] = []
        self._shared: dict[tuple[str, ...], list[Any]] = {}
        """The names of some row -> the tuple that all rows with these names share, and their number."""

    def of(self, row: int) -> tuple[str, ...]:
        """The names of one row."""
        return self._of[row] if row < len(self._of) else ()

    def set(self, row: int, names: tuple[str, ...]) -> None:
        """Set the names of one row."""
        if before := self.of(row):
            self._release(before)
            self._of[row] = ()
        self.set_new([row], names)

    def set_new(self, rows: Sequence[int], names: tuple[str, ...]) -> None:
        """Set the names of rows that have none."""
        if not names:
            return
        of = self._of
        if len(of) <= (last := max(rows)):
            of.extend([()] * (last + 1 - len(of)))
        shared = self._shared.get(names)
        if shared is None:
            shared = self._shared[names] = [names, 0]
            self._meter.bytes += _tuple_bytes(names)
        shared[1] += len(rows)
        names = shared[0]
        for row in rows:
            of[row] = names

    def remove(self, rows: Iterable[int], gone: frozenset[str]) -> None:
        """Remove these names from these rows."""
        for row in rows:
            self.set(row, tuple(name for name in self.of(row) if name not in gone))

    def _release(self, names: tuple[str, ...]) -> None:
        shared = self._shared[names]
        shared[1] -= 1
        if not shared[1]:
            del self._shared[names]
            self._meter.bytes -= _tuple_bytes(names)


def _tuple_bytes(names: tuple[str, ...]) -> int:
    return NAME_BYTES + sum(_IN_TUPLE_BYTES + len(name) for name in names)


class BitColumns:
    """The names (traits or aggregates) of each row: for each name a bool array, or the rows that have it.

    `counts` has the number of rows with each name. `left_out`: names that are not among the names of a row.
    """

    def __init__(self, meter: Meter) -> None:
        self.arrays: dict[str, BitColumn] = {}
        self.counts: dict[str, int] = {}
        self.left_out = LeftOut()
        self._names = RowNames(meter)
        self.of = self._names.of
        """The names of one row. Queries call it so often that a method in between costs 1 %."""
        self._meter = meter
        self._slots = 0

    def grow(self, slots: int) -> None:
        """Extend to `slots` rows."""
        self._slots = slots
        self._meter.fold()
        for name, bits in self.arrays.items():
            if isinstance(bits, SparseBits):
                continue
            rare = is_rare(self.counts[name], slots)
            self._replace(name, SparseBits(np.flatnonzero(bits)) if rare else grown(bits, slots))

    def set_new(self, rows_of: Mapping[tuple[str, ...], list[int]], slots: int) -> None:
        """Set the names of rows that have no names yet: names -> rows."""
        by_name: dict[str, list[Ints]] = {}
        for all_names, rows in rows_of.items():
            if names := self.left_out.admitted(all_names, self.arrays):
                self._names.set_new(rows, names)
                index = np.asarray(rows, dtype=np.int64)
                for name in dict.fromkeys(names):
                    by_name.setdefault(name, []).append(index)
        for name, indices in by_name.items():
            self._add(name, indices[0] if len(indices) == 1 else np.concatenate(indices), slots)

    def set(self, row: int, names: tuple[str, ...], slots: int) -> bool:
        """Replace the names of one row. Returns whether they changed."""
        before, names = self._names.of(row), self.left_out.admitted(names, self.arrays)
        if names == before:
            return False
        self._names.set(row, names)
        kept = frozenset(before) & frozenset(names)
        for name in dict.fromkeys(before):
            if name not in kept:
                self._remove(name, row, slots)
        index = np.array([row], dtype=np.int64)
        for name in dict.fromkeys(names):
            if name not in kept:
                self._add(name, index, slots)
        return True

    def drop(self, names: Iterable[str]) -> None:
        """Remove these names from all rows."""
        gone = frozenset(names)
        rows = {row for name in gone for row in rows_with(self.arrays[name], self.slots(name)).tolist()}
        self._names.remove(rows, gone)
        for name in gone:
            self._forget(name)

    def known(self, names: Iterable[str]) -> list[BitColumn]:
        """The columns of those of these names that some row has, for queries: rare ones are expanded."""
        found = [bits for name in names if (bits := self.arrays.get(name)) is not None]
        for bits in found:
            if isinstance(bits, SparseBits):
                self._meter.expand(bits, self._slots)
        return found

    def nbytes(self, name: str) -> int:
        """Bytes of one name."""
        return NAME_BYTES + _bit_bytes(self.arrays[name])

    def slots(self, name: str) -> int:
        """A number above all rows that have a name."""
        bits = self.arrays[name]
        if isinstance(bits, SparseBits):
            return int(bits.rows[-1]) + 1 if len(bits) else 0
        return len(bits)

    def _add(self, name: str, rows: Ints, slots: int) -> None:
        """Add rows that do not have the name yet."""
        self._slots = slots
        bits = self.arrays.get(name)
        if bits is None:
            bits = self.arrays[name] = SparseBits()
            self.counts[name] = 0
            self._meter.bytes += self.nbytes(name)
        self.counts[name] += len(rows)
        if isinstance(bits, SparseBits):
            if not is_frequent(self.counts[name], slots):
                before = bits.nbytes
                bits.add(rows)
                self._meter.bytes += bits.nbytes - before
                return
            bits = self._replace(name, bits.dense(slots))
        bits[rows] = True  # type: ignore[index]

    def _remove(self, name: str, row: int, slots: int) -> None:
        self.counts[name] -= 1
        count, bits = self.counts[name], self.arrays[name]
        if not count:
            self._forget(name)
        elif isinstance(bits, SparseBits):
            bits.remove(row)
            self._meter.bytes -= ROW_BYTES
        else:
            bits[row] = False
            if is_rare(count, slots):
                self._replace(name, SparseBits(np.flatnonzero(bits)))

    def _replace(self, name: str, bits: BitColumn) -> BitColumn:
        self._meter.bytes += _bit_bytes(bits) - _bit_bytes(self.arrays[name])
        self.arrays[name] = bits
        return bits

    def _forget(self, name: str) -> None:
        self._meter.bytes -= self.nbytes(name)
        del self.arrays[name], self.counts[name]


def _bit_bytes(bits: BitColumn) -> int:
    return bits.nbytes + (SPARSE_BYTES if isinstance(bits, SparseBits) else 0)


def trait_names(provider: ProviderRow) -> tuple[str, ...]:
    """All traits, sorted."""
    if not provider.operator_traits:
        return provider.reported_traits
    return tuple(sorted(provider.traits))
