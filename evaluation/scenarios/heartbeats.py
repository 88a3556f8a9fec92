"""Heartbeats: nodes say that they are alive while four schedulers place.

It proves how many updates of nodes a second a store takes, and what they cost the schedulers: placements are measured without
heartbeats and with as many as one sender brings in, with 16 under way at once. A cloud of 10,000 nodes that each send one every
10 seconds has 1,000 a second.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from evaluation.candidates import jobs
from evaluation.candidates.candidate import Fleet, NotOffered
from evaluation.candidates.jobs import JobResult, all_ms
from evaluation.candidates.schedulers import Schedulers, together
from evaluation.scenarios.result import ScenarioResult
from evaluation.scenarios.running import Deadline, Figures, at_share, outcome_counts, reasons, running
from evaluation.scenarios.scenario import QUICK_NODES, TINY_NODES, Plan, Scenario, Size

NAME: Final = "heartbeats"
SCHEDULERS: Final = 4
BEATS_IN_FLIGHT: Final = 16


class _Shape(NamedTuple):
    nodes: int
    runs: int
    seconds: float
    in_flight: int
    """For each scheduler."""


_SHAPES: Final[dict[Size, _Shape]] = {
    "tiny": _Shape(TINY_NODES, 1, 0.3, 4),
    "quick": _Shape(QUICK_NODES, 1, 0.3, 4),
    "full": _Shape(10_000, 3, 3.0, 8),
}


def run(name: str, plan: Plan) -> list[ScenarioResult]:
    """Run it with one candidate."""
    shape, deadline = _SHAPES[plan.size], Deadline(plan)
    fleet = Fleet(shape.nodes, plan.seed)
    figures, done = Figures(), list[JobResult]()
    with running(name, plan, fleet, plan.used_share(0.3)) as site:
        # The last process sends the heartbeats; with `together` all processes start at once.
        with site.schedulers(SCHEDULERS + 1) as processes:
            _check_offered(processes)
            for number in range(shape.runs):
                if number and deadline.left_s < 4 * shape.seconds:
                    break
                for beats in (False, True):
                    plan.progress(f"{name}: placements {'with' if beats else 'without'} heartbeats")
                    placing: list[jobs.Job] = [
                        *site.place_jobs(SCHEDULERS, shape.in_flight, seconds=shape.seconds)
                    ]
                    placing.append(
                        jobs.Heartbeats(
                            together(),
                            nodes=fleet.size,
                            seconds=shape.seconds if beats else 0.0,
                            in_flight=BEATS_IN_FLIGHT,
                        )
                    )
                    *placed, sent = processes.run(placing)
                    site.note(placed)
                    done += placed
                    _add(figures, placed, sent, shape.seconds, beats=beats)
        found = site.audited()
        return [
            ScenarioResult(
                NAME,
                name,
                site.conditions(SCHEDULERS, shape.in_flight, shape.seconds),
                figures.all(),
                {**outcome_counts(done), **found.counts()},
                (*found.examples, *reasons(done)),
            )
        ]


def _check_offered(processes: Schedulers) -> None:
    """Raise `NotOffered` if the store has no place for heartbeats."""
    *_, last = processes.processes
    last.start(jobs.Heartbeats(nodes=1, seconds=0.1))
    tried = last.result(120.0)
    if tried.not_offered is not None:
        raise NotOffered(tried.not_offered)


def _add(figures: Figures, placed: list[JobResult], sent: JobResult, seconds: float, *, beats: bool) -> None:
    count = sum(len(one.placed) for one in placed)
    took = max(one.ended for one in placed) - min(one.started for one in placed)
    figures.add(f"placements {'with' if beats else 'without'} heartbeats", "1/s", "more", count / took)
    if beats:
        figures.add("heartbeats", "1/s", "more", len(sent.ms) / max(seconds, sent.ended - sent.started))
        times = all_ms([sent])
        if times:
            figures.add("heartbeat p50", "ms", "less", at_share(times, 0.5))
            figures.add("heartbeat p99", "ms", "less", at_share(times, 0.99))


SCENARIO: Final = Scenario(NAME, __doc__ or "", run, weight=1.0)
