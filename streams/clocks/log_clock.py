"""How far the clock of a log is ahead of this host's clock, from the timestamps of what was appended."""

from __future__ import annotations

import logging
from typing import Final

from vacancy.streams.clocks.clock import Clock, wall_ms

NOTICE_MS: Final = 10_000
"""A difference from which it is named. Smaller ones do no harm: claims and holds follow log time."""

logger = logging.getLogger(__name__)


class LogClock:
    """The difference between the clock that stamps a log's records and this host's clock.

    Each acknowledged append says something: its timestamp lies between the moment when it was sent and the moment when it
    was acknowledged, if both clocks agree. `ahead_ms` is how far it is outside of that (below 0: the log's clock is
    behind). A log line names a difference of `NOTICE_MS` and more once, and again when it has changed by as much.
    `measured`: whether there was an append; `ahead_ms` is 0 before. Thread-safe: single attributes are written.
    """

    def __init__(self, name: str, clock: Clock = wall_ms) -> None:
        self._name = name
        self._clock = clock
        self._named_ms = 0
        self.ahead_ms = 0
        self.measured = False

    def host_ms(self) -> int:
        """This host's time: ms since 1970, UTC."""
        return self._clock()

    def now_ms(self) -> int:
        """The time by the log's clock, as far as it is known."""
        return self._clock() + self.ahead_ms

    def note(self, sent_ms: int, timestamp_ms: int) -> None:
        """A record that was sent at `sent_ms` (this host's time), and is acknowledged now, has this timestamp."""
        behind = timestamp_ms < sent_ms
        ahead_ms = timestamp_ms - sent_ms if behind else max(0, timestamp_ms - self._clock())
        self.ahead_ms, self.measured = ahead_ms, True
        if abs(ahead_ms - self._named_ms) >= NOTICE_MS:
            self._named_ms = ahead_ms
            if abs(ahead_ms) >= NOTICE_MS:
                logger.warning("log %s: %s", self._name, self.difference)
            else:
                logger.info("log %s: its clock and this host's clock agree again", self._name)

    @property
    def difference(self) -> str:
        """The difference in words, empty below `NOTICE_MS`."""
        if abs(self.ahead_ms) < NOTICE_MS:
            return ""
        side = "ahead of" if self.ahead_ms > 0 else "behind"
        return f"the log's clock is {duration_text(abs(self.ahead_ms))} {side} this host's clock"


def duration_text(ms: int) -> str:
    """A time span in its largest fitting unit: `48.0 h`, `12.0 min`, `11.5 s`."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000)):
        if ms >= 2 * size or (unit != "d" and ms >= size):
            return f"{ms / size:.1f} {unit}"
    return f"{ms / 1000:.1f} s"
