"""Placing many requests at once: each request goes from query to verdict as a job with a named state.

Each round has four steps: read what was committed (and the verdicts in it), end the claims that are overdue, query for
the jobs that are ready, send their claims in as few records as there are cells.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from itertools import takewhile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from vacancy.clients.scheduler.claims import (
    FINAL,
    LATE,
    RETRY_SAME_NODE,
    ClaimMaker,
    ClaimSettings,
    new_ids,
    rejected_root,
    rejection_text,
)
from vacancy.clients.scheduler.log_time import LogTime
from vacancy.clients.scheduler.log_writer import CLOSED_AS, LogWriter
from vacancy.clients.scheduler.observer import RequestWatch, SchedulerObserver, watches_of
from vacancy.clients.scheduler.placement import Outcome, PlacementRequest, Rejected, Status
from vacancy.clients.scheduler.store_query import StoreQuery
from vacancy.projections.query.affinity.engine import memberships_of
from vacancy.projections.query.budget import SearchBudget, gave_up_text
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.model import Candidate
from vacancy.projections.view.group_members import ReservedMembership
from vacancy.projections.view.reservations import Reservation
from vacancy.resources.model.encoding.event_encoding import ClaimWire, ClosedRequestWire
from vacancy.resources.model.errors import LogUnavailable, UsageError
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.state.rows import AllocationPart, VerdictRow, granted_by_name
from vacancy.resources.state.tables import ALLOCATIONS, VERDICTS, key
from vacancy.streams.clocks.log_clock import duration_text
from vacancy.streams.files.file_events import RUNG, FileEvents

if TYPE_CHECKING:
    from vacancy.projections.diagnostics.summary import Explanation

REASON_MAX: Final = 1024
"""Characters of a reason that the log accepts."""

_GATHER_S: Final = 0.01
"""How long a job waits for others to share a record with, while claims are in flight."""

_GATHER_EACH_S: Final = 0.0004
"""The same for each claim of a full batch, if that is longer: who has many claims in flight waits longer for verdicts."""

_OVERDUE_S: Final = 1.0
"""A claim is overdue after this time at the earliest, whatever the timeout: the feed brings a verdict sooner."""

_TOGETHER: Final = 64
"""Claims that go to one cell together: as many as share a record (`events.BATCH_MAX`)."""


Compiled = tuple[PlacementRequest, CompiledRequest]
"""A request to be placed, and its spec compiled."""


class JobState(StrEnum):  # its hash is a string's: that of an Enum is computed in Python
    """Where a request is on its way."""

    QUERYING = "querying"
    """It waits for its first query."""

    WAITING_FOR_OWN_CLAIMS = "waiting for own claims"
    """Nothing had room, but claims of this pipeline were in flight. Once they are decided, it is queried once more."""

    CLAIM_SENT = "claim sent"
    """Its claim has no verdict yet."""

    RETRYING = "retrying"
    """Its claim was rejected. It waits for another query."""

    DONE = "done"
    """Its outcome is known."""


TRANSITIONS: Final[Mapping[JobState, frozenset[JobState]]] = MappingProxyType(
    {
        JobState.QUERYING: frozenset({JobState.CLAIM_SENT, JobState.WAITING_FOR_OWN_CLAIMS, JobState.DONE}),
        JobState.WAITING_FOR_OWN_CLAIMS: frozenset({JobState.CLAIM_SENT, JobState.DONE}),
        JobState.CLAIM_SENT: frozenset({JobState.RETRYING, JobState.DONE}),
        JobState.RETRYING: frozenset({JobState.CLAIM_SENT, JobState.WAITING_FOR_OWN_CLAIMS, JobState.DONE}),
        JobState.DONE: frozenset(),
    }
)
"""All transitions that are allowed."""


@dataclass(slots=True)
class PlacementJob:
    """One request on its way. `id` is empty until the request is recorded; `home` is the partition that it hashes to.
    `waits_for` are the claims (by their keys) that it waits for; `avoid` the roots that rejected it. `late_claims` are those
    whose deadline had passed before they were judged. `gave_up` and `heard_since_ms` (see `find`) are those of its last query.
    `watches` are of the scheduler's observers.
    """

    request: PlacementRequest
    compiled: CompiledRequest
    consumer: str
    started: float
    id: str = ""
    home: int = 0
    state: JobState = JobState.QUERYING
    waits_for: frozenset[bytes] = frozenset()
    lost_claims: int = 0
    late_claims: int = 0
    reason: str = ""
    avoid: set[str] = field(default_factory=set)
    query_ms: float = 0.0
    gave_up: int = 0
    heard_since_ms: int | None = None
    rejected: Rejected | None = None
    watches: tuple[RequestWatch, ...] = ()

    def move_to(self, state: JobState) -> None:
        """Change the state. Raises `RuntimeError`, and changes nothing, where `TRANSITIONS` does not allow it."""
        if state not in TRANSITIONS[self.state]:
            raise RuntimeError(f"a placement job cannot go from {self.state.name} to {state.name}")
        self.state = state


@dataclass(slots=True)
class ClaimInFlight:
    """A claim without a verdict. What it asks for is reserved in the scheduler's view."""

    job: PlacementJob
    claim: ClaimWire
    candidate: Candidate
    sent_at: float
    reservations: Sequence[Reservation]
    memberships: Sequence[ReservedMembership]


