"""The event publisher of a compute node: says what the node has, in order, through any outage.

A publisher opens an incarnation, drawn at random, with a full report, and numbers what it says from 1. Every
event goes to the outbox first and to the log when the log answers. So a crash loses nothing and repeats at
most what the fold has seen; a node that lost its disk starts a new incarnation and needs to remember nothing.
"""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from threading import Event as StopEvent
from threading import Lock
from types import MappingProxyType
from typing import Final, NamedTuple

from pydantic import ValidationError

from vacancy.clients.publisher.outbox import Outbox, OutboxFull, OutboxKind, Outgoing
from vacancy.resources.fold.provider_tree import check_tree
from vacancy.resources.model.errors import InvalidRecord, LogError, LogUnavailable, UsageError, VacancyError
from vacancy.resources.model.events import (
    NodeChanged,
    NodeHeartbeat,
    NodeReported,
    NodeRetired,
    ProviderReport,
    encode,
)
from vacancy.resources.model.record import NewRecord
from vacancy.streams.clock import wall_ms
from vacancy.streams.log import Log

logger = logging.getLogger(__name__)

Providers = tuple[ProviderReport, ...]

_BATCH: Final = 100
_EVENTS: Final[Mapping[OutboxKind, type[NodeReported | NodeChanged | NodeHeartbeat | NodeRetired]]] = (
    MappingProxyType(
        {
            OutboxKind.FULL: NodeReported,
            OutboxKind.CHANGED: NodeChanged,
            OutboxKind.HEARTBEAT: NodeHeartbeat,
            OutboxKind.RETIRED: NodeRetired,
        }
    )
)


class Difference(NamedTuple):
    """What became of a node's providers: those that changed or came, whole, and the ids of those that went."""

    changed: Providers
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed)


def diff(previous: Iterable[ProviderReport], current: Iterable[ProviderReport]) -> Difference:
    """What to say to make `previous` into `current`."""
    before = {provider.id: provider for provider in previous}
    now = {provider.id: provider for provider in current}
    changed = tuple(provider for id_, provider in now.items() if before.get(id_) != provider)
    return Difference(changed, tuple(id_ for id_ in before if id_ not in now))


def new_incarnation() -> str:
    """A random incarnation: 16 hexadecimal digits."""
    return secrets.token_hex(8)


