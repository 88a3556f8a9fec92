"""One scheduler of a race, in its own process: it places and releases by its plan, and reports the result."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from vacancy.clients.demo.race_plan import Place, Plan
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.placement import Outcome, PlacementRequest
from vacancy.projections.query.order import Order
from vacancy.streams.log import open_log

_LAP_S = 0.2
"""How often a scheduler reports its progress."""


class ParticipantProgress(NamedTuple):
    """What has been done so far: requests decided, by how they ended; rejected claims; consumers released."""

    requests: int = 0
    accepted: int = 0
    no_valid_host: int = 0
    lost: int = 0
    unknown: int = 0
    lost_claims: int = 0
    released: int = 0


class ParticipantReady(NamedTuple):
    """The scheduler has opened its view and waits for the start."""


class ParticipantResult(NamedTuple):
    """The scheduler's plan is done. `cpu_s`: the processor time that it took. Times are of each request, in ms (see
    `RaceResult`)."""

    lap: ParticipantProgress
    seconds: float
    cpu_s: float
    claim_ms: list[float]
    query_ms: list[float]


@dataclass(frozen=True)
class ParticipantSettings:
    """How one scheduler runs; see `RaceOptions`."""

    log: str
    store: Path
    name: str
    seed: int
    order: Order
    in_flight: int
    release_batch: int
    record_requests: bool
    deadline_s: float
    timeout_s: float
    client_settings: dict[str, str]


def run_scheduler(parent: Connection, running: ParticipantSettings, plan: Plan) -> None:
    """The child process: sends `ParticipantReady`, waits for the start, runs, sends `ParticipantProgress` and `ParticipantResult`."""
    with (
        open_log(running.log, **running.client_settings) as log,
        Scheduler(
            log,
            running.store,
            installed_registry(),
            name=running.name,
            seed=running.seed,
            order=running.order,
            deadline_s=running.deadline_s,
            record_requests=running.record_requests,
        ) as scheduler,
    ):
        parent.send(ParticipantReady())
        parent.recv()
        parent.send(_Run(parent, scheduler, running, plan).run())


class _Run:
    """A plan under way."""

    def __init__(
        self, parent: Connection, scheduler: Scheduler, running: ParticipantSettings, plan: Plan
    ) -> None:
        self._parent = parent
        self._scheduler = scheduler
        self._running = running
        self._plan = plan
        self._statuses = Counter[str]()
        self._lost_claims = self._released = 0
        self._claim_ms: list[float] = []
        self._query_ms: list[float] = []
        self._place_of: dict[str, int] = {}
        self._placed: dict[int, Outcome] = {}
        self._due_once_placed: set[int] = set()
        self._due: list[Outcome] = []

    def run(self) -> ParticipantResult:
        """Run it."""
        started, cpu_before = time.monotonic(), time.process_time()
        told_at = started
        running = self._running
        outcomes = self._scheduler.place_many(
            self._requests(), in_flight=running.in_flight, timeout_s=running.timeout_s
        )
        for outcome in outcomes:
            self._take(outcome)
            if (now := time.monotonic()) - told_at > _LAP_S:
                told_at = now
                self._parent.send(self._lap())
        self._release(at_least=1)
        seconds, cpu_s = time.monotonic() - started, time.process_time() - cpu_before
        return ParticipantResult(self._lap(), seconds, cpu_s, self._claim_ms, self._query_ms)

    def _requests(self) -> Iterator[PlacementRequest]:
        """The plan's requests, for the scheduler to pull when it has room; releases happen on the way."""
        prefix = f"{self._running.name}-{os.urandom(4).hex()}"
        place = 0
        for step in self._plan:
            if isinstance(step, Place):
                # A release is sent before the next request is looked at, so that it finds the room.
                self._release(at_least=self._running.release_batch)
                consumer = f"{prefix}-{place}"
                self._place_of[consumer] = place
                place += 1
                yield PlacementRequest(step.spec, consumer=consumer)
            elif (outcome := self._placed.pop(step.place, None)) is not None:
                self._due.append(outcome)
            else:
                self._due_once_placed.add(step.place)

    def _take(self, outcome: Outcome) -> None:
        self._statuses[outcome.status] += 1
        self._lost_claims += outcome.lost_claims
        self._query_ms.append(outcome.query_ms)
        if outcome.status == "placed" or outcome.lost_claims:
            self._claim_ms.append(outcome.claim_ms)
        place = self._place_of.pop(outcome.consumer)
        if outcome.status == "placed":
            if place in self._due_once_placed:
                self._due.append(outcome)
            else:
                self._placed[place] = outcome

    def _release(self, *, at_least: int) -> None:
        if len(self._due) >= at_least:
            self._released += self._scheduler.release(self._due, timeout_s=self._running.timeout_s)
            self._due = []

    def _lap(self) -> ParticipantProgress:
        statuses = self._statuses
        return ParticipantProgress(
            requests=statuses.total(),
            accepted=statuses["placed"],
            no_valid_host=statuses["no_valid_host"],
            lost=statuses["lost"] + statuses["gave_up"],
            unknown=statuses["unknown"],
            lost_claims=self._lost_claims,
            released=self._released,
        )
