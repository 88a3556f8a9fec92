"""A comparison runs candidates in turn and writes what they did, on a tiny fleet."""

from __future__ import annotations

import argparse
import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.candidates import registry
from evaluation.candidates.candidate import Candidate
from evaluation.comparison import command as compare
from evaluation.comparison.command import write_report
from evaluation.comparison.run import (
    ComparisonOptions,
    Schedule,
    TimeLimitExceeded,
    load_comparison,
    run_comparison,
    time_limit,
)
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


def test_what_the_time_does_not_allow_is_skipped_and_named(tmp_path: Path) -> None:
    options = ComparisonOptions("tiny", budget_s=1e-9, candidate=_candidate)
    run_comparison([FEW, FAILING], ["vacancy-embedded"], tmp_path / "raw", options, lambda _: None)
    found = load_comparison(tmp_path / "raw")
    why = "its share of 0:00 min was over"
    assert found.skipped == {(one, "vacancy-embedded"): why for one in ("few", "failing")}
    write_report(found, tmp_path)
    line = "Did not run: vacancy-embedded (its share of 0:00 min was over)."
    assert line in (tmp_path / "report.md").read_text()


def test_a_candidate_that_takes_too_long_does_not_take_the_time_of_the_next() -> None:
    pairs = [(scenario, name) for name in ("a", "b") for scenario in (FEW, FAILING)]
    share_s = Schedule(pairs, 100.0).share_s
    assert [share_s(number, 25.0 * number) for number in range(4)] == [25.0] * 4
    assert [share_s(number, 60.0) for number in (1, 2)] == [
        25.0,
        25.0,
    ]  # no pair is left out because another was late
    assert [share_s(number, 124.0) for number in (2, 3)] == [25.0, 25.0]
    assert share_s(3, 126.0) == 0.0  # now the whole is too late
    assert share_s(2, 10.0) == 45.0  # what others left is used
    heavy = replace(FAILING, weight=3.0)
    weighted = Schedule([(FEW, "a"), (heavy, "a")], 100.0)
    assert (weighted.share_s(0, 0.0), weighted.share_s(1, 25.0)) == (25.0, 75.0)
    resumed = Schedule(pairs, 100.0, done={0})
    assert (resumed.share_s(1, 0.0), resumed.share_s(2, 25.0)) == (25.0, 25.0)


def test_a_candidate_that_hangs_is_ended_and_what_it_had_found_is_kept(tmp_path: Path) -> None:
    def hangs(name: str, plan: Plan) -> Iterator[ScenarioResult]:
        yield from _three(name, plan)
        with contextlib.suppress(Exception):  # as a client library might do
            time.sleep(60)

    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TimeLimitExceeded), time_limit(0.1):
        list(hangs("x", Plan("tiny", 1.0, tmp_path)))
    assert signal.getsignal(signal.SIGALRM) is before

    def slow(name: str, plan: Plan) -> Iterator[ScenarioResult]:
        yield from _three(name, plan)
        raise TimeLimitExceeded("it did not end in 0:01 min")

    scenarios = [Scenario("slow", "It hangs.", slow), FEW]
    run_comparison(scenarios, ["vacancy-embedded"], tmp_path, ComparisonOptions("tiny"), lambda _: None)
    found = load_comparison(tmp_path)
    assert [one.figures[0].median for one in found.results] == [3, 3]
    assert found.failed == {("slow", "vacancy-embedded"): "TimeLimitExceeded: it did not end in 0:01 min"}


def test_a_comparison_is_resumed_where_it_was_interrupted(tmp_path: Path) -> None:
    runs: list[str] = []
    works = False

    def once(name: str, plan: Plan) -> list[ScenarioResult]:
        runs.append(plan.workdir.name)
        if not works and len(runs) == 2:
            raise VacancyError("the machine was too busy")
        return _three(name, plan)

    scenarios = [replace(FEW, run=once), Scenario("other", "More.", once)]
    names, options = ["vacancy-embedded"], ComparisonOptions("tiny", resume=True)
    run_comparison(scenarios, names, tmp_path, options, lambda _: None)
    started = load_comparison(tmp_path).machine.started
    works = True
    run_comparison(scenarios, names, tmp_path, options, lambda _: None)
    assert len(runs) == 3  # what failed runs again
    found = load_comparison(tmp_path)
    assert found.failed == {}
    assert found.machine.started == started
    with pytest.raises(UsageError, match="of size tiny, not quick"):
        run_comparison(scenarios, names, tmp_path, replace(options, size="quick"), lambda _: None)
    run_comparison(scenarios[:1], names, tmp_path, ComparisonOptions("tiny"), lambda _: None)
    assert list(load_comparison(tmp_path).proves) == ["few"]


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
