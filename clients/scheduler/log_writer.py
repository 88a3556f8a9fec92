"""What a scheduler writes to the log: its claims, and its requests with their outcomes.

Records are sent in order and not waited for. A log that refuses a record is an error. A log that does not answer is not:
what was sent may still be appended, and what was not sent never will be. So a claim is either lost at once or has an
outcome that is not known.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import le
from threading import Event, Lock, Thread
from types import MappingProxyType
from typing import Final, Literal, TypeVar

from msgspec import Raw

from vacancy.clients.runtime.folded_log import SameLogCheck
from vacancy.clients.scheduler.claims import new_ids
from vacancy.clients.scheduler.observer import TraceParentOf
from vacancy.clients.scheduler.placement import Status
from vacancy.resources.fold.record_limits import claim_weights
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model import events
from vacancy.resources.model.encoding.event_encoding import (
    ClaimWire,
    ClosedRequestWire,
    ReceivedRequestWire,
    encode_claims,
    encode_closed,
    encode_gang,
    encode_received,
)
from vacancy.resources.model.encoding.trace_context import TraceAttributes, trace_attributes
from vacancy.resources.model.errors import LogUnavailable, VacancyError
from vacancy.resources.model.partitioner import covering_cells, partition_for, partitions_for
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import SEND_S, Log, Receipt

LIMITS: Final = RULES_VERSIONS.newest.limits
"""The strictest limits that a log of this build can have. Records within them are allowed by earlier versions, too."""

Item = TypeVar("Item")

KEPT_MAX: Final = 10_000
"""Records about requests that are kept through an outage. The oldest are dropped first. No verdict depends on them."""

CLOSED_WAIT_S: Final = 0.1
"""How long an outcome waits for others to share a record with."""

CONFIRMED_S: Final = 0.02
"""How often it is looked which records the log has confirmed. Verdicts do not wait for it, a record that is refused is reported so late."""

BACKGROUND_WAIT_S: Final = 0.2
"""How long an outcome waits for a claim to be sent with, before a background thread sends it."""

CLOSE_S: Final = 2.0
"""How long `LogWriter.close` waits for the log. Closing the log waits again, for what is sent."""

_BACKGROUND_SEND_S: Final = 1.0

NO_CLAIMS: Final[Mapping[str, Sequence[ClaimWire]]] = MappingProxyType({})

ClosedAs = Literal["placed", "no_valid_host", "failed", "unknown"]

CLOSED_AS: Final[Mapping[Status, ClosedAs]] = {
    "placed": "placed",
    "no_valid_host": "no_valid_host",
    "lost": "failed",
    "gave_up": "failed",
    "unknown": "unknown",
}
"""The outcome in the log for each `Outcome.status`."""

logger = logging.getLogger(__name__)


Takes = Callable[[int, type[events.Envelope]], bool]
"""Whether the rules of a partition allow an event, as far as is known."""


def takes_none(_partition: int, _event: type[events.Envelope]) -> bool:
    """Only events that all rules allow."""
    return False


class LogWriter:
    """Writes to `log` for one scheduler. Requests and their outcomes are written if `record_requests` is set.

    `takes` says which events the rules of a partition allow: claims and requests that have much in common are written in the
    form that has it once, where the partition takes it. The scheduler's thread calls it. `trace_parent_of` gives the trace
    contexts that go with claims. Outcomes that no claim takes along are sent by a background thread, which ends when
    nothing is left to send. Nothing is sent before `same_log` has succeeded.
    """

    def __init__(
        self,
        log: Log,
        source: str,
        *,
        record_requests: bool,
        same_log: SameLogCheck | None = None,
        takes: Takes = takes_none,
        trace_parent_of: TraceParentOf | None = None,
    ) -> None:
        self._log = log
        self._trace_parent_of = trace_parent_of
        self._same_log = same_log
        self._source = source
        self._takes = takes
        self._requests = RequestRecords(source, log.partitions, record_requests, takes)
        self._ids = new_ids()
        self._sending = Lock()
        self._receipts: deque[tuple[float, Receipt]] = deque()
        self._kept: deque[NewRecord] = deque(maxlen=KEPT_MAX)
        self._checked_at = 0.0
        self._unavailable = False
        self._starting = Lock()
        self._background: Thread | None = None
        self._closing = Event()

    # -- requests -----------------------------------------------------------------------------------------------

    def received(
        self, given_id: str | None, spec: Raw, *, has_choices: bool = False, near: int | None = None
    ) -> tuple[str, int]:
        """Record a request; `spec` is JSON. Returns its id, made here where none is given, and its home partition, which is
        `near` if that can be. `has_choices`: the spec is a `RequestSpecV2`."""
        return self._requests.received(given_id, spec, has_choices=has_choices, near=near)

    def closed(self, home: int, request: ClosedRequestWire) -> None:
        """Record how a request ended. It is sent with a later claim, or within `BACKGROUND_WAIT_S` of `send_later`."""
        self._requests.closed(home, request)

    # -- sending ------------------------------------------------------------------------------------------------

    @property
    def _may_send(self) -> bool:
        return self._same_log is None or self._same_log.done

    @property
    def unconfirmed(self) -> bool:
        """Whether the log has not confirmed yet all that was sent."""
        return not all(receipt.done for _, receipt in list(self._receipts))

    def send(
        self,
        claims: Mapping[str, Sequence[ClaimWire]] = NO_CLAIMS,
        timeout_s: float = SEND_S,
        *,
        gangs: Mapping[str, Sequence[ClaimWire]] = NO_CLAIMS,
    ) -> LogUnavailable | None:
        """Send claims (by cell), the requests received since, and the outcomes that have waited long enough. `gangs` are
        claims (by cell) that are accepted together or not at all.

        Returns the error where the log does not answer within `timeout_s`: then none of these claims is ever in the log.
        Raises `LogError` where the log refuses a record, `StoreMismatch` where it is not the store's.
        """
        if self._same_log is not None and not self._same_log.done:
            try:
                self._same_log.check(timeout_s)
            except LogUnavailable as error:
                return error
        self._check_receipts()
        if not (claims or gangs or self._kept or self._requests.is_due(CLOSED_WAIT_S)):
            return None
        return self._send(claims, timeout_s, CLOSED_WAIT_S, gangs)

    def _send(
        self,
        claims: Mapping[str, Sequence[ClaimWire]],
        timeout_s: float,
        closed_wait_s: float,
        gangs: Mapping[str, Sequence[ClaimWire]] = NO_CLAIMS,
    ) -> LogUnavailable | None:
        if not self._may_send:
            return None
        if not self._sending.acquire(timeout=timeout_s):
            return LogUnavailable("the log does not answer", where=self._log.name, do="try again")
        try:
            requests = self._requests.take(closed_wait_s)
            records = [*self._kept, *requests, *self._claim_records(claims)]
            for cell, gang in gangs.items():
                value = encode_gang(next(self._ids), self._source, gang, self._contexts(gang))
                records.append(NewRecord(cell, value))
            if not records:
                return None
            try:
                receipt = self._log.send(records, min(timeout_s, SEND_S))
            except LogUnavailable as error:
                self._kept.extend(requests)
                self._unavailable = True
                return error
            self._receipts.append((time.monotonic(), receipt))
            self._kept.clear()
            self._unavailable = False
            return None
        finally:
            self._sending.release()

    def _claim_records(self, claims: Mapping[str, Sequence[ClaimWire]]) -> Iterator[NewRecord]:
        for cell, ready in claims.items():
            newest = self._takes(partition_for(cell, self._log.partitions), events.ClaimsRequestedV2)
            for batch in claim_batches(ready):
                contexts = self._contexts(batch)
                value = encode_claims(next(self._ids), self._source, batch, newest=newest, contexts=contexts)
                yield NewRecord(cell, value)

    def _contexts(self, claims: Sequence[ClaimWire]) -> TraceAttributes | None:
        """The trace contexts of these claims; None where none is traced."""
        of = self._trace_parent_of
        return None if of is None else trace_attributes([of(claim.id) for claim in claims])

    def _check_receipts(self) -> None:
        now = time.monotonic()
        if now - self._checked_at < CONFIRMED_S:
            return
        self._checked_at = now
        while self._receipts and self._receipts[0][1].done:
            _is_confirmed(self._receipts.popleft()[1], 0.0)

    def send_later(self) -> None:
        """Have a background thread send what is left, unless a claim takes it along before."""
        with self._starting:
            if self._requests and self._background is None:
                # Not a daemon: the interpreter waits for it at exit, so that a caller who never closes loses nothing.
                self._background = Thread(target=self._send_in_background, name="vacancy-log-writer")
                self._background.start()

    def _send_in_background(self) -> None:
        while not self._closing.wait(BACKGROUND_WAIT_S):
            try:
                error: VacancyError | None = self._send(NO_CLAIMS, _BACKGROUND_SEND_S, BACKGROUND_WAIT_S)
            except VacancyError as refused:
                error = refused
            if error is not None:
                logger.warning("outcomes of requests are not in the log yet: %s", error)
            with self._starting:
                if error is not None or not self._requests or not self._may_send:
                    self._background = None
                    return

    def flush(self, timeout_s: float) -> None:
        """Send what is left and wait until the log has confirmed everything, `timeout_s` after it was sent at most. A log
        that has just been waited for in vain is not waited for again."""
        try:
            error = self._send(NO_CLAIMS, 0.0 if self._unavailable else timeout_s, 0.0)
            confirmed = True
            while self._receipts and confirmed:  # they are confirmed in order
                sent, receipt = self._receipts.popleft()
                confirmed = _is_confirmed(receipt, max(0.0, sent + timeout_s - time.monotonic()))
        finally:
            self._receipts.clear()
        if error is not None or not confirmed:
            logger.warning("the log has not confirmed all outcomes of requests; the outcomes are valid")

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Flush, and end the background thread. A failure is logged: the outcomes are valid without it."""
        self._closing.set()
        if (thread := self._background) is not None:
            thread.join()
        try:
            self.flush(timeout_s)
        except VacancyError as error:
            logger.warning("outcomes of requests are not in the log: %s", error)


