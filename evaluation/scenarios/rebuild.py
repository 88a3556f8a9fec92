"""Rebuild: how long it takes to get one more working replica from nothing.

It proves how long a cloud waits after it has lost a host for good: from an empty directory until a query is answered there. What
a replica is differs: a standby server, a new member of a cluster, the tables of another scheduler host, a scheduler's copy.
A candidate without replicas in this set-up says so.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from evaluation.candidates.candidate import Fleet
from evaluation.scenarios.result import ScenarioResult
from evaluation.scenarios.running import Deadline, Figures, outcome_counts, running
from evaluation.scenarios.scenario import QUICK_NODES, TINY_NODES, Plan, Scenario, Size

NAME: Final = "rebuild"


class _Shape(NamedTuple):
    nodes: int
    runs: int
    placements: int


_SHAPES: Final[dict[Size, _Shape]] = {
    "tiny": _Shape(TINY_NODES, 1, 10),
    "quick": _Shape(QUICK_NODES, 1, 100),
    "full": _Shape(10_000, 3, 1_000),
}
_PLACE_S: Final = 5.0


def run(name: str, plan: Plan) -> list[ScenarioResult]:
    """Run it with one candidate."""
    shape, deadline, figures = _SHAPES[plan.size], Deadline(plan), Figures()
    with running(name, plan, Fleet(shape.nodes, plan.seed), plan.used_share(0.5)) as site:
        with site.schedulers(1) as processes:
            done = site.place(processes, 8, seconds=_PLACE_S, most=shape.placements)
        for number in range(shape.runs):
            if number and deadline.left_s <= 0:
                break
            plan.progress(f"{name}: a replica from nothing")
            figures.add("a working replica from nothing", "s", "less", site.candidate.rebuild())
        found = site.audited()
        counts = {**outcome_counts(done), **found.counts()}
        return [ScenarioResult(NAME, name, site.conditions(1, 8), figures.all(), counts, found.examples)]


SCENARIO: Final = Scenario(NAME, __doc__ or "", run, weight=0.8)
