"""The scheduler's client: find candidates, claim one, know the verdict.

It reads the store on its own host and writes to the log only. It is not thread-safe: one a thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple
from uuid import uuid4

import numpy as np

from vacancy.clients.inspection.provenance import EventLookup
from vacancy.clients.request_language.request_compiler import RequestCompiler
from vacancy.clients.scheduler.claims import ClaimSettings, rejection_text
from vacancy.clients.scheduler.log_writer import LogWriter
from vacancy.clients.scheduler.order_names import order_named
from vacancy.clients.scheduler.pipeline import Pipeline, PollPacing
from vacancy.clients.scheduler.placement import Outcome, PlacementRequest
from vacancy.clients.scheduler.settlement import OpenClaim, Settlement, latest_deadline_ms, settle
from vacancy.clients.scheduler.store_query import heard_since_ms
from vacancy.projections.diagnostics.summary import NEAREST, Explanation, explain
from vacancy.projections.query.budget import SearchBudget
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.engine import find
from vacancy.projections.query.model import Candidate
from vacancy.projections.query.order import Order
from vacancy.projections.ranking.orders import RANDOM
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model import events
from vacancy.resources.model.errors import (
    ClaimLost,
    NoValidHost,
    OutcomeUnknown,
    SearchGivenUp,
    UsageError,
    VacancyError,
)
from vacancy.resources.model.names import ID_PATTERN
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.request import RequestSpec
from vacancy.resources.state.rows import AllocationRow
from vacancy.resources.state.tables import ALLOCATIONS, key
from vacancy.streams.log import Log

HOLD_MS_MAX = 366 * 24 * 3600 * 1000
"""How long something can be held without being confirmed: a year."""

_is_id = re.compile(ID_PATTERN).fullmatch


class Candidates(NamedTuple):
    """Candidates, the position (partition -> next offset) that they were computed at, and its newest log time in
    ms: where that is long ago, so are they. `gave_up`: trees that were not searched to the end; where there are any, there
    may be more candidates."""

    candidates: list[Candidate]
    as_of: dict[int, int]
    as_of_ms: int
    gave_up: int = 0


class Scheduler:
    """Places requests. `seed` makes its choices repeatable; `order`, an `Order` or the name of one, is
    what `place` follows.

    `deadline_s`: how long a claim may wait for its verdict, in log time, at most 600. `attempts`: claims made
    for one request before it counts as lost. `record_requests`: whether requests and their outcomes are
    written to the log. Opening it raises `StoreError` where the store cannot be read.
    """

    def __init__(
        self,
        log: Log,
        store: Path,
        registry: Registry,
        *,
        name: str = "scheduler",
        seed: int | None = None,
        order: Order | str = RANDOM,
        deadline_s: float = 60.0,
        attempts: int = 32,
        record_requests: bool = True,
    ) -> None:
        self.log = log
        self.reader = StoreReader(store, registry)
        self.registry = registry
        self.order = order_named(order)
        self._compiler = RequestCompiler(registry)
        self._rng = np.random.default_rng(seed)
        self._settings = ClaimSettings(
            source=f"/scheduler/{name}",
            seed=seed or 0,
            order=self.order,
            deadline_ms=int(deadline_s * 1000),
            attempts=attempts,
            record_requests=record_requests,
        )
        self._writer = LogWriter(log, self._settings.source, record_requests=record_requests)
        self._pacing = PollPacing()

    def compile(self, request: RequestSpec | CompiledRequest) -> CompiledRequest:
        """A request checked and compiled, which all methods here take in place of its spec: what is asked for often is
        then not compiled again. Raises `UsageError` on unknown classes and traits."""
        return self._compiler.compile(request)

    def candidates(
        self,
        request: RequestSpec | CompiledRequest,
        *,
        limit: int = 10,
        order: Order | str | None = None,
        max_staleness_s: float | None = None,
    ) -> Candidates:
        """Up to `limit` places for a request, as of the newest commit. `max_staleness_s` leaves out nodes that
        have not been heard from for so long. Raises `UsageError` on unknown classes and traits."""
        compiled = self._compiler.compile(request)
        self.reader.follow()
        budget = SearchBudget()
        found = find(
            self.reader.view,
            compiled,
            limit=limit,
            order=self.order if order is None else order_named(order),
            rng=self._rng,
            heard_since_ms=heard_since_ms(max_staleness_s),
            budget=budget,
        )
        return Candidates(found, self.reader.position, self.reader.newest_ms, budget.gave_up)

    def place(
        self,
        request: PlacementRequest | RequestSpec | CompiledRequest,
        *,
        timeout_s: float = 10.0,
        max_staleness_s: float | None = None,
    ) -> Outcome:
        """Claim a place and wait for the verdict; where the claim was lost, try the next candidate. `max_staleness_s`
        claims on no node that has not been heard from for so long.

        Raises `NoValidHost` (its `explanation` tells why), `SearchGivenUp`, `ClaimLost` or `OutcomeUnknown`.
        """
        many = self.place_many([request], in_flight=1, timeout_s=timeout_s, max_staleness_s=max_staleness_s)
        outcome = next(many)
        many.close()  # its record in the log follows: the answer does not wait for it
        if outcome.status == "placed":
            return outcome
        compiled = self._compiler.compile(request.spec if isinstance(request, PlacementRequest) else request)

        def why() -> Explanation:
            return explain(self.reader.view, compiled, heard_since_ms=heard_since_ms(max_staleness_s))

        raise _error(outcome, self.reader.path, why, self._rejection(outcome))

    def _rejection(self, outcome: Outcome) -> str:
        """Why the last claim was lost, with the event that took the last of what was asked for."""
        if outcome.rejected is None or outcome.rejected.verdict.taken < 0:
            return outcome.reason
        cell, verdict = outcome.rejected
        self.reader.catch_up()
        taken = EventLookup(self.reader, self.log).taking(
            cell, verdict.taken, verdict.provider, verdict.resource_class
        )
        return rejection_text(verdict, taken)

    def explain(
        self,
        request: RequestSpec | CompiledRequest,
        *,
        max_staleness_s: float | None = None,
        nearest: int = NEAREST,
    ) -> Explanation:
        """How many nodes each constraint of a request removes, and the `nearest` misses, as of the newest commit:
        for requests that found no valid host. Raises `UsageError` on unknown classes and traits."""
        compiled = self._compiler.compile(request)
        self.reader.follow()
        return explain(
            self.reader.view, compiled, heard_since_ms=heard_since_ms(max_staleness_s), nearest=nearest
        )

    def place_many(
        self,
        requests: Iterable[PlacementRequest | RequestSpec | CompiledRequest],
        *,
        in_flight: int = 64,
        timeout_s: float = 30.0,
        max_staleness_s: float | None = None,
    ) -> Generator[Outcome, None, None]:
        """Place many, with up to `in_flight` claims under way at once, those ready sharing a record. Outcomes
        come as they are known, not in order; how one ended is its `Outcome.status`. `max_staleness_s` as for `place`.
        Raises `UsageError` where it comes to a request that cannot be meant, of which nothing is sent."""
        pipeline = Pipeline(
            self._writer,
            self.reader,
            self._rng,
            self._settings,
            self._pacing,
            in_flight,
            timeout_s,
            max_staleness_s,
        )

        def compiled() -> Iterator[tuple[PlacementRequest, CompiledRequest]]:
            for request in requests:
                wanted = request if isinstance(request, PlacementRequest) else PlacementRequest(request)
                check_terms(wanted)
                yield wanted, self._compiler.compile(wanted.spec)

        return pipeline.run(compiled())

    def settle(
        self, claimed: Outcome | str, *, deadline_ms: int | None = None, timeout_s: float = 120.0
    ) -> Settlement:
        """Find out how a claim ended whose outcome is not known: one of an `unknown` outcome, or, given a consumer,
        any that was ever sent for it. Place the consumer again only if it is `void`.

        For a consumer `deadline_ms` is the latest deadline (log time) that such a claim can have; unless given, that
        of a claim which a scheduler like this one sent just now. So a scheduler that was started again, and knows
        no more than for whom it may have claimed, waits that long at most, and then knows. See `settling.settle`.
        """
        if isinstance(claimed, Outcome):
            open_claim = OpenClaim(claimed.consumer, claimed.deadline_ms, claimed.claim, claimed.cell)
        else:
            self.reader.catch_up()
            latest = deadline_ms or latest_deadline_ms(self.reader, self._settings.deadline_ms)
            open_claim = OpenClaim(claimed, latest)
        return settle(self.reader, open_claim, log=self.log, timeout_s=timeout_s)

    def allocations(self, consumer: str) -> list[tuple[str, AllocationRow]]:
        """What a consumer holds, as (cell, row), as of the newest commit: usually one or none."""
        self.reader.catch_up()
        cells = sorted(cell.decode() for cell in self.reader.view.cells)
        found = ((cell, self.reader.get(ALLOCATIONS, key(cell, consumer))) for cell in cells)
        return [(cell, row) for cell, row in found if row is not None]

    def release(self, consumers: Iterable[str | Outcome], *, timeout_s: float = 30.0) -> int:
        """Give back what these consumers hold: ids, or the outcomes of their placements. Returns how many held
        something. The log has it when this returns; tables follow."""
        by_cell: dict[str, list[events.Release]] = {}
        for consumer in consumers:
            if isinstance(consumer, Outcome):
                release = events.Release(
                    consumer=consumer.consumer, claim=consumer.claim, deadline_ms=consumer.deadline_ms or None
                )
                by_cell.setdefault(consumer.cell, []).append(release)
                continue
            for cell, row in self.allocations(consumer):
                by_cell.setdefault(cell, []).append(events.Release(consumer=consumer, claim=row.claim))
        entries = []
        for cell, releases in by_cell.items():
            for at in range(0, len(releases), events.BATCH_MAX):
                data = events.ConsumersReleasedData(releases=tuple(releases[at : at + events.BATCH_MAX]))
                event = events.ConsumersReleased(id=uuid4().hex, source=self._settings.source, data=data)
                entries.append(NewRecord(cell, events.encode(event)))
        if entries:
            self.log.append(entries, timeout_s)
        return sum(map(len, by_cell.values()))

    def close(self) -> None:
        """Send the outcomes that are not in the log yet, and close the store. The log is its owner's to close."""
        self._writer.close()
        self.reader.close()

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_terms(request: PlacementRequest) -> None:
    """Raise `UsageError` where the log would refuse the claim: others are in the same record, and go with it."""
    for what, name in (
        ("consumer", request.consumer),
        ("request", request.id),
        ("project", request.project),
        ("user", request.user),
    ):
        if name is not None and not _is_id(name):
            raise UsageError(
                f"{name!r} cannot name a {what}", do="use letters, digits and ._:/@+=~-, 200 of them at most"
            )
    if len(request.consumer_type) > events.CONSUMER_TYPE_MAX:
        raise UsageError(
            f"the consumer type {request.consumer_type[:80]!r} is too long",
            do=f"use {events.CONSUMER_TYPE_MAX} characters at most",
        )
    if request.hold_ms is not None and not 1 <= request.hold_ms <= HOLD_MS_MAX:
        raise UsageError(
            f"nothing can be held for {request.hold_ms} ms", do=f"hold it for 1 to {HOLD_MS_MAX} ms"
        )


def _error(
    outcome: Outcome, store: Path, explain_it: Callable[[], Explanation], rejection: str
) -> VacancyError:
    where = f"request {outcome.request}, store {store}"
    if outcome.status == "no_valid_host":
        return NoValidHost(
            f"no valid host: {outcome.reason}",
            where=where,
            do="request less, or release or add resources",
            explain=explain_it,
        )
    if outcome.status == "gave_up":
        return SearchGivenUp(outcome.reason, where)
    if outcome.status == "lost":
        others = (
            f"{outcome.lost_claims} claims were lost to others, the last one: " if outcome.lost_claims else ""
        )
        return ClaimLost(f"{others}{rejection}", where=where, do="try again")
    return OutcomeUnknown(
        f"no verdict on claim {outcome.claim} yet: {outcome.reason}",
        where=where,
        do=f"it is decided once log time of cell {outcome.cell} has passed {outcome.deadline_ms} ms; wait for that with"
        f" `vacancy settle {outcome.consumer} --claim {outcome.claim} --cell {outcome.cell} --deadline-ms"
        f" {outcome.deadline_ms}`, and do not place it again before",
    )
