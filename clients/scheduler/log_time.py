"""Bringing log time up to the present before claims are made.

One record moves log time by an hour at most. On a log that was idle for a week the first claim would be judged at a log
time in the past, and its hold would end at the next records, an hour of log time each. So ticks are appended first.
"""

from __future__ import annotations

import time
from typing import Final

from vacancy.clients.runtime.bootstrap import tick_entry
from vacancy.clients.runtime.folded_log import SameLogCheck
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.fold.log_time import LEAP_MS_MAX
from vacancy.resources.model.errors import LogUnavailable
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import Log

BEHIND_MS: Final = 60_000
"""How far behind the log's clock the log time of a partition may be before ticks are appended."""

TICKS_MAX: Final = 1_000
"""Ticks appended to one partition at most, about six weeks. A log that is farther behind has a wrong clock."""

_CHECK_S: Final = 1.0
_POLL_S: Final = 0.002


class LogTime:
    """Keeps the log times of all partitions near the present, for one scheduler."""

    def __init__(self, log: Log, reader: StoreReader, same_log: SameLogCheck) -> None:
        self._log, self._reader, self._same_log = log, reader, same_log
        self.clock = log.clock
        self._checked_at = float("-inf")

    def bring_up(self, timeout_s: float) -> None:
        """Append ticks where log time is behind, and wait until the store has read them, `timeout_s` at most. Does nothing
        if the last call was less than a second ago. The first tick also shows how far the log's clock differs from this
        host's clock. A log that does not answer is left alone. Raises as `SameLogCheck` for another log."""
        now = time.monotonic()
        if now - self._checked_at < _CHECK_S:
            return
        self._checked_at = now
        give_up_at = now + timeout_s
        try:
            behind = self._behind()
            if behind:
                self._same_log.check(timeout_s)
                self._log.append([self._tick(p) for p in behind], max(0.0, give_up_at - time.monotonic()))
                behind = self._behind()  # by the clock that this tick has shown
            if not behind:
                return
            ticks = [self._tick(p) for p, hours in behind.items() for _ in range(min(hours, TICKS_MAX))]
            landed = self._log.append(ticks, max(0.0, give_up_at - time.monotonic()))
        except LogUnavailable:
            return
        ends = {one.partition: one.offset + 1 for one in landed}
        while time.monotonic() < give_up_at:
            self._reader.follow()
            if all(self._reader.position.get(p, 0) >= end for p, end in ends.items()):
                return
            time.sleep(_POLL_S)

    def _behind(self) -> dict[int, int]:
        """Partition -> how many records bring its log time up to the log's clock, where it is behind."""
        now_ms = self.clock.now_ms()
        found = {}
        for partition in self._reader.position:
            behind_ms = now_ms - self._reader.log_time_ms(partition)
            if behind_ms > BEHIND_MS:
                found[partition] = -(-behind_ms // LEAP_MS_MAX)
        return found

    def _tick(self, partition: int) -> NewRecord:
        return tick_entry(partition, self._log.partitions)
