"""Myriad qualities: twenty real requests, each asked of the store.

It proves which of them a store can express, with how much code, how fast it answers, and whether the answer is right: all hosts that
it names are compared with those that are found by looking at every host. An answer that is wrong is reported as wrong.

A request is expressed in one query if the store itself compares everything, and with a filter in the client if the scheduler looks
through what the store returned or has copied to it. Lines are counted: those of the functions of the adapter that ran for the
request, each whole, without comments. Hosts are only found here, not claimed, one query at a time.
"""

from __future__ import annotations

import statistics
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

import evaluation.candidates
from evaluation.candidates import jobs
from evaluation.candidates.candidate import Expression, Fleet, NotOffered
from evaluation.candidates.code_lines import CodeRun
from evaluation.candidates.myriad_fleet import MyriadFleet
from evaluation.candidates.schedulers import Schedulers
from evaluation.scenarios.myriad_requests import MyriadRequest, myriad_requests, wrong_answer
from evaluation.scenarios.result import ScenarioResult
from evaluation.scenarios.running import Deadline, Figures, Site, at_share, running
from evaluation.scenarios.scenario import QUICK_NODES, TINY_NODES, Plan, Scenario, Size

NAME: Final = "myriad_qualities"


class _Shape(NamedTuple):
    """`nodes`: of the fleet that is there beside the hosts. `most`, `seconds`: of the queries for one request."""

    nodes: int
    hosts: int
    most: int
    seconds: float


_SHAPES: Final[dict[Size, _Shape]] = {
    "tiny": _Shape(TINY_NODES, 30, 2, 0.0),
    "quick": _Shape(QUICK_NODES, 60, 20, 0.03),
    "full": _Shape(TINY_NODES, 1_000, 1_000, 1.0),
}
_SHARED_MODULES: Final = (
    "candidate",
    "code_lines",
    "myriad_fleet",
    "jobs",
    "processes",
    "registry",
    "schedulers",
)
"""What belongs to all adapters and is not counted."""

_LIMIT: Final = 10


def run(name: str, plan: Plan) -> list[ScenarioResult]:
    """Run it with one candidate."""
    shape, deadline = _SHAPES[plan.size], Deadline(plan)
    fleet = MyriadFleet(shape.hosts, plan.seed)
    with running(name, plan, Fleet(shape.nodes, plan.seed), plan.used_share(0.0)) as site:
        plan.progress(f"{name}: adding {fleet.size} hosts with many qualities")
        filled = site.candidate.fill_myriad(fleet)
        found = _Findings(site, fleet)
        with site.schedulers(1) as processes:
            requests = myriad_requests(fleet)
            for number, asked in enumerate(requests):
                plan.progress(f"{name}: {asked.name}")
                left_s = deadline.left_s / (len(requests) - number)
                found.ask(processes, asked, shape.most, min(shape.seconds, left_s / 2))
        return [found.result(f"{fleet.size} hosts loaded in {filled.seconds:.2f} s: {filled.how}")]


class _Findings:
    """What is known of one candidate, request by request."""

    def __init__(self, site: Site, fleet: MyriadFleet) -> None:
        self._site = site
        self._fleet = fleet
        self._by_how: Counter[str] = Counter()
        self._lines: set[tuple[str, int]] = set()
        self._wrong = 0
        self._cells: dict[str, str] = {}
        self._p50_ms: list[float] = []
        self._p99_ms: list[float] = []

    def ask(self, processes: Schedulers, asked: MyriadRequest, most: int, seconds: float) -> None:
        """Count the lines of a request, check its answer, and measure queries for it."""
        row = f"{asked.name} ({asked.asked_by})"
        try:
            expression, lines = self._expressed(asked)
            wrong = self._checked(processes, asked)
        except NotOffered as reason:
            self._by_how["cannot"] += 1
            self._cells[row] = f"cannot: {reason}"
            return
        self._by_how[expression.how] += 1
        self._wrong += wrong is not None
        (timed,) = processes.run(
            [jobs.Query(requests=(asked.request,), most=most, seconds=seconds, limit=_LIMIT)]
        )
        times = sorted(timed.ms)
        p50_ms, p99_ms = at_share(times, 0.5), at_share(times, 0.99)
        self._p50_ms.append(p50_ms)
        self._p99_ms.append(p99_ms)
        self._cells[row] = (
            f"{expression.how}, {lines} lines, p50 {p50_ms:.3g} ms, p99 {p99_ms:.3g} ms of {len(times)}"
            + ("" if wrong is None else f", **wrong: {wrong}**")
        )

    def _expressed(self, asked: MyriadRequest) -> tuple[Expression, int]:
        directory = Path(evaluation.candidates.__file__).parent
        with CodeRun(one for one in directory.rglob("*.py") if one.stem not in _SHARED_MODULES) as code:
            expression = self._site.candidate.express(asked.request)
        code.add(expression.also)
        lines = code.lines()
        self._lines |= lines
        return expression, len(lines)

    def _checked(self, processes: Schedulers, asked: MyriadRequest) -> str | None:
        """The error in the answer to a query for all hosts; None if there is none."""
        every = jobs.Query(requests=(asked.request,), most=1, limit=self._fleet.size, keep=True)
        (answer,) = processes.run([every])
        if answer.not_offered is not None:
            raise NotOffered(answer.not_offered)
        return wrong_answer(self._fleet, asked.request, answer.names)

    def result(self, *notes: str) -> ScenarioResult:
        """All of it as a result."""
        figures = Figures()
        figures.add("in one query", "requests", "more", self._by_how["one query"])
        figures.add("with a filter in the client", "requests", "less", self._by_how["filter in the client"])
        figures.add("cannot", "requests", "less", self._by_how["cannot"])
        figures.add("wrong", "requests", "less", self._wrong)
        figures.add("lines of code for all of them", "lines", "less", len(self._lines))
        if self._p50_ms:
            figures.add("p50 of the median request", "ms", "less", statistics.median(self._p50_ms))
            figures.add("p50 of the slowest request", "ms", "less", max(self._p50_ms))
            figures.add("p99 of the slowest request", "ms", "less", max(self._p99_ms))
        return ScenarioResult(
            NAME,
            self._site.candidate.name,
            self._site.conditions(1, 1),
            figures.all(),
            notes=notes,
            cells=self._cells,
        )


SCENARIO: Final = Scenario(NAME, __doc__ or "", run)
