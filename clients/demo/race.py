"""A race: several schedulers, each in its own process, place and release at once. The results are added up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from vacancy.clients.demo.race_participant import (
    ParticipantProgress,
    ParticipantReady,
    ParticipantResult,
    ParticipantSettings,
    run_scheduler,
)
from vacancy.clients.demo.race_plan import Plan
from vacancy.clients.runtime.child_process import ChildProcess, wait_for_any
from vacancy.projections.query.order import Order
from vacancy.projections.ranking.orders import RANDOM
from vacancy.resources.model.errors import UsageError

CLAIM_DEADLINE_S: Final = 590.0
"""How long verdicts stay readable: nearly as long as a log allows (10 minutes), so that they can be exported after
the race. A little less, because the log's clock may be behind."""

_CHECK_EVERY_S = 1.0


@dataclass(frozen=True)
class RaceOptions:
    """How to race. `stores`: those of the hosts that take part; schedulers are distributed over them.

    `in_flight`: claims that a scheduler has under way at once. `release_batch`: how many releases it collects before
    it sends them. `deadline_s`: of claims, in log time. `timeout_s`: how long a scheduler waits for a verdict
    before the outcome counts as unknown.
    """

    log: str
    stores: Sequence[Path]
    order: Order = RANDOM
    in_flight: int = 1
    release_batch: int = 64
    seed: int = 0
    record_requests: bool = True
    deadline_s: float = CLAIM_DEADLINE_S
    timeout_s: float = 30.0
    client_settings: Mapping[str, str] = field(default_factory=dict)


class Percentiles(NamedTuple):
    """Of measured times, in ms; 0 if nothing was measured."""

    p50: float
    p99: float


@dataclass(frozen=True)
class RaceResult:
    """The result of a race, all schedulers together.

    `accepted` + `no_valid_host` + `lost` + `unknown` = `requests`; `lost_claims` are rejected claims; a request
    may have several and still be accepted. `claims_per_s` counts claims with a verdict over the
    seconds from the common start to the last scheduler's end. `cpu_s` is the processor time of all schedulers in those
    seconds. `claim_ms`: from request to verdict, of requests
    that claimed; `query_ms`: all queries of a request together.
    """

    requests: int
    accepted: int
    no_valid_host: int
    lost: int
    unknown: int
    lost_claims: int
    released: int
    seconds: float
    cpu_s: float
    claims_per_s: float
    claim_ms: Percentiles
    query_ms: Percentiles


Progress = Callable[[ParticipantProgress], None]
"""Called a few times a second with the totals of all schedulers so far."""


def race(
    options: RaceOptions,
    plans: Sequence[Plan],
    *,
    progress: Progress | None = None,
    check: Callable[[], None] | None = None,
) -> RaceResult:
    """Run one scheduler process for each plan, started together once each has opened its view.

    `check` is called about once a second; an error that it raises ends the race. Raises the error of the first
    scheduler that fails; the others are ended then.
    """
    if not plans or not options.stores:
        raise UsageError("a race needs a scheduler and a store", do="give at least one of each")
    racers: list[_Racer] = []
    try:
        for number, plan in enumerate(plans):
            racers.append(_Racer(options, plan, number))
        _run_phase(racers, check, None)  # each opens its view
        for racer in racers:
            racer.child.send(None)
        _run_phase(racers, check, progress)
        for racer in racers:
            racer.child.join()
    finally:
        for racer in racers:
            racer.child.close()
    return _added_up([racer.finished for racer in racers if racer.finished is not None])


class _Racer:
    """One scheduler's process, as its parent sees it."""

    def __init__(self, options: RaceOptions, plan: Plan, number: int) -> None:
        self.lap = ParticipantProgress()
        self.finished: ParticipantResult | None = None
        running = ParticipantSettings(
            log=options.log,
            store=options.stores[number % len(options.stores)],
            name=f"scheduler-{number + 1}",
            seed=options.seed * 1_000_003 + number,
            order=options.order,
            in_flight=options.in_flight,
            release_batch=options.release_batch,
            record_requests=options.record_requests,
            deadline_s=options.deadline_s,
            timeout_s=options.timeout_s,
            client_settings=dict(options.client_settings),
        )
        self.child = ChildProcess(f"scheduler {number + 1}", run_scheduler, running, plan)

    def receive(self) -> bool:
        """Receive one message. Returns whether it was the last of its phase. Raises the scheduler's error."""
        message: ParticipantReady | ParticipantProgress | ParticipantResult = self.child.receive()
        if isinstance(message, ParticipantProgress):
            self.lap = message
            return False
        if isinstance(message, ParticipantResult):
            self.lap, self.finished = message.lap, message
        return True


def _run_phase(racers: list[_Racer], check: Callable[[], None] | None, progress: Progress | None) -> None:
    """Receive until each racer has sent the last message of this phase."""
    waiting = {racer.child: racer for racer in racers}
    check_at = time.monotonic()
    while waiting:
        ready = wait_for_any(waiting, _CHECK_EVERY_S)
        for child in ready:
            if waiting[child].receive():
                del waiting[child]
        if check is not None and time.monotonic() >= check_at:
            check()
            check_at = time.monotonic() + _CHECK_EVERY_S
        if progress is not None and ready:
            progress(_sum(racer.lap for racer in racers))


def _sum(laps: Iterable[ParticipantProgress]) -> ParticipantProgress:
    return ParticipantProgress(*map(sum, zip(*laps, strict=True)))


def _added_up(finished: Sequence[ParticipantResult]) -> RaceResult:
    total = _sum(one.lap for one in finished)
    seconds = max(one.seconds for one in finished)
    decided = total.accepted + total.lost_claims
    return RaceResult(
        requests=total.requests,
        accepted=total.accepted,
        no_valid_host=total.no_valid_host,
        lost=total.lost,
        unknown=total.unknown,
        lost_claims=total.lost_claims,
        released=total.released,
        seconds=round(seconds, 3),
        cpu_s=round(sum(one.cpu_s for one in finished), 3),
        claims_per_s=round(decided / seconds, 1) if seconds else 0.0,
        claim_ms=percentiles([ms for one in finished for ms in one.claim_ms]),
        query_ms=percentiles([ms for one in finished for ms in one.query_ms]),
    )


def percentiles(values: Sequence[float]) -> Percentiles:
    """The 50th and the 99th percentile (nearest rank), to a microsecond."""
    ordered = sorted(values)
    if not ordered:
        return Percentiles(0.0, 0.0)

    def at(share: float) -> float:
        return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 3)

    return Percentiles(at(0.50), at(0.99))
