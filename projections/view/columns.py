"""Growing arrays with one slot for each provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vacancy.resources.classes.resource_class import Exactness, ResourceClass
from vacancy.resources.state.rows import ProviderRow

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def grown(array: NDArray[Any], size: int) -> NDArray[Any]:
    """The array with at least `size` slots; new slots are zero. Untouched pages of a large array use no memory."""
    if len(array) >= size:
        return array
    larger = np.zeros(size, dtype=array.dtype)
    larger[: len(array)] = array
    return larger


class ClassColumns:
    """A view's data of one resource class: an int64 array for each of the class's columns."""

    def __init__(self, resource_class: ResourceClass[Any], size: int) -> None:
        self.resource_class = resource_class
        self.arrays: dict[str, Ints] = {
            name: np.zeros(size, dtype=np.int64) for name in resource_class.columns
        }

    def grow(self, size: int) -> None:
        """Extend to `size` rows."""
        self.arrays = {name: grown(array, size) for name, array in self.arrays.items()}

    def set_many(self, rows: Ints | list[int], encoded: Sequence[bytes]) -> None:
        """Set the columns of these rows from encoded records."""
        values, rows = self.resource_class.project(encoded), np.asarray(rows)
        for array, column in zip(self.arrays.values(), values, strict=True):
            array[rows] = column

    def set_one(self, row: int, record: Any) -> None:
        """Set the columns of one row."""
        for array, value in zip(self.arrays.values(), self.resource_class.row(record), strict=True):
            array[row] = value

    def add(self, row: int, by: Mapping[str, int], times: int) -> None:
        """Add `times` these amounts to the columns of one row."""
        for name, amount in by.items():
            self.arrays[name][row] += times * amount

    def clear(self, row: int) -> None:
        """Set the columns of one row to zero: the provider has no inventory of this class."""
        for array in self.arrays.values():
            array[row] = 0


def is_exact(classes: Mapping[str, ClassColumns], name: str, ask: Any) -> bool:
    """Whether the columns of a class decide the next claim for an ask (see `Exactness`)."""
    columns = classes.get(name)
    return columns is not None and columns.resource_class.exactness(ask) is not Exactness.NEEDS_CLAIM


class BitColumns:
    """The names (traits or aggregates) of each row: a bool array for each name. Rows with equal names share one tuple."""

    def __init__(self) -> None:
        self.arrays: dict[str, Bools] = {}
        self._names: dict[int, tuple[str, ...]] = {}
        self._interned: dict[tuple[str, ...], tuple[str, ...]] = {}

    def grow(self, size: int) -> None:
        """Extend to `size` rows."""
        self.arrays = {name: grown(array, size) for name, array in self.arrays.items()}

    def set_new(self, rows: list[int], names: tuple[str, ...], size: int) -> None:
        """Set the names of rows that have no names yet."""
        names = self._interned.setdefault(names, names)
        self._names.update(dict.fromkeys(rows, names))
        self._mark(rows, names, size)

    def set(self, rows: Sequence[int], names: tuple[str, ...], size: int) -> None:
        """Replace the names of these rows."""
        names = self._interned.setdefault(names, names)
        for row in rows:
            before = self._names.get(row, ())
            if before:
                for name in before:
                    self.arrays[name][row] = False
            if names:
                self._names[row] = names
            else:
                self._names.pop(row, None)
        self._mark(rows, names, size)

    def _mark(self, rows: Sequence[int], names: tuple[str, ...], size: int) -> None:
        index = np.asarray(rows)
        for name in names:
            array = self.arrays.get(name)
            if array is None:
                array = self.arrays[name] = np.zeros(size, dtype=np.bool_)
            array[index] = True

    def of(self, row: int) -> tuple[str, ...]:
        """The names of one row."""
        return self._names.get(row, ())


def trait_names(provider: ProviderRow) -> tuple[str, ...]:
    """All traits, sorted."""
    if not provider.operator_traits:
        return provider.reported_traits
    return tuple(sorted(provider.traits))
