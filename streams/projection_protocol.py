"""What the worker asks of the tables it feeds: all this room knows of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from vacancy.resources.record import Record


class Projection(Protocol):
    """Tables folded from a log. Each method raises StoreError if the store fails, Halt if this build must stop."""

    def position(self) -> Mapping[int, int]:
        """Partition -> the offset of the next record to apply; a partition left out has seen none."""

    def apply(self, partition: int, records: Sequence[Record]) -> None:
        """Fold `records`, the next of `partition`, and commit them with the new position, all or nothing."""

    def next_deadline_ms(self, partition: int) -> int | None:
        """The earliest log time (ms since 1970, UTC) that something in `partition` waits for, or None."""

    def log_time_ms(self, partition: int) -> int:
        """How far the log time of `partition` has come (ms since 1970, UTC); 0 before its first record."""