def batches(
    items: Iterable[Item], weigh: Callable[[Item], tuple[int, ...]], limits: tuple[int, ...]
) -> Iterator[list[Item]]:
    """The items in their order, in lists of up to `events.BATCH_MAX` whose weights together are within the limits. An item
    that is over a limit by itself is alone in its list."""
    batch: list[Item] = []
    total = (0,) * len(limits)
    for item in items:
        weight = weigh(item)
        together = tuple(map(sum, zip(total, weight, strict=True)))
        is_over = any(one > limit for one, limit in zip(together, limits, strict=True))
        if batch and (is_over or len(batch) == events.BATCH_MAX):
            yield batch
            batch, together = [], weight
        batch.append(item)
        total = together
    if batch:
        yield batch


def claim_batches(claims: Sequence[ClaimWire]) -> Iterable[Sequence[ClaimWire]]:
    """The claims of one cell as records: the fold refuses a whole record whose claims together are over a limit."""
    limits = LIMITS.predicates, LIMITS.memberships, LIMITS.asks
    if 0 < len(claims) <= events.BATCH_MAX and all(map(le, claim_weights(claims), limits)):
        return (claims,)  # as nearly always
    return batches(claims, lambda claim: claim_weights((claim,)), limits)


def _is_confirmed(receipt: Receipt, timeout_s: float) -> bool:
    """Whether the log has it. What the log did not confirm may be in it: its claims' verdicts will show."""
    try:
        receipt.wait(timeout_s)
    except LogUnavailable:
        return False
    return True


