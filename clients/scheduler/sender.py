"""A scheduler's records on their way to the log: sent in order, and not waited for.

A log that refuses a record is an error. One that does not answer is none: what was sent may land yet, and what was
not sent never will, so a claim is either lost at once or has an outcome that is not known.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from vacancy.resources.model.errors import LogUnavailable
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import SEND_S, Log, Receipt

KEPT_MAX: Final = 10_000
"""So many entries about requests are kept through an outage; the oldest go first. No verdict depends on them."""

logger = logging.getLogger(__name__)


class RecordSender:
    """Sends to `log` for one scheduler."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._receipts: deque[tuple[float, Receipt]] = deque()
        self._kept: deque[NewRecord] = deque(maxlen=KEPT_MAX)
        self._silent = False

    @property
    def unconfirmed(self) -> bool:
        """Whether the log has yet to say that it has all that was sent."""
        return bool(self._receipts) and not all(receipt.done for _, receipt in self._receipts)

    def send(
        self, journal: Sequence[NewRecord], claims: Sequence[NewRecord], timeout_s: float = SEND_S
    ) -> LogUnavailable | None:
        """Send what is said about requests, and claims. Returns why nothing was sent where the log does not
        answer within `timeout_s`: then no claim of these is ever in the log. Raises `LogError` where the log refuses
        something."""
        self._look_back()
        entries = [*self._kept, *journal, *claims]
        if not entries:
            return None
        try:
            receipt = self._log.send(entries, min(timeout_s, SEND_S))
        except LogUnavailable as error:
            self._kept.extend(journal)
            self._silent = True
            return error
        self._receipts.append((time.monotonic(), receipt))
        self._kept.clear()
        self._silent = False
        return None

    def _look_back(self) -> None:
        while self._receipts and self._receipts[0][1].done:
            _landed(self._receipts.popleft()[1], 0.0)

    def close(self, journal: Sequence[NewRecord], timeout_s: float) -> None:
        """Send what is left, and wait until the log has all, for each part `timeout_s` after it was sent at most. A log
        that has just been waited for is not waited for again."""
        error = self.send(journal, (), 0.0 if self._silent else timeout_s)
        landed = True
        while self._receipts and landed:  # they land in order
            sent, receipt = self._receipts.popleft()
            landed = _landed(receipt, max(0.0, sent + timeout_s - time.monotonic()))
        self._receipts.clear()
        if error is not None or not landed:
            logger.warning("the log has not confirmed all that was said of requests; their outcomes stand")


def _landed(receipt: Receipt, timeout_s: float) -> bool:
    """Whether it has landed. What the log did not confirm may be in it: its claims' verdicts will tell."""
    try:
        receipt.wait(timeout_s)
    except LogUnavailable:
        return False
    return True
