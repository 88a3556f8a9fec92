"""Sends what the tables of a worker are like at an agreed position, so that workers of other stores can compare theirs."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, NamedTuple

from vacancy.resources.model.record import NewRecord
from vacancy.streams.clock import Clock, wall_ms
from vacancy.streams.log import Log, Receipt

NEAR_END: Final = 4096
"""A worker that is further behind the end of the log says nothing: others do not remember positions that long ago."""


class DigestInterval(NamedTuple):
    """How often a worker says it of a partition: after that many seconds or records, whatever comes first. 0 seconds: never."""

    seconds: float = 600.0
    records: int = 100_000


DIGEST_INTERVAL: Final = DigestInterval()


class DigestSender:
    """Sends the digest of each partition at an interval, which varies by a quarter, so that hosts do not send together.

    `digest_entry` makes the record, or returns None where nothing has changed since the last one. Without it, or with an
    interval of 0 s, nothing is ever due. Not thread-safe, but for `send`.
    """

    def __init__(
        self,
        log: Log,
        digest_entry: Callable[[int], NewRecord | None] | None,
        interval: DigestInterval,
        *,
        clock: Clock = wall_ms,
        rng: random.Random | None = None,
    ) -> None:
        self._log, self._digest_entry, self._interval = log, digest_entry, interval
        self._clock, self._rng = clock, rng or random.Random()
        self._next_ms: dict[int, float] = {}
        self._records: dict[int, int] = {}
        self._receipts: dict[int, Receipt] = {}

    def start(self, partition: int, records: int = 0) -> None:
        """The partition starts to be followed, or this many records were just applied to it."""
        self._records[partition] = self._records.get(partition, 0) + records
        if partition not in self._next_ms:
            self._wait(partition)

    def due(self, partition: int) -> NewRecord | None:
        """The record to send to a partition that is near the end of the log, or None. It is asked for once an interval. Raises
        what `digest_entry` raises."""
        if self._digest_entry is None or not self._interval.seconds:
            return None
        if self._clock() < self._next_ms.get(partition, float("inf")) and (
            self._records.get(partition, 0) < self._interval.records
        ):
            return None
        receipt = self._receipts.get(partition)
        if receipt is not None and not receipt.done:
            return None
        self._wait(partition)
        return self._digest_entry(partition)

    def send(self, partition: int, entry: NewRecord) -> None:
        """Send the record. May wait while the log's client connects. A log that does not take it gets the next one: raises
        only as `Log.send` does."""
        self._receipts[partition] = self._log.send([entry])

    def _wait(self, partition: int) -> None:
        self._records[partition] = 0
        self._next_ms[partition] = self._clock() + 1000 * self._interval.seconds * self._rng.uniform(
            0.75, 1.25
        )
