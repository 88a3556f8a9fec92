"""The partitions that a worker owns: position, lag, counts and errors of each.

This is the part of the worker that does not depend on Kafka: which partitions may be written here, what was applied to
them, how far behind they are, and why they were stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from vacancy.resources.model.errors import VacancyError
from vacancy.resources.model.record import Record
from vacancy.streams.clocks.clock import Clock, wall_ms
from vacancy.streams.worker.projection_protocol import SharedProjection

_RATE_OVER_S: Final = 10.0

_events = structlog.get_logger("vacancy.worker")


@dataclass(slots=True)
class OwnedPartition:
    """One open partition. `end` is the last known end of the log: the offset of the next record.

    It is not `active` while the group is rebalanced: it stays open, because it may be assigned again at once, but
    nothing is applied to it. `folded_ms` is log time, `behind_since_ms` the worker's clock, both in ms.
    """

    partition: int
    position: int
    end: int
    active: bool = True
    folded_ms: int = 0
    behind_since_ms: int | None = 0
    records: int = 0

    @property
    def lag(self) -> int:
        """The number of records that are in the log but not in the tables."""
        return max(0, self.end - self.position)

    def saw_end(self, end: int, now_ms: int) -> None:
        """Record the current end of the log."""
        self.end = max(self.end, end)
        if self.lag and self.behind_since_ms is None:
            self.behind_since_ms = now_ms
        elif not self.lag:
            self.behind_since_ms = None

    def lag_ms(self, now_ms: int) -> int:
        """The age of the tables while records wait, in ms; 0 if none wait.

        It counts from the last folded record, but not from before the first waiting record was seen.
        """
        if not self.lag or self.behind_since_ms is None:
            return 0
        return max(0, now_ms - max(self.folded_ms, self.behind_since_ms))


class PartitionOwnership:
    """The partitions of `projection` that this worker owns. `log` is the log's name. Not thread-safe.

    `on_failed` is called for each partition that stops; the others continue.
    """

    def __init__(
        self,
        projection: SharedProjection,
        log: str,
        *,
        on_failed: Callable[[VacancyError], None],
        clock: Clock = wall_ms,
    ) -> None:
        self.projection = projection
        self.held: dict[int, OwnedPartition] = {}
        self.errors: dict[int, VacancyError] = {}
        """Partition -> the error that stopped it, in the order in which they stopped."""
        self.records = self.batches = 0
        self.records_per_s = 0.0
        self._log, self._on_failed, self.clock = log, on_failed, clock
        self._samples: list[tuple[float, int]] = []

    @property
    def position(self) -> dict[int, int]:
        """Owned partition -> the offset after the last record applied."""
        return {one.partition: one.position for one in list(self.held.values())}

    @property
    def all_failed(self) -> bool:
        """Whether every owned partition has stopped."""
        return bool(self.errors) and all(p in self.errors for p in self.held)

    def open(self, partition: int) -> OwnedPartition:
        """Acquire a partition, at the position of its tables. Raises StoreInUse and other StoreErrors."""
        position = self.projection.open(partition)
        before = self.held.get(partition)
        if before is not None and before.position == position:
            before.active = True
            return before
        folded_ms = self.projection.log_time_ms(partition)
        self.held[partition] = OwnedPartition(partition, position, position, folded_ms=folded_ms)
        return self.held[partition]

    def suspend(self, partitions: Iterable[int]) -> None:
        """Apply nothing to these partitions until they are opened again: another worker may own them by then."""
        for partition in partitions:
            if partition in self.held:
                self.held[partition].active = False

    def keep_only(self, partitions: Collection[int]) -> None:
        """Release all other partitions."""
        for partition in [p for p in self.held if p not in partitions]:
            del self.held[partition]
            self.projection.release(partition)

    def apply(self, partition: int, records: Sequence[Record]) -> bool:
        """Apply the next records of a partition. False if it is not owned or has stopped, now or before."""
        one = self.held.get(partition)
        if one is None or not one.active or partition in self.errors:
            return False
        try:
            self.projection.apply(partition, records)
        except VacancyError as error:
            one.position = self.projection.open(partition)
            self.fail(partition, error)
            return False
        after = records[-1].offset + 1
        applied = max(0, after - one.position)
        one.position = max(one.position, after)
        one.folded_ms = max(one.folded_ms, records[-1].timestamp_ms)
        one.records += applied
        self.records += applied
        self.batches += 1
        one.saw_end(after, self.clock())
        return True

    def fail(self, partition: int, error: VacancyError) -> None:
        """Stop a partition and log the error."""
        if partition in self.errors:
            return
        self.errors[partition] = error
        one = self.held.get(partition)
        _events.error(
            "partition stopped",
            log=self._log,
            partition=partition,
            offset=-1 if one is None else one.position,
            kind=type(error).__name__,
            error=str(error),
        )
        self._on_failed(error)

    def sample_rate(self) -> None:
        """Update `records_per_s`, the rate over the last ten seconds."""
        now = time.monotonic()
        self._samples = [one for one in self._samples if now - one[0] <= _RATE_OVER_S]
        self._samples.append((now, self.records))
        since, done = self._samples[0]
        self.records_per_s = (self.records - done) / (now - since) if now > since else 0.0

    def close(self) -> None:
        """Release all partitions."""
        self.held.clear()
        self.projection.close()
