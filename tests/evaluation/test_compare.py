"""A comparison runs candidates in turn and writes what they did, on a tiny fleet."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pytest

from evaluation import compare
from evaluation.candidates import registry
from evaluation.candidates.candidate import Candidate
from evaluation.compare import ComparisonOptions, load_comparison, run_comparison, write_report
from evaluation.scenarios.registry import SCENARIOS
from evaluation.scenarios.result import Conditions, Figure, ScenarioResult
from evaluation.scenarios.scenario import Plan, Scenario
from vacancy.resources.model.errors import UsageError, VacancyError


def _three(name: str, plan: Plan) -> list[ScenarioResult]:
    assert plan.workdir.is_dir()
    conditions = Conditions(8, 0.0, 1, 1, 1, "it is on disk")
    return [ScenarioResult("few", name, conditions, (Figure.of("held", "", "more", (3,)),), {"placed": 3})]


def _fails(name: str, plan: Plan) -> list[ScenarioResult]:
    raise VacancyError("the store did not start", where=name)


FEW = Scenario("few", "Three placements are held.", _three)
FAILING = Scenario("failing", "Errors are reported.", _fails)


class _Missing:
    """A candidate that is not installed."""

    def missing(self) -> str:
        return "x not found; install with: apt-get install x"


def _candidate(name: str) -> Candidate:
    return _Missing() if name == "x" else registry.candidate(name)  # type: ignore[return-value]


def test_candidates_run_in_turn_and_errors_are_reported(tmp_path: Path) -> None:
    lines: list[str] = []
    options = ComparisonOptions("tiny", candidate=_candidate)
    raw = tmp_path / "raw"
    run_comparison([FEW, FAILING], ["vacancy-embedded", "x"], raw, options, lines.append)
    found = load_comparison(raw)
    (result,) = found.results
    assert (result.candidate, result.figures[0].median) == ("vacancy-embedded", 3)
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
        "| vacancy-embedded | 8 nodes, 0% full, 1 × 1 in flight, 1 replica,",
    ):
        assert part in text


@pytest.mark.timeout(900)
def test_a_real_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A tiny race on vacancy embedded. `VACANCY_COMPARE=quick` runs all scenarios, in 4 minutes, with the candidates that are
    installed, and `VACANCY_COMPARE=all` requires all of them."""
    how = os.environ.get("VACANCY_COMPARE", "tiny")
    scenarios = [SCENARIOS["racing"]] if how == "tiny" else list(SCENARIOS.values())
    names = ["vacancy-embedded"] if how == "tiny" else list(registry.NAMES)
    options = ComparisonOptions("tiny" if how == "tiny" else "quick", require_all=how == "all")
    run_comparison(scenarios, names, tmp_path / "raw", options, print)
    found = load_comparison(tmp_path / "raw")
    with capsys.disabled():
        sys.stdout.writelines(f"left out: {name}: {why}\n" for name, why in found.left_out.items())
    write_report(found, tmp_path)
    assert found.failed == {}
    assert {one.scenario for one in found.results} | {name for name, _ in found.skipped} == {
        one.name for one in scenarios
    }
    assert compare.exit_code(found) == 0
    text = (tmp_path / "report.md").read_text()
    assert text.index("## What others do better than vacancy") < text.index("## Scenario: racing")
    assert "<svg" in (tmp_path / "index.html").read_text()


def test_what_the_time_does_not_allow_is_skipped_and_named(tmp_path: Path) -> None:
    options = ComparisonOptions("tiny", budget_s=1e-9, candidate=_candidate)
    run_comparison([FEW, FAILING], ["vacancy-embedded"], tmp_path / "raw", options, lambda _: None)
    found = load_comparison(tmp_path / "raw")
    assert [one.scenario for one in found.results] == ["few"]
    assert found.skipped == {("failing", "vacancy-embedded"): "its share of 0:00 min was over"}
    write_report(found, tmp_path)
    line = "Did not run: vacancy-embedded (its share of 0:00 min was over)."
    assert line in (tmp_path / "report.md").read_text()


def test_a_candidate_that_takes_too_long_does_not_take_the_time_of_the_next() -> None:
    pairs = [(scenario, name) for name in ("a", "b") for scenario in (FEW, FAILING)]
    share_s = compare.share_s
    assert [share_s(pairs, number, 100.0, 25.0 * number) for number in range(4)] == [25.0] * 4
    assert share_s(pairs, 1, 100.0, 60.0) < 0  # the rest of `a` is skipped
    assert share_s(pairs, 2, 100.0, 60.0) == 25.0
    assert share_s(pairs, 3, 100.0, 85.0) == 15.0
    assert share_s(pairs, 2, 100.0, 10.0) == 45.0  # what others left is used


def test_missing_candidates_are_an_error_where_all_are_required(tmp_path: Path) -> None:
    options = ComparisonOptions("tiny", candidate=_candidate, require_all=True)
    with pytest.raises(UsageError, match="apt-get install x"):
        run_comparison([FEW], ["x"], tmp_path, options, lambda _: None)


@pytest.mark.parametrize("option", ["--candidates", "--scenarios"])
def test_unknown_names_are_refused(option: str, tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    compare.add_arguments(parser)
    arguments = parser.parse_args([option, "paper", "--output", str(tmp_path)])
    with pytest.raises(UsageError, match="paper"):
        compare.run(arguments)


def test_a_report_without_results_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no results"):
        load_comparison(tmp_path)
