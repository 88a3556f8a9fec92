"""A comparison runs candidates in turn and writes what they did, on a tiny fleet."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from evaluation import compare
from evaluation.candidates import registry
from evaluation.candidates.candidate import COMMON, Candidate, Fleet, Request
from evaluation.compare import ComparisonOptions, load_comparison, run_comparison, write_report
from evaluation.scenarios.result import Conditions, Figure, ScenarioResult
from evaluation.scenarios.scenario import Plan, Scenario
from vacancy.resources.model.errors import UsageError, VacancyError

FLEET = Fleet(8)
REQUEST = Request({"VCPU": 1, "MEMORY_MB": 256, "DISK_GB": 10}, (COMMON,))


def _few_placements(name: str, plan: Plan) -> list[ScenarioResult]:
    candidate = registry.candidate(name)
    try:
        candidate.start(plan.workdir)
        candidate.fill(FLEET, 0.0)
        placed = asyncio.run(_place(candidate))
        held = sum(one.consumer.startswith("guest-") for one in candidate.held())
    finally:
        candidate.stop()
    conditions = Conditions(FLEET.size, 0.0, 1, 1, 1, candidate.about().acknowledgement)
    figure = Figure.of("held", "", "more", (held,))
    return [ScenarioResult("few", name, conditions, (figure,), {"placed": placed, "lost": placed - held})]


async def _place(candidate: Candidate) -> int:
    connection = await registry.connect(registry.described(candidate, 0))
    try:
        outcomes = [await connection.place(f"guest-{number}", REQUEST) for number in range(3)]
    finally:
        await connection.close()
    return sum(one.status == "placed" for one in outcomes)


def _fails(name: str, plan: Plan) -> list[ScenarioResult]:
    raise VacancyError("the store did not start", where=name)


FEW = Scenario("few", "Three placements are held.", _few_placements)
FAILING = Scenario("failing", "Errors are reported.", _fails)


class _Missing:
    """A candidate that is not installed."""

    def missing(self) -> str:
        return "x not found; install with: apt-get install x"


def _candidate(name: str) -> Candidate:
    return _Missing() if name == "x" else registry.candidate(name)  # type: ignore[return-value]


def test_vacancy_is_run_and_reported(tmp_path: Path) -> None:
    lines: list[str] = []
    options = ComparisonOptions("tiny", candidate=_candidate)
    raw = tmp_path / "raw"
    run_comparison([FEW, FAILING], ["vacancy-embedded", "x"], raw, options, lines.append)
    found = load_comparison(raw)
    (result,) = found.results
    assert result.counts == {"placed": 3, "lost": 0}
    assert result.figures[0].median == 3
    assert found.failed == {
        ("failing", "vacancy-embedded"): "VacancyError: the store did not start (vacancy-embedded)"
    }
    assert list(found.left_out) == ["x"]
    assert any(line.startswith("1 of 2: few, vacancy-embedded; 0:20 min left") for line in lines)
    write_report(found, tmp_path)
    text = (tmp_path / "report.md").read_text()
    for part in (
        "apt-get install x",
        "did not finish",
        "### vacancy-embedded",
        "| vacancy-embedded | held | 3 |",
    ):
        assert part in text


def test_missing_candidates_are_an_error_where_all_are_required(tmp_path: Path) -> None:
    options = ComparisonOptions("tiny", candidate=_candidate, require_all=True)
    with pytest.raises(UsageError, match="apt-get install x"):
        run_comparison([FEW], ["x"], tmp_path, options, lambda _: None)


@pytest.mark.parametrize("option", ["--candidates", "--scenarios"])
def test_unknown_names_are_refused(option: str, tmp_path: Path) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    compare.add_arguments(parser)
    arguments = parser.parse_args([option, "paper", "--output", str(tmp_path)])
    with pytest.raises(UsageError, match="paper"):
        compare.run(arguments)


def test_a_report_without_results_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no results"):
        load_comparison(tmp_path)
