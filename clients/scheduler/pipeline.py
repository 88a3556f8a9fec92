"""Claims under way: many requests, each from query to verdict.

A loop of four steps: take in what was committed (and the verdicts in it), query for whoever waits, send the
claims that are ready in as few records as cells, settle what has run out of time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import takewhile
from typing import Any

import numpy as np

from vacancy.clients.request_language.expression_types import mismatches
from vacancy.clients.scheduler.claims import (
    FINAL,
    TOLD,
    ClaimMaker,
    ClaimSettings,
    claim_entries,
    new_ids,
    refused_root,
    told,
)
from vacancy.clients.scheduler.jobs import ClaimInFlight, PlacementJob
from vacancy.clients.scheduler.placement import Outcome, PlacementRequest, Rejected, Status
from vacancy.clients.scheduler.request_log import CLOSED_AS, RequestLog
from vacancy.clients.scheduler.sender import RecordSender
from vacancy.clients.scheduler.store_query import heard_since_ms
from vacancy.projections.query.affinity.engine import closed, joining
from vacancy.projections.query.budget import SearchBudget, gave_up_text
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.engine import Candidate, find
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import LogUnavailable, UsageError
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.state.rows import AllocationPart, VerdictRow
from vacancy.resources.state.tables import ALLOCATIONS, VERDICTS, key
from vacancy.streams.log import Log

REASON_MAX = 1024
"""Characters of a reason that the log takes."""

_POLL_S = 0.0005
_POLL_MAX_S = 0.005
_GATHER_S = 0.01
"""How long a job may wait for others to share a record with, while claims are under way."""

_OVERDUE_S = 1.0
"""Nothing is overdue before, whatever the timeout: the feed brings a verdict sooner than that, or the tables are asked."""

_TOGETHER = 32
"""Claims that go to one cell together: enough to share a record, few enough to spread evenly."""


Compiled = tuple[PlacementRequest, CompiledRequest]
"""A request to be placed, and what was compiled of its spec."""


class Pipeline:
    """Places a stream of requests. See `Scheduler.place_many`."""

    def __init__(
        self,
        log: Log,
        reader: StoreReader,
        rng: np.random.Generator,
        settings: ClaimSettings,
        in_flight: int,
        timeout_s: float,
        max_staleness_s: float | None = None,
    ) -> None:
        self._sending = RecordSender(log)
        self._reader = reader
        self._rng = rng
        self._settings = settings
        self._in_flight = in_flight
        self._batch = max(1, min(in_flight // 2, _TOGETHER))
        self._sent_at = 0.0
        self._timeout_s = timeout_s
        self._max_staleness_s = max_staleness_s
        self._waiting: deque[PlacementJob] = deque()
        self._flights: dict[bytes, ClaimInFlight] = {}
        self._heard: list[tuple[bytes, VerdictRow]] = []
        self._outcomes: list[Outcome] = []
        self._ids = new_ids()
        self._maker = ClaimMaker(
            reader, deadline_ms=settings.deadline_ms, seed=settings.seed, policy=settings.order.name
        )
        self._journal = RequestLog(settings.source, reader.manifest.partitions, settings.record_requests)

    def run(self, requests: Iterable[Compiled]) -> Generator[Outcome, None, None]:
        """Outcomes of all requests, as they come. What the source raises as `UsageError` is raised at the end."""
        with self._reader.listening(self._hear):
            try:
                yield from self._rounds(iter(requests))
            finally:
                # Whoever stops asking is told no more; from now on the store alone says what is taken.
                for flight in self._flights.values():
                    flight.land(self._reader.view)

    def _rounds(self, source: Iterator[Compiled]) -> Iterator[Outcome]:
        exhausted, wrong = False, None
        pause_s = _POLL_S
        self._reader.follow()
        while True:
            while not exhausted and len(self._waiting) + len(self._flights) < self._in_flight:
                try:
                    request = next(source, None)
                except UsageError as error:
                    request, wrong = None, error  # what is under way comes to its end first
                if request is None:
                    exhausted = True
                else:
                    self._waiting.append(self._accept(*request))
            progressed = self._step()
            if self._outcomes:
                progressed = True
                ready, self._outcomes = self._outcomes, []
                yield from ready
            if exhausted and not self._waiting and not self._flights:
                break
            if progressed:
                pause_s = _POLL_S
            else:
                time.sleep(pause_s)
                pause_s = min(pause_s * 1.5, _POLL_MAX_S)
        self._sending.close(self._journal.take(), self._timeout_s)
        if wrong is not None:
            raise wrong

    def _accept(self, request: PlacementRequest, compiled: CompiledRequest) -> PlacementJob:
        id_ = request.id or self._journal.new_id()
        self._journal.received(id_, compiled.wire)
        return PlacementJob(request, compiled, id_, request.consumer or next(self._ids), time.monotonic())

    def _step(self) -> bool:
        """One round. Returns whether anything moved."""
        self._reader.follow()
        moved = self._take_verdicts()
        moved |= self._settle_overdue()
        ready = self._take_ready()
        claims: dict[str, list[dict[str, Any]]] = {}
        flights = list(self._query_all(ready))
        for flight in flights:
            claims.setdefault(flight.candidate.cell, []).append(flight.claim.wire)
        entries = list(claim_entries(claims, self._settings.source, self._ids))
        journal = self._journal.take(patient=bool(self._flights))
        silent = self._sending.send(journal, entries, self._left_s())
        if silent is not None:
            self._never_sent(flights, silent)
        return moved or bool(ready)

    def _left_s(self) -> float:
        """How long the oldest claim under way may still take: nothing else may keep its outcome back."""
        oldest = next(iter(self._flights.values()), None)
        if oldest is None:
            return self._timeout_s
        return max(0.0, oldest.sent + max(self._timeout_s, _OVERDUE_S) - time.monotonic())

    def _take_ready(self) -> list[PlacementJob]:
        """The jobs whose turn it is. While claims are under way it is worth waiting a little for more jobs: a record
        of many claims costs the log, the worker and every reader little more than a record of one."""
        now = time.monotonic()
        if self._flights and len(self._waiting) < self._batch and now - self._sent_at < _GATHER_S:
            return []
        self._sent_at = now
        jobs, self._waiting = self._waiting, deque()
        ready = []
        for job in jobs:
            if job.parked_on.isdisjoint(self._flights):
                ready.append(job)
            else:
                self._waiting.append(job)
        return ready

    # -- query --------------------------------------------------------------------------------------------------

    def _query_all(self, jobs: list[PlacementJob]) -> Iterator[ClaimInFlight]:
        """Put claims under way for these jobs. Those that ask for the same share one query where the order is
        random: its candidates are distinct places, drawn as so many queries would draw them."""
        alike: dict[str | bytes, list[PlacementJob]] = {}
        for job in jobs:
            alone = job.avoid or job.compiled.has_affinity or not self._settings.order.uniform
            alike.setdefault(job.id if alone else job.compiled.key, []).append(job)
        for group in alike.values():
            left = deque(group)
            while left:
                found = self._find_together(left)
                for candidate in found:
                    yield self._launch(left.popleft(), candidate)
                    if candidate.borrowed:
                        break  # others of these may count on the same sharing provider: look again
                if not found:
                    self._none_left(left.popleft())

    def _find_together(self, jobs: deque[PlacementJob]) -> list[Candidate]:
        """Candidates for jobs that ask for the same: at most one each, possibly fewer. Where places are drawn at
        random, all are of the cell of the first, so that the claims share a record; a cell is as likely as it has
        places, and so each place is as likely as any other."""
        if len(jobs) == 1 or len(self._reader.view.cells) < 2:
            return self._find(jobs)
        first = self._find(jobs, limit=1)
        if not first:
            return first
        return self._find(jobs, limit=min(len(jobs), _TOGETHER), cell=first[0].cell) or first

    def _find(
        self, jobs: deque[PlacementJob], *, limit: int | None = None, cell: str | None = None
    ) -> list[Candidate]:
        started, effort = time.perf_counter(), SearchBudget()
        avoid = jobs[0].avoid
        wanted, among = len(jobs) if limit is None else limit, self._settings.order.among
        view, compiled = self._reader.view, jobs[0].compiled
        since_ms = heard_since_ms(self._max_staleness_s)
        # Of several copies any may be on a node to avoid.
        with closed(view, avoid) if avoid and compiled.spec.copies > 1 else nullcontext():
            found = find(
                view,
                compiled,
                limit=wanted + len(avoid) + among - 1,
                order=self._settings.order,
                rng=self._rng,
                cell=cell,
                heard_since_ms=since_ms,
                one_a_tree=True,
                effort=effort,
            )
        taken_ms = (time.perf_counter() - started) * 1e3 / len(jobs)
        for job in jobs:
            job.query_ms += taken_ms
            job.gave_up, job.heard_since_ms = effort.gave_up, since_ms
        left = [candidate for candidate in found if candidate.root not in avoid]
        if among > 1 and len(left) > wanted:
            left = [left[at] for at in self._rng.permutation(len(left))]
        return left[:wanted]

    def _launch(self, job: PlacementJob, candidate: Candidate) -> ClaimInFlight:
        """Put a claim under way, and count what it asks for as taken."""
        view = self._reader.view
        claim = self._maker.make(
            next(self._ids), candidate, job.request, job.compiled, consumer=job.consumer, request_id=job.id
        )
        taken = []
        for served in candidate.allocations:
            row = view.row_of[key(candidate.cell, served.provider)]
            taken += [view.take(row, name, ask) for name, ask in served.resources.items()]
        joined = joining(view, job.compiled.spec, job.consumer, candidate)
        view.groups.join(joined)
        flight = ClaimInFlight(job, claim, candidate, time.monotonic(), taken, joined)
        self._flights[key(candidate.cell, claim.id)] = flight
        return flight

    def _none_left(self, job: PlacementJob) -> None:
        """Nothing has room. Where claims of our own are under way, they may yet be rejected: wait for them."""
        if self._flights and not job.parked_on:
            job.parked_on = frozenset(self._flights)
            self._waiting.append(job)
        elif job.avoid:
            self._close(job, "lost", reason=job.reason)
        elif job.gave_up:
            self._close(job, "gave_up", reason=gave_up_text(job.gave_up))
        else:
            types = mismatches(job.compiled, self._reader.view)
            reason = "nothing that matches has room" + (f": {types}" if types else "")
            self._close(job, "no_valid_host", reason=reason[:REASON_MAX])

    def _never_sent(self, flights: list[ClaimInFlight], why: LogUnavailable) -> None:
        for flight in flights:
            del self._flights[key(flight.candidate.cell, flight.claim.id)]
            flight.land(self._reader.view)
            self._close(flight.job, "lost", reason=f"no claim was sent: {why}")

    # -- verdicts -----------------------------------------------------------------------------------------------

    def _hear(self, came: Sequence[tuple[bytes, bytes]]) -> None:
        """Verdicts that the feed tells of, before the view takes in the rows that came with them: what was counted as
        taken is given back first, so that it is not counted anew on top of rows that have it."""
        for row_key, data in came:
            flight = self._flights.get(row_key)
            if flight is not None:
                flight.land(self._reader.view)
                self._heard.append((row_key, VERDICTS.decode(data)))

    def _take_verdicts(self) -> bool:
        heard, self._heard = self._heard, []
        for row_key, verdict in heard:
            flight = self._flights.pop(row_key, None)
            if flight is not None:
                self._decided(flight, verdict)
        return bool(heard)

    def _decided(self, flight: ClaimInFlight, verdict: VerdictRow) -> None:
        flight.land(self._reader.view)
        if verdict.accepted:
            self._close(flight.job, "placed", flight, grants=verdict.grants)
            return
        job = flight.job
        job.lost += 1
        job.reason = told(verdict)
        job.rejected = Rejected(flight.candidate.cell, verdict)
        job.parked_on = frozenset()
        if verdict.reason not in TOLD:
            job.avoid.add(
                refused_root(self._reader.view, flight.job.compiled.spec, flight.candidate, verdict)
            )
        if verdict.reason in FINAL or job.lost >= self._settings.attempts:
            self._close(job, "lost", reason=job.reason)
        else:
            self._waiting.appendleft(job)

    def _settle_overdue(self) -> bool:
        """What has no verdict in the feed: ask the tables, and say what is known."""
        now = time.monotonic()
        # Flights are in the order they were sent in.
        old = takewhile(lambda item: now - item[1].sent >= _OVERDUE_S, self._flights.items())
        moved = False
        for row_key, flight in list(old):
            if now - flight.sent > self._timeout_s or self._past_deadline(flight):
                del self._flights[row_key]
                self._overdue(row_key, flight)
                moved = True
        return moved

    def _past_deadline(self, flight: ClaimInFlight) -> bool:
        partition = partition_for(flight.candidate.cell, self._reader.manifest.partitions)
        return self._reader.log_time_ms(partition) > flight.claim.deadline_ms

    def _overdue(self, row_key: bytes, flight: ClaimInFlight) -> None:
        self._reader.catch_up()
        past = self._past_deadline(flight)
        verdict = self._reader.get(VERDICTS, row_key)
        held = self._reader.get(ALLOCATIONS, key(flight.candidate.cell, flight.claim.consumer))
        if verdict is not None:
            self._decided(flight, verdict)
        elif held is not None and held.claim == flight.claim.id:
            flight.land(self._reader.view)
            particular = tuple(part for part in held.parts if type(part.grant) is not int)
            self._close(flight.job, "placed", flight, grants=particular)
        elif past:
            rejected = VerdictRow(False, "deadline_passed", -1, flight.claim.deadline_ms, b"")
            self._decided(flight, rejected)
        else:
            flight.land(self._reader.view)
            reason = f"nothing was heard for {self._timeout_s:g} s"
            if self._sending.unconfirmed:
                reason += ", and the log has not confirmed that it has the claim"
            self._close(flight.job, "unknown", flight, reason=reason)

    # -- the end ------------------------------------------------------------------------------------------------

    def _close(
        self,
        job: PlacementJob,
        status: Status,
        flight: ClaimInFlight | None = None,
        *,
        reason: str = "",
        grants: tuple[AllocationPart, ...] = (),
    ) -> None:
        self._journal.closed(
            job.id,
            CLOSED_AS[status],
            claim=flight.claim.id if flight else None,
            cell=flight.candidate.cell if flight else None,
            as_of=self._maker.as_of(),
            in_flight=[other.claim.id for other in self._flights.values()]
            if status == "no_valid_host"
            else [],
            heard_since_ms=job.heard_since_ms if status == "no_valid_host" else None,
            reason=reason,
        )
        self._outcomes.append(
            Outcome(
                status=status,
                request=job.id,
                consumer=job.consumer,
                cell=flight.candidate.cell if flight else "",
                root=flight.candidate.root if flight else "",
                claim=flight.claim.id if flight else "",
                allocations=flight.candidate.allocations if flight else (),
                grants=grants,
                as_of=self._reader.position,
                reason=reason,
                deadline_ms=flight.claim.deadline_ms if flight else 0,
                lost_claims=job.lost,
                claim_ms=(time.monotonic() - job.started) * 1e3,
                query_ms=job.query_ms,
                rejected=job.rejected if status == "lost" else None,
            )
        )
