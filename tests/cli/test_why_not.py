"""Why there is no place, and why not this node: what the commands say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.command import Vacancy, node_file


@pytest.fixture(scope="module")
def vacancy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vacancy]:
    """Two nodes of 8 VCPU, the first with two GPUs, one of which is taken, and an operator's reason not to use
    the second."""
    home = tmp_path_factory.mktemp("why-not")
    with Vacancy(home, log=f"sqlite://{home}/log.db", store=str(home / "store")) as vacancy:
        vacancy.json("topics", "create", "--partitions", 1)
        for root, gpus in (("node-1", 2), ("node-2", 0)):
            vacancy("publish", "--once", "--file", node_file(home, root, gpus=gpus))
        with vacancy.worker():
            vacancy("place", "--resources", "VCPU:5", "--group", "gpu=CUSTOM_GPU:1", "--consumer", "train-1")
            vacancy("provider", "disable", "node-2", "--reason", "new fans")
            yield vacancy


@pytest.mark.parametrize("command", ["place", "candidates"])
def test_no_valid_host_says_what_each_constraint_removed(vacancy: Vacancy, command: str) -> None:
    asked = (command, "--resources", "VCPU:4", "--required", "HW_CPU_X86_AVX2")
    ended = vacancy.say(*asked)
    assert ended.code == 3
    assert ended.out.splitlines() == [
        "of 2 nodes 0 are left; each constraint removes so many, alone and in order:",
        "GROUP  CONSTRAINT        ALONE  IN ORDER",
        "       takes new claims      1         1",
        "       VCPU: free >= 4       1         1",
        "",
        "nearest misses:",
        "NODE    GROUP  PROVIDER  CONSTRAINT        ASKED  AVAILABLE  WHY",
        "node-1         node-1    VCPU: free >= 4       4          3",
        "node-2         node-2    takes new claims",
    ]
    assert "no valid host: nothing that matches has room" in ended.err
    ended = vacancy.say(*asked, "--json")
    assert ended.code == 3
    told: dict[str, Any] = json.loads(ended.out)["explanation"]
    assert (told["nodes"], told["left"]) == (2, 0)
    removed = {one["constraint"]: (one["alone"], one["in_order"]) for one in told["constraints"]}
    assert removed["required trait HW_CPU_X86_AVX2"] == (0, 0)
    assert removed["VCPU: free >= 4"] == (1, 1)
    assert [one["root"] for one in told["nearest"]] == ["node-1", "node-2"]


def test_each_group_is_told_apart(vacancy: Vacancy) -> None:
    ended = vacancy.say("candidates", "--resources", "VCPU:1", "--group", "gpu=CUSTOM_GPU:2")
    assert ended.code == 3
    assert "gpu    CUSTOM_GPU: free >= 2          2         1" in ended.out
    assert "node-1  gpu    node-1:gpu" in ended.out
