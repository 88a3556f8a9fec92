"""The tables of a partition in dicts: the reference for the RocksDB store."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from vacancy.resources.model.limits import NO_LIMIT
from vacancy.resources.state.tables import DEADLINES, Table
from vacancy.resources.state.transaction import Changes

Row = TypeVar("Row")


class MemoryState:
    """Implements `State` of `resources/state/transaction.py`; `commit` applies what the fold returned."""

    def __init__(self) -> None:
        self._rows: dict[Table[Any], dict[bytes, Any]] = defaultdict(dict)
        self._deadlines: list[bytes] = []

    def get(self, table: Table[Row], key: bytes) -> Row | None:
        return self._rows[table].get(key)

    def due(self, until_ms: int, most: int = NO_LIMIT) -> Iterable[bytes]:
        end = bisect_right(self._deadlines, (until_ms + 1).to_bytes(8, "big"))
        return self._deadlines[: min(end, most)]

    def commit(self, changes: Changes) -> None:
        """Apply one record's changes."""
        for table, changed in changes.items():
            rows = self._rows[table]
            for key, row in changed.items():
                if row is None:
                    rows.pop(key, None)
                else:
                    rows[key] = row
        if DEADLINES in changes:
            self._deadlines = sorted(self._rows[DEADLINES])

    def rows(self, table: Table[Row]) -> Iterator[tuple[bytes, Row]]:
        """The rows of a table."""
        return iter(list(self._rows[table].items()))

    def items(self) -> Iterator[tuple[str, bytes, bytes]]:
        """(family, key, encoded row) of all rows, sorted: equal states give equal items."""
        found = (
            (t.family, key, t.encode(row)) for t, rows in self._rows.items() for key, row in rows.items()
        )
        return iter(sorted(found))