class PollPacing:
    """How long to sleep before the next look for a verdict. It remembers how long verdicts took.

    While one claim or a few are in flight, the worker wakes the scheduler when it has committed the verdict of one (`bell`: see
    `changefeed.bells`). Where nothing wakes it, the sleep ends shortly before a verdict can be there, and then it is a 16th of the
    time that the claim has waited: so a verdict is seen within 6 % of the time that it took. It also looks at such
    intervals until the worker has announced a verdict, and again once one came unannounced.
    Of many claims some verdict comes all the time, and looking often would cost CPU for each: the sleep is an eighth of the time
    that the oldest has waited, and at least half of the idle time.
    """

    FEW: Final = 4
    _LEAST_S: Final = 0.0001
    _LEAST_OF_MANY_S: Final = 0.0005
    _MOST_S: Final = 0.005
    _ANNOUNCED_S: Final = 0.020
    """How long it waits at most for a bell that rang for the last verdict."""

    def __init__(self, bell: Path | None = None) -> None:
        self._soonest_s = 0.0
        self._bell = bell
        self._events: FileEvents | None = None
        self._rang = self._is_announced = False

    def note(self, waited_s: float) -> None:
        """A verdict came after this time."""
        self._soonest_s = min(waited_s, self._soonest_s * 1.1) if self._soonest_s else waited_s
        self._is_announced = self._rang

    def wait(self, waited_s: float) -> None:
        """Wait for the verdict of few claims, when the oldest has waited for this time."""
        if self._events is None and self._bell is not None:
            self._events = FileEvents([self._bell], RUNG)
        if self._events is None:
            time.sleep(self.pause_s(waited_s))
        else:
            self._rang = self._events.wait(self.longest_s(waited_s))

    def longest_s(self, waited_s: float) -> float:
        """How long to wait for a bell at most."""
        return self._ANNOUNCED_S if self._is_announced else self.pause_s(waited_s)

    def close(self) -> None:
        """No longer watch the file."""
        if self._events is not None:
            self._events.close()
        self._events, self._bell = None, None

    def pause_s(self, waited_s: float) -> float:
        """For few claims, when the oldest has waited for this time."""
        fine = min(max(waited_s / 16, self._LEAST_S), self._MOST_S)
        return max(fine, min(0.8 * self._soonest_s - waited_s, self._MOST_S))

    def pause_of_many_s(self, waited_s: float, idle_s: float) -> float:
        """For many claims, when the oldest has waited for this time, after this time without any progress."""
        return min(max(idle_s / 2, waited_s / 8, self._LEAST_OF_MANY_S), self._MOST_S)


