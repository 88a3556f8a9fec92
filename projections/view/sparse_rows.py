"""Columns of names that few providers have, at the cost of those few.

A view has an array with one slot for each row for a name that many providers have. For a name that few have, it has the
numbers of their rows, ascending, and a value of each column for each of these rows. Both are read by the same index
expressions: `column[rows]` of an array of row numbers, `column[:size]`, or `column[row]`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, overload

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

DENSE_SHARE: Final = 16
"""A name that at least one row in this number has gets arrays over all rows."""

SPARSE_SHARE: Final = 32
"""A name whose arrays fewer than one row in this number use gets sparse rows again. It is larger than `DENSE_SHARE`, so
that a name whose count goes up and down by a few is not converted each time."""

SPARSE_BYTES: Final = 400
"""About what the objects of one sparse name need, without its rows."""


def is_frequent(count: int, slots: int) -> bool:
    """Whether a sparse name that `count` of `slots` rows have should get arrays."""
    return count * DENSE_SHARE >= slots


def is_rare(count: int, slots: int) -> bool:
    """Whether a name with arrays that `count` of `slots` rows have should become sparse."""
    return count * SPARSE_SHARE < slots


_NO_ROW: Final = -1
_ENDED: Final = np.array([_NO_ROW], dtype=np.int64)


@cache
def _no_values(columns: int) -> Ints:
    """The values of no rows. Sparse rows replace their arrays when rows come or go, so they can start with the same one."""
    return np.zeros((columns, 1), dtype=np.int64)


class SparseBits:
    """The rows that have a name. Reads like a bool array; it is changed by `add` and `remove`.

    It can be expanded, which makes reading some rows faster. A change of its rows ends that.
    """

    def __init__(self, rows: Ints | None = None) -> None:
        self._expanded: Bools | None = None
        self._ended: Ints = _ENDED
        """The row numbers, ascending, and a last element that is no row: where a search for a row may end."""
        if rows is not None:
            self._set(rows)

    @property
    def rows(self) -> Ints:
        """The rows, ascending. Do not write to it."""
        return self._ended[:-1]

    def __len__(self) -> int:
        return len(self._ended) - 1

    @overload
    def __getitem__(self, rows: int) -> bool: ...
    @overload
    def __getitem__(self, rows: Ints | slice | list[int]) -> Bools: ...
    def __getitem__(self, rows: int | Ints | slice | list[int]) -> bool | Bools:
        if self._expanded is not None:
            has: Bools = self._expanded[rows]
        elif isinstance(rows, slice):
            first, end = _range(rows)
            has = np.zeros(end - first, dtype=np.bool_)
            has[_between(self.rows, first, end) - first] = True
        else:
            has = self._ended[self._ended[:-1].searchsorted(rows)] == rows
        return has

    @property
    def is_expanded(self) -> bool:
        """Whether `expand` was called after the last change."""
        return self._expanded is not None

    def expand(self, slots: int) -> int:
        """Also keep an array with a slot for each row, until the next change. Returns its bytes."""
        self._expanded = self.dense(slots)
        return self._expanded.nbytes

    def fold(self) -> None:
        """Keep no such array."""
        self._expanded = None

    def add(self, rows: Ints) -> None:
        """Add rows that are not there yet."""
        self._expanded = None
        if len(rows) == 1:
            at = int(self.rows.searchsorted(rows[0]))
            self._ended = _inserted(self._ended, at, rows[0])
        else:
            self._set(np.sort(np.concatenate([self.rows, rows])))

    def remove(self, row: int) -> None:
        """Remove a row that is there."""
        self._expanded = None
        self._ended = _without(self._ended, int(self.rows.searchsorted(row)))

    def dense(self, slots: int) -> Bools:
        """The same as an array with a slot for each row."""
        return self[0:slots].copy()

    @property
    def nbytes(self) -> int:
        """Bytes of the row numbers."""
        return self._ended.nbytes

    def _set(self, rows: Ints) -> None:
        self._ended = np.append(rows, _NO_ROW)


class SparseRows(Mapping[str, "SparseColumn"]):
    """The columns of a name that few rows have, by their names. A row that is not there reads as 0 in each of them. It can be
    expanded, as `SparseBits`."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self.expanded: NDArray[np.int32] | None = None
        """The place of each row among the values, -1 for a row that is not there."""
        self._ended: Ints = _ENDED
        self.data: Ints = _no_values(len(columns))
        """By column and row; and a last 0, which a row that is not there reads."""

    @property
    def rows(self) -> Ints:
        """The rows, ascending. Do not write to it."""
        return self._ended[:-1]

    @property
    def count(self) -> int:
        """The number of rows."""
        return len(self._ended) - 1

    def __getitem__(self, column: str) -> SparseColumn:
        return SparseColumn(self, self._columns.index(column))

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def copy(self) -> SparseRows:
        """A copy with values of its own."""
        made = SparseRows(self._columns)
        made._ended, made.expanded, made.data = self._ended, self.expanded, self.data.copy()
        return made

    @property
    def is_expanded(self) -> bool:
        """As of `SparseBits`."""
        return self.expanded is not None

    def expand(self, slots: int) -> int:
        """As of `SparseBits`."""
        self.expanded = np.full(slots, _NO_ROW, dtype=np.int32)
        self.expanded[self.rows] = np.arange(self.count)
        return self.expanded.nbytes

    def fold(self) -> None:
        """As of `SparseBits`."""
        self.expanded = None

    def place(self, row: int) -> int:
        """The place of a row among the values, or -1."""
        at = int(self.rows.searchsorted(row))
        return at if self._ended[at] == row else -1

    def set(self, row: int, values: Sequence[int]) -> bool:
        """Set the values of one row. Returns whether it is new."""
        if len(self._ended) == 1:
            self.expanded = None
            self._ended = np.array([row, _NO_ROW], dtype=np.int64)
            self.data = np.zeros((len(values), 2), dtype=np.int64)
            self.data[:, 0] = values
            return True
        at = int(self.rows.searchsorted(row))
        if new := bool(self._ended[at] != row):
            self.expanded = None
            self._ended = _inserted(self._ended, at, row)
            nothing = _no_values(len(self))
            self.data = np.concatenate([self.data[:, :at], nothing, self.data[:, at:]], axis=1)
        self.data[:, at] = values
        return new

    def set_many(self, rows: Ints, values: Ints) -> Ints:
        """Set the values (by column and row) of several rows, each given once. Returns those that are new."""
        places = self.rows.searchsorted(rows)
        known = self._ended[places] == rows
        if known.any():
            self.data[:, places[known]] = values[:, known]
        new: Ints = rows[~known]
        if len(new):
            self.expanded = None
            together = np.concatenate([self.rows, new])
            order = together.argsort(kind="stable")
            nothing = _no_values(len(self))
            merged = np.concatenate([self.data[:, :-1], values[:, ~known]], axis=1)[:, order]
            self._ended = np.append(together[order], _NO_ROW)
            self.data = np.concatenate([merged, nothing], axis=1)
        return new

    def remove(self, row: int) -> bool:
        """Remove one row. Returns whether it was there."""
        at = self.place(row)
        if at >= 0:
            self.expanded = None
            self._ended = _without(self._ended, at)
            self.data = np.concatenate([self.data[:, :at], self.data[:, at + 1 :]], axis=1)
        return at >= 0

    def read(self, column: int, rows: Ints | slice | list[int]) -> Ints:
        """The values of one column."""
        if isinstance(rows, slice):
            first, end = _range(rows)
            found = np.zeros(end - first, dtype=np.int64)
            low, high = self.rows.searchsorted((first, end))
            found[self._ended[low:high] - first] = self.data[column, low:high]
            return found
        places = self.rows.searchsorted(rows)
        places[self._ended[places] != rows] = -1
        values: Ints = self.data[column][places]
        return values

    @property
    def nbytes(self) -> int:
        """Bytes of the row numbers and values."""
        return self._ended.nbytes + self.data.nbytes


