"""One store: is the request as it was asked in the same store as the allocation and the inventory, and can one read return all
three?

It proves whether somebody who asks "why does this instance have this node" finds the answer in one place, without a second
database that may disagree. A candidate that keeps only allocations says so.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from evaluation.candidates import jobs
from evaluation.candidates.candidate import SMALL, Fleet, NotOffered
from evaluation.candidates.jobs import JobResult
from evaluation.scenarios.result import ScenarioResult
from evaluation.scenarios.running import Figures, Site, at_share, running
from evaluation.scenarios.scenario import QUICK_NODES, TINY_NODES, Plan, Scenario, Size
from vacancy.resources.model.errors import VacancyError

NAME: Final = "one_store"


class _Shape(NamedTuple):
    nodes: int
    reads: int


_SHAPES: Final[dict[Size, _Shape]] = {
    "tiny": _Shape(TINY_NODES, 5),
    "quick": _Shape(QUICK_NODES, 50),
    "full": _Shape(10_000, 500),
}


def run(name: str, plan: Plan) -> list[ScenarioResult]:
    """Run it with one candidate."""
    shape, figures = _SHAPES[plan.size], Figures()
    with running(name, plan, Fleet(shape.nodes, plan.seed), plan.used_share(0.0)) as site:
        with site.schedulers(1) as processes:
            (placed,) = site.place(processes, 1, most=3)
            if not placed.placed:
                raise VacancyError(f"{name} placed nothing: {' '.join(placed.reasons)}")
            consumer, provider, _ = placed.placed[-1]
            plan.progress(f"{name}: reading what is known about one consumer")
            (read,) = processes.run([jobs.Read(consumer=consumer, most=shape.reads)])
        if read.not_offered is not None:
            raise NotOffered(read.not_offered)
        _check(site, provider, read)
        reads = 0 if read.whole is None else read.whole["reads"]
        times = sorted(read.ms)
        figures.add("reads of the store for request, allocation and inventory", "reads", "less", reads)
        figures.add("all of it p50", "ms", "less", at_share(times, 0.5))
        figures.add("all of it p99", "ms", "less", at_share(times, 0.99))
        return [ScenarioResult(NAME, name, site.conditions(1, 1), figures.all())]


def _check(site: Site, provider: str, read: JobResult) -> None:
    """Raise `VacancyError` unless what was read is what was asked, what is held, and what the node has."""
    expected = {
        "request": SMALL.as_json(),
        "provider": provider,
        "resources": dict(SMALL.resources),
        "totals": dict(site.fleet.provider(site.fleet.number(provider)).totals),
    }
    whole = read.whole or {}
    held = whole.get("held", {})
    found = {
        "request": whole.get("request"),
        "provider": held.get("provider"),
        "resources": held.get("resources"),
        "totals": whole.get("totals"),
    }
    for what, value in expected.items():
        if found[what] != value:
            raise VacancyError(
                f"{site.candidate.name} returned another {what}: {found[what]} instead of {value}"
            )


SCENARIO: Final = Scenario(NAME, __doc__ or "", run, weight=0.5)
