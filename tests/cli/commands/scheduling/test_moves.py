"""The commands that change what a consumer holds: `move`, `resize`, `evacuate`, `update`, `place --replace`, and
`candidates --for`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.command import Vacancy


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vacancy]:
    """A log with three nodes in cell c1 and one in c2, and a worker."""
    home = tmp_path_factory.mktemp("moves")
    with Vacancy(home, log=f"sqlite://{home}/log.db", store=str(home / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", 2)
        with vacancy.worker():
            for root, cell, cpus in (("h1", "c1", 2), ("h2", "c1", 4), ("h3", "c1", 4), ("far", "c2", 4)):
                file = home / f"{root}.json"
                devices: dict[str, Any] = {f"{root}-{number}": {} for number in range(2)}
                inventories = {"VCPU": {"total": cpus}, "PCI_DEVICE": {"devices": devices}}
                file.write_text(json.dumps([{"id": root, "inventories": inventories}]))
                vacancy("publish", "--once", "--cell", cell, "--file", file)
            yield vacancy


@pytest.fixture
def vacancy(fleet: Vacancy) -> Iterator[Vacancy]:
    """The fleet, of which nothing is held, and all nodes are enabled."""
    yield fleet
    for node in fleet.json("show", "nodes")["nodes"]:
        fleet("provider", "enable", node["root"])
        for one in fleet.json("show", "provider", node["root"])["holdings"]:
            fleet.run_shared("release", one["consumer"])


def place(vacancy: Vacancy, consumer: str, node: str, resources: str = "VCPU:1", *more: object) -> Any:
    return vacancy.json("place", "--resources", resources, "--consumer", consumer, "--in-tree", node, *more)


def held(vacancy: Vacancy, consumer: str) -> dict[str, Any]:
    """`NODE CLASS` -> grant."""
    answers = vacancy.json("show", "consumer", consumer)
    return {
        f"{one['provider']} {one['resource_class']}": one["grant"]
        for answer in answers
        for one in answer["holdings"]
    }


def roots(vacancy: Vacancy, *words: object) -> list[str]:
    answer = vacancy.json("candidates", "--limit", 50, *words)
    return [one["root"] for one in answer["candidates"]]


def test_what_a_consumer_holds_counts_as_free_for_it(vacancy: Vacancy) -> None:
    place(vacancy, "vm-1", "h1")
    asked = ("--resources", "VCPU:2", "--in-tree", "h1")
    assert "no valid host" in vacancy.fails(3, "candidates", *asked, "--json")
    assert roots(vacancy, *asked, "--for", "vm-1") == ["h1"]
    assert "resized vm-1 on h1 in cell c1" in vacancy("resize", "vm-1", "--resources", "VCPU:2")
    assert held(vacancy, "vm-1") == {"h1 VCPU": 2}
    (row,) = vacancy.json("show", "provider", "h1")["providers"]
    (cpus,) = (one for one in row["inventories"] if one["resource_class"] == "VCPU")
    assert cpus["used"] == 2, "never 3"
    assert "nothing that matches has room on h1" in vacancy.fails(
        3, "resize", "vm-1", "--resources", "VCPU:3", "--json"
    )
    bigger = vacancy.json("resize", "vm-1", "--resources", "VCPU:3", "--elsewhere")
    assert bigger["root"] in ("h2", "h3")


def test_place_names_the_commands_that_change_what_exists(vacancy: Vacancy) -> None:
    place(vacancy, "vm-1", "h1", "VCPU:1,PCI_DEVICE:1")
    before = held(vacancy, "vm-1")
    again = ("place", "--resources", "VCPU:2,PCI_DEVICE:1", "--consumer", "vm-1")
    text = vacancy.fails(7, *again)
    for word in (
        "vacancy move vm-1",
        "vacancy resize vm-1",
        "vacancy place --replace",
        "vacancy release vm-1",
    ):
        assert f"`{word}`" in text
    assert "it holds 1 VCPU, PCI_DEVICE of h1 in cell c1" in text
    assert vacancy.json(*again, "--replace")["root"] == "h1"
    assert held(vacancy, "vm-1") == before | {"h1 VCPU": 2}
    assert vacancy.json("place", "--replace", "--resources", "VCPU:1", "--consumer", "new")["root"]
    vacancy("release", "new")
    assert "needs a consumer" in vacancy.fails(2, "place", "--replace", "--resources", "VCPU:1")


def test_candidates_leave_out_nodes_and_prefer_cells(vacancy: Vacancy) -> None:
    asked = ("--resources", "VCPU:1")
    assert sorted(roots(vacancy, *asked)) == ["far", "h1", "h2", "h3"]
    assert sorted(roots(vacancy, *asked, "--cell", "c1", "--not-node", "h1")) == ["h2", "h3"]
    assert sorted(roots(vacancy, *asked, "--not-node", "h1", "--not-node", "h3")) == ["far", "h2"]
    assert roots(vacancy, *asked, "--prefer-cell", "c2")[0] == "far"
    assert roots(vacancy, *asked, "--prefer-cell", "c1")[-1] == "far"
    assert roots(vacancy, *asked, "--prefer-cell", "nowhere")
    text = vacancy.fails(3, "candidates", *asked, "--cell", "c2", "--not-node", "far", "--json")
    assert "in cell c2 besides far" in text
    place(vacancy, "vm-1", "h2", "VCPU:4")
    listed = roots(vacancy, "--resources", "VCPU:4", "--for", "vm-1")
    assert (listed[0], sorted(listed[1:2]), listed[2:]) == ("h2", ["h3"], ["far"])
    assert roots(vacancy, "--resources", "VCPU:4", "--for", "vm-1", "--not-node", "h2") == ["h3", "far"]


def test_a_move_waits_for_its_verdict_and_ends_where_it_was_sent(vacancy: Vacancy) -> None:
    place(vacancy, "vm-1", "h1", "VCPU:2,PCI_DEVICE:1", "--project", "p")
    source = held(vacancy, "vm-1")
    assert "moved vm-1 to h3 in cell c1" in vacancy("move", "vm-1", "--to", "h3")
    assert "'h33' is not a node" in vacancy.fails(2, "move", "vm-1", "--not-node", "h33")
    assert "h1 is the node to move to" in vacancy.fails(2, "move", "vm-1", "--to", "h1", "--not-node", "h1")
    assert vacancy.json("move", "vm-1", "--not-node", "h3", "--not-node", "h2")["root"] == "h1"
    assert held(vacancy, "vm-1") == source
    assert vacancy.json("move", "vm-1", "--to", "h2", "--keep")["root"] == "h2"
    both = held(vacancy, "vm-1")
    assert both.items() > source.items()
    text = vacancy.fails(2, "move", "vm-1", "--keep")
    assert "end it with `vacancy move vm-1 --to h2`, or undo it with `--to h1`" in text
    vacancy("move", "vm-1", "--to", "h1")
    assert held(vacancy, "vm-1") == source
    (answer,) = vacancy.json("show", "consumer", "vm-1")
    assert answer["project"] == "p"
    vacancy("provider", "disable", "h2")
    assert "no valid host for vm-1" in vacancy.fails(3, "move", "vm-1", "--to", "h2", "--json")
    assert vacancy("move", "vm-1", "--to", "far") == "moved vm-1 from cell c1 to cell c2\n"
    assert "holds nothing" in vacancy.fails(1, "move", "nobody")


def test_why_there_is_no_place_is_said_of_the_nodes_in_question(vacancy: Vacancy) -> None:
    """A full node is short of VCPU and offers it. Other nodes do not count: neither where the consumer may not go, nor
    those of other cells."""
    place(vacancy, "vm-1", "h1", "VCPU:2")
    place(vacancy, "big", "h2", "VCPU:4")
    place(vacancy, "large", "h3", "VCPU:4")
    told = vacancy.run_shared("move", "vm-1", "--to", "h2")
    assert told.code == 3
    assert told.out.splitlines() == [
        "0 of 1 nodes remain; nodes removed by each constraint, alone and in order:",
        "GROUP  CONSTRAINT       ALONE  IN ORDER",
        "       VCPU: free >= 2      1         1",
        "",
        "nearest misses:",
        "NODE  GROUP  PROVIDER  CONSTRAINT       ASKED  AVAILABLE  WHY",
        "h2           h2        VCPU: free >= 2      2          0",
    ]
    told = vacancy.run_shared("move", "vm-1")
    assert "0 of 2 nodes remain" in told.out
    assert "takes new claims" not in told.out, "the node where it is was left out, and takes claims"
    told = vacancy.run_shared("resize", "vm-1", "--resources", "VCPU:3")
    assert (told.code, "0 of 1 nodes remain" in told.out) == (3, True)
    told = vacancy.run_shared("candidates", "--resources", "VCPU:9", "--cell", "c2", "--not-node", "h1")
    assert "0 of 1 nodes remain" in told.out


def test_a_name_that_does_not_exist_is_named(vacancy: Vacancy) -> None:
    place(vacancy, "vm-1", "h1", "VCPU:2")
    before = held(vacancy, "vm-1")
    assert "'h11' is not a node of cell c1" in vacancy.fails(2, "move", "vm-1", "--not-node", "h11")
    assert "'h11' is not a node of cell c1" in vacancy.fails(2, "move", "vm-1", "--to", "h11")
    assert held(vacancy, "vm-1") == before
    told = vacancy.run_shared("candidates", "--resources", "VCPU:1", "--not-node", "h11", "--cell", "c3")
    assert (told.code, "there is no cell c3" in told.err, "there is no node h11" in told.err) == (
        3,
        True,
        True,
    )
    told = vacancy.run_shared("move", "vm-1", "--to", "h1")
    assert "nothing was changed: vm-1 is on h1 already" in told.err


def test_a_node_is_evacuated(vacancy: Vacancy) -> None:
    for number in range(2):
        place(vacancy, f"vm-{number}", "h1")
    vacancy("provider", "disable", "h1")
    vacancy("provider", "disable", "h3")
    planned = vacancy.json("evacuate", "h1", "--dry-run")
    assert [one["to"] for one in planned["consumers"]] == ["h2", "h2"]
    assert held(vacancy, "vm-0") == {"h1 VCPU": 1}
    place(vacancy, "big", "h2", "VCPU:3")
    text = vacancy.fails(3, "evacuate", "h1")
    assert "no valid host for vm-1" in text
    assert (held(vacancy, "vm-0"), held(vacancy, "vm-1")) == ({"h2 VCPU": 1}, {"h1 VCPU": 1})
    vacancy("release", "big")
    assert "vm-1" in vacancy("evacuate", "h1")
    assert "nothing is held on h1" in vacancy("evacuate", "h1")
    assert "no provider" in vacancy.fails(1, "evacuate", "h9")


def test_the_project_the_user_and_the_type_change(vacancy: Vacancy) -> None:
    place(vacancy, "vm-1", "h1", "PCI_DEVICE:1")
    before = held(vacancy, "vm-1")
    answer = vacancy.json("update", "vm-1", "--project", "p2", "--user", "u2", "--type", "MIGRATION")
    assert len(answer.pop("written")) == 1
    assert answer == {"consumer": "vm-1", "cells": ["c1"], "outcome": "applied"}
    (shown,) = vacancy.json("show", "consumer", "vm-1")
    assert (shown["project"], shown["user"], shown["consumer_type"]) == ("p2", "u2", "MIGRATION")
    assert held(vacancy, "vm-1") == before
    assert "nothing is to be changed" in vacancy.fails(2, "update", "vm-1")
    assert "holds nothing" in vacancy.fails(1, "update", "nobody", "--project", "p")
    vacancy("quota", "set", "full", "PCI_DEVICE:0")
    text = vacancy.fails(8, "update", "vm-1", "--project", "full")
    assert "over quota: project full, PCI_DEVICE: used 0, asked 1, limit 0" in text
    assert vacancy.json("show", "consumer", "vm-1")[0]["project"] == "p2"


def test_a_request_is_compared_by_its_qualities_only(vacancy: Vacancy) -> None:
    place(vacancy, "vm-1", "h1", "VCPU:2")
    vacancy("provider", "disable", "h1")
    rebuild = ("--resources", "VCPU:2", "--qualities-only")
    assert "h1" in {one["root"] for one in vacancy.json("candidates", *rebuild)["candidates"]}
    assert "leave out --for" in vacancy.fails(2, "candidates", *rebuild, "--for", "vm-1")
