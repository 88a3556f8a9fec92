"""The quick comparison, with every candidate that is installed here: each store is started once, and serves the contract of an adapter
and all scenarios. Counts are checked, times are not.

Where `VACANCY_TEST_CANDIDATES` names a candidate, or is `all`, its absence is a failure. One candidate: `pytest -k postgresql`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from evaluation.candidates import registry
from evaluation.comparison import command as compare
from evaluation.comparison.command import write_report
from evaluation.comparison.run import ComparisonOptions, load_comparison, run_comparison
from evaluation.reporting.comparison import HARM, harm
from evaluation.scenarios.registry import SCENARIOS
from evaluation.scenarios.result import COUNTS, ScenarioResult
from tests.evaluation.candidates.contract import CONTRACT, OVERCOMMITS, check_about, started

PATIENT_S = 600.0
"""For one candidate: other tests run at the same time, and nothing is to be skipped."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the one report."""
    return tmp_path_factory.mktemp("comparison")


@pytest.mark.timeout(PATIENT_S)
@pytest.mark.parametrize("name", registry.NAMES)
def test_a_candidate_serves_all_scenarios(name: str, directory: Path) -> None:
    check_about(started(name))
    scenarios = [CONTRACT, *SCENARIOS.values()]
    options = ComparisonOptions("quick", budget_s=PATIENT_S, resume=True)
    progress: list[str] = []
    run_comparison(scenarios, [name], directory / "raw", options, progress.append)
    found = load_comparison(directory / "raw")
    problems = [
        read["traceback"]
        for path in (directory / "raw").glob(f"*-{name}.json")
        if "traceback" in (read := json.loads(path.read_text()))
    ]
    assert problems == [], "\n".join(problems)
    assert found.skipped == {}
    results = [one for one in found.results if one.candidate == name]
    assert {one.scenario for one in results} == set(SCENARIOS)
    _check_results(results)
    (brim,) = (note for one in results for note in one.notes if note.startswith("the last units"))
    if name != OVERCOMMITS:
        assert re.match(r"the last units: (\d+) of \1 placed .*, until nothing fitted$", brim), brim
    # Another store is loaded where a fast candidate has filled the first one.
    assert 1 <= sum("loading" in line for line in progress) <= 3, "scenarios did not share the store"
    if name != OVERCOMMITS:
        assert harm(results)[name] == dict.fromkeys(HARM, 0), [one.notes for one in results]


def _check_results(results: Sequence[ScenarioResult]) -> None:
    """They are complete."""
    for result in results:
        assert ScenarioResult.from_json(json.loads(json.dumps(result.as_json()))) == result
        assert result.figures or result.not_offered is not None, result
        assert set(result.counts) <= set(COUNTS)
    last = {one.scenario: one for one in results}
    for scenario in ("racing", "crash", "footprint", "isolation"):
        assert last[scenario].counts["placed"] > 0
    wrong = {one.name: one.median for one in last["myriad_qualities"].figures}["wrong"]
    assert wrong == 0, last["myriad_qualities"].cells


def test_the_report_of_all_candidates_is_written(directory: Path) -> None:
    found = load_comparison(directory / "raw")
    assert compare.exit_code(found) == 0
    write_report(found, directory)
    text = (directory / "report.md").read_text()
    assert text.index("## What others do better than vacancy") < text.index("## Scenario: racing")
    for name in found.candidates:
        assert f"### {name}" in text
    assert "<svg" in (directory / "index.html").read_text()
