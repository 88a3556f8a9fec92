"""Every way to have the state of a position gives the same digest."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from evaluation.__main__ import main
from evaluation.benchmarks.rebuilds import Position, Rebuilds, compare, random_positions
from tests.support.logs.events_json import provider, reported
from vacancy.clients.replay_tool.replay import replay
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import Log


def report(cell: str, root: str, life: int) -> NewRecord:
    return NewRecord(cell, reported(root, [provider(root, VCPU=life)], life=life))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    made = new_log(f"sqlite://{tmp_path}/log.db", 2, installed_registry())
    for life in range(1, 31):
        made.append([report(cell, f"node-{life % 7}-{cell}", life) for cell in covering_cells(2)])
    return made


class WithAWrongWay(Rebuilds):
    """One way leaves out the last record of partition 0."""

    def ways(self) -> dict[str, Callable[[Position], str]]:
        return {**super().ways(), "wrong": self._without_the_last}

    def _without_the_last(self, position: Position) -> str:
        until = {**position, 0: max(0, position[0] - 1)}
        return replay(self._log, self._new(), self._registry, until=until).whole


def test_a_way_with_another_digest_is_named(log: Log, tmp_path: Path) -> None:
    rebuilds = WithAWrongWay(log, tmp_path, random.Random(1))
    rebuilds.prepare(snapshots=1)
    found = compare(rebuilds, list(random_positions(log, random.Random(2), 1)))
    assert (found["positions"], found["equal"]) == (1, 0)
    for one in found["different"]:
        wrong = one["digests"].pop("wrong")
        assert {wrong} != set(one["digests"].values()), "the other ways are equal to each other"
        assert len(set(one["digests"].values())) == 1


def test_all_ways_are_equal_after_a_race(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes, pods = tmp_path / "nodes.csv", tmp_path / "pods.csv"
    nodes.write_text("sn,cpu_milli,memory_mib,gpu,model\na,9000,9000,4,T4\nb,9000,9000,2,P100\n")
    rows = [f"p{n},1000,1024,{n % 2},{500 * (n % 2)}" for n in range(30)]
    pods.write_text("\n".join(["name,cpu_milli,memory_mib,num_gpu,gpu_milli", *rows]))
    command = [
        "rebuilds",
        "--nodes",
        str(nodes),
        "--pods",
        str(pods),
        "--positions",
        "1",
        "--snapshots",
        "1",
        "--json",
    ]
    assert main(command) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["live_equal"], shown["positions"], shown["equal"]) == (True, 1, 1)
    assert shown["records"] > 15
