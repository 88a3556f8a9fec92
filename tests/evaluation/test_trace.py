"""The trace command, on small files in the format of the trace."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # `evaluation` is not installed

from evaluation.__main__ import main
from evaluation.trace import TraceOptions, as_json, run_trace
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


def test_without_fill_each_pod_arrives_once_and_none_is_released(nodes: Path, pods: Path) -> None:
    result = run_trace(TraceOptions(load_csv(nodes, pods), schedulers=2, partitions=2))
    assert result.ok, result.audit.problems
    assert (result.race.requests, result.race.released) == (40, 0)
    assert (result.nodes, result.providers) == (4, 12)
    # The pods request 32 GPUs; the fleet has eight.
    assert result.race.no_valid_host > 0
    assert as_json(result)["allocated"]["CUSTOM_GPU_MILLI"] > 0.8


def test_every_outcome_of_the_trace_is_judged(nodes: Path, pods: Path, tmp_path: Path) -> None:
    def traced(name: str, **options: Any) -> TrialResult:
        url = f"sqlite://{tmp_path}/{name}.db"
        new_log(url, 2, installed_registry(), replication=None).close()
        return run_trace(TraceOptions(load_csv(nodes, pods), schedulers=2, log=url, **options))

    filled, full = traced("filled", fill=0.5), traced("full")
    assert min(filled.race.accepted, filled.race.released, full.race.no_valid_host) > 0
    for result in (filled, full):
        assert (result.audit.problems, result.audit.unverifiable_reasons) == ([], {})
        assert as_json(result)["not_judged"] == 0


def test_a_fill_releases_the_oldest(nodes: Path, pods: Path) -> None:
    result = run_trace(TraceOptions(load_csv(nodes, pods), fill=0.5, schedulers=2, in_flight=2))
    assert result.ok, result.audit.problems
    assert result.race.released > 0
    assert result.race.accepted > result.race.no_valid_host


def test_saturation_fills_the_fleet_and_releases_nothing(nodes: Path, pods: Path) -> None:
    result = run_trace(
        TraceOptions(load_csv(nodes, pods), saturate=True, order=order_named("pack"), schedulers=2, seed=3)
    )
    assert result.ok, result.audit.problems
    assert result.race.released == 0
    assert result.audit.allocated["CUSTOM_GPU_MILLI"] >= 0.75


def test_pods_get_only_gpu_models_that_they_accept(nodes: Path, pods: Path) -> None:
    """With two hosts; once with the gpu_spec of the file (a fifth of the pods), once with more restricted pods."""
    for order, share in (("random", 0.0), ("least_fragmentation", 0.5)):
        result = run_trace(
            TraceOptions(
                load_csv(nodes, pods), schedulers=2, hosts=2, order=order, gpu_spec_share=share, in_flight=4
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
