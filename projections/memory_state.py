"""A partition's tables in a dict: the reference that the RocksDB store must agree with."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from vacancy.resources.draft import Changes
from vacancy.resources.tables import DEADLINES, Table

Row = TypeVar("Row")


class MemoryState:
    """Satisfies `resources.draft.State`; `commit` takes what the fold returned."""

    def __init__(self) -> None:
        self._rows: dict[tuple[Table[Any], bytes], Any] = {}
        self._deadlines: list[bytes] = []

    def get(self, table: Table[Row], key: bytes) -> Row | None:
        return self._rows.get((table, key))

    def due(self, until_ms: int) -> Iterable[bytes]:
        end = bisect_right(self._deadlines, (until_ms + 1).to_bytes(8, "big"))
        return self._deadlines[:end]

    def commit(self, changes: Changes) -> None:
        """Apply one record's changes."""
        for (table, key), row in changes.items():
            known = (table, key) in self._rows
            if row is None:
                self._rows.pop((table, key), None)
                if table is DEADLINES and known:
                    self._deadlines.remove(key)
            else:
                self._rows[(table, key)] = row
                if table is DEADLINES and not known:
                    insort(self._deadlines, key)

    def items(self) -> Iterator[tuple[str, bytes, bytes]]:
        """(table, key, encoded row) of all rows, by table and key: equal states give equal items."""
        rows = ((table.name, key, table.encode(row)) for (table, key), row in self._rows.items())
        return iter(sorted(rows))
