"""Sends what stores of a log need to compare their tables: marks, and the digests of the tables at marks."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, NamedTuple

from vacancy.resources.model.record import NewRecord
from vacancy.streams.clocks.clock import Clock, wall_ms
from vacancy.streams.log import Log, Receipt

NEAR_END: Final = 4096
"""A worker that is further behind the end of the log says nothing yet."""

_CHECKS: Final = 10
"""How often in an interval a worker looks whether a mark is due, about."""


class DigestInterval(NamedTuple):
    """How often a partition gets a mark, if records came since the last one: after that many seconds, or after that many records
    and a tenth of the time. 0 seconds: never, and no digests are computed."""

    seconds: float = 600.0
    records: int = 100_000


DIGEST_INTERVAL: Final = DigestInterval()


class DigestEntries(NamedTuple):
    """What a worker says of its tables. `digest` makes the record with a digest that was computed and is not in the log yet, or
    returns None. `marked` returns the position of the last mark and the number of records since then without digests, or None
    under rules without marks. `mark` makes a mark."""

    digest: Callable[[int], NewRecord | None]
    marked: Callable[[int], tuple[int, int] | None]
    mark: Callable[[int], NewRecord]


class DigestSender:
    """Sends digests as they are computed, and marks at an interval.

    The workers of all hosts look at random moments whether a mark is due, and the first one sends it: so there is one for
    all of them. Two do no harm. Without `entries`, or with an interval of 0 s, nothing is ever due. Not thread-safe, but
    for `send`.
    """

    def __init__(
        self,
        log: Log,
        entries: DigestEntries | None,
        interval: DigestInterval,
        *,
        clock: Clock = wall_ms,
        rng: random.Random | None = None,
    ) -> None:
        self._log, self._interval = log, interval
        self._entries = entries if interval.seconds else None
        self._clock, self._rng = clock, rng or random.Random()
        self._check_ms: dict[int, float] = {}
        self._seen: dict[int, tuple[int, float]] = {}  # the last mark, and when it was noticed
        self._receipts: dict[int, Receipt] = {}

    def start(self, partition: int) -> None:
        """The partition starts to be followed."""
        self._seen.pop(partition, None)
        self._check_ms[partition] = 0.0

    def due(self, partition: int) -> NewRecord | None:
        """The record to send to a partition that is near the end of the log, or None. Raises what `entries` raise."""
        if self._entries is None:
            return None
        receipt = self._receipts.get(partition)
        if receipt is not None and not receipt.done:
            return None
        return self._entries.digest(partition) or self._mark_due(self._entries, partition)

    def _mark_due(self, entries: DigestEntries, partition: int) -> NewRecord | None:
        now_ms = self._clock()
        if now_ms < self._check_ms.get(partition, 0.0):
            return None
        seconds, records = self._interval
        self._check_ms[partition] = now_ms + 1000 * seconds / _CHECKS * self._rng.uniform(0.5, 1.5)
        found = entries.marked(partition)
        if found is None:
            return None
        position, changes = found
        seen, since_ms = self._seen.get(partition, (-1, 0.0))
        if seen != position:
            self._seen[partition] = (position, now_ms)
            return None
        waited_s = (now_ms - since_ms) / 1000
        if not changes or waited_s < (seconds / _CHECKS if changes >= records else seconds):
            return None
        return entries.mark(partition)

    def send(self, partition: int, entry: NewRecord) -> None:
        """Send the record. May wait while the log's client connects. A log that does not take it gets the next one: raises
        only as `Log.send` does."""
        self._receipts[partition] = self._log.send([entry])
