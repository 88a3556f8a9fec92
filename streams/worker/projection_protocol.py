"""The protocol between a worker and the tables that it applies records to. `streams` imports no tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from vacancy.resources.model.record import NewRecord, Record
from vacancy.resources.model.rules_answer import RulesAnswer
from vacancy.streams.worker.state_digests import DIGEST_INTERVAL, DigestEntries, DigestInterval

if TYPE_CHECKING:
    from vacancy.streams.log import Log


class Projection(Protocol):
    """Tables folded from a log. Each method raises StoreError if the store fails, Halt if this build cannot go on."""

    def position(self) -> Mapping[int, int]:
        """Partition -> the offset of the next record to apply; a partition without records is absent."""

    def apply(self, partition: int, records: Sequence[Record]) -> None:
        """Fold `records`, the next ones of `partition`, and commit them together with the new position."""

    def next_deadline_ms(self, partition: int) -> int | None:
        """The earliest log time (ms since 1970, UTC) that something in `partition` waits for, or None."""

    def overdue(self, partition: int) -> bool:
        """Whether something in `partition` was due at its last record and waits for the next one: one record ends a limited
        number of deadlines."""

    def log_time_ms(self, partition: int) -> int:
        """The log time of `partition` (ms since 1970, UTC); 0 before its first record."""

    def unanswered(self, partition: int) -> Sequence[RulesAnswer]:
        """What these tables still have to answer to the rules that are proposed in `partition`."""


class SharedProjection(Projection, Protocol):
    """Tables that several workers of one host share. Each partition is owned by at most one of them.

    A worker does not touch a partition before `open` or after `release`.
    """

    @property
    def id(self) -> str:
        """The id of these tables; their workers form one consumer group. New or restored tables have a new id."""

    @property
    def partitions(self) -> int:
        """The number of partitions."""

    def open(self, partition: int) -> int:
        """Acquire a partition and return its position. Does nothing if it is owned already.

        Raises StoreInUse while another process owns it.
        """

    def release(self, partition: int) -> None:
        """Release a partition so that another worker can open it. Does nothing if it is not owned."""

    def check_log(self, partition: int, before: Iterable[Record]) -> None:
        """Raise StoreMismatch unless `before` is the record that was folded last, the one before the position."""

    def dead_letters(self, partition: int) -> int:
        """The number of rejected records of an open partition, since its first record."""

    def claims(self, partition: int) -> Mapping[str, int]:
        """How many claims of an open partition this process has judged: how many it `accepted`, and how many were rejected, by
        reason."""

    def contested(self, partition: int) -> Mapping[str, int]:
        """The nodes of an open partition whose names two publishers use: how many are `closed` to new claims for it, and
        how many events were `dropped` of such nodes so far, `dropped_reports` of them full reports."""

    def differences(self, partition: int) -> Mapping[str, str]:
        """The stores of other hosts whose state of an open partition differs from this one: the id of each, and how it differs."""

    def close(self) -> None:
        """Release all partitions."""


class WorkerParts(NamedTuple):
    """The tables of a worker, the functions that make the tick of a partition and its answer to proposed rules, and what
    the worker calls about every 0.1 s, between two commits. `digest_entries` makes what it says of its tables, with a mark every
    `digest_interval`; None: nothing."""

    projection: SharedProjection
    tick_entry: Callable[[int], NewRecord]
    answer_entry: Callable[[int, RulesAnswer], NewRecord]
    between_commits: Callable[[], None] | None = None
    digest_entries: DigestEntries | None = None
    digest_interval: DigestInterval = DIGEST_INTERVAL


MakeParts = Callable[["Log", Path], WorkerParts]
"""Makes the parts of a worker from its log and the directory of its tables. It opens no partition."""
