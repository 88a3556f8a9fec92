"""Rows that a reader was told of and that its RocksDB secondary does not show yet."""

from __future__ import annotations

from collections.abc import Collection

from vacancy.projections.changefeed.entries import FeedEntry

_LATELY_MAX = 4096


class Overlay:
    """The newest after-image of each row, but for those of the tables `leave_out`.

    A scheduler is told of all that anybody claims, and hardly ever asks for a row: so what was told lately waits as it
    came until somebody asks, or there is much of it. Sorted in entry by entry, with other work in between, each row
    was out of the processor's cache again.
    """

    def __init__(self, leave_out: Collection[str] = ()) -> None:
        self._leave_out = leave_out
        self._rows: dict[str, dict[bytes, bytes | None]] = {}
        self._lately: list[tuple[str, list[bytes], list[bytes | None]]] = []
        self._sorted_in = self._waiting = 0

    def __len__(self) -> int:
        """How many rows there are at most: one that was told of lately may be one that is there."""
        return self._sorted_in + self._waiting

    def tell(self, entry: FeedEntry) -> None:
        """Take in one commit. Its lists are kept: nobody may change them."""
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
