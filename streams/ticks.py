"""Ticks: how a worker keeps log time going where something waits for it and nothing else arrives."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from vacancy.resources.model.record import NewRecord
from vacancy.streams.clock import Clock, wall_ms
from vacancy.streams.log import Log, Receipt

IDLE_BEFORE_TICK_MS: Final = 1_000


@dataclass(slots=True)
class _Quiet:
    """A partition where nothing arrives. Times are of the clock, in ms."""

    since_ms: int
    tick_after_ms: float
    deadline_known: bool = False
    deadline_ms: int | None = None
    receipt: Receipt | None = field(default=None, repr=False)


class Ticker:
    """Sends a partition's tick once it has been quiet for about a second after a deadline that it waits for.

    Several workers may tick the same log: their seconds differ, and a tick too many changes nothing. Without
    `tick_entry`, which makes the tick of a partition, no tick is ever due.
    """

    def __init__(
        self,
        log: Log,
        next_deadline_ms: Callable[[int], int | None],
        tick_entry: Callable[[int], NewRecord] | None,
        *,
        clock: Clock = wall_ms,
        rng: random.Random | None = None,
    ) -> None:
        self._log, self._next_deadline_ms, self._tick_entry = log, next_deadline_ms, tick_entry
        self._clock, self._rng = clock, rng or random.Random()
        self._partitions: dict[int, _Quiet] = {}
        self.sent = 0

    def start(self, partition: int) -> None:
        """The partition is quiet from now on: it begins to be followed, or something was just applied."""
        now_ms, after_ms = self._clock(), IDLE_BEFORE_TICK_MS * self._rng.uniform(0.8, 1.4)
        known = self._partitions.get(partition)
        self._partitions[partition] = _Quiet(now_ms, after_ms, receipt=known.receipt if known else None)

    def stop(self, partition: int) -> None:
        """The partition is no longer followed."""
        self._partitions.pop(partition, None)

    def due(self, partition: int) -> bool:
        """Whether it is time for a tick: something waits, its deadline is past, the last tick has landed."""
        one = self._partitions.get(partition)
        if one is None or self._tick_entry is None:
            return False
        now_ms = self._clock()
        if now_ms - one.since_ms < one.tick_after_ms:
            return False
        if not one.deadline_known:  # it changes only when records are applied, so it is asked for once
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
