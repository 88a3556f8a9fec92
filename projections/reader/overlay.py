"""Overlay of rows received through the ring that the RocksDB secondary does not have yet."""

from __future__ import annotations

from collections.abc import Collection

from vacancy.projections.changefeed.entries import FeedEntry

_LATELY_MAX = 4096


class Overlay:
    """The newest after-image of each row, but for those of the tables `leave_out`.

    A scheduler receives the rows of all claims and rarely reads one. So new entries wait unsorted until a row is read, or
    until there are many: sorting them one by one, with other work in between, misses the processor's cache for each row.
    """

    def __init__(self, leave_out: Collection[str] = ()) -> None:
        self._leave_out = leave_out
        self._rows: dict[str, dict[bytes, bytes | None]] = {}
        self._lately: list[tuple[str, list[bytes], list[bytes | None]]] = []
        self._sorted_in = self._waiting = 0

    def __len__(self) -> int:
        """How many rows there are at most: a waiting one may replace a sorted one."""
        return self._sorted_in + self._waiting

    def add(self, entry: FeedEntry) -> None:
        """Add one commit. Its lists are kept, so they must not be changed."""
        for images in entry.images:
            if images[0] not in self._leave_out:
                self._lately.append(images)
                self._waiting += len(images[1])
        if self._waiting > _LATELY_MAX:
            self._sort_in()

    def of(self, table: str) -> dict[bytes, bytes | None]:
        """Encoded rows of a table by key, None where one went."""
        if self._lately:
            self._sort_in()
        return self._rows.get(table, {})

    def clear(self) -> None:
        """The secondary shows them all."""
        self._rows, self._lately = {}, []
        self._sorted_in = self._waiting = 0

    def _sort_in(self) -> None:
        for table, keys, values in self._lately:
            self._rows.setdefault(table, {}).update(zip(keys, values, strict=True))
        self._lately, self._waiting = [], 0
        self._sorted_in = sum(map(len, self._rows.values()))
