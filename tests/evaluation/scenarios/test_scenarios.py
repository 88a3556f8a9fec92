"""Each scenario runs with candidates that need nothing but Python, on tiny fleets: counts are checked, times are not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from evaluation.scenarios.registry import SCENARIOS
from evaluation.scenarios.result import COUNTS, ScenarioResult
from evaluation.scenarios.running import SharedSite
from evaluation.scenarios.scenario import Plan


def check(found: list[ScenarioResult], scenario: str, candidate: str) -> None:
    """Results are complete, and nothing was overcommitted, lost or doubled."""
    assert found
    for result in found:
        assert ScenarioResult.from_json(json.loads(json.dumps(result.as_json()))) == result
        assert (result.scenario, result.candidate) == (scenario, candidate)
        if result.not_offered is None:
            assert result.figures
        assert set(result.counts) <= set(COUNTS)
        problems = [result.counts.get(name, 0) for name in ("overcommitted", "lost", "doubled")]
        assert problems == [0, 0, 0], result
    if scenario in ("racing", "crash"):
        assert found[-1].counts["placed"] > 0


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_runs_with_a_store_of_its_own(scenario: str, tmp_path: Path) -> None:
    progress: list[str] = []
    plan = Plan("tiny", 15.0, tmp_path, progress=progress.append)
    check(SCENARIOS[scenario].run("copies", plan), scenario, "copies")
    assert any("loading" in text for text in progress)
    assert list(tmp_path.iterdir()) == [], "files are left"


def test_scenarios_share_a_store_that_runs(tmp_path: Path) -> None:
    progress: list[str] = []
    with SharedSite() as shared:
        for scenario in ("racing", "crash", "heartbeats", "one_store", "staleness"):
            plan = Plan("tiny", 15.0, tmp_path, progress=progress.append, shared=shared)
            check(SCENARIOS[scenario].run("vacancy-embedded", plan), scenario, "vacancy-embedded")
    assert sum("loading" in text for text in progress) == 1


def test_each_scenario_says_what_it_proves() -> None:
    for name, scenario in SCENARIOS.items():
        assert scenario.name == name
        assert "prove" in scenario.proves, name
