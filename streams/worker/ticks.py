"""Ticks: records with which a worker advances log time when a deadline is due and no other record arrives.

One record ends a limited number of deadlines. Where more are due, ticks follow each other without a pause.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from vacancy.resources.model.record import NewRecord
from vacancy.streams.clocks.clock import Clock, wall_ms
from vacancy.streams.log import Log, Receipt

IDLE_BEFORE_TICK_MS: Final = 1_000


@dataclass(slots=True)
class _QuietPartition:
    """A partition since the last record was applied. Times are of the clock, in ms."""

    since_ms: int
    tick_after_ms: float
    overdue: bool | None = None
    deadline_known: bool = False
    deadline_ms: int | None = None
    receipt: Receipt | None = field(default=None, repr=False)


class Ticker:
    """Sends a tick to a partition that has a due deadline and has received no record for about a second.

    Several workers may send ticks to the same log: their pauses differ, and an additional tick changes nothing.
    `tick_entry` makes the tick of a partition; without it no tick is ever due. `overdue` is whether something was due at the
    last record and waits for the next one.
    """

    def __init__(
        self,
        log: Log,
        next_deadline_ms: Callable[[int], int | None],
        tick_entry: Callable[[int], NewRecord] | None,
        *,
        overdue: Callable[[int], bool] = lambda _partition: False,
        clock: Clock = wall_ms,
        rng: random.Random | None = None,
    ) -> None:
        self._log, self._next_deadline_ms, self._tick_entry = log, next_deadline_ms, tick_entry
        self._overdue = overdue
        self._clock, self._rng = clock, rng or random.Random()
        self._partitions: dict[int, _QuietPartition] = {}
        self.sent = 0

    def start(self, partition: int) -> None:
        """Restart the pause of a partition: it starts to be followed, or records were just applied to it."""
        now_ms, after_ms = self._clock(), IDLE_BEFORE_TICK_MS * self._rng.uniform(0.8, 1.4)
        known = self._partitions.get(partition)
        receipt = known.receipt if known else None
        self._partitions[partition] = _QuietPartition(now_ms, after_ms, receipt=receipt)

    def stop(self, partition: int) -> None:
        """Stop following a partition."""
        self._partitions.pop(partition, None)

    def due(self, partition: int) -> bool:
        """Whether a tick is due: the pause is over or something is overdue, a deadline has passed, the last tick is
        acknowledged."""
        one = self._partitions.get(partition)
        if one is None or self._tick_entry is None:
            return False
        now_ms = self._clock()
        if now_ms - one.since_ms < one.tick_after_ms:
            if one.overdue is None:
                one.overdue = self._overdue(partition)
            if not one.overdue:
                return False
        if not one.deadline_known:  # it changes only when records are applied, so it is read once
            one.deadline_ms = self._next_deadline_ms(partition)
            one.deadline_known = True
        if one.deadline_ms is None or one.deadline_ms > now_ms:
            return False
        return one.receipt is None or one.receipt.done

    def send(self, partition: int) -> None:
        """Send the partition's tick. May wait while the log's client connects. Raises as `Log.send` does."""
        if self._tick_entry is None:
            return
        receipt = self._log.send([self._tick_entry(partition)])
        self.sent += 1
        self.start(partition)
        self._partitions[partition].receipt = receipt
