"""The tables of one partition in memory, for folding a part of a log without a store of its own."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from vacancy.resources.model.limits import NO_LIMIT
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.state.tables import DEADLINES, Table
from vacancy.resources.state.transaction import Changes

if TYPE_CHECKING:
    from vacancy.projections.reader.store_reader import StoreReader

Row = TypeVar("Row")


class MemoryTables:
    """Satisfies `resources.state.transaction.State`. `commit` applies what the fold returned for one record.

    With `base`, a store that does not move meanwhile, the rows begin as that store's rows of the partition; each is read when it is
    first asked for.
    """

    def __init__(self, base: StoreReader | None = None, partition: int = 0) -> None:
        self._rows: Changes = defaultdict(dict)
        self._base = base
        self._deadlines: list[bytes] = []
        self._cell = ""
        if base is not None:
            self._cell = covering_cells(base.manifest.partitions)[partition]
            self._deadlines = [place for place, _ in base.raw(partition, DEADLINES.family)]

    def get(self, table: Table[Row], key: bytes) -> Row | None:
        """The row, or None."""
        rows = self._rows[table]
        if self._base is not None and key not in rows:
            rows[key] = self._base.get(table, key, cell=self._cell)
        found: Row | None = rows.get(key)
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
            if table is DEADLINES:
                self._move_deadlines(changed)
                continue
            rows = self._rows[table]
            for key, row in changed.items():
                if row is None and self._base is None:
                    rows.pop(key, None)
                else:
                    rows[key] = row  # None: it is deleted, whatever the base has

    def _move_deadlines(self, changed: dict[bytes, Any]) -> None:
        deadlines = self._deadlines
        for key, row in changed.items():
            at = bisect_left(deadlines, key)
            known = at < len(deadlines) and deadlines[at] == key
            if row is None and known:
                del deadlines[at]
            elif row is not None and not known:
                deadlines.insert(at, key)