class Publisher:
    """What the node `root` says to `log`, in `cell`. Any thread may use it; it does not close log or outbox.

    With `move_cell`, a node that the outbox knows in another cell is first retired there; without it,
    CellChanged is raised. Raises UsageError if the outbox is another node's. `clock` gives milliseconds since
    1970 for the times that people read, `new_id` the incarnation.
    """

    def __init__(
        self,
        log: Log,
        root: str,
        cell: str,
        outbox: Outbox,
        *,
        move_cell: bool = False,
        clock: Callable[[], int] = wall_ms,
        new_id: Callable[[], str] = new_incarnation,
    ) -> None:
        self.root, self.cell, self.outbox = root, cell, outbox
        self.incarnation = new_id()
        self._log, self._clock = log, clock
        self._sequence = 0
        self._reported = False
        # Two locks, so that what happens can be written down while the log is slow to answer.
        self._recording, self._sending = Lock(), Lock()
        known = outbox.cell
        if move_cell and known is not None and known != cell:
            outbox.check_home(root, known)
            self._retire_in(known)
        outbox.check_home(root, cell)

    def report(self, providers: Sequence[ProviderReport], consumers: Sequence[str] | None = None) -> None:
        """Record a full report: the node is `providers`, a tree under the root, and nothing else.

        `consumers`, where given, are those it runs. Raises UsageError if this is no tree, or no valid event.
        """
        parents = {provider.id: provider.parent for provider in providers}
        if len(parents) != len(providers):
            raise UsageError("a provider is reported twice", where=self.root, do="report each provider once")
        try:
            check_tree(self.root, parents)
        except InvalidRecord as error:
            raise UsageError(
                error.what, do="report the root first and each parent before its children"
            ) from None
        said = {"providers": tuple(providers), "consumers": None if consumers is None else tuple(consumers)}
        with self._recording:
            self._record(OutboxKind.FULL, self.cell, said, confirms=bool(consumers))
            self._reported = True

    def changed(self, providers: Sequence[ProviderReport], removed: Sequence[str] = ()) -> None:
        """Record that `providers` changed or came, each whole, and that the ids in `removed` went.

        Raises OutboxFull when only a full report will do now; UsageError before the first full report, or if
        this is no valid event.
        """
        if self.root in removed or any(provider.id in removed for provider in providers):
            raise UsageError(
                "a change removes the node itself, or what it also reports",
                where=self.root,
                do="retire the node, or name each provider once",
            )
        with self._recording:
            self._check_reported()
            self._record(
                OutboxKind.CHANGED, self.cell, {"providers": tuple(providers), "removed": tuple(removed)}
            )

    def heartbeat(self) -> bool:
        """Record that the node is there. False: nothing was recorded, because what is pending will say so.

        Raises UsageError before the first full report.
        """
        with self._recording:
            self._check_reported()
            return self._record(OutboxKind.HEARTBEAT, self.cell, {})

    def retire(self) -> None:
        """Record that the node is gone for good, and forget its cell. A later full report brings it back."""
        with self._recording:
            self._retire_in(self.outbox.cell or self.cell)

    def flush(self, timeout_s: float = 30.0) -> int:
        """Send what is pending, in order; returns how many events the log took.

        Raises LogUnavailable if the log did not take all within `timeout_s`, LogError if it refused; what it
        did not take, and what it may not have taken, stays in the outbox.
        """
        deadline = time.monotonic() + timeout_s
        if not self._sending.acquire(timeout=timeout_s):
            raise LogUnavailable("Another thread is still sending", where=self._log.name, do="try again")
        try:
            sent = 0
            while batch := self.outbox.pending(_BATCH):
                left_s = deadline - time.monotonic()
                if sent and left_s <= 0:
                    raise LogUnavailable(
                        f"The log took {sent} events in {timeout_s} s, but not all",
                        where=self._log.name,
                        do="try again",
                    )
                # One cell at a time: a log keeps no order between partitions, and a node that moves must be
                # gone from its old cell before it is in the new one.
                cell = batch[0].event.cell
                run = next(list(same) for _, same in groupby(batch, key=lambda pending: pending.event.cell))
                self._log.append([NewRecord(cell, pending.event.value) for pending in run], max(left_s, 0.0))
                self.outbox.acknowledge(run[-1].number)
                sent += len(run)
            return sent
        finally:
            self._sending.release()

    def _check_reported(self) -> None:
        if not self._reported:
            raise UsageError("the node has not reported yet", where=self.root, do="give a full report first")

    def _retire_in(self, cell: str) -> None:
        if not self._reported:
            # Only a full report opens an incarnation. This one says that the node has nothing, which is so.
            self._record(OutboxKind.FULL, cell, {"providers": (ProviderReport(id=self.root),)})
        self._record(OutboxKind.RETIRED, cell, {})
        self._reported = False

    def _record(
        self, kind: OutboxKind, cell: str, said: Mapping[str, object], *, confirms: bool = False
    ) -> bool:
        sequence = self._sequence + 1
        data = {"root": self.root, "incarnation": self.incarnation, "sequence": sequence, **said}
        now = datetime.fromtimestamp(self._clock() / 1000, UTC).isoformat(timespec="milliseconds")
        try:
            event = _EVENTS[kind].model_validate(
                {
                    "id": f"{self.incarnation}-{sequence}",
                    "source": f"/node/{self.root}",
                    "time": now.replace("+00:00", "Z"),
                    "data": data,
                }
            )
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            path = ".".join(str(part) for part in first["loc"])
            raise UsageError(
                f"{path}: {first['msg']}", where=f"node {self.root}", do="correct what it says"
            ) from None
        outgoing = Outgoing(cell, kind, self.incarnation, sequence, encode(event), confirms)
        try:
            stored = self.outbox.put(self.root, outgoing)
        except OutboxFull:
            # The number is spent: the gap tells the fold not to trust the node until it has told all.
            self._sequence = sequence
            raise
        if stored:
            self._sequence = sequence
        return stored


