"""Crash: the store's processes are killed with SIGKILL while four schedulers place and release, and started again.

It proves that an acknowledgement holds: afterwards everything that was acknowledged is there, once, and nothing that was
released or refused. And it measures how long the schedulers wait: from the kill until the store was started again by an
operator, which is the same for all, and from then until the first placement is acknowledged.

Claims whose answer the kill took away are not known to the scheduler. They may be held or not, but not twice.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Final, NamedTuple

from evaluation.candidates.candidate import Fleet
from evaluation.candidates.jobs import JobResult
from evaluation.candidates.schedulers import Schedulers
from evaluation.scenarios.result import ScenarioResult
from evaluation.scenarios.running import Deadline, Figures, Site, outcome_counts, reasons, running
from evaluation.scenarios.scenario import QUICK_NODES, TINY_NODES, Plan, Scenario, Size

NAME: Final = "crash"
SCHEDULERS: Final = 4
_RELEASED: Final = 4
"""Each fourth placed consumer is released at once."""


class _Shape(NamedTuple):
    nodes: int
    kills: int
    before_s: float
    down_s: float
    after_s: float
    in_flight: int
    """For each scheduler."""


_SHAPES: Final[dict[Size, _Shape]] = {
    "tiny": _Shape(TINY_NODES, 1, 0.3, 0.1, 0.5, 4),
    "quick": _Shape(QUICK_NODES, 1, 0.3, 0.2, 0.5, 4),
    "full": _Shape(10_000, 3, 2.0, 0.5, 2.0, 8),
}
_RESTART_S: Final = 60.0


def run(name: str, plan: Plan) -> list[ScenarioResult]:
    """Run it with one candidate."""
    shape, deadline = _SHAPES[plan.size], Deadline(plan)
    figures, done = Figures(), list[JobResult]()
    killed = ""
    with running(name, plan, Fleet(shape.nodes, plan.seed), plan.used_share(0.3)) as site:
        with site.schedulers(SCHEDULERS) as processes:
            for number in range(shape.kills):
                if number and deadline.left_s <= 0:
                    break
                plan.progress(f"{name}: kill {number + 1} of {shape.kills}")
                killed = _kill_once(site, processes, shape, figures, done)
        plan.progress(f"{name}: comparing what is held with what was acknowledged")
        found = site.audited()
        notes = (f"killed: {killed}", *found.examples, *reasons(done))
        return [
            ScenarioResult(
                NAME,
                name,
                site.conditions(SCHEDULERS, shape.in_flight, shape.before_s + shape.down_s + shape.after_s),
                figures.all(),
                {**outcome_counts(done), **found.counts()},
                notes,
            )
        ]


def _kill_once(
    site: Site, processes: Schedulers, shape: _Shape, figures: Figures, done: list[JobResult]
) -> str:
    """Kill and restart the store under load. Returns what was killed."""
    # The schedulers go on until some time after the store is back, and how long that takes is not known before.
    placing = site.place_jobs(
        SCHEDULERS,
        shape.in_flight,
        seconds=shape.before_s + shape.down_s + _RESTART_S,
        release_every=_RELEASED,
    )
    processes.start(placing)
    time.sleep(max(0.0, placing[0].start_at + shape.before_s - time.monotonic()))
    killed_at = time.monotonic()
    killed = site.candidate.kill()
    time.sleep(shape.down_s)
    started_at = time.monotonic()
    site.candidate.restart()
    served_at = time.monotonic()
    time.sleep(shape.after_s)
    processes.end_jobs()
    results = processes.results(_RESTART_S + 240.0)
    site.note(results)
    done += results
    figures.add("restart", "s", "less", served_at - started_at)
    # A call that was under way at the kill may be acknowledged right after it, from an answer that was on its way.
    later = [end for one in results for end in one.ends if end > started_at]
    if later:
        figures.add("from the restart to the first placement", "s", "less", min(later) - started_at)
        figures.add("longest time without a placement", "s", "less", _longest_gap(results, killed_at))
    return killed


def _longest_gap(results: list[JobResult], killed_at: float) -> float:
    """The longest time without an acknowledged placement of any scheduler, from the kill on."""
    ends = sorted(end for one in results for end in one.ends if end > killed_at)
    return max(later - earlier for earlier, later in pairwise([killed_at, *ends]))


SCENARIO: Final = Scenario(NAME, __doc__ or "", run, weight=1.2)
