"""Scale: the same work on fleets of 1,000, 10,000, 100,000 and 1,000,000 nodes that are 90 % full (a quick run: one fleet that is
30 % full).

It proves how a store behaves as the fleet grows: how long it takes to load, how long queries take, how many placements a
second four schedulers make. The queries are the one of OpenStack Placement's own performance job, one for a trait that one
node of a thousand has, one for a large instance, and one that nothing serves, which has to look at all nodes.

With 100,000 nodes the schedulers place with more numbers of claims in flight than elsewhere, because how many are best is theirs to
choose.

A candidate goes on to the next size while its load and its queries stay within stated limits, and while there is time. The
report says at which size it ended and why.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from evaluation.candidates import jobs
from evaluation.candidates.candidate import COMMON, RARE, SMALL, Fleet, Request
from evaluation.candidates.jobs import JobResult
from evaluation.candidates.registry import candidate
from evaluation.candidates.schedulers import Schedulers
from evaluation.scenarios.result import Conditions, ScenarioResult
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
QUERY_LIMIT_MS: Final = 500.0
"""A candidate whose slowest kind of query takes longer (median) is not tried with more nodes."""

LOAD_LIMIT_S: Final = 300.0
"""A size whose load is expected to take longer, by the time for each node of the size before, is not tried."""

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
    runs: int
    """With `MORE_WAYS_AT` nodes; else one run."""
    ways: tuple[int, ...]
    """Claims in flight for each scheduler."""
    more_ways: tuple[int, ...]
    """The same with `MORE_WAYS_AT` nodes."""
    audited_to: int
    """Up to this number of nodes everything that is held is read and compared."""


MORE_WAYS_AT: Final = 100_000
_SHAPES: Final[dict[Size, _Shape]] = {
    "tiny": _Shape((TINY_NODES,), 10, 0.3, 0.3, 1, (2,), (), 1_000),
    "quick": _Shape((QUICK_NODES,), 50, 0.2, 0.3, 1, (8,), (), 5_000),
    "full": _Shape(
        (1_000, 10_000, 100_000, 1_000_000), 300, 0.8, 1.5, 3, (1, 16), (1, 4, 8, 16, 32), 100_000
    ),
}


def run(name: str, plan: Plan) -> Iterator[ScenarioResult]:
    """Run it with one candidate."""
    shape, deadline = _SHAPES[plan.size], Deadline(plan)
    other_s = load_s_of_one = 0.0
    why_not = None
    for size in shape.sizes:
        fleet = Fleet(size, plan.seed)
        if why_not is None and size != shape.sizes[0]:
            why_not = _why_not(size, load_s_of_one * size, other_s, deadline.left_s)
        if why_not is not None:
            about = candidate(name).about()
            conditions = Conditions(size, USED, 0, 0, about.replicas, about.acknowledgement)
            yield ScenarioResult(NAME, name, conditions, not_offered=why_not)
            return
        began_left = deadline.left_s
        with running(name, plan, fleet, plan.used_share(USED)) as site:
            results, slowest_ms = _measure(site, shape, plan)
        load_s_of_one = site.fill.seconds / size
        other_s = began_left - deadline.left_s - site.fill.seconds
        yield from results
        if slowest_ms > QUERY_LIMIT_MS:
            why_not = (
                f"with {size:,} nodes a query took {slowest_ms:,.0f} ms, and the limit for a larger fleet is"
                f" {QUERY_LIMIT_MS:,.0f} ms"
            )


def _why_not(size: int, load_s: float, other_s: float, left_s: float) -> str | None:
    """Why a size is not tried; None if it is. `other_s`: what all but the load took at the size before."""
    expected = f"to load {size:,} nodes would take about {load_s:.0f} s"
    if load_s > LOAD_LIMIT_S:
        return f"{expected}, and the limit is {LOAD_LIMIT_S:.0f} s"
    if load_s + other_s > left_s:
        return f"{expected}, and the rest {other_s:.0f} s or more; {left_s:.0f} s were left"
    return None


def _measure(site: Site, shape: _Shape, plan: Plan) -> tuple[list[ScenarioResult], float]:
    """The results at one size, and the median of the slowest kind of query in ms."""
    figures = Figures()
    figures.add("load", "s", "less", site.fill.seconds)
    name, nodes = site.candidate.name, site.fleet.size
    plan.progress(f"{name}: {nodes:,} nodes, queries")
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
        rate = site.warm_up(processes, shape.place_s)
        for in_flight in shape.more_ways if nodes == MORE_WAYS_AT else shape.ways:
            plan.progress(f"{name}: {nodes:,} nodes, {in_flight} claims in flight each")
            found.append(_place(site, processes, in_flight, shape, rate))
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


def _place(site: Site, processes: Schedulers, in_flight: int, shape: _Shape, rate: float) -> ScenarioResult:
    """One way to place. `rate`: with one claim in flight for each scheduler."""
    figures, done, seconds = Figures(), list[JobResult](), shape.place_s
    conditions = site.conditions(SCHEDULERS, in_flight, seconds)
    reason = too_slow(rate, SCHEDULERS, in_flight, seconds)
    if reason is not None:
        return ScenarioResult(NAME, site.candidate.name, conditions, not_offered=reason)
    site.place(processes, in_flight, seconds=seconds / 3)
    for _ in range(shape.runs if site.fleet.size == MORE_WAYS_AT else 1):
        before = site.candidate.footprint().cpu_s
        results = site.place(processes, in_flight, seconds=seconds)
        figures.add_placing(results, site.candidate.footprint().cpu_s - before)
        done += results
    return ScenarioResult(
        NAME, site.candidate.name, conditions, figures.all(), outcome_counts(done), reasons(done)
    )


SCENARIO: Final = Scenario(NAME, __doc__ or "", run, weight=7.0)
