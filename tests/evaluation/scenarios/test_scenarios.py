"""A scenario runs with a store of its own. `tests/evaluation/comparison/test_quick_comparison.py` runs all of them with a store that they share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from evaluation.reporting.comparison import HARM
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


def test_a_host_is_cut_off_then_its_part_and_nothing_is_lost(tmp_path: Path) -> None:
    host, part = SCENARIOS["isolation"].run("vacancy-embedded", Plan("tiny", 15.0, tmp_path))
    assert "one of two hosts" in host.notes[0]
    assert "the worker of this host" in part.notes[0]
    for result in (host, part):
        assert result.counts["placed"] > 0
        assert [result.counts[name] for name in HARM] == [0, 0, 0], result.notes


def test_each_scenario_says_what_it_proves() -> None:
    for name, scenario in SCENARIOS.items():
        assert scenario.name == name
        assert "prove" in scenario.proves, name
