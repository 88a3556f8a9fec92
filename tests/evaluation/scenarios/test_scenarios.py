"""A scenario runs with a store of its own. `tests/evaluation/test_quick_comparison.py` runs all of them with a store that they share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from evaluation.scenarios.registry import SCENARIOS
from evaluation.scenarios.scenario import Plan


@pytest.mark.parametrize("scenario", ["scale", "rebuild"])
def test_a_scenario_runs_with_a_store_of_its_own(scenario: str, tmp_path: Path) -> None:
    progress: list[str] = []
    plan = Plan("tiny", 15.0, tmp_path, progress=progress.append)
    for result in SCENARIOS[scenario].run("copies", plan):
        assert (result.scenario, result.candidate) == (scenario, "copies")
        assert result.figures
    assert any("loading" in text for text in progress)
    assert list(tmp_path.iterdir()) == [], "files are left"


def test_each_scenario_says_what_it_proves() -> None:
    for name, scenario in SCENARIOS.items():
        assert scenario.name == name
        assert "prove" in scenario.proves, name
