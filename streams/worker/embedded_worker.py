"""The embedded worker: follows a log and applies its records to a projection, in batches.

It also advances log time: if something waits for a deadline and no other record arrives, it appends a tick. And it answers
whether the store's build supports rules that an operator has proposed, and says what its tables are like.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from vacancy.resources.model.errors import LogUnavailable, VacancyError
from vacancy.resources.model.record import NewRecord, Record
from vacancy.resources.model.rules_answer import RulesAnswer
from vacancy.streams.clocks.clock import Clock, wall_ms
from vacancy.streams.log import Log
from vacancy.streams.worker.projection_protocol import Projection
from vacancy.streams.worker.rules_answers import RulesAnswers
from vacancy.streams.worker.state_digests import DIGEST_INTERVAL, DigestEntries, DigestInterval, DigestSender
from vacancy.streams.worker.ticks import Ticker

IDLE_POLL_MAX_S: Final = 0.020
_IDLE_GROWTH: Final = 1.1
_RETRY_MIN_S: Final = 0.1
_RETRY_MAX_S: Final = 5.0

_events = structlog.get_logger("vacancy.worker")


@dataclass(slots=True)
class WorkerProgress:
    """Counts of what a worker has done since it was created."""

    records: int = 0
    batches: int = 0
    ticks: int = 0


@dataclass(slots=True)
class _Followed:
    """One partition being followed."""

    partition: int
    position: int
    retry_s: float = 0.0
    retry_at_ms: int = 0


class EmbeddedWorker:
    """Applies the records of `log` to `projection` until `stop` is called. One thread runs it; any may call `stop`.

    `partitions`: those to follow (default: all). `batch_max`: maximum records per `Projection.apply`. `poll_s`: pause
    between polls after a busy round; it grows to 20 ms while nothing arrives. `tick_entry` makes the tick of a
    partition; without it the worker sends no ticks. `answer_entry` makes the answer to proposed rules; without it the
    worker answers none. `digest_entries` makes what it says of its tables, with a mark every `digest_interval`; without it the
    worker says nothing. `between_commits` is called before each round of batches, so it must be cheap. `clock` returns
    wall time in ms, `rng` spreads the ticks of several workers. The worker closes neither the log nor the projection.
    """

    def __init__(
        self,
        log: Log,
        projection: Projection,
        *,
        partitions: Iterable[int] | None = None,
        batch_max: int = 500,
        poll_s: float = 0.001,
        tick_entry: Callable[[int], NewRecord] | None = None,
        answer_entry: Callable[[int, RulesAnswer], NewRecord] | None = None,
        digest_entries: DigestEntries | None = None,
        digest_interval: DigestInterval = DIGEST_INTERVAL,
        between_commits: Callable[[], None] | None = None,
        clock: Clock = wall_ms,
        rng: random.Random | None = None,
    ) -> None:
        self._log, self._projection = log, projection
        self._batch_max, self._poll_s = batch_max, poll_s
        self._between_commits = between_commits
        self._clock, self._rng = clock, rng or random.Random()
        self._ticker = Ticker(
            log,
            projection.next_deadline_ms,
            tick_entry,
            overdue=projection.overdue,
            clock=clock,
            rng=self._rng,
        )
        self._answers = RulesAnswers(log, projection.unanswered, answer_entry)
        self._digests = DigestSender(log, digest_entries, digest_interval, clock=clock, rng=self._rng)
        self._stopping = threading.Event()
        self.progress = WorkerProgress()
        self.errors: dict[int, VacancyError] = {}
        """Partition -> the error that stopped it, in the order in which they stopped."""
        position = projection.position()
        followed = range(log.partitions) if partitions is None else partitions
        self._followed = {p: _Followed(p, position.get(p, 0)) for p in followed}
        for partition in self._followed:
            self._ticker.start(partition)
            self._digests.start(partition)

    @property
    def position(self) -> dict[int, int]:
        """Partition -> the offset after the last record applied."""
        return {partition: one.position for partition, one in list(self._followed.items())}

    def stop(self) -> None:
        """Make `run` return after the current batch."""
        self._stopping.set()

    def run(self) -> None:
        """Follow the log until `stop`, or until every partition has failed.

        A partition whose projection or log fails is stopped and reported at once as a log line; the others continue.
        At the end the first of these errors is raised. A log that does not answer is retried without limit.
        """
        pause_s = self._poll_s
        while not self._stopping.is_set() and len(self.errors) < len(self._followed):
            if self.step() or self._log.wait(pause_s, IDLE_POLL_MAX_S):
                pause_s = self._poll_s
            else:
                pause_s = min(pause_s * _IDLE_GROWTH, IDLE_POLL_MAX_S)
        if self.errors:
            raise next(iter(self.errors.values()))

    def step(self) -> int:
        """Apply at most one batch of each partition. Returns the number of records applied."""
        if self._between_commits is not None:
            self._between_commits()
        applied = 0
        unread = self._unread()
        for one in self._followed.values():
            if one.partition in self.errors:
                continue
            try:
                applied += self._advance(one, has_unread=one.partition in unread)
            except LogUnavailable as error:
                self._retry_later(one, error)
            except VacancyError as error:
                self.errors[one.partition] = error
                _events.error(
                    "partition stopped",
                    log=self._log.name,
                    partition=one.partition,
                    offset=one.position,
                    kind=type(error).__name__,
                    error=str(error),
                )
        return applied

    def _unread(self) -> Collection[int]:
        """The partitions to read. Where the log cannot be asked, the reads of the partitions say why."""
        try:
            return self._log.unread({one.partition: one.position for one in self._followed.values()})
        except VacancyError:
            return self._followed

    def _advance(self, one: _Followed, *, has_unread: bool) -> int:
        if one.retry_at_ms > self._clock():
            return 0
        records = self._log.read(one.partition, one.position, self._batch_max) if has_unread else ()
        one.retry_s, one.retry_at_ms = 0.0, 0
        if not records:
            self._tick_if_due(one)
            self._answer_if_due(one)
            self._digest_if_due(one)
            return 0
        self._apply(one, records)
        if len(records) < self._batch_max:
            self._digest_if_due(one)
        return len(records)

    def _apply(self, one: _Followed, records: Sequence[Record]) -> None:
        self._projection.apply(one.partition, records)
        one.position = records[-1].offset + 1
        self.progress.records += len(records)
        self.progress.batches += 1
        self._ticker.start(one.partition)
        self._answers.start(one.partition)

    def _digest_if_due(self, one: _Followed) -> None:
        if (entry := self._digests.due(one.partition)) is not None:
            self._digests.send(one.partition, entry)

    def _answer_if_due(self, one: _Followed) -> None:
        if answers := self._answers.due(one.partition):
            self._answers.send(one.partition, answers)

    def _tick_if_due(self, one: _Followed) -> None:
        if self._ticker.due(one.partition):
            self._ticker.send(one.partition)
            self.progress.ticks += 1

    def _retry_later(self, one: _Followed, error: LogUnavailable) -> None:
        if not one.retry_s:
            _events.warning(
                "log does not answer", log=self._log.name, partition=one.partition, error=str(error)
            )
        one.retry_s = min(max(one.retry_s * 2, _RETRY_MIN_S), _RETRY_MAX_S)
        one.retry_at_ms = self._clock() + int(1000 * one.retry_s * self._rng.uniform(0.5, 1.0))
