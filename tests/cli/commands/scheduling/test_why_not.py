"""The explanations of `place` without a candidate, and of `why-not`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.command import Vacancy, node_file


@pytest.fixture(scope="module")
def vacancy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vacancy]:
    """Two nodes of 8 VCPU, the first with two GPUs, one of them taken, and an operator's reason not to use
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
def test_no_valid_host_lists_what_each_constraint_removed(vacancy: Vacancy, command: str) -> None:
    asked = (command, "--resources", "VCPU:4", "--required", "HW_CPU_X86_AVX2")
    ended = vacancy.run_shared(*asked)
    assert ended.code == 3
    assert ended.out.splitlines() == [
        "0 of 2 nodes remain; nodes removed by each constraint, alone and in order:",
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
    ended = vacancy.run_shared(*asked, "--json")
    assert ended.code == 3
    told: dict[str, Any] = json.loads(ended.out)["explanation"]
    assert (told["nodes"], told["left"]) == (2, 0)
    removed = {one["constraint"]: (one["alone"], one["in_order"]) for one in told["constraints"]}
    assert removed["required trait HW_CPU_X86_AVX2"] == (0, 0)
    assert removed["VCPU: free >= 4"] == (1, 1)
    assert [one["root"] for one in told["nearest"]] == ["node-1", "node-2"]


def test_constraints_are_listed_by_group(vacancy: Vacancy) -> None:
    ended = vacancy.run_shared("candidates", "--resources", "VCPU:1", "--group", "gpu=CUSTOM_GPU:2")
    assert ended.code == 3
    assert "gpu    CUSTOM_GPU: free >= 2          2         1" in ended.out
    assert "node-1  gpu    node-1:gpu" in ended.out


SMALL = ("--resources", "VCPU:1")


def test_why_not_names_the_shortage_and_the_last_consumer(vacancy: Vacancy) -> None:
    told = vacancy.json("why-not", "node-1", "--resources", "VCPU:4")
    assert (told["root"], told["fits"], told["node"]["state"]) == ("node-1", False, "open")
    (group,) = told["groups"]
    (lack,) = group["providers"][0]["lacks"]
    assert (lack["constraint"], lack["asked"], lack["available"]) == ("VCPU: free >= 4", 4, 3)
    (held,) = vacancy.json("show", "consumer", "train-1")
    event = lack["event"]
    assert (event["consumer"], event["partition"], event["offset"]) == ("train-1", 0, held["offset"])
    assert event["type"] == "vacancy.claims.requested.v2"
    assert abs(event["time_ms"] / 1000 - time.time()) < 600
    said = vacancy("why-not", "node-1", "--resources", "VCPU:4")
    assert f"VCPU: free >= 4      4          3  last taken by train-1 at 0:{held['offset']}, 20" in said


def test_the_best_child_provider_is_listed_first(vacancy: Vacancy) -> None:
    told = vacancy.json(
        "why-not", "node-1:gpu1", "--resources", "VCPU:1", "--group", "gpu=CUSTOM_GPU:1,VCPU:1"
    )
    cpu, gpu = told["groups"]
    assert cpu["providers"][0] == {"provider": "node-1", "lacks": []}
    assert {one["provider"] for one in gpu["providers"]} == {"node-1", "node-1:gpu0", "node-1:gpu1"}
    assert [len(one["lacks"]) for one in gpu["providers"]] == [1, 1, 2]
    assert gpu["providers"][0]["lacks"][0]["why"] == "no inventory"
    said = vacancy("why-not", "node-1", "--resources", "VCPU:1", "--group", "gpu=CUSTOM_GPU:1,VCPU:1")
    assert "it is not a candidate" in said
    assert "       node-1       fits" in said.splitlines()


def test_the_operator_who_closed_a_node_is_named(vacancy: Vacancy) -> None:
    (lack,) = vacancy.json("why-not", "node-2", *SMALL)["groups"][0]["providers"][0]["lacks"]
    assert lack["kind"] == "open"
    assert lack["why"] == "node-2 is disabled by an operator (new fans), revision 1"
    assert (lack["event"]["type"], lack["event"]["source"]) == ("vacancy.facts.set.v1", "/operator")


def test_a_node_that_fits_is_reported_as_a_candidate(vacancy: Vacancy) -> None:
    told = vacancy.json("why-not", "node-1", *SMALL)
    assert told["fits"]
    assert "it is a candidate" in vacancy("why-not", "node-1", *SMALL)
    stale = vacancy.json("why-not", "node-1", *SMALL, "--max-staleness", 0)
    (lack,) = stale["groups"][0]["providers"][0]["lacks"]
    assert (lack["kind"], lack["available"]) == ("heard", stale["node"]["heard_ms"])
    assert not stale["fits"]


def test_without_the_log_offsets_are_shown(vacancy: Vacancy) -> None:
    ended = vacancy.run_shared(
        "why-not", "node-1", "--resources", "VCPU:4", "--log", "sqlite:///nowhere/log.db"
    )
    assert ended.code == 0
    assert "answering without the log: there is no log" in ended.err
    (held,) = vacancy.json("show", "consumer", "train-1")
    (line,) = [line for line in ended.out.splitlines() if "VCPU: free >= 4" in line]
    assert line.endswith(f"last taken by train-1 at 0:{held['offset']}")


def test_an_unknown_node_is_an_error(vacancy: Vacancy) -> None:
    assert "did you mean node-1" in vacancy.fails(1, "why-not", "node-11", *SMALL)
    assert "the request is empty" in vacancy.fails(2, "why-not", "node-1")


def test_a_retired_node_is_reported_as_gone(vacancy: Vacancy) -> None:
    file = node_file(vacancy.home, "node-9")
    vacancy("publish", "--once", "--file", file)
    vacancy("publish", "--retire", "--file", file)
    until = time.monotonic() + 90
    while vacancy.run_shared("show", "provider", "node-9").code == 0:
        assert time.monotonic() < until
        time.sleep(0.05)
    told = vacancy.json("why-not", "node-9", *SMALL)
    assert (told["fits"], told["groups"], told["node"]["state"]) == (False, [], "retired")
    assert told["whole"][0]["why"] == "the node is retired"
