"""What the scenarios have in common: a candidate that runs with a fleet, schedulers, figures and the audit at the end."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from evaluation.candidates import jobs
from evaluation.candidates.audit import Audit, audit
from evaluation.candidates.candidate import SMALL, About, Candidate, Fill, Fleet, NotOffered, Request
from evaluation.candidates.jobs import JobResult, all_ms
from evaluation.candidates.registry import candidate
from evaluation.candidates.schedulers import SchedulerProcess, Schedulers, together
from evaluation.scenarios.result import Better, Conditions, Figure, ScenarioResult
from evaluation.scenarios.scenario import Plan

_LONGER_S: Final = 180.0
"""How much longer than its time a job may take: calls that are under way at its end are waited for."""


_DRAIN_S: Final = 4.0


class Deadline:
    """The time that a scenario has with one candidate."""

    def __init__(self, plan: Plan) -> None:
        self._end = time.monotonic() + plan.budget_s

    @property
    def left_s(self) -> float:
        """Seconds that are left, at least 0."""
        return max(0.0, self._end - time.monotonic())


@dataclass(slots=True)
class Site:
    """A candidate that runs with a fleet, and the results of all jobs so far."""

    candidate: Candidate
    about: About
    fleet: Fleet
    used_share: float
    fill: Fill
    requests: list[Request] = field(default_factory=list)
    results: list[JobResult] = field(default_factory=list)
    prefixes: int = 0
    pool: list[SchedulerProcess] = field(default_factory=list)
    """Processes of schedulers that were started so far. Scenarios use them one after the other."""
    full: bool = False
    """Whether a scheduler found no provider for a small request."""

    def schedulers(self, count: int) -> Schedulers:
        """A number of schedulers that are connected. They stay for the next one who asks."""
        return Schedulers(self.candidate, count, self.pool)

    def conditions(self, schedulers: int, in_flight: int, seconds: float = 0.0) -> Conditions:
        """The conditions of figures that are measured here."""
        about = self.about
        return Conditions(
            nodes=self.fleet.size,
            fill=self.used_share,
            claims_in_flight=in_flight,
            schedulers=schedulers,
            replicas=about.replicas,
            acknowledgement=about.acknowledgement,
            seconds=round(seconds, 2),
        )

    def place_jobs(
        self,
        count: int,
        in_flight: int,
        *,
        request: Request = SMALL,
        seconds: float = 0.0,
        most: int = 0,
        until_full: bool = False,
        release_every: int = 0,
    ) -> list[jobs.Place]:
        """Jobs for a number of schedulers that start together."""
        self.prefixes += 1
        at = together()
        return [
            jobs.Place(
                at,
                prefix=f"r{self.prefixes}s{number}",
                requests=(request,),
                in_flight=in_flight,
                seconds=seconds,
                most=most,
                until_full=until_full,
                release_every=release_every,
            )
            for number in range(count)
        ]

    def place(
        self,
        schedulers: Schedulers,
        in_flight: int,
        *,
        request: Request = SMALL,
        seconds: float = 0.0,
        most: int = 0,
    ) -> list[JobResult]:
        """Place with all schedulers for `seconds`, or `most` calls each."""
        placing = self.place_jobs(
            len(schedulers.processes), in_flight, request=request, seconds=seconds, most=most
        )
        done = schedulers.run(placing, seconds + _LONGER_S)
        self.note(done, request)
        return done

    def warm_up(self, schedulers: Schedulers, seconds: float) -> float:
        """Place with one claim in flight for each scheduler, so that connections, caches and compilers get warm. Returns the
        placements a second."""
        done = self.place(schedulers, 1, seconds=seconds)
        took = max(one.ended for one in done) - min(one.started for one in done)
        return sum(len(one.placed) for one in done) / took

    def place_until_full(
        self, schedulers: Schedulers, in_flight: int, *, request: Request, seconds: float
    ) -> list[JobResult]:
        """Place with all schedulers until each has found no provider with room, at most `seconds`."""
        placing = self.place_jobs(
            len(schedulers.processes), in_flight, request=request, seconds=seconds, until_full=True
        )
        done = schedulers.run(placing, seconds + _LONGER_S)
        self.note(done, request)
        return done

    def note(self, done: Sequence[JobResult], request: Request = SMALL) -> None:
        """Keep results for the audit. `request`: what their jobs placed. Raises `NotOffered` with the reason of a candidate."""
        if request not in self.requests:
            self.requests.append(request)
        number = self.requests.index(request)
        for result in done:
            if result.not_offered is not None:
                raise NotOffered(result.not_offered)
            result.placed = [(consumer, provider, number) for consumer, provider, _ in result.placed]
            self.full |= request == SMALL and "no_room" in result.by_status
            self.results.append(result)

    def audited(self) -> Audit:
        """Compare what the store holds with all results so far."""
        return audit(self.fleet, self.used_share, self.candidate.held(), self.results, self.requests)

    def close(self) -> None:
        """End the schedulers and the store."""
        for process in self.pool:
            process.close()
        self.candidate.stop()


class SharedSite:
    """Keeps a candidate with its fleet for the next scenario that wants the same. A run of all scenarios in a few minutes does so;
    else each scenario has a new one."""

    def __init__(self) -> None:
        self._workdir: tempfile.TemporaryDirectory[str] | None = None
        self._site: Site | None = None

    @contextmanager
    def running(self, name: str, plan: Plan, fleet: Fleet, used_share: float) -> Iterator[Site]:
        """The kept site, if it is the same and has room; else a new one. After an error it is not kept."""
        kept = self._site
        if kept is not None and (
            kept.full or (kept.candidate.name, kept.fleet, kept.used_share) != (name, fleet, used_share)
        ):
            self.close()
            kept = None
        if kept is None:
            self._workdir = tempfile.TemporaryDirectory(prefix=f"vacancy-{name}-", ignore_cleanup_errors=True)
            kept = self._site = _started(name, plan, fleet, used_share, Path(self._workdir.name))
        try:
            yield kept
        except NotOffered:
            raise
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the candidate that is kept, and remove its files."""
        if self._site is not None:
            self._site.close()
        self._site = None
        if self._workdir is not None:
            self._workdir.cleanup()
        self._workdir = None


