"""Racing: schedulers place at the same time, from one to eight of them.

It proves how many placements a second a store takes, how long one takes, and that no two schedulers get the same resources:
at the end they race for the last free units of a few nodes, and everything that the store holds is compared with what it
acknowledged.

Every candidate is driven in the same ways: one claim at a time for each scheduler, and 16 and 96 claims in flight for each.
In a full run the fleet is empty at the start. All nodes match the request but for one trait, which half of them have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from evaluation.candidates import jobs
from evaluation.candidates.candidate import RARE, Fleet, Request
from evaluation.candidates.jobs import JobResult
from evaluation.candidates.schedulers import Schedulers
from evaluation.scenarios.result import ScenarioResult
from evaluation.scenarios.running import Deadline, Figures, Site, outcome_counts, reasons, running, too_slow
from evaluation.scenarios.scenario import QUICK_NODES, TINY_NODES, Plan, Scenario, Size

NAME: Final = "racing"


class _Shape(NamedTuple):
    """`ways`: (schedulers, claims in flight for each)."""

    nodes: int
    ways: tuple[tuple[int, int], ...]
    runs: int
    seconds: tuple[float, float]
    """The least and the most of one run."""
    brim_places: int
    """About how many places the nodes with the rare trait have for the last race."""
    brim_in_flight: int
    brim_s: float


_SHAPES: Final[dict[Size, _Shape]] = {
    "tiny": _Shape(TINY_NODES, ((2, 4),), 1, (0.3, 0.3), 20, 4, 5.0),
    "quick": _Shape(QUICK_NODES, ((4, 1), (4, 8)), 1, (0.3, 0.3), 12, 2, 20.0),
    "full": _Shape(10_000, ((1, 1), (2, 1), (4, 1), (8, 1), (4, 16), (4, 96)), 3, (1.0, 5.0), 100, 8, 20.0),
}
_OVERHEAD_S: Final = 4.0
"""Of a set of schedulers: their start, and the calls that are under way at the end."""


_DRAIN_MOST_S: Final = 45.0
"""What is slow runs once if the calls that are under way at the end take no longer. Placement's client waits 60 s for an answer."""


def run(name: str, plan: Plan) -> Iterator[ScenarioResult]:
    """Run it with one candidate."""
    shape, deadline = _SHAPES[plan.size], Deadline(plan)
    fleet = Fleet(shape.nodes, plan.seed)
    with running(name, plan, fleet, plan.used_share(0.0)) as site:
        for number, (schedulers, in_flight) in enumerate(shape.ways):
            left = len(shape.ways) - number
            each_s = ((deadline.left_s - shape.brim_s) / left - _OVERHEAD_S) / shape.runs
            seconds = min(max(each_s, shape.seconds[0]), shape.seconds[1])
            plan.progress(f"{name}: {schedulers} schedulers, {in_flight} claims in flight each")
            yield _measure(site, schedulers, in_flight, shape.runs, seconds)
        plan.progress(f"{name}: the last free units")
        yield _brim(site, shape.ways[-1][0], shape)


def _measure(site: Site, schedulers: int, in_flight: int, runs: int, seconds: float) -> ScenarioResult:
    figures, done = Figures(), list[JobResult]()
    with site.schedulers(schedulers) as processes:
        rate = site.warm_up(processes, seconds / 2)
        conditions = site.conditions(schedulers, in_flight, seconds)
        reason = too_slow(rate, schedulers, in_flight, seconds)
        if reason is not None and not _is_short(rate, schedulers, in_flight):
            return ScenarioResult(NAME, site.candidate.name, conditions, not_offered=reason)
        if reason is None:
            site.place(processes, in_flight, seconds=seconds / 4)
        for _ in range(runs if reason is None else 1):
            before = site.candidate.footprint().cpu_s
            results = site.place(processes, in_flight, seconds=seconds)
            figures.add_placing(results, site.candidate.footprint().cpu_s - before)
            done += results
    return ScenarioResult(
        NAME, site.candidate.name, conditions, figures.all(), outcome_counts(done), reasons(done)
    )


def _is_short(rate: float, schedulers: int, in_flight: int) -> bool:
    """Whether the calls under way end soon enough for a single run, at `rate` placements a second."""
    return schedulers * in_flight <= _DRAIN_MOST_S * rate


def _last_units(site: Site, places: int) -> tuple[Request, int]:
    """A request that only nodes with the rare trait serve, of which there are about `places` places; and how many there are."""
    free = []
    for one in site.fleet.providers():
        if RARE in one.traits:
            filler = site.fleet.filler(one, site.used_share)
            free.append(one.totals["VCPU"] - (0 if filler is None else filler.resources["VCPU"]))
    each = max(1, sum(free) // places)
    return Request({"VCPU": each, "MEMORY_MB": 256}, (RARE,)), sum(one // each for one in free)


def _brim(site: Site, schedulers: int, shape: _Shape) -> ScenarioResult:
    """All schedulers race for the nodes with the rare trait until nothing fits. Then everything is audited."""
    figures, in_flight = Figures(), shape.brim_in_flight
    request, places = _last_units(site, shape.brim_places)
    with site.schedulers(schedulers) as processes:
        done = site.place_until_full(processes, in_flight, request=request, seconds=shape.brim_s)
        found = site.audited()
        _give_back(site, processes, done)
    figures.add_placing(done)
    placed = sum(len(one.placed) for one in done)
    full = all(one.by_status.get("no_room") for one in done)
    notes = (
        f"the last units: {placed} of {places} placed on the nodes with a rare trait"
        + (", until nothing fitted" if full else f", not full after {shape.brim_s:g} s"),
        "the counts of lost, doubled and overcommitted are of all runs of this scenario",
        *found.examples,
        *reasons(done),
    )
    conditions = site.conditions(schedulers, in_flight)
    counts = {**outcome_counts(done), **found.counts()}
    return ScenarioResult(NAME, site.candidate.name, conditions, figures.all(), counts, notes)


def _give_back(site: Site, processes: Schedulers, done: Sequence[JobResult]) -> None:
    """Release what was placed, so that the next scenario finds these nodes as they were."""
    held = [tuple(consumer for consumer, _, _ in one.placed) for one in done]
    site.note(processes.run([jobs.Release(consumers=consumers, in_flight=8) for consumers in held]))


SCENARIO: Final = Scenario(NAME, __doc__ or "", run, weight=2.5)
