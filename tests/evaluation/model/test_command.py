"""The command of the model: its tables and plots from the committed calibration, and a real calibration, small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.__main__ import main
from evaluation.model.calibration import costs_for, load_calibration, measure_costs
from evaluation.model.deployment import Costs
from evaluation.model.tables import TITLES, model_plots, text_tables
from evaluation.model.validation import compare_with_runs
from vacancy.resources.model.errors import VacancyError


def test_the_committed_calibration_has_all_logs_and_its_conditions() -> None:
    found = load_calibration()
    assert {"cores", "python", "nodes", "placements", "load_before"} <= set(found["conditions"])
    for log in ("sqlite", "kafka", "kafka-3"):
        assert costs_for(found, log).judge_s > 0
    with pytest.raises(VacancyError, match="no log 'paper'"):
        costs_for(found, "paper")


def test_predictions_are_printed_and_plotted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "model.html"
    assert main(["model", "--quick", "--plot", str(page)]) == 0
    text = capsys.readouterr().out
    assert all(title in text for title in TITLES.values())
    html = page.read_text()
    assert html.count("<svg") == 4
    # Nothing is loaded: addresses occur only as the names of XML's vocabularies.
    assert "src=" not in html
    assert "@import" not in html
    assert "<script" not in html
    assert "default-src 'none'" in html


def test_predictions_as_json_are_repeated_by_the_seed(capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for _ in range(2):
        assert main(["model", "--quick", "--json", "--seed", "3"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]
    assert {"fleets", "heartbeats", "arrivals", "lags", "replicas"} <= set(found[0])
    assert all(row["placements_per_s"] > 0 for row in found[0]["fleets"])


def test_a_calibration_and_a_check_of_this_machine() -> None:
    """The costs are of the order of those of the committed file, and a run has what the model compares."""
    found = measure_costs(100, 32)
    measured, committed = costs_for(found, "sqlite"), costs_for(load_calibration(), "sqlite")
    for name in ("query_s", "claim_s", "commit_s", "heartbeat_s", "report_s", "look_s"):
        assert 0 <= getattr(measured, name) < 20 * getattr(committed, name) + 1e-4, name
    assert Costs.from_json(measured.as_json()) == measured
    (row,) = compare_with_runs(found, (2,), nodes=8, in_flight=4, seed=1)
    assert row["measured"]["placements_per_s"] > 0
    assert row["error"]["placements_per_s"] == pytest.approx(
        row["predicted"]["placements_per_s"] / row["measured"]["placements_per_s"] - 1, abs=0.001
    )


@pytest.mark.parametrize(("load", "noted"), [(0.2, False), (9.0, True)])
def test_a_check_is_a_table_and_a_plot_and_states_other_work(load: float, noted: bool) -> None:
    figures = {
        "placements_per_s": 500.0,
        "p50_ms": 3.0,
        "p99_ms": 9.0,
        "conflict_share": 0.01,
        "worker_cpu_us": 200.0,
        "scheduler_cpu_us": 100.0,
        "cores_used": 0.5,
    }
    row = {"schedulers": 2, "in_flight": 4, "load": load, "measured": figures}
    row |= {"predicted": {**figures, "placements_per_s": 550.0}, "error": {"placements_per_s": 0.1}}
    found = {"calibration": load_calibration(), "check": [row]}
    text = text_tables(found)
    assert "| placements per s | 500 | 550 | +10% |" in text
    assert ("Other work ran at the same time" in text) is noted
    ((title, svg),) = model_plots(found)
    assert title == "Model and this machine"
    assert "predicted" in svg


@pytest.mark.parametrize("text", ["", "{}", '{"costs_us": {}, "logs_us": {"sqlite": {}}}'])
def test_a_file_that_is_no_calibration_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(VacancyError):
        load_calibration(path)


def test_a_kafka_without_a_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "--kafka", "kafka://here/x"]) == 2
    assert "NAME=URL" in capsys.readouterr().err
