"""What the worker asks of the tables it feeds: all this room knows of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from vacancy.resources.model.record import NewRecord, Record

if TYPE_CHECKING:
    from vacancy.streams.log import Log


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


class SharedProjection(Projection, Protocol):
    """Tables that several workers of one host share, each partition held by one of them at a time.

    Nothing of a partition is touched before it is opened here or after it is released.
    """

    @property
    def id(self) -> str:
        """The name of these tables: its workers form one group. New or restored tables have a new one."""

    @property
    def partitions(self) -> int:
        """How many partitions there are."""

    def open(self, partition: int) -> int:
        """Take a partition and return its position; at once if it is held here already.

        Raises StoreInUse while another process holds it.
        """

    def release(self, partition: int) -> None:
        """Give a partition back, for another worker to open. Nothing happens if it is not held."""

    def check_log(self, partition: int, before: Iterable[Record]) -> None:
        """Raise StoreMismatch unless `before` is the record that was folded last: that before the position."""

    def dead_letters(self, partition: int) -> int:
        """How many records of an open partition were refused since its first."""

    def close(self) -> None:
        """Give all back."""


class WorkerParts(NamedTuple):
    """What a worker is given: the tables, and how to make the tick of a partition."""

    projection: SharedProjection
    tick_entry: Callable[[int], NewRecord]


MakeParts = Callable[["Log", Path], WorkerParts]
"""Makes the parts of a worker that follows a log and keeps its tables in a directory; opens no partition."""
