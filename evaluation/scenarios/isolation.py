"""Isolation: the smallest part of a store that can fail alone is cut off while three schedulers place, and comes back.

It proves what goes on elsewhere: how many placements a second are acknowledged before, while the part is cut off, and after; whether a
scheduler that only asks is answered, and how old that answer is; and how long it takes to heal. At the end everything that is held is
compared with what was acknowledged: nothing may be lost or there twice.

Where each host of schedulers has a process that can fail alone, a host is cut off first, with one of the three schedulers. The part
does not end, as in the scenario crash: it does not answer, like a machine behind a broken switch. Nobody tells the
schedulers. A store without parts that fail alone is cut off as a whole; the notes say so. Each call that meets the part waits
for it, so schedulers stop if all their claims in flight wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple

from evaluation.candidates import jobs
from evaluation.candidates.candidate import CutOff, Fleet, HasHosts, Json
from evaluation.candidates.jobs import JobResult
from evaluation.candidates.schedulers import Schedulers
from evaluation.scenarios.result import ScenarioResult
from evaluation.scenarios.running import Figures, Site, at_share, outcome_counts, reasons, running
from evaluation.scenarios.scenario import QUICK_NODES, TINY_NODES, Plan, Scenario, Size

NAME: Final = "isolation"
SCHEDULERS: Final = 3
_ON_THE_HOST: Final = 1
"""How many of the schedulers that place are on the host that is cut off. The one that asks is there, too."""

_QUERY_PAUSE_S: Final = 0.01


class _Shape(NamedTuple):
    nodes: int
    warm_up_s: float
    before_s: float
    cut_off_s: float
    after_s: float
    host_cut_off_s: float
    """0: hosts are not cut off."""
    in_flight: int
    """For each scheduler."""


# A quick run shares a store that other scenarios have warmed up.
_SHAPES: Final[dict[Size, _Shape]] = {
    "tiny": _Shape(TINY_NODES, 0.0, 0.2, 0.3, 0.3, 0.3, 4),
    "quick": _Shape(QUICK_NODES, 0.0, 0.3, 0.5, 0.4, 0.0, 4),
    "full": _Shape(10_000, 3.0, 3.0, 14.0, 4.0, 5.0, 8),
}
_RESULT_S: Final = 240.0


class _Times(NamedTuple):
    """When it began, when the part was cut off, when it healed, and when the schedulers were asked to end."""

    began: float
    cut_off: float
    healed: float
    ended: float


def run(name: str, plan: Plan) -> Iterator[ScenarioResult]:
    """Run it with one candidate."""
    shape = _SHAPES[plan.size]
    with running(name, plan, Fleet(shape.nodes, plan.seed), plan.used_share(0.3)) as site:
        one = site.candidate
        with site.schedulers(SCHEDULERS + 1) as processes:
            if shape.warm_up_s:
                site.warm_up(processes, shape.warm_up_s)
            if shape.host_cut_off_s and isinstance(one, HasHosts):
                plan.progress(f"{name}: a host is cut off")
                with Schedulers(_Elsewhere(one, name), SCHEDULERS - _ON_THE_HOST) as others:
                    if shape.warm_up_s:
                        site.warm_up(others, shape.warm_up_s)
                    on_host, asker = processes.processes[:_ON_THE_HOST], processes.processes[-1]
                    group = Schedulers.joined([*on_host, *others.processes, asker])
                    yield _cut_off(site, group, shape, one.cut_off_host, one.heal_host, _ON_THE_HOST)
            plan.progress(f"{name}: a part is cut off")
            yield _cut_off(site, processes, shape, one.cut_off, one.heal, SCHEDULERS)


class _Elsewhere:
    """A candidate whose schedulers are on another host."""

    def __init__(self, candidate: HasHosts, name: str) -> None:
        self.name = name
        self._candidate = candidate

    def connection(self, scheduler_number: int) -> Json:
        """What a scheduler there needs to connect."""
        return self._candidate.connection_elsewhere(scheduler_number)


def _cut_off(
    site: Site,
    processes: Schedulers,
    shape: _Shape,
    cut_off: Callable[[], CutOff],
    heal: Callable[[], None],
    affected: int,
) -> ScenarioResult:
    """Cut a part off and heal it, while three schedulers place and one asks. `affected`: how many of them meet the part."""
    cut_off_s = shape.cut_off_s if affected == SCHEDULERS else shape.host_cut_off_s
    longest_s = shape.before_s + cut_off_s + shape.after_s + _RESULT_S
    placing = site.place_jobs(SCHEDULERS, shape.in_flight, seconds=longest_s)
    asking = jobs.Query(placing[0].start_at, most=10**9, seconds=longest_s, pause_s=_QUERY_PAUSE_S)
    processes.start([*placing, asking])
    time.sleep(max(0.0, placing[0].start_at + shape.before_s - time.monotonic()))
    cut_off_at = time.monotonic()
    part = cut_off()
    try:
        time.sleep(cut_off_s)
    finally:
        healed_at = time.monotonic()
        heal()
    time.sleep(shape.after_s)
    times = _Times(placing[0].start_at, cut_off_at, healed_at, time.monotonic())
    processes.end_jobs()
    *placed, asked = processes.results(_RESULT_S)
    site.note(placed)
    found = site.audited()
    figures = Figures()
    _add_placements(figures, part, times, placed, affected)
    _add_queries(figures, times, asked)
    scope = (
        "it fails alone" if part.has_cells else "it has no part that fails alone, so all of it was cut off"
    )
    return ScenarioResult(
        NAME,
        site.candidate.name,
        site.conditions(SCHEDULERS, shape.in_flight, shape.before_s + cut_off_s + shape.after_s),
        figures.all(),
        {**outcome_counts(placed), **found.counts()},
        (f"cut off for {cut_off_s:g} s: {part.what}; {scope}", *found.examples, *reasons(placed)),
    )


def _add_placements(
    figures: Figures, part: CutOff, times: _Times, done: list[JobResult], affected: int
) -> None:
    """Placements a second in each of the three times, and how long the part took to heal."""
    ends = sorted(
        (end, number < affected and part.contains(provider))
        for number, one in enumerate(done)
        for end, (_, provider, _) in zip(one.ends, one.placed, strict=True)
    )
    in_part = [end for end, is_in_part in ends if is_in_part]
    every = [end for end, _ in ends]

    def rate(since: float, until: float) -> float:
        return sum(since < end <= until for end in every) / (until - since)

    figures.add("placements before", "1/s", "more", rate(times.began, times.cut_off))
    figures.add("placements while it is cut off", "1/s", "more", rate(times.cut_off, times.healed))
    figures.add("placements after", "1/s", "more", rate(times.healed, times.ended))
    later = [end for end in in_part if end > times.healed]
    healed_s = (later[0] if later else max(one.ended for one in done)) - times.healed
    figures.add("from the end of the cut to the first placement in the part", "s", "less", healed_s)
    gaps = [later - earlier for earlier, later in pairwise([times.began, *every, times.ended])]
    figures.add("longest time without a placement anywhere", "s", "less", max(gaps))


def _add_queries(figures: Figures, times: _Times, asked: JobResult) -> None:
    """Queries that began and were answered while the part was cut off, and the age of what they said about it."""
    within = [
        (end, ms)
        for end, ms in zip(asked.ends, asked.ms, strict=True)
        if times.cut_off < end - ms / 1e3 and end <= times.healed
    ]
    answered = len(within) / (times.healed - times.cut_off)
    figures.add("queries answered while it is cut off", "1/s", "more", answered)
    oldest_s = max((end for end, _ in within), default=times.cut_off) - times.cut_off
    figures.add("oldest answer about the part", "s", "neither", oldest_s)
    waits = sorted(ms for end, ms in zip(asked.ends, asked.ms, strict=True) if end > times.cut_off)
    figures.add("longest wait of a query", "ms", "less", at_share(waits, 1.0) if waits else 0.0)


SCENARIO: Final = Scenario(NAME, __doc__ or "", run, weight=1.3)
