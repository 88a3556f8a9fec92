"""The present in log time: what a reader knows of it, and bringing log time up to it before claims are made.

One record moves log time by an hour at most. On a log that was idle for a week the first claim would be judged at a log
time in the past, and its hold would end at the next records, an hour of log time each. So ticks are appended first. A store
that has not read the whole log yet does not know its log time: it is waited for, and no tick is appended for it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from vacancy.clients.runtime.bootstrap import tick_entry
from vacancy.clients.runtime.folded_log import SameLogCheck
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.fold.log_time import LEAP_MS_MAX
from vacancy.resources.model.errors import LogUnavailable
from vacancy.resources.model.record import NewRecord
from vacancy.streams.clocks.log_clock import LogClock
from vacancy.streams.log import Log

BEHIND_MS: Final = 60_000
"""How far behind the log's clock the log time of a partition may be before ticks are appended."""

TICKS_MAX: Final = 1_000
"""Ticks appended to one partition at most, about six weeks. A log that is farther behind has a wrong clock."""

_CHECK_S: Final = 1.0
_POLL_S: Final = 0.002


class Present:
    """The present in log time, for a reader of the tables. This host's clock alone does not count: it may be wrong.

    With a `clock` that was measured it is the time of that clock, or the newest log time where that is later (the log's clock
    was set back). Otherwise it is the newest log time in the tables, and the time that passed here since the reader first saw
    that position. A process that has just started therefore knows nothing of the time for which a log was silent. For a
    store that stands still the present is its newest log time.
    """

    def __init__(self, reader: StoreReader, clock: LogClock | None = None) -> None:
        self._reader, self._clock = reader, clock
        self._position: dict[int, int] = {}
        self._seen_at = 0.0

    def heard_since_ms(self, max_staleness_s: float | None) -> int | None:
        """The log time since when a node must have been heard from, as of where the reader is. None: any time."""
        return None if max_staleness_s is None else self.now_ms() - int(max_staleness_s * 1000)

    def now_ms(self) -> int:
        """The present: ms since 1970, UTC, by log time."""
        newest_ms, position = self._reader.newest_ms, self._reader.position
        if self._reader.still:
            return newest_ms
        now = time.monotonic()
        if position != self._position:
            self._position, self._seen_at = position, now
        if self._clock is not None and self._clock.measured:
            return max(newest_ms, self._clock.now_ms())
        return newest_ms + int((now - self._seen_at) * 1000)


class LogTime:
    """Keeps the log times of all partitions near the present, for one scheduler."""

    def __init__(self, log: Log, reader: StoreReader, same_log: SameLogCheck) -> None:
        self._log, self._reader, self._same_log = log, reader, same_log
        self.clock = log.clock
        self._checked_at = float("-inf")

    def bring_up(self, timeout_s: float) -> None:
        """Append ticks where log time is behind, and wait until the store has read them, `timeout_s` at most. Does nothing
        if the last call was less than a second ago. A log that does not answer is left alone. Raises as `SameLogCheck` for
        another log."""
        now = time.monotonic()
        if now - self._checked_at < _CHECK_S:
            return
        self._checked_at = now
        give_up_at = now + timeout_s
        try:
            self.measure(timeout_s)
            if not self._behind():
                return
            self._same_log.check(max(0.0, give_up_at - time.monotonic()))
            ends = self._log.end()
            self._wait_for(ends, give_up_at)
            position = self._reader.position
            behind = {p: hours for p, hours in self._behind().items() if position.get(p, 0) >= ends.get(p, 0)}
            ticks = [self._tick(p) for p, hours in behind.items() for _ in range(min(hours, TICKS_MAX))]
            landed = self._log.append(ticks, max(0.0, give_up_at - time.monotonic()))
        except LogUnavailable:
            return
        self._wait_for({one.partition: one.offset + 1 for one in landed}, give_up_at)

    def _wait_for(self, ends: Mapping[int, int], give_up_at: float) -> None:
        """Follow the store until it has read up to these offsets, or the time is over."""
        while time.monotonic() < give_up_at:
            self._reader.follow()
            if all(self._reader.position.get(p, 0) >= end for p, end in ends.items()):
                return
            time.sleep(_POLL_S)

    def measure(self, timeout_s: float) -> None:
        """Make known how far the log's clock is from this host's clock: append a tick, unless something was appended before.
        Raises `LogUnavailable`, and as `SameLogCheck` for another log."""
        if not self.clock.measured:
            give_up_at = time.monotonic() + timeout_s
            self._same_log.check(timeout_s)
            self._log.append([self._tick(0)], max(0.0, give_up_at - time.monotonic()))

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
