"""Scale: the same work on fleets of 1,000, 10,000, 100,000 and 1,000,000 nodes that are 90 % full (a quick run: one fleet that is
30 % full).

It proves how a store behaves as the fleet grows: how long it takes to load, how long queries take, how many placements a
second four schedulers make. The queries are the one of OpenStack Placement's own performance job, one for a trait that one
node of a thousand has, one for a large instance, and one that nothing serves, which has to look at all nodes.

A candidate goes on to the next size while its load and its queries stay within stated limits, and while there is time. The
report says at which size it ended and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from evaluation.candidates import jobs
from evaluation.candidates.candidate import COMMON, RARE, SMALL, Fleet, Request
from evaluation.candidates.jobs import JobResult
from evaluation.candidates.schedulers import Schedulers
from evaluation.scenarios.result import ScenarioResult
from evaluation.scenarios.running import (
    Deadline,
    Figures,
    Site,
    at_share,
    outcome_counts,
    reasons,
    running,
    too_slow,
)
from evaluation.scenarios.scenario import QUICK_NODES, TINY_NODES, Plan, Scenario, Size

NAME: Final = "scale"
QUERY_LIMIT_MS: Final = 2_000.0
"""A candidate whose slowest kind of query takes longer (median) is not tried with more nodes."""

USED: Final = 0.9
SCHEDULERS: Final = 4

QUERIES: Final = (
    ("upstream's request", SMALL),
    ("rare trait", Request({"VCPU": 1, "MEMORY_MB": 256}, (RARE,))),
    ("large instance", Request({"VCPU": 12, "MEMORY_MB": 65_536}, (COMMON,))),
    ("nothing fits", Request({"VCPU": 128}, (COMMON,))),
)
"""On a fleet that is 90 % full; the large instance fits on the largest quarter of the nodes."""


class _Shape(NamedTuple):
    sizes: tuple[int, ...]
    queries: int
    query_s: float
    place_s: float
    ways: tuple[int, ...]
    """Claims in flight for each scheduler."""
    audited_to: int
    """Up to this number of nodes everything that is held is read and compared."""


_SHAPES: Final[dict[Size, _Shape]] = {
    "tiny": _Shape((TINY_NODES,), 10, 0.3, 0.3, (2,), 1_000),
    "quick": _Shape((QUICK_NODES,), 50, 0.3, 0.5, (16,), 5_000),
    "full": _Shape((1_000, 10_000, 100_000, 1_000_000), 300, 1.5, 3.0, (1, 16), 100_000),
}


def run(name: str, plan: Plan) -> list[ScenarioResult]:
    """Run it with one candidate."""
    shape, deadline = _SHAPES[plan.size], Deadline(plan)
    found: list[ScenarioResult] = []
    start_s = load_s_of_one = 0.0
    for size in shape.sizes:
        expected_s = start_s + load_s_of_one * size
        if found and expected_s > deadline.left_s:
            note = f"{size} nodes are left out: to load them would take about {expected_s:.0f} s, {deadline.left_s:.0f} s are left"
            return [*found[:-1], _noted(found[-1], note)]
        began_left = deadline.left_s
        with running(name, plan, Fleet(size, plan.seed), plan.used_share(USED)) as site:
            start_s = began_left - deadline.left_s - site.fill.seconds
            load_s_of_one = site.fill.seconds / size
            results, slowest_ms = _measure(site, shape, plan)
        found += results
        if slowest_ms > QUERY_LIMIT_MS:
            note = f"larger fleets are left out: a query took {slowest_ms:.0f} ms, the limit is {QUERY_LIMIT_MS:.0f} ms"
            return [*found[:-1], _noted(found[-1], note)]
    return found


def _noted(result: ScenarioResult, note: str) -> ScenarioResult:
    return replace(result, notes=(*result.notes, note))


def _measure(site: Site, shape: _Shape, plan: Plan) -> tuple[list[ScenarioResult], float]:
    """The results at one size, and the median of the slowest kind of query in ms."""
    figures = Figures()
    figures.add("load", "s", "less", site.fill.seconds)
    name, nodes = site.candidate.name, site.fleet.size
    plan.progress(f"{name}: {nodes} nodes, queries")
    with site.schedulers(1) as processes:
        slowest_ms = max(_query(processes, shape, kind, request, figures) for kind, request in QUERIES)
        (memory,) = processes.run([jobs.Query(most=1)])
    figures.add("memory of one scheduler", "MB", "less", memory.memory_bytes / 1e6)
    figures.add("memory of the store", "MB", "less", site.candidate.footprint().memory_bytes / 1e6)
    found = [
        ScenarioResult(
            NAME,
            name,
            site.conditions(1, 1),
            figures.all(),
            notes=(f"loaded by {site.fill.how}",),
        )
    ]
    with site.schedulers(SCHEDULERS) as processes:
        for in_flight in shape.ways:
            plan.progress(f"{name}: {nodes} nodes, {in_flight} claims in flight each")
            found.append(_place(site, processes, in_flight, shape.place_s))
    if nodes <= shape.audited_to:
        audited = site.audited()
        counts = {**found[-1].counts, **audited.counts()}
        found[-1] = replace(found[-1], counts=counts, notes=(*found[-1].notes, *audited.examples))
    return found, slowest_ms


def _query(processes: Schedulers, shape: _Shape, kind: str, request: Request, figures: Figures) -> float:
    """Measure one kind of query; returns its median in ms."""
    job = jobs.Query(requests=(request,), most=shape.queries, seconds=shape.query_s)
    processes.run([jobs.Query(requests=(request,), most=5, seconds=1.0)])
    (done,) = processes.run([job], 600.0)
    times = sorted(done.ms)
    figures.add(f"query p50, {kind}", "ms", "less", at_share(times, 0.5))
    figures.add(f"query p99, {kind}", "ms", "less", at_share(times, 0.99))
    return at_share(times, 0.5)


def _place(site: Site, processes: Schedulers, in_flight: int, seconds: float) -> ScenarioResult:
    figures, done = Figures(), list[JobResult]()
    rate = site.warm_up(processes, seconds / 3)
    conditions = site.conditions(SCHEDULERS, in_flight, seconds)
    reason = too_slow(rate, SCHEDULERS, in_flight, seconds)
    if reason is not None:
        return ScenarioResult(NAME, site.candidate.name, conditions, not_offered=reason)
    site.place(processes, in_flight, seconds=seconds / 6)
    before = site.candidate.footprint().cpu_s
    results: Sequence[JobResult] = site.place(processes, in_flight, seconds=seconds)
    figures.add_placing(results, site.candidate.footprint().cpu_s - before)
    done += results
    return ScenarioResult(
        NAME, site.candidate.name, conditions, figures.all(), outcome_counts(done), reasons(done)
    )


SCENARIO: Final = Scenario(NAME, __doc__ or "", run)
