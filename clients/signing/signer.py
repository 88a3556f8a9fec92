"""Signs events with one key, and counts them."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Final

from vacancy.clients.signing.key_pair import KeyPair
from vacancy.resources.model.signatures import sign_with
from vacancy.streams.clocks.clock import wall_ms

_CLOCK_MAX: Final = 7_258_118_400_000_000
"""The year 2200, in microseconds since 1970."""


class EventSigner:
    """Signs the values of records for one log. Any thread may use it.

    `log` returns the UUID of the log; it is called before the first signature, and what it raises is raised by `sign`. Each
    signature has a higher number than the one before: the microseconds since 1970, or one more than the last. `last` is the highest
    number that was used before, if it is remembered. So a clock that was set back is harmless where somebody remembers, and
    otherwise the fold refuses what is signed until the clock has caught up. A clock beyond the year 2200 is not believed: no number is
    above `NUMBER_MAX`, and a remembered one near it would leave none, for any key.
    """

    def __init__(
        self, key: KeyPair, log: Callable[[], str], *, last: int = 0, clock: Callable[[], int] = wall_ms
    ) -> None:
        self.key = key
        self.last = last
        """The number of the last signature."""
        self._log_of, self._log = log, ""
        self._clock = clock
        self._lock = Lock()

    def sign(self, value: bytes, cell: str) -> bytes:
        """The value with a signature, for a record of this cell. It must be sent after those that were signed before."""
        with self._lock:
            if not self._log:
                self._log = self._log_of()
            now = self._clock() * 1_000
            self.last = max(self.last + 1, now if now < _CLOCK_MAX else 0)
            return sign_with(
                self.key.sign, self.key.public, value, log=self._log, cell=cell, number=self.last
            )
