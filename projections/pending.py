"""What claims under way ask for, until the store says how they were judged."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any


class Pending:
    """Asks by class and by the view's row of a provider."""

    def __init__(self) -> None:
        self._asks: dict[str, dict[int, list[Any]]] = {}

    def add(self, row: int, name: str, ask: Any) -> None:
        """A claim asks for this."""
        self._asks.setdefault(name, {}).setdefault(row, []).append(ask)

    def remove(self, row: int, name: str, ask: Any) -> bool:
        """It is decided. Returns whether it was still there: it goes with its provider, too."""
        asks = self._asks.get(name, {}).get(row, [])
        if ask not in asks:
            return False
        asks.remove(ask)
        if not asks:
            del self._asks[name][row]
        return True

    def drop(self, row: int) -> None:
        """The provider went."""
        for of_class in self._asks.values():
            of_class.pop(row, None)

    def of(self, row: int, name: str) -> Sequence[Any]:
        """What is asked of one class there."""
        return self._asks.get(name, {}).get(row, ())

    def among(self, rows: Collection[int], name: str) -> Iterator[int]:
        """Those of these rows of which something of one class is asked, each once."""
        asked = self._asks.get(name)
        return iter(asked.keys() & rows if asked else ())

    def __iter__(self) -> Iterator[tuple[int, str, Any]]:
        """(row, class, ask) of all, in no order."""
        for name, of_class in self._asks.items():
            for row, asks in of_class.items():
                yield from ((row, name, ask) for ask in asks)