@contextmanager
def running(name: str, plan: Plan, fleet: Fleet, used_share: float) -> Iterator[Site]:
    """Start a candidate in an empty directory of the plan's and fill it; it is stopped at the end, and its files removed. With a
    shared site of the plan's, that is used and left as it is."""
    if plan.shared is not None:
        with plan.shared.running(name, plan, fleet, used_share) as site:
            yield site
        return
    workdir = plan.workdir / f"{name}-{fleet.kind}-{fleet.size}-{time.monotonic_ns()}"
    workdir.mkdir(parents=True)
    try:
        site = _started(name, plan, fleet, used_share, workdir)
        try:
            yield site
        finally:
            site.close()
    finally:
        shutil.rmtree(workdir, ignore_errors=True)


def _started(name: str, plan: Plan, fleet: Fleet, used_share: float, workdir: Path) -> Site:
    one = candidate(name, short_runs=plan.size != "full")
    try:
        plan.progress(f"{name}: starting")
        one.start(workdir)
        plan.progress(f"{name}: loading {fleet.size} providers")
        filled = one.fill(fleet, used_share)
    except BaseException:
        one.stop()
        raise
    return Site(one, one.about(), fleet, used_share, filled)


Run = Callable[[str, Plan], Iterable[ScenarioResult]]


def or_reason(scenario: str, run: Run) -> Run:
    """`run`, but a candidate that is not installed or does not offer what the scenario needs has a result with the reason."""

    def guarded(name: str, plan: Plan) -> Iterator[ScenarioResult]:
        one = candidate(name)
        reason = one.missing()
        if reason is None:
            try:
                yield from run(name, plan)
            except NotOffered as not_offered:
                reason = str(not_offered)
            else:
                return
        about = one.about()
        conditions = Conditions(0, 0.0, 0, 0, about.replicas, about.acknowledgement)
        yield ScenarioResult(scenario, name, conditions, not_offered=reason)

    return guarded


# -- figures ----------------------------------------------------------------------------------------------------------


class Figures:
    """Gathers the values of several runs by the name of the figure."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str, Better], list[float]] = {}

    def add(self, name: str, unit: str, better: Better, value: float) -> None:
        """One more run of a figure."""
        self._runs.setdefault((name, unit, better), []).append(value)

    def add_placing(self, done: Sequence[JobResult], store_cpu_s: float | None = None) -> None:
        """The figures of one run of placements. `store_cpu_s`: processor time of the store in it."""
        placed = sum(len(one.placed) for one in done)
        conflicts = sum(one.conflicts for one in done)
        took = max(one.ended for one in done) - min(one.started for one in done)
        self.add("placements", "1/s", "more", placed / took)
        self.add("conflicts", "% of claims", "less", 100 * conflicts / max(1, placed + conflicts))
        times = all_ms(done)
        if times:
            self.add("placement p50", "ms", "less", at_share(times, 0.5))
            self.add("placement p99", "ms", "less", at_share(times, 0.99))
        if store_cpu_s is not None and placed:
            cpu_s = store_cpu_s + sum(one.cpu_s for one in done)
            self.add("processor time a placement, store and schedulers", "ms", "less", 1e3 * cpu_s / placed)

    def all(self) -> tuple[Figure, ...]:
        """All figures."""
        return tuple(Figure.of(*which, values) for which, values in self._runs.items())


def too_slow(rate: float, schedulers: int, in_flight: int, seconds: float) -> str | None:
    """Why a run of `seconds` is left out: the calls that are under way at its end would take too long. None if they do not.
    `rate`: placements a second with one claim in flight for each scheduler."""
    drain_s = schedulers * in_flight / max(rate, 0.01)
    if in_flight == 1 or drain_s <= _DRAIN_S + 2 * seconds:
        return None
    return (
        f"left out with {in_flight} claims in flight for each of {schedulers} schedulers: at {rate:.1f} placements a second the calls"
        f" under way at the end would take {drain_s:.0f} s"
    )


def at_share(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the sorted values do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def outcome_counts(done: Sequence[JobResult]) -> dict[str, int]:
    """How the calls of `place` ended."""
    by_status = {
        status: sum(len(one.by_status.get(status, ())) for one in done)
        for status in ("no_room", "unavailable", "unknown")
    }
    given_up = sum(len(one.by_status.get("conflict", ())) for one in done)
    return {
        "placed": sum(len(one.placed) for one in done),
        "conflicts": sum(one.conflicts for one in done),
        "given_up": given_up,
        **by_status,
    }


def reasons(done: Sequence[JobResult]) -> tuple[str, ...]:
    """A few different reasons of outcomes, as notes."""
    found = dict.fromkeys(reason for one in done for reason in one.reasons)
    return tuple(list(found)[:3])
