"""How full each order fills a small cluster."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from evaluation.__main__ import main
from vacancy.clients.scheduler.order_names import ORDERS

PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,creation_time,deletion_time"


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Eight nodes of two GPUs; halves of a GPU and whole ones are asked for, as often."""
    nodes, pods = tmp_path / "nodes.csv", tmp_path / "pods.csv"
    nodes.write_text(
        "\n".join(["sn,cpu_milli,memory_mib,gpu,model", *(f"n{n},64000,65536,2,T4" for n in range(8))])
    )
    rows = [f"p{n},1000,1024,{('1,600', '2,1000', '1,400')[n % 3]},,0,9" for n in range(30)]
    pods.write_text("\n".join([PODS, *rows]))
    return ["--nodes", str(nodes), "--pods", str(pods)]


def test_each_order_fills_the_same_draws(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for _ in range(2):
        assert main(["orders", *files, "--seeds", "3", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert list(found) == list(ORDERS)
        said.append({name: {k: v for k, v in one.items() if k != "query_ms"} for name, one in found.items()})
    assert said[0] == said[1], "all of it is the seeds'"
    for one in said[0].values():
        assert 0.5 < one["least"] <= one["mean"] <= one["most"] <= 1
    assert said[0]["least_fragmentation"]["mean"] > said[0]["spread"]["mean"]


def test_what_is_invalid_is_refused(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["orders", *files, "--seeds", "0"]) == 2
    assert main(["orders", *files, "--orders", "best"]) == 2
    assert "choose one of" in capsys.readouterr().err
