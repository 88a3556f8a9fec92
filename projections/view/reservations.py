"""What claims in flight take, until the store has their verdicts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import msgspec


class Reservation(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What one claim in flight takes from a provider (by its key), of one class. Two equal reservations are two."""

    key: bytes
    name: str
    ask: Any


class Reservations:
    """What is taken, by class and by the view's row of the provider."""

    def __init__(self) -> None:
        self._taken: dict[str, dict[int, list[Reservation]]] = {}

    def add(self, row: int, taken: Reservation) -> None:
        """A claim takes this."""
        self._taken.setdefault(taken.name, {}).setdefault(row, []).append(taken)

    def remove(self, row: int, taken: Reservation) -> bool:
        """It is decided. Returns whether it was still there: it goes with its provider, too."""
        here = self._taken.get(taken.name, {}).get(row, [])
        if taken not in here:
            return False
        here.remove(taken)
        if not here:
            del self._taken[taken.name][row]
        return True

    def drop(self, row: int) -> None:
        """The provider went."""
        for of_class in self._taken.values():
            of_class.pop(row, None)

    def of(self, row: int, name: str) -> Sequence[Reservation]:
        """What is taken of one class there."""
        return self._taken.get(name, {}).get(row, ())

    def among(self, rows: Collection[int], name: str) -> Iterator[int]:
        """Those of these rows with a reservation of one class, each once."""
        taken = self._taken.get(name)
        return iter(taken.keys() & rows if taken else ())

    def __iter__(self) -> Iterator[Reservation]:
        """All of it, in no order."""
        for of_class in self._taken.values():
            for here in of_class.values():
                yield from here
