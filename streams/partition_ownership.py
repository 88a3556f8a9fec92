"""The partitions that a worker holds, and what it has done with them since it was made.

This is what is left of a worker when Kafka is taken away: which partition may be written here, what was applied
to it, how far behind it is, and why it was stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from vacancy.resources.model.errors import VacancyError
from vacancy.resources.model.record import Record
from vacancy.streams.clock import Clock, wall_ms
from vacancy.streams.projection_protocol import SharedProjection

_RATE_OVER_S: Final = 10.0

_events = structlog.get_logger("vacancy.streams.embedded_worker")


@dataclass(slots=True)
class OwnedPartition:
    """One partition that is open here. `end` is the offset its next record will get, as far as is known.

    It is `active` unless the group is being rebalanced: then it stays open, as it may come back at once, but
    nothing is applied to it. Times are those of the log (`folded_ms`) and of the worker's clock, in ms.
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
        """How many records are in the log and not in the tables."""
        return max(0, self.end - self.position)

    def saw_end(self, end: int, now_ms: int) -> None:
        """Note how far the log is by now."""
        self.end = max(self.end, end)
        if self.lag and self.behind_since_ms is None:
            self.behind_since_ms = now_ms
        elif not self.lag:
            self.behind_since_ms = None

    def lag_ms(self, now_ms: int) -> int:
        """How old the tables are while records wait: since the last record folded, but not since before the
        oldest of those that wait came, as far as it was seen to come."""
        if not self.lag or self.behind_since_ms is None:
            return 0
        return max(0, now_ms - max(self.folded_ms, self.behind_since_ms))


class PartitionOwnership:
    """Partitions of `projection` that are held here. `log` is the log's name. For one thread.

    `on_failed` is told of each partition that is stopped; the others go on.
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
        """Partition -> why it was stopped, in the order they stopped."""
        self.records = self.batches = 0
        self.records_per_s = 0.0
        self._log, self._on_failed, self.clock = log, on_failed, clock
        self._samples: list[tuple[float, int]] = []

    @property
    def position(self) -> dict[int, int]:
        """Partition held -> the offset after the last record applied."""
        return {one.partition: one.position for one in list(self.held.values())}

    @property
    def all_failed(self) -> bool:
        """Whether nothing can go on here."""
        return bool(self.errors) and all(p in self.errors for p in self.held)

    def open(self, partition: int) -> OwnedPartition:
        """Hold a partition, from where its tables stand. Raises StoreInUse and other StoreErrors."""
        position = self.projection.open(partition)
        before = self.held.get(partition)
        if before is not None and before.position == position:
            before.active = True
            return before
        folded_ms = self.projection.log_time_ms(partition)
        self.held[partition] = OwnedPartition(partition, position, position, folded_ms=folded_ms)
        return self.held[partition]

    def suspend(self, partitions: Iterable[int]) -> None:
        """Apply nothing to these until they are opened again: they may be another worker's by then."""
        for partition in partitions:
            if partition in self.held:
                self.held[partition].active = False

    def keep_only(self, partitions: Collection[int]) -> None:
        """Release all that are not among these."""
        for partition in [p for p in self.held if p not in partitions]:
            del self.held[partition]
            self.projection.release(partition)

    def apply(self, partition: int, records: Sequence[Record]) -> bool:
        """Apply the next records of a partition. False where it is not held, or was stopped, now or before."""
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
        """Stop a partition, and say so."""
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
        """Take note of how much is done: `records_per_s` is that of the last ten seconds."""
        now = time.monotonic()
        self._samples = [one for one in self._samples if now - one[0] <= _RATE_OVER_S]
        self._samples.append((now, self.records))
        since, done = self._samples[0]
        self.records_per_s = (self.records - done) / (now - since) if now > since else 0.0

    def close(self) -> None:
        """Give all back."""
        self.held.clear()
        self.projection.close()
