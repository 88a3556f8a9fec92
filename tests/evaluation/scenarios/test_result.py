"""Results of scenarios survive JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from evaluation.scenarios.result import Conditions, Figure, ScenarioResult


def test_a_result_survives_json() -> None:
    figure = Figure.of("placements", "1/s", "more", [3.0, 1.0, 2.5])
    assert (figure.median, figure.spread) == (2.5, 2.0)
    conditions = Conditions(10, 0.5, 1, 2, 3, "written to disk", 10.0)
    for result in (
        ScenarioResult("racing", "x", conditions, (figure,), {"placed": 3}, ("a note",)),
        ScenarioResult("rebuild", "x", conditions, not_offered="there are no replicas"),
    ):
        assert ScenarioResult.from_json(json.loads(json.dumps(result.as_json()))) == result