class RequestRecords:
    """Gathers requests and outcomes until `take`. Any thread may take. Does nothing unless `recording`.

    A request lives in the partition that its id hashes to (its home). A record of requests is keyed with a cell of that
    partition.
    """

    def __init__(self, source: str, partitions: int, recording: bool, takes: Takes = takes_none) -> None:
        self._source = source
        self._takes = takes
        self._cells = covering_cells(partitions)
        self._recording = recording
        self._gathering = Lock()
        self._received: dict[tuple[int, bool], list[ReceivedRequestWire]] = {}
        """By home, and by whether they have choices: these need the newest event."""
        self._closed: dict[int, list[ClosedRequestWire]] = {}
        self._closed_since = 0.0
        self._new_ids = new_ids()
        self._ids = _HomeIds(self._new_ids, partitions)

    def __bool__(self) -> bool:
        return bool(self._received or self._closed)

    def received(
        self, given_id: str | None, spec: Raw, *, has_choices: bool = False, near: int | None = None
    ) -> tuple[str, int]:
        """A request came in; `spec` is JSON. Returns its id and its home. Requests that come in together without ids get
        ids of one home, so that one record has them all: that of the first `near`, if it has one."""
        if not self._recording:
            return given_id or next(self._new_ids), 0
        with self._gathering:
            if near is not None and not self._received:
                self._ids.prefer(near)
            id_, home = (given_id, partition_for(given_id, len(self._cells))) if given_id else next(self._ids)
            self._received.setdefault((home, has_choices), []).append(ReceivedRequestWire(id_, spec))
        return id_, home

    def closed(self, home: int, request: ClosedRequestWire) -> None:
        """A request ended."""
        if self._recording:
            with self._gathering:
                if not self._closed:
                    self._closed_since = time.monotonic()
                self._closed.setdefault(home, []).append(request)

    def is_due(self, closed_wait_s: float) -> bool:
        """Whether `take` would return records."""
        return bool(self._received) or self._are_outcomes_due(closed_wait_s)

    def _are_outcomes_due(self, closed_wait_s: float) -> bool:
        closed = self._closed  # other threads add to it, and take it
        return bool(closed) and (
            time.monotonic() - self._closed_since >= closed_wait_s
            or max(map(len, list(closed.values())), default=0) >= events.BATCH_MAX
        )

    def take(self, closed_wait_s: float) -> list[NewRecord]:
        """What was gathered, as records: all requests, so that a claim in the log has its request there; outcomes where
        the first has waited `closed_wait_s`, or where they fill a record."""
        with self._gathering:
            received, self._received = self._received, {}
            if received:
                self._ids.next_home()
            closed: dict[int, list[ClosedRequestWire]] = {}
            if self._are_outcomes_due(closed_wait_s):
                closed, self._closed = self._closed, {}
        records = []
        for (home, has_choices), requests in received.items():
            newest = has_choices or self._takes(home, events.RequestsReceivedV2)
            for at in range(0, len(requests), events.BATCH_MAX):
                batch = requests[at : at + events.BATCH_MAX]
                value = encode_received(next(self._new_ids), self._source, batch, newest=newest)
                records.append(NewRecord(self._cells[home], value))
        for home, outcomes in closed.items():
            for at in range(0, len(outcomes), events.BATCH_MAX):
                value = encode_closed(next(self._new_ids), self._source, outcomes[at : at + events.BATCH_MAX])
                records.append(NewRecord(self._cells[home], value))
        return records