class PublishService:
    """Keeps the log up to date with what `collect` finds.

    A full report at the start and every `full_every_s`; between them only what changed, looked at every
    `interval_s`; a heartbeat when `heartbeat_s` went by without anything to say. All intervals are in seconds
    and vary by the fraction `jitter`, so that a fleet started at once does not speak at once.

    No outage ends it: what cannot be sent waits in the outbox, and is told anew as one full report.
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
        monotonic: Callable[[], float] = time.monotonic,
        choose: random.Random | None = None,
    ) -> None:
        self._publisher, self._collect = publisher, collect
        self._interval_s, self._heartbeat_s, self._full_every_s = interval_s, heartbeat_s, full_every_s
        self._jitter, self._flush_timeout_s = jitter, flush_timeout_s
        self._monotonic, self._choose = monotonic, choose or random.Random()
        self._said: Providers | None = None
        self._full_due = self._heartbeat_due = 0.0
        self._tell_all = False
        self._outage = False

    def run(self, stop: StopEvent) -> None:
        """Publish until `stop` is set; it may take `flush_timeout_s` longer when the log does not answer."""
        while not stop.is_set():
            self.run_once()
            stop.wait(self._about(self._interval_s))

    def run_once(self) -> None:
        """Look once, say what there is to say, and send it if the log answers. Errors go to the process's log."""
        if self._said is None:
            self._flush()  # what an earlier incarnation left comes first, where the log takes it
        try:
            current = self._collect()
        except Exception:
            # It is the caller's code and may fail in any way; the node is still there and says so.
            logger.exception("node %s could not be looked at", self._publisher.root)
            current = None
        try:
            self._say(current)
        except VacancyError as error:
            logger.error("%s", error)
        self._flush()

    def _say(self, current: Providers | None) -> None:
        now = self._monotonic()
        publisher = self._publisher
        if current is not None and (self._said is None or self._must_tell_all(now)):
            self._say_all(current, now)
        elif current is not None and self._said is not None and (change := diff(self._said, current)):
            try:
                publisher.changed(change.changed, change.removed)
            except OutboxFull:
                self._say_all(current, now)
        elif self._said is not None and now >= self._heartbeat_due:
            publisher.heartbeat()
        else:
            return
        self._heartbeat_due = now + self._about(self._heartbeat_s)
        if current is not None:
            self._said = current

    def _must_tell_all(self, now: float) -> bool:
        return now >= self._full_due or self._tell_all or self._publisher.outbox.needs_full_report

    def _say_all(self, current: Providers, now: float) -> None:
        self._publisher.report(current)
        self._tell_all = False
        self._full_due = now + self._about(self._full_every_s)

    def _flush(self) -> None:
        try:
            self._publisher.flush(self._flush_timeout_s)
        except LogError as error:
            # A change that may or may not have landed leaves the fold unsure; a full report ends that, and
            # keeps the outbox small however long the outage is.
            self._tell_all = self._tell_all or self._publisher.outbox.changes_pending
            if not self._outage:
                logger.warning("node %s keeps what it has to say: %s", self._publisher.root, error)
            self._outage = True
        else:
            if self._outage:
                logger.info("node %s: the log took what was kept", self._publisher.root)
            self._outage = False

    def _about(self, seconds: float) -> float:
        return seconds * self._choose.uniform(1 - self._jitter, 1 + self._jitter)
