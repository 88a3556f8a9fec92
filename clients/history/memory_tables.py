"""The tables of one partition in memory, for folding a part of a log without a store."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, TypeVar

from vacancy.resources.model.limits import NO_LIMIT
from vacancy.resources.state.tables import DEADLINES, Table
from vacancy.resources.state.transaction import Changes

Row = TypeVar("Row")


class MemoryTables:
    """Satisfies `resources.state.transaction.State`. `commit` applies what the fold returned for one record."""

    def __init__(self) -> None:
        self._rows: Changes = defaultdict(dict)
        self._deadlines: list[bytes] = []

    def get(self, table: Table[Row], key: bytes) -> Row | None:
        """The row, or None."""
        found: Row | None = self._rows[table].get(key)
        return found

    def due(self, until_ms: int, most: int = NO_LIMIT) -> Iterable[bytes]:
        """As `State.due`."""
        deadlines = self._deadlines
        if not deadlines or deadlines[0] >= (until_ms + 1).to_bytes(8, "big"):
            return ()
        end = bisect_right(deadlines, (until_ms + 1).to_bytes(8, "big"))
        return deadlines[: min(end, most)]

    def commit(self, changes: Changes) -> None:
        """Apply the changes of one record."""
        for table, changed in changes.items():
            rows = self._rows[table]
            if table is DEADLINES:
                self._move_deadlines(changed)
            for key, row in changed.items():
                if row is None:
                    rows.pop(key, None)
                else:
                    rows[key] = row

    def _move_deadlines(self, changed: dict[bytes, Any]) -> None:
        known, deadlines = self._rows[DEADLINES], self._deadlines
        for key, row in changed.items():
            if row is None and key in known:
                del deadlines[bisect_left(deadlines, key)]
            elif row is not None and key not in known:
                insort(deadlines, key)
