"""A view with additional reservations, for a query that places several copies one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vacancy.projections.view.columns import ClassColumns
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.reservations import Reservation, Reservations
from vacancy.projections.view.sparse_rows import IntColumn


class ReservedView(FleetView):
    """The view `base` with more reservations. The base does not change: both share all arrays except the columns that
    reservations change, which are copied first. It is valid as long as the base does not change. It is never updated.
    """

    def __init__(self, base: FleetView) -> None:
        # All state is shared with the base, except what reservations change.
        self.__dict__.update(base.__dict__)
        self.base = base
        self.classes = dict(base.classes)
        self.reservations = _AddedReservations(base.reservations)
        self.derived = base.derived.derive()
        self._copied: dict[str, _CopiedColumns] = {}
        self._added: list[tuple[int, Reservation]] = []

    def copy_columns(self, name: str, deltas: Iterable[str] | None = None) -> None:
        """Copy the columns of a class that this view is about to change: those of `deltas`, or all."""
        columns = self._copied.get(name)
        if columns is None:
            columns = self.classes[name] = self._copied[name] = _CopiedColumns(self.classes[name])
        if columns.copy(columns.arrays if deltas is None else deltas, self.size):
            self.derived.clear_requests()  # filters hold the arrays that they read

    def reserve(self, row: int, name: str, ask: Any) -> Reservation:
        """Count `ask` as used in this view only."""
        self.copy_columns(name, self.classes[name].resource_class.column_deltas(ask))
        reserved = super().reserve(row, name, ask)
        self._added.append((row, reserved))
        return reserved

    def unreserve_all(self) -> None:
        """Remove all reservations that this view added to the base."""
        if not self._added:
            return
        self.version += 1
        for row, taken in self._added:
            self.reservations.remove(row, taken)
            columns = self.classes[taken.name].arrays
            for name, array in self.base.classes[taken.name].arrays.items():
                if columns[name] is not array:
                    columns[name][row] = array[row]
        self._added.clear()


class _CopiedColumns(ClassColumns):
    """Columns of a class, shared with others until they are copied. Reservations add no row and remove none."""

    def __init__(self, base: ClassColumns) -> None:
        self.__dict__.update(base.__dict__)
        self._copied: set[str] = set()

    def copy(self, names: Iterable[str], size: int) -> bool:
        """Copy the first `size` slots of those of these columns that are still shared. Returns whether any was copied."""
        missing = [name for name in names if name not in self._copied]
        if self.sparse is not None:
            if missing:
                self.arrays = self.sparse = self.sparse.copy()
                self._copied.update(self.arrays)
            return bool(missing)
        self.arrays = {**self.arrays, **{name: self.arrays[name][:size].copy() for name in missing}}
        self._copied.update(missing)
        return bool(missing)

    def for_queries(self) -> Mapping[str, IntColumn]:
        """Copies are not expanded. They share what the base has expanded."""
        return self.arrays

    def _weigh(self) -> None:
        """Copies for a query are not counted."""


class _AddedReservations(Reservations):
    """Reservations on top of those of another view, which do not change."""

    def __init__(self, base: Reservations) -> None:
        super().__init__()
        self._base = base

    def of(self, row: int, name: str) -> list[Reservation]:
        """See `Reservations.of`."""
        return [*self._base.of(row, name), *super().of(row, name)]
