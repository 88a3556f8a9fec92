"""Dedicated nodes with the command: taints of providers, tolerations of requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import Vacancy, log_of_version

CPU = ("--resources", "VCPU:1")


def report(home: Path, name: str, **classes: int) -> Path:
    file = home / f"{name}.json"
    root = {"id": name, "inventories": {"VCPU": {"total": 8}}}
    parts = [
        {"id": f"{name}:{number}", "parent": name, "inventories": {one: {"total": total}}}
        for number, (one, total) in enumerate(classes.items())
    ]
    file.write_text(json.dumps([root, *parts]))
    return file


@pytest.fixture
def vacancy(tmp_path: Path) -> Iterator[Vacancy]:
    """A node with GPUs and a plain one, in one cell."""
    made = Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store"))
    made("topics", "create", "--partitions", 1)
    made("publish", "--once", "--no-wait", "--file", report(tmp_path, "gpu-1", CUSTOM_GPU=4))
    made("publish", "--once", "--no-wait", "--file", report(tmp_path, "plain"))
    with made, made.worker():
        yield made


def nodes(vacancy: Vacancy, *request: object) -> list[str]:
    """The nodes of the candidates of a request."""
    answer = vacancy.run_shared("candidates", *request, "--json").out
    return sorted(one["root"] for one in json.loads(answer)["candidates"])


def test_plain_requests_stay_away_from_a_dedicated_node(vacancy: Vacancy) -> None:
    assert nodes(vacancy, *CPU) == ["gpu-1", "plain"]
    answer = vacancy("provider", "taint", "gpu-1", "dedicated=gpu")
    assert "revision 1: enabled, taints dedicated=gpu" in answer
    assert nodes(vacancy, *CPU) == ["plain"]
    assert nodes(vacancy, *CPU, "--tolerate", "dedicated=gpu") == ["gpu-1", "plain"]
    assert nodes(vacancy, *CPU, "--tolerate", "dedicated") == ["gpu-1", "plain"]
    assert nodes(vacancy, *CPU, "--tolerate", "dedicated=db") == ["plain"]
    assert nodes(vacancy, "--query", "resources=VCPU:1&tolerate=dedicated=gpu") == ["gpu-1", "plain"]
    gpu = ("--resources", "CUSTOM_GPU:1")
    assert "repelled" not in vacancy("place", *CPU, "--consumer", "web")
    assert vacancy.run_shared("place", *gpu, "--consumer", "train").code == 3
    assert "on gpu-1" in vacancy("place", *gpu, "--consumer", "train", "--tolerate", "dedicated")
    # A taint of a part is for the part.
    vacancy("provider", "taint", "gpu-1", "dedicated", "--remove")
    vacancy("provider", "taint", "gpu-1:0", "dedicated=gpu")
    assert nodes(vacancy, *CPU) == ["gpu-1", "plain"]
    assert nodes(vacancy, *gpu) == []
    assert vacancy.json("verify")["audit"]["problems"] == []


def test_the_taint_is_named_where_it_repels(vacancy: Vacancy) -> None:
    vacancy("provider", "taint", "gpu-1", "dedicated=gpu", "burn-in")
    answer = vacancy("why-not", "gpu-1", *CPU)
    assert "repelled by taint dedicated=gpu of gpu-1; add --tolerate dedicated=gpu" in answer
    assert "repelled by taint burn-in of gpu-1; add --tolerate burn-in" in answer
    answer = vacancy("why-not", "gpu-1", "--resources", "CUSTOM_GPU:1", "--tolerate", "burn-in")
    assert "add --tolerate dedicated=gpu" in answer
    assert "add --tolerate burn-in" not in answer
    answer = vacancy("why-not", "gpu-1", *CPU, "--tolerate", "burn-in", "--tolerate", "dedicated")
    assert "it is a candidate" in answer
    answer = vacancy.run_shared("place", "--resources", "CUSTOM_GPU:1").out
    assert "tolerates taint dedicated=gpu" in answer
    assert "add --tolerate dedicated=gpu" in answer
    # Qualities of a node are not about who may use it.
    assert "it has the qualities" in vacancy("why-not", "gpu-1", *CPU, "--qualities-only")


def test_taints_are_shown_and_removed(vacancy: Vacancy) -> None:
    vacancy("provider", "taint", "gpu-1", "dedicated=gpu", "b")
    vacancy("provider", "taint", "gpu-1", "old", "--prefer")
    shown = vacancy("show", "provider", "gpu-1")
    assert "taints: b, dedicated=gpu, old (prefers others)" in shown
    facts = vacancy.json("show", "provider", "gpu-1")["providers"][0]["facts"]
    assert facts["taints"][1] == {"key": "dedicated", "value": "gpu", "effect": "no_schedule"}
    assert "taints (providers): b on 1, dedicated=gpu on 1, old on 1" in vacancy("status")
    assert vacancy.json("status")["taints"] == {"b": 1, "dedicated=gpu": 1, "old": 1}
    # One of the same key is replaced. One of another value is not there, so it is not removed.
    assert "taints b, dedicated=db" in vacancy("provider", "taint", "gpu-1", "dedicated=db")
    assert "(unchanged)" in vacancy("provider", "taint", "gpu-1", "dedicated=gpu", "--remove")
    assert "taints" not in vacancy("provider", "taint", "gpu-1", "dedicated=db", "b", "old", "--remove")
    assert vacancy.json("status")["taints"] == {}
    # They stay through other settings, and those stay.
    vacancy("provider", "taint", "gpu-1", "dedicated=gpu")
    vacancy("provider", "disable", "gpu-1", "--reason", "fans")
    assert "disabled (fans), taints dedicated=gpu" in vacancy("provider", "taint", "gpu-1", "dedicated=gpu")
    assert "disabled" in vacancy("why-not", "gpu-1", *CPU)


def test_a_taint_that_only_prefers_others_puts_a_node_last(vacancy: Vacancy) -> None:
    vacancy("provider", "taint", "gpu-1", "old", "--prefer")
    for number in range(8):
        assert "on plain" in vacancy("place", *CPU, "--consumer", f"c{number}")
    assert "on gpu-1" in vacancy("place", *CPU, "--consumer", "c8")
    assert vacancy.json("verify")["audit"]["problems"] == []


def test_what_is_held_stays_and_moves_keep_their_tolerations(vacancy: Vacancy) -> None:
    vacancy("place", *CPU, "--in-tree", "gpu-1", "--consumer", "old-vm")
    vacancy("provider", "taint", "gpu-1", "dedicated=gpu")
    vacancy("place", *CPU, "--tolerate", "dedicated", "--in-tree", "gpu-1", "--consumer", "train")
    vacancy(
        "place", "--resources", "VCPU:2", "--in-tree", "gpu-1", "--consumer", "big", "--tolerate", "dedicated"
    )
    # Less of it is no worse; more of it is a new claim, and its request tolerates nothing.
    vacancy("resize", "big", "--resources", "VCPU:1")
    assert vacancy.run_shared("resize", "old-vm", "--resources", "VCPU:2").code == 3
    vacancy("resize", "train", "--resources", "VCPU:2")
    # An evacuation knows what each consumer tolerates.
    vacancy("publish", "--once", "--file", report(vacancy.home, "gpu-2"))
    vacancy("provider", "taint", "gpu-2", "dedicated=gpu")
    vacancy("provider", "disable", "plain")
    vacancy("move", "train", "--not-node", "gpu-1")
    assert vacancy.json("show", "consumer", "train")[0]["holdings"][0]["provider"] == "gpu-2"
    refused = vacancy.run_shared("move", "old-vm", "--not-node", "gpu-1")
    assert refused.code == 3
    assert "add --tolerate dedicated=gpu" in refused.out
    # An operator may allow it, from then on.
    assert "to gpu-2" in vacancy("move", "old-vm", "--not-node", "gpu-1", "--tolerate", "dedicated=gpu")
    vacancy("resize", "old-vm", "--resources", "VCPU:2")
    planned = vacancy.json("evacuate", "gpu-1", "--dry-run", "--tolerate", "dedicated")
    assert [one["to"] for one in planned["consumers"]] == ["gpu-2"]
    assert vacancy.json("verify")["audit"]["problems"] == []


def test_members_of_a_gang_tolerate_for_themselves(vacancy: Vacancy) -> None:
    vacancy("provider", "taint", "gpu-1", "dedicated=gpu")
    members = [
        {"consumer": "a", "query": "resources=VCPU:8"},
        {"consumer": "b", "query": "resources=VCPU:8&tolerate=dedicated"},
    ]
    file = vacancy.home / "gang.json"
    file.write_text(json.dumps(members))
    placed = vacancy.json("place", "--gang", file)["gang"]
    assert [one["root"] for one in placed] == ["plain", "gpu-1"]


def test_what_is_wrong_is_said(vacancy: Vacancy) -> None:
    assert "is no taint" in vacancy.fails(2, "provider", "taint", "gpu-1", "=gpu")
    assert "is no taint" in vacancy.fails(2, "candidates", *CPU, "--tolerate", "a b")
    assert "either set or removed" in vacancy.fails(
        2, "provider", "taint", "gpu-1", "a", "--remove", "--prefer"
    )
    many = [word for number in range(33) for word in ("--tolerate", f"t{number}")]
    assert "33 tolerations" in vacancy.fails(2, "candidates", *CPU, *many)
    answer = vacancy.fails(1, "provider", "taint", "gpu-1", *(f"t{number}" for number in range(17)))
    assert "17 taints" in answer


def test_older_rules_know_no_taints(tmp_path: Path) -> None:
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        log_of_version(3, f"sqlite://{tmp_path}/log.db")
        vacancy("publish", "--once", "--no-wait", "--file", report(tmp_path, "n1"))
        vacancy("replay")
        assert "tolerations need version 4" in vacancy.fails(2, "place", *CPU, "--tolerate", "a")
        assert "taints need version 4" in vacancy.fails(2, "provider", "taint", "n1", "a")
        assert vacancy.json("verify")["audit"]["problems"] == []