class _HomeIds:
    """Ids with their homes, in runs of one home. An id that is made for one home and belongs to another is kept until it is
    that home's turn, `AT_ONCE_MAX` of each home."""

    AT_ONCE_MAX = 128
    PREFERRED_AT_ONCE = 16

    def __init__(self, ids: Iterator[str], partitions: int) -> None:
        self._ids = ids
        self._home = 0
        self._at_once = 4  # a scheduler that places one instance needs one id
        self._waiting: list[deque[str]] = [deque(maxlen=self.AT_ONCE_MAX) for _ in range(partitions)]

    def __next__(self) -> tuple[str, int]:
        ready = self._waiting[self._home]
        while not ready:
            self._make(self._at_once)
            self._at_once = min(4 * self._at_once, self.AT_ONCE_MAX)
        return ready.popleft(), self._home

    def _make(self, count: int) -> None:
        made = list(islice(self._ids, count))
        for id_, home in zip(made, partitions_for(made, len(self._waiting)), strict=True):
            self._waiting[home].append(id_)

    def prefer(self, home: int) -> None:
        """The next ids are of this home if there is one for it, or if one is made soon: of many partitions the right one is
        rarely met, and then the turn stays."""
        if not self._waiting[home]:
            self._make(self.PREFERRED_AT_ONCE)
        if self._waiting[home]:
            self._home = home

    def next_home(self) -> None:
        """The next ids are of the home that has the most ids waiting, so that homes get equal numbers of requests."""
        self._home = max(range(len(self._waiting)), key=lambda home: len(self._waiting[home]))