class Pipeline:
    """Places a stream of requests. See `Scheduler.place_many`."""

    def __init__(
        self,
        writer: LogWriter,
        query: StoreQuery,
        settings: ClaimSettings,
        pacing: PollPacing,
        in_flight: int,
        timeout_s: float,
        log_time: LogTime,
        max_staleness_s: float | None = None,
        observers: Sequence[SchedulerObserver] = (),
    ) -> None:
        self._writer = writer
        self._observers = observers
        self._log_time = log_time
        self._query = query
        self._reader = query.reader
        self._settings = settings
        self._pacing = pacing
        self._in_flight_max = in_flight
        self._batch = max(1, min(in_flight // 2, _TOGETHER))
        self._gather_s = max(_GATHER_S, self._batch * _GATHER_EACH_S)
        self._queried_at = 0.0
        self._timeout_s = timeout_s
        self._max_staleness_s = max_staleness_s
        self._waiting: deque[PlacementJob] = deque()
        self._in_flight: dict[bytes, ClaimInFlight] = {}
        self._verdicts: list[tuple[ClaimInFlight, VerdictRow]] = []
        self._outcomes: list[Outcome] = []
        self._ids = new_ids()
        self._maker = ClaimMaker.of(query.reader, log_time.clock, settings)

    def run(self, requests: Iterable[Compiled | None]) -> Generator[Outcome, None, None]:
        """The outcomes of all requests, as they come. The source yields None where it has nothing yet: then it is asked again
        in the next round. A `UsageError` of the source is raised at the end."""
        with self._reader.listening(self._receive_verdicts):
            try:
                yield from self._rounds(iter(requests))
            finally:
                # A caller who stops early gets no more outcomes; from now on the store shows what is used.
                for job in self._waiting:
                    _abandon(job)
                for row_key in list(self._in_flight):
                    _abandon(self._end_claim(row_key).job)
                self._writer.send_later()

    def _rounds(self, source: Iterator[Compiled | None]) -> Iterator[Outcome]:
        exhausted, source_error = False, None
        progress_at = time.monotonic()
        self._reader.follow()
        while True:
            while not exhausted and len(self._waiting) + len(self._in_flight) < self._in_flight_max:
                try:
                    request = next(source)
                except StopIteration:
                    exhausted = True
                except UsageError as error:
                    exhausted, source_error = (
                        True,
                        error,
                    )  # the claims in flight are brought to their end first
                else:
                    if request is None:
                        break
                    self._waiting.append(self._accept(*request))
            progressed = self._round()
            if self._outcomes:
                progressed = True
                ready, self._outcomes = self._outcomes, []
                if not self._in_flight:
                    self._writer.send_later()
                yield from ready
            if exhausted and not self._waiting and not self._in_flight and not self._verdicts:
                break
            if progressed:
                progress_at = time.monotonic()
            else:
                self._sleep(progress_at)
        self._writer.flush(self._timeout_s)
        if source_error is not None:
            raise source_error

    def _sleep(self, progress_at: float) -> None:
        now = time.monotonic()
        oldest = next(iter(self._in_flight.values()), None)
        waited_s = now - (oldest.sent_at if oldest else progress_at)
        if oldest is None:
            time.sleep(self._pacing.pause_s(waited_s))
        elif len(self._in_flight) < PollPacing.FEW:
            self._pacing.wait(waited_s)
        else:
            time.sleep(self._pacing.pause_of_many_s(waited_s, now - progress_at))

    def _accept(self, request: PlacementRequest, compiled: CompiledRequest) -> PlacementJob:
        job = PlacementJob(request, compiled, request.consumer or next(self._ids), started=time.monotonic())
        if self._observers:
            job.watches = watches_of(self._observers, request, compiled, job.consumer)
        if request.id is not None:
            self._record(job)
        return job

    def _record(self, job: PlacementJob, cell: str | None = None) -> None:
        """Record a job's request, which gets an id if it has none: with its first claim, in the partition of `cell` if that is
        given, or when it has to wait or ends without a claim."""
        near = None if cell is None else partition_for(cell, self._reader.manifest.partitions)
        job.id, job.home = self._writer.received(
            job.request.id, job.compiled.wire, has_choices=bool(job.compiled.choices), near=near
        )

    def _round(self) -> bool:
        """One round. Returns whether anything changed."""
        self._reader.follow()
        progressed = self._apply_verdicts()
        progressed |= self._end_overdue()
        ready = self._take_ready()
        sent = list(self._query_all(ready))
        claims: dict[str, list[ClaimWire]] = {}
        for one in sent:
            claims.setdefault(one.candidate.cell, []).append(one.claim)
        unavailable = self._writer.send(claims, self._left_s())
        if unavailable is not None:
            self._never_sent(sent, unavailable)
        return progressed or bool(ready)

    def _left_s(self) -> float:
        """How long the oldest claim in flight may still take: a send must not delay its outcome beyond that."""
        oldest = next(iter(self._in_flight.values()), None)
        if oldest is None:
            return self._timeout_s
        return max(0.0, oldest.job.started + max(self._timeout_s, _OVERDUE_S) - time.monotonic())

    def _take_ready(self) -> list[PlacementJob]:
        """The jobs to query now. While claims are in flight it pays to wait a little for more jobs: a record of many claims
        costs the log, the worker and every reader little more than a record of one."""
        if not self._waiting:
            return []
        now = time.monotonic()
        if self._in_flight and len(self._waiting) < self._batch and now - self._queried_at < self._gather_s:
            return []
        self._queried_at = now
        self._log_time.bring_up(self._left_s() / 2)  # the other half is for what is sent then
        jobs, self._waiting = self._waiting, deque()
        ready = []
        for job in jobs:
            if job.waits_for.isdisjoint(self._in_flight):
                ready.append(job)
            else:
                self._waiting.append(job)
        return ready

    # -- query --------------------------------------------------------------------------------------------------

    def _query_all(self, jobs: list[PlacementJob]) -> Iterator[ClaimInFlight]:
        """Make claims for these jobs. Jobs that ask for the same share one query where the order is random: its candidates
        are distinct places, drawn as separate queries would draw them. Of a few jobs the records are in the partition of the
        first claim: one commit of the worker instead of two. Those of many share records anyway, and are spread evenly."""
        is_few = len(jobs) < PollPacing.FEW
        alike: dict[int | bytes, list[PlacementJob]] = {}
        for job in jobs:
            # Of a choice that is preferred there may be room for several on one tree: each asks by itself.
            separate = (
                job.avoid
                or job.compiled.has_affinity
                or len(job.compiled.choices) > 1
                or not self._settings.order.uniform
            )
            alike.setdefault(id(job) if separate else job.compiled.key, []).append(job)
        for group in alike.values():
            left = deque(group)
            while left:
                found = self._find_together(left)
                for candidate in found:
                    job = left.popleft()
                    if not job.id:
                        self._record(job, candidate.cell if is_few else None)
                    yield self._claim(job, candidate)
                    if candidate.from_sharing:
                        break  # other candidates may count on the same sharing provider: query again
                if not found:
                    self._found_nothing(left.popleft())

    def _find_together(self, jobs: deque[PlacementJob]) -> list[Candidate]:
        """Candidates for jobs that ask for the same: at most one each, possibly fewer. Where places are drawn at
        random, all are of the cell of the first, so that the claims share a record. A cell is as likely as it has
        places, so each place is as likely as any other."""
        if len(jobs) == 1 or len(self._reader.view.cells) < 2:
            return self._find(jobs)
        first = self._find(jobs, limit=1)
        if not first:
            return first
        return self._find(jobs, limit=min(len(jobs), _TOGETHER), cell=first[0].cell) or first

    def _find(
        self, jobs: deque[PlacementJob], *, limit: int | None = None, cell: str | None = None
    ) -> list[Candidate]:
        started, budget = time.perf_counter(), SearchBudget()
        wanted, among = len(jobs) if limit is None else limit, self._settings.order.among
        since_ms = self._query.present.heard_since_ms(self._max_staleness_s)
        found = self._query.search(
            jobs[0].compiled,
            limit=wanted + among - 1,
            order=self._settings.order,
            heard_since_ms=since_ms,
            budget=budget,
            cell=cell,
            avoid=jobs[0].avoid,
            one_a_tree=True,
        )
        took_ms = (time.perf_counter() - started) * 1e3
        for watch in jobs[0].watches:
            watch.queried(took_ms / 1e3, self._reader.newest_ms)
        for job in jobs:
            job.query_ms += took_ms / len(jobs)
            job.gave_up, job.heard_since_ms = budget.gave_up, since_ms
        if among > 1 and len(found) > wanted:
            found = [found[at] for at in self._query.rng.permutation(len(found))]
            found.sort(key=lambda one: one.choice)
        return found[:wanted]

    def _claim(self, job: PlacementJob, candidate: Candidate) -> ClaimInFlight:
        """Make a job's claim, and reserve what it asks for."""
        view = self._reader.view
        claim = self._maker.make(
            next(self._ids), candidate, job.request, job.compiled, consumer=job.consumer, request_id=job.id
        )
        reservations = []
        for served in candidate.allocations:
            row = view.row_of[key(candidate.cell, served.provider)]
            reservations += [view.reserve(row, name, ask) for name, ask in served.resources.items()]
        memberships: list[ReservedMembership] = []
        if job.compiled.spec.memberships:
            memberships = memberships_of(view, job.compiled.spec, job.consumer, candidate)
            view.groups.reserve(memberships)
        job.move_to(JobState.CLAIM_SENT)
        made = ClaimInFlight(job, claim, candidate, time.monotonic(), reservations, memberships)
        self._in_flight[key(candidate.cell, claim.id)] = made
        for watch in job.watches:
            watch.claimed(claim.id, candidate.cell, candidate.root)
        return made

    def _end_claim(self, row_key: bytes) -> ClaimInFlight:
        """Take a claim out of flight and release its reservation. Nothing else does either."""
        ended = self._in_flight.pop(row_key)
        view = self._reader.view
        if ended.memberships:
            view.groups.unreserve(ended.memberships)
        for one in ended.reservations:
            view.unreserve(one)
        return ended

    def _found_nothing(self, job: PlacementJob) -> None:
        """Nothing has room. Where own claims are in flight, they may still be rejected: wait for them once."""
        if not job.id:
            self._record(job)
        if self._in_flight and job.state is not JobState.WAITING_FOR_OWN_CLAIMS:
            job.move_to(JobState.WAITING_FOR_OWN_CLAIMS)
            job.waits_for = frozenset(self._in_flight)
            self._waiting.append(job)
        elif job.avoid:
            self._close(job, "lost", reason=job.reason)
        elif job.gave_up:
            self._close(job, "gave_up", reason=gave_up_text(job.gave_up))
        else:
            types = self._query.type_errors(job.compiled)
            reason = "nothing that matches has room" + (f": {types}" if types else "")
            self._close(job, "no_valid_host", reason=reason[:REASON_MAX])

    def _never_sent(self, claims: Iterable[ClaimInFlight], why: LogUnavailable) -> None:
        for one in claims:
            self._end_claim(key(one.candidate.cell, one.claim.id))
            self._close(one.job, "lost", reason=f"no claim was sent: {why}")

    # -- verdicts -----------------------------------------------------------------------------------------------

    def _receive_verdicts(self, verdicts: Sequence[tuple[bytes, bytes]]) -> None:
        """Verdicts from the feed, before the view applies the rows of the same commits. The reservations are released first,
        so that they are not counted on top of rows that include them."""
        for row_key, data in verdicts:
            if row_key in self._in_flight:
                self._verdicts.append((self._end_claim(row_key), VERDICTS.decode(data)))

    def _apply_verdicts(self) -> bool:
        verdicts, self._verdicts = self._verdicts, []
        if verdicts and len(self._in_flight) + len(verdicts) < PollPacing.FEW:
            self._pacing.note(time.monotonic() - verdicts[0][0].sent_at)
        for claim, verdict in verdicts:
            self._decided(claim, verdict)
        return bool(verdicts)

    def _decided(self, ended: ClaimInFlight, verdict: VerdictRow) -> None:
        job = ended.job
        for watch in job.watches:
            named = "accepted" if verdict.accepted else verdict.reason
            watch.decided(ended.claim.id, named, time.monotonic() - ended.sent_at)
        if verdict.accepted:
            self._close(job, "placed", ended, grants=verdict.grants)
            return
        if verdict.reason in LATE:
            job.late_claims += 1
            job.reason = self._late_text(ended)
        else:
            job.lost_claims += 1
            job.reason = rejection_text(verdict)
        job.rejected = Rejected(ended.candidate.cell, verdict)
        if verdict.reason not in RETRY_SAME_NODE:
            job.avoid.add(rejected_root(self._reader.view, job.compiled.spec, ended.candidate, verdict))
        claims = job.lost_claims + job.late_claims
        if verdict.reason in FINAL or claims >= self._settings.attempts:
            self._close(job, "lost", reason=job.reason)
        elif time.monotonic() - job.started > self._timeout_s:
            self._close(job, "lost", reason=f"no time left after {claims} claims, the last one: {job.reason}")
        else:
            job.move_to(JobState.RETRYING)
            job.waits_for = frozenset()
            self._waiting.appendleft(job)

    def _late_text(self, late: ClaimInFlight) -> str:
        """Why a claim was judged after its deadline, or with a deadline that was too far ahead: the log's clock."""
        ahead_ms = self._reader.log_time_ms(self._partition_of(late)) - late.claim.deadline_ms
        clock = self._log_time.clock.difference or "log time moved faster than this host's clock"
        side = (
            f"{duration_text(ahead_ms)} after its deadline"
            if ahead_ms > 0
            else "with a deadline too far ahead"
        )
        return f"the claim was judged {side} by log time: {clock}"

    def _end_overdue(self) -> bool:
        """Claims that have no verdict in the feed after their time: the tables decide, or their outcome is not known."""
        now = time.monotonic()
        # Claims are in the order they were sent in.
        old = takewhile(lambda item: now - item[1].sent_at >= _OVERDUE_S, self._in_flight.items())
        ended = False
        for row_key, one in list(old):
            if row_key not in self._in_flight:
                continue  # its verdict came while another was looked up
            if now - one.job.started > self._timeout_s or self._past_deadline(one):
                self._look_up(row_key, self._end_claim(row_key))
                ended = True
        return ended

    def _partition_of(self, one: ClaimInFlight) -> int:
        return partition_for(one.candidate.cell, self._reader.manifest.partitions)

    def _past_deadline(self, one: ClaimInFlight) -> bool:
        return self._reader.log_time_ms(self._partition_of(one)) > one.claim.deadline_ms

    def _look_up(self, row_key: bytes, ended: ClaimInFlight) -> None:
        """Decide an overdue claim by the tables."""
        self._reader.catch_up()
        past = self._past_deadline(ended)
        verdict = self._reader.get(VERDICTS, row_key)
        held = self._reader.get(ALLOCATIONS, key(ended.candidate.cell, ended.claim.consumer))
        if verdict is not None:
            self._decided(ended, verdict)
        elif held is not None and held.claim == ended.claim.id:
            self._close(ended.job, "placed", ended, grants=granted_by_name(held.parts))
        elif past:
            rejected = VerdictRow(False, "deadline_passed", -1, ended.claim.deadline_ms, b"")
            self._decided(ended, rejected)
        else:
            reason = f"no verdict came within {self._timeout_s:g} s"
            if self._writer.unconfirmed:
                reason += ", and the log has not confirmed that it has the claim"
            self._close(ended.job, "unknown", ended, reason=reason)

    # -- outcomes -----------------------------------------------------------------------------------------------

    def _close(
        self,
        job: PlacementJob,
        status: Status,
        ended: ClaimInFlight | None = None,
        *,
        reason: str = "",
        grants: tuple[AllocationPart, ...] = (),
    ) -> None:
        job.move_to(JobState.DONE)
        cell = ended.candidate.cell if ended else ""
        nothing_found = status == "no_valid_host"
        self._writer.closed(
            job.home,
            ClosedRequestWire(
                job.id,
                CLOSED_AS[status],
                None if status == "placed" else self._maker.as_of(),  # its claim has that of the decision
                claim=ended.claim.id if ended else None,
                cell=cell or None,
                in_flight=[one.claim.id for one in self._in_flight.values()] if nothing_found else (),
                heard_since_ms=job.heard_since_ms if nothing_found else None,
                reason=reason[:REASON_MAX],
            ),
        )
        outcome = Outcome(
            status=status,
            request=job.id,
            consumer=job.consumer,
            cell=cell,
            root=ended.candidate.root if ended else "",
            claim=ended.claim.id if ended else "",
            allocations=ended.candidate.allocations if ended else (),
            grants=grants,
            groups=len(ended.claim.memberships) if ended else 0,
            as_of=self._reader.position,
            reason=reason,
            deadline_ms=ended.claim.deadline_ms if ended else 0,
            lost_claims=job.lost_claims + job.late_claims,
            late_claims=job.late_claims,
            claim_ms=(time.monotonic() - job.started) * 1e3,
            query_ms=job.query_ms,
            rejected=job.rejected if status == "lost" else None,
        )
        self._outcomes.append(outcome)
        for watch in job.watches:
            watch.ended(outcome, partial(self._explain, job))

    def _explain(self, job: PlacementJob) -> Explanation:
        """What each constraint of a job's request removed."""
        return self._query.explain(
            job.compiled, max_staleness_s=self._max_staleness_s, nearest=0, newest=False
        )


def _abandon(job: PlacementJob) -> None:
    """Nobody waits for the outcome any more."""
    for watch in job.watches:
        watch.abandoned()
