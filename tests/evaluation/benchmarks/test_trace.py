"""The trace command, on small files in the format of the trace."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from evaluation.__main__ import main
from evaluation.benchmarks.trace import TraceOptions, as_json, run_trace
from evaluation.traces.csv_trace import load_csv
from vacancy.clients.demo.race_trial import TrialResult
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.clients.scheduler.order_names import order_named
from vacancy.resources.model.errors import UsageError

POD_COLUMNS = (
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,"
    "creation_time,deletion_time,scheduled_time"
)
SHARES = ("1,500,", "1,500,T4", "2,1000,", "0,0,", "1,1000,P100|T4")


@pytest.fixture
def nodes(tmp_path: Path) -> Path:
    """Four nodes, eight GPUs."""
    rows = ["a,64000,65536,4,T4", "b,64000,65536,2,P100", "c,64000,65536,2,T4", "d,32000,65536,0,"]
    path = tmp_path / "nodes.csv"
    path.write_text("\n".join(["sn,cpu_milli,memory_mib,gpu,model", *rows]))
    return path


@pytest.fixture
def pods(tmp_path: Path) -> Path:
    """Forty pods of five kinds."""
    rows = [f"p{n},1000,1024,{SHARES[n % 5]},LS,Running,0,9,0" for n in range(40)]
    path = tmp_path / "pods.csv"
    path.write_text("\n".join([POD_COLUMNS, *rows]))
    return path


def traced(nodes: Path, pods: Path, log: Path, **options: Any) -> TrialResult:
    """The result of a race for these nodes, in a log that was created before. Every outcome was judged, and nothing is wrong."""
    url = f"sqlite://{log}"
    new_log(url, 2, installed_registry(), replication=None).close()
    result = run_trace(TraceOptions(load_csv(nodes, pods), schedulers=2, log=url, **options))
    assert result.ok, result.audit.problems
    assert (result.audit.problems, result.audit.unverifiable_reasons) == ([], {})
    assert (result.audit.misplaced, result.audit.overcommitted) == (0, 0)
    assert as_json(result)["not_judged"] == 0
    return result


def test_without_fill_each_pod_arrives_once_and_none_is_released(
    nodes: Path, pods: Path, tmp_path: Path
) -> None:
    result = traced(nodes, pods, tmp_path / "log.db")
    assert (result.race.requests, result.race.released) == (40, 0)
    assert (result.nodes, result.providers) == (4, 12)
    # The pods request 32 GPUs; the fleet has eight.
    assert result.race.no_valid_host > 0
    assert result.race.accepted > 8
    assert as_json(result)["allocated"]["CUSTOM_GPU_MILLI"] > 0.8


def test_a_fill_releases_the_oldest(nodes: Path, pods: Path, tmp_path: Path) -> None:
    result = traced(nodes, pods, tmp_path / "log.db", fill=0.5, in_flight=2)
    assert result.race.released > 0
    assert result.race.accepted > result.race.no_valid_host


def test_saturation_fills_the_fleet_and_releases_nothing(nodes: Path, pods: Path) -> None:
    result = run_trace(
        TraceOptions(
            load_csv(nodes, pods),
            saturate=True,
            order=order_named("pack"),
            schedulers=2,
            seed=3,
            partitions=2,
        )
    )
    assert result.ok, result.audit.problems
    assert result.race.released == 0
    assert result.audit.allocated["CUSTOM_GPU_MILLI"] >= 0.75


def test_pods_get_only_gpu_models_that_they_accept(nodes: Path, pods: Path) -> None:
    """With two hosts, and with half of the pods restricted; the file itself restricts two fifths of them."""
    result = run_trace(
        TraceOptions(
            load_csv(nodes, pods),
            schedulers=2,
            hosts=2,
            order="least_fragmentation",
            gpu_spec_share=0.5,
            in_flight=4,
            partitions=2,
        )
    )
    assert result.ok, result.audit.problems
    assert result.race.accepted > 8
    assert (result.audit.misplaced, result.audit.overcommitted) == (0, 0)


def test_the_command_prints_one_object_and_sets_the_exit_code(
    nodes: Path, pods: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--nodes", str(nodes), "--pods", str(pods)]
    assert main(["trace", *files, "--schedulers", "1", "--partitions", "1", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert list(shown)[-1] == "allocated"
    assert (shown["overcommitted"], shown["wrong_rejections"], shown["rebuilt_equal"]) == (0, 0, True)
    assert main(["trace", *files, "--fill", "2", "--json"]) == 2
    assert "a fill of 2 is invalid" in capsys.readouterr().err
    assert main(["trace", "--nodes", "none.csv", "--pods", "none.csv"]) == 2


def test_invalid_options_are_refused(nodes: Path, pods: Path) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        TraceOptions(load_csv(nodes, pods), fill=0.9, saturate=True)
    with pytest.raises(UsageError, match="a gpu_spec share of 2 is invalid"):
        TraceOptions(load_csv(nodes, pods), gpu_spec_share=2)
    with pytest.raises(UsageError, match="hosts is 0"):
        TraceOptions(load_csv(nodes, pods), hosts=0)
    with pytest.raises(UsageError, match="schedulers is 0"):
        TraceOptions(load_csv(nodes, pods), schedulers=0)
