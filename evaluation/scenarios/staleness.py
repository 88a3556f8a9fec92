"""Staleness: how old is what a scheduler decides on?

One scheduler takes all that is left of one node, and then gives it back. Another scheduler queries for the same all the time.
It proves how long after the acknowledgement the other one still sees the old state: from the acknowledgement until its query
shows that the node is taken, and later that it is free again. The figures include the time of one query.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from evaluation.candidates import jobs
from evaluation.candidates.candidate import RARE, Fleet, Request
from evaluation.candidates.schedulers import Schedulers
from evaluation.scenarios.result import ScenarioResult
from evaluation.scenarios.running import Deadline, Figures, Site, at_share, running
from evaluation.scenarios.scenario import QUICK_NODES, TINY_NODES, Plan, Scenario, Size
from vacancy.resources.model.errors import VacancyError

NAME: Final = "staleness"
_WATCH_S: Final = 30.0


class _Shape(NamedTuple):
    nodes: int
    rounds: int


_SHAPES: Final[dict[Size, _Shape]] = {
    "tiny": _Shape(TINY_NODES, 2),
    "quick": _Shape(QUICK_NODES, 3),
    "full": _Shape(QUICK_NODES, 40),
}
"""A thousand nodes have one with the rare trait. The load by other claims is measured in other scenarios."""


def run(name: str, plan: Plan) -> list[ScenarioResult]:
    """Run it with one candidate."""
    shape, deadline, figures = _SHAPES[plan.size], Deadline(plan), Figures()
    fleet = Fleet(shape.nodes, plan.seed)
    (rare,) = (one for one in fleet.providers() if RARE in one.traits)
    filler = fleet.filler(rare, plan.used_share(0.0))
    used = 0 if filler is None else filler.resources["VCPU"]
    request = Request({"VCPU": rare.totals["VCPU"] - used}, (RARE,))
    taken: list[float] = []
    free: list[float] = []
    with running(name, plan, fleet, plan.used_share(0.0)) as site, site.schedulers(2) as processes:
        plan.progress(f"{name}: one scheduler takes and gives back, another one queries")
        for number in range(shape.rounds):
            if number and deadline.left_s <= 0:
                break
            consumer, seen = _take(site, processes, request)
            taken.append(seen)
            free.append(_give_back(site, processes, request, consumer))
        for what, times in (("taken", taken), ("free again", free)):
            times.sort()
            figures.add(f"until another scheduler sees it {what}, p50", "ms", "less", at_share(times, 0.5))
            figures.add(f"until another scheduler sees it {what}, most", "ms", "less", times[-1])
        found = site.audited()
        notes = (f"{len(taken)} rounds", *found.examples)
        return [ScenarioResult(NAME, name, site.conditions(2, 1), figures.all(), found.counts(), notes)]


def _take(site: Site, processes: Schedulers, request: Request) -> tuple[str, float]:
    """The first scheduler takes the node. Returns the consumer, and how many ms later the second one sees it."""
    first, second = processes.processes
    (placing, _) = site.place_jobs(2, 1, request=request, most=1)
    second.start(jobs.Watch(requests=(request,), until_empty=True, seconds=_WATCH_S))
    first.start(placing)
    placed = first.result(_WATCH_S)
    site.note([placed], request)
    if not placed.placed:
        raise VacancyError(f"{site.candidate.name} did not place: {placed.by_status} {placed.reasons}")
    return placed.placed[0][0], _seen(site, second.result(2 * _WATCH_S), placed.ends[0])


def _give_back(site: Site, processes: Schedulers, request: Request, consumer: str) -> float:
    """The first scheduler gives it back. Returns how many ms later the second one sees it."""
    first, second = processes.processes
    second.start(jobs.Watch(requests=(request,), until_empty=False, seconds=_WATCH_S))
    first.start(jobs.Release(consumers=(consumer,)))
    released = first.result(_WATCH_S)
    site.note([released])
    return _seen(site, second.result(2 * _WATCH_S), released.ends[0])


def _seen(site: Site, watched: jobs.JobResult, acknowledged_at: float) -> float:
    if not watched.found:
        raise VacancyError(f"{site.candidate.name}: another scheduler did not see it in {_WATCH_S:g} s")
    return max(0.0, (watched.ends[-1] - acknowledged_at) * 1e3)


SCENARIO: Final = Scenario(NAME, __doc__ or "", run, weight=0.5)
