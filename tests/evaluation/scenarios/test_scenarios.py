"""Each scenario runs with candidates that need nothing but Python, on tiny fleets: counts are checked, times are not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from evaluation.scenarios.registry import SCENARIOS
from evaluation.scenarios.result import COUNTS, ScenarioResult
from evaluation.scenarios.scenario import Plan

WITH_VACANCY = ("racing", "crash")
"""Those that run with vacancy here, too: each takes seconds of CPU."""

RUNS = [
    *((name, "copies") for name in SCENARIOS),
    *((name, "vacancy-embedded") for name in WITH_VACANCY),
]


@pytest.mark.parametrize(("scenario", "candidate"), RUNS)
def test_a_scenario_runs(scenario: str, candidate: str, tmp_path: Path) -> None:
    progress: list[str] = []
    plan = Plan("tiny", 15.0, tmp_path, progress=progress.append)
    found = SCENARIOS[scenario].run(candidate, plan)
    assert progress
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
    assert list(tmp_path.iterdir()) == [], "files are left"


def test_each_scenario_says_what_it_proves() -> None:
    for name, scenario in SCENARIOS.items():
        assert scenario.name == name
        assert "prove" in scenario.proves, name