class SparseColumn:
    """One column of `SparseRows`. Reads like an int64 array."""

    def __init__(self, table: SparseRows, at: int) -> None:
        self.table = table
        self._at = at

    @overload
    def __getitem__(self, rows: int) -> int: ...
    @overload
    def __getitem__(self, rows: Ints | slice | list[int]) -> Ints: ...
    def __getitem__(self, rows: int | Ints | slice | list[int]) -> int | Ints:
        table = self.table
        if table.expanded is not None and not isinstance(rows, slice):
            of_rows: Ints = table.data[self._at][table.expanded[rows]]
            return of_rows
        if isinstance(rows, (int, np.integer)):
            value: int = table.data[self._at, table.place(int(rows))]
            return value
        return table.read(self._at, rows)

    def __setitem__(self, row: int, value: int) -> None:
        """Set the value of a row that is there; a row that is not stays as it is."""
        at = self.table.place(row)
        if at >= 0:
            self.table.data[self._at, at] = value

    @property
    def there(self) -> Ints:
        """The values of the rows that are there, ascending by row. Do not write to it."""
        found: Ints = self.table.data[self._at, :-1]
        return found

    def dense(self, slots: int) -> Ints:
        """The same as an array with a slot for each row."""
        return self[0:slots]


IntColumn = Ints | SparseColumn
BitColumn = Bools | SparseBits


def rows_with(bits: BitColumn, size: int) -> Ints:
    """The rows below `size` that have a name, ascending."""
    if isinstance(bits, SparseBits):
        return _between(bits.rows, 0, size)
    return np.flatnonzero(bits[:size])


def _between(rows: Ints, first: int, end: int) -> Ints:
    low, high = rows.searchsorted((first, end))
    return rows[low:high]


def _range(rows: slice) -> tuple[int, int]:
    """The ends of a range of rows. It needs an end: sparse rows have no length."""
    return rows.start or 0, rows.stop


def _inserted(ended: Ints, at: int, row: Any) -> Ints:
    made = np.empty(len(ended) + 1, dtype=np.int64)
    made[:at] = ended[:at]
    made[at] = row
    made[at + 1 :] = ended[at:]
    return made


def _without(ended: Ints, at: int) -> Ints:
    return np.concatenate([ended[:at], ended[at + 1 :]])
