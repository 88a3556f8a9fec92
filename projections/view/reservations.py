"""Reservations: the resources of claims that have no verdict in the store yet."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec


class Reservation(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What one claim without a verdict takes of one class from a provider (by its key). Compared by identity, so two equal
    reservations count twice. `deltas` is what the class says of the ask (`ResourceClass.column_deltas`), and `exact` whether
    the columns decide the next claim for it (`Exactness.EXACT`)."""

    key: bytes
    name: str
    ask: Any
    deltas: Mapping[str, int] | None
    exact: bool


class Reservations:
    """All reservations, by class and by the view's row of the provider."""

    def __init__(self) -> None:
        self._taken: dict[str, dict[int, list[Reservation]]] = {}

    def add(self, row: int, taken: Reservation) -> None:
        """Add a reservation."""
        self._taken.setdefault(taken.name, {}).setdefault(row, []).append(taken)

    def remove(self, row: int, taken: Reservation) -> bool:
        """Remove a reservation. Returns False if it was removed earlier, together with its provider."""
        of_class = self._taken.get(taken.name, {})
        here = of_class.get(row)
        if here is None or taken not in here:
            return False
        if len(here) == 1:
            del of_class[row]
        else:
            here.remove(taken)
        return True

    def drop(self, row: int) -> None:
        """Remove all reservations of a provider that was removed."""
        for of_class in self._taken.values():
            of_class.pop(row, None)

    def of(self, row: int, name: str) -> Sequence[Reservation]:
        """The reservations of one class on one row."""
        return self._taken.get(name, {}).get(row, ())

    def among(self, rows: Collection[int], name: str) -> Iterator[int]:
        """Those of these rows that have a reservation of the class, each once."""
        taken = self._taken.get(name)
        return iter(taken.keys() & rows if taken else ())

    def __iter__(self) -> Iterator[Reservation]:
        """All reservations, in no particular order."""
        for of_class in self._taken.values():
            for here in of_class.values():
                yield from here
