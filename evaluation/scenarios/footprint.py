"""Footprint: what the store needs while it runs: memory, disk, processes, and bytes of disk for each placement.

It proves what a store costs. Memory of the store and of the schedulers are shown apart, because some candidates keep a copy of
the fleet in each scheduler, and others keep it in the store only. Shared memory is counted once. Files that a store makes in
advance (segments of a write-ahead log) count with the blocks that are on disk, so the bytes of a placement are rounded up
where few placements were made.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from evaluation.candidates.candidate import Fleet
from evaluation.scenarios.result import ScenarioResult
from evaluation.scenarios.running import Figures, outcome_counts, reasons, running
from evaluation.scenarios.scenario import QUICK_NODES, TINY_NODES, Plan, Scenario, Size

NAME: Final = "footprint"
SCHEDULERS: Final = 4


class _Shape(NamedTuple):
    nodes: int
    seconds: float
    in_flight: int
    """For each scheduler."""


_SHAPES: Final[dict[Size, _Shape]] = {
    "tiny": _Shape(TINY_NODES, 0.3, 4),
    "quick": _Shape(QUICK_NODES, 0.3, 4),
    "full": _Shape(10_000, 5.0, 8),
}


def run(name: str, plan: Plan) -> list[ScenarioResult]:
    """Run it with one candidate."""
    shape, figures = _SHAPES[plan.size], Figures()
    with running(name, plan, Fleet(shape.nodes, plan.seed), plan.used_share(0.5)) as site:
        filled = site.candidate.footprint()
        with site.schedulers(SCHEDULERS) as processes:
            plan.progress(f"{name}: placing")
            done = site.place(processes, shape.in_flight, seconds=shape.seconds)
            after = site.candidate.footprint()
        found = site.audited()
        placed = sum(len(one.placed) for one in done)
        figures.add("memory of the store", "MB", "less", after.memory_bytes / 1e6)
        figures.add("memory of all schedulers", "MB", "less", sum(one.memory_bytes for one in done) / 1e6)
        figures.add("processes of the store", "processes", "less", after.processes)
        figures.add("disk after the load", "MB", "less", filled.disk_bytes / 1e6)
        figures.add("disk after the placements", "MB", "less", after.disk_bytes / 1e6)
        if placed:
            grown = max(0, after.disk_bytes - filled.disk_bytes)
            figures.add("disk for a placement", "bytes", "less", grown / placed)
            figures.add(
                "processor time of the store for a placement",
                "ms",
                "less",
                1e3 * (after.cpu_s - filled.cpu_s) / placed,
            )
        return [
            ScenarioResult(
                NAME,
                name,
                site.conditions(SCHEDULERS, shape.in_flight, shape.seconds),
                figures.all(),
                {**outcome_counts(done), **found.counts()},
                (site.about.processes, *found.examples, *reasons(done)),
            )
        ]


SCENARIO: Final = Scenario(NAME, __doc__ or "", run, weight=0.6)
