"""Publishing a node continuously: what changed is sent as it changes, and everything is sent again from time to time."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from threading import Event as StopEvent

from vacancy.clients.publisher.outbox import OutboxFull
from vacancy.clients.publisher.publisher import Providers, Publisher, diff
from vacancy.resources.model.errors import LogError, VacancyError

_FOLDED_S = 2.0
_LOOK_S = 60.0
_WARN_AGAIN_S = 600.0

logger = logging.getLogger(__name__)


class PublishService:
    """Publishes what `collect` finds, until it is stopped.

    It sends a full report at the start and every `full_every_s`. Between them it looks for changes every `interval_s` and
    sends only those. It sends a heartbeat when it has sent nothing for `heartbeat_s`. All intervals are in seconds. They
    vary by the fraction `jitter`, so that nodes that start together do not send together.

    It goes on through any outage: events that cannot be sent wait in the outbox, and a full report follows.

    `name_warning` returns a warning when another publisher uses the node's name, "" when none does, and None when that is
    not known. It is called after each full report and every minute. The warning is logged when it appears, every ten
    minutes while it lasts, and when it ends.

    `on_round` is called at the end of each interval. `say_running` is called at each interval while the log answers, after the node's own events: it says what the node runs.
    """

    def __init__(
        self,
        publisher: Publisher,
        collect: Callable[[], Providers],
        interval_s: float = 10.0,
        *,
        heartbeat_s: float = 30.0,
        full_every_s: float = 600.0,
        jitter: float = 0.1,
        flush_timeout_s: float = 10.0,
        name_warning: Callable[[], str | None] | None = None,
        say_running: Callable[[], None] | None = None,
        on_round: Callable[[], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        choose: random.Random | None = None,
    ) -> None:
        self._publisher, self._collect = publisher, collect
        self._interval_s, self._heartbeat_s, self._full_every_s = interval_s, heartbeat_s, full_every_s
        self._jitter, self._flush_timeout_s = jitter, flush_timeout_s
        self._monotonic, self._choose = monotonic, choose or random.Random()
        self._recorded: Providers | None = None
        self._full_due = self._heartbeat_due = 0.0
        self._full_needed = False
        self._outage = False
        self._on_round = on_round
        self.log_answers = False
        """Whether the log confirmed all events at the last attempt."""
        self.inventory_errors = 0
        """How often `collect` failed."""
        self._name_warning = name_warning
        self._say_running = say_running
        self._warned = False
        self._look_due = self._warn_due = 0.0

    def run(self, stop: StopEvent) -> None:
        """Publish until `stop` is set. It returns up to `flush_timeout_s` later when the log does not answer."""
        while not stop.is_set():
            self.run_once()
            stop.wait(self._about(self._interval_s))

    def run_once(self) -> None:
        """Look once, record what changed, and send it if the log answers. Errors go to the process's log."""
        if self._recorded is None:
            self._flush()  # events that an earlier incarnation left are sent first, if the log answers
        try:
            current = self._collect()
        except Exception:
            # It is the caller's code and may fail in any way. The node still exists, so its heartbeats go on.
            logger.exception("the inventory of node %s could not be collected", self._publisher.root)
            self.inventory_errors += 1
            current = None
        try:
            self._record(current)
        except VacancyError as error:
            logger.error("%s", error)
        self._flush()
        self._say()
        self._look_at_name()
        if self._on_round is not None:
            self._on_round()

    def _record(self, current: Providers | None) -> None:
        now = self._monotonic()
        publisher = self._publisher
        if current is not None and (self._recorded is None or self._full_report_due(now)):
            self._record_full(current, now)
        elif current is not None and self._recorded is not None and (change := diff(self._recorded, current)):
            try:
                publisher.changed(change.changed, change.removed)
            except OutboxFull:
                self._record_full(current, now)
        elif self._recorded is not None and now >= self._heartbeat_due:
            publisher.heartbeat()
        else:
            return
        self._heartbeat_due = now + self._about(self._heartbeat_s)
        if current is not None:
            self._recorded = current

    def _full_report_due(self, now: float) -> bool:
        return now >= self._full_due or self._full_needed or self._publisher.outbox.needs_full_report

    def _record_full(self, current: Providers, now: float) -> None:
        self._publisher.report(current)
        self._full_needed = False
        self._full_due = now + self._about(self._full_every_s)
        self._look_due = now + min(self._interval_s, _FOLDED_S)  # a worker may have folded it by then

    def _flush(self) -> None:
        try:
            self._publisher.flush(self._flush_timeout_s)
        except LogError as error:
            # A change that may or may not be in the log leaves a gap for the fold. A full report closes it, and keeps
            # the outbox small however long the outage is.
            self._full_needed = self._full_needed or self._publisher.outbox.changes_pending
            if not self._outage:
                logger.warning("node %s keeps its events in the outbox: %s", self._publisher.root, error)
            self._outage = True
        else:
            if self._outage:
                logger.info("node %s: the events in the outbox were sent", self._publisher.root)
            self._outage = False
        self.log_answers = not self._outage

    def _say(self) -> None:
        if self._say_running is None or self._outage:
            return
        try:
            self._say_running()
        except VacancyError as error:
            logger.error("node %s: what it runs was not said: %s", self._publisher.root, error)

    def _look_at_name(self) -> None:
        now = self._monotonic()
        if self._name_warning is None or now < self._look_due:
            return
        self._look_due = now + _LOOK_S
        found = self._name_warning()
        if found is None:
            return
        if found and (not self._warned or now >= self._warn_due):
            logger.warning("%s", found)
            self._warn_due = now + _WARN_AGAIN_S
        elif self._warned and not found:
            logger.warning("node %s: no other publisher uses its name any more", self._publisher.root)
        self._warned = bool(found)

    def _about(self, seconds: float) -> float:
        return seconds * self._choose.uniform(1 - self._jitter, 1 + self._jitter)
