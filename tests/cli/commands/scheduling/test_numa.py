"""NUMA cells with the command: a node offers them, guests with several NUMA cells are placed, the audit finds no problem."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Vacancy

CELLS: dict[str, Any] = {
    "numa0": {"cell": 0, "cores": [[0, 8], [1, 9], [2, 10], [3, 11]], "hugepages": {"2048": 1024}},
    "numa1": {"cell": 1, "cores": [[4, 12], [5, 13], [6, 14], [7, 15]], "hugepages": {"2048": 1024}},
}
CARDS: dict[str, Any] = {
    "numa1": {"PCI_DEVICE": {"devices": {"0000:81:00.0": {"kind": "network", "vendor": "8086"}}}}
}
TWO_CELLS = "cells=2,cpus=4,policy=dedicated,threads=isolate,memory_mb=1024,page=2M"


@pytest.fixture(scope="module")
def vacancy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vacancy]:
    """A log with a node of two NUMA cells, and a worker that follows it."""
    home = tmp_path_factory.mktemp("numa")
    node = [
        {"id": "big", "inventories": {"VCPU": {"total": 4}, "DISK_GB": {"total": 100}}},
        *(
            {"id": f"big:{name}", "parent": "big", "inventories": {"NUMA_CELL": cell, **CARDS.get(name, {})}}
            for name, cell in CELLS.items()
        ),
        {"id": "big:nic", "parent": "big:numa1", "inventories": {"CUSTOM_NIC": {"total": 8}}},
    ]
    (home / "big.json").write_text(json.dumps(node))
    with Vacancy(home, log=f"sqlite://{home}/log.db", store=str(home / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", 1)
        vacancy("publish", "--once", "--file", home / "big.json")
        with vacancy.worker():
            yield vacancy


def grants(vacancy: Vacancy, consumer: str) -> dict[str, Any]:
    (held,) = vacancy.json("show", "consumer", consumer)
    return {one["provider"]: one["grant"] for one in held["holdings"] if one["resource_class"] == "NUMA_CELL"}


def test_a_guest_of_two_cells_gets_cpus_of_each(vacancy: Vacancy) -> None:
    found = vacancy.json("candidates", "--numa", TWO_CELLS, "--resources", "DISK_GB:10")["candidates"]
    served = {one["group"]: one["provider"] for one in found[0]["allocations"]}
    assert served[""] == "big"
    assert {served["numa0"], served["numa1"]} == {"big:numa0", "big:numa1"}
    placed = vacancy.json("place", "--numa", TWO_CELLS, "--resources", "DISK_GB:10", "--consumer", "pinned")
    expected = {
        f"big:{name}": {
            "cell": cell["cell"],
            "cpus": [cell["cores"][0][0], cell["cores"][1][0]],
            "threads": "isolate",
            "memory_mb": 512,
            "page_kib": 2048,
            "pages": 256,
        }
        for name, cell in CELLS.items()
    }
    assert {one["provider"]: one["grant"] for one in placed["grants"]} == expected
    assert grants(vacancy, "pinned") == expected
    assert '"cpus":[0,1]' in vacancy("show", "consumer", "pinned")


def test_isolated_cpus_are_exclusive_until_they_are_released(vacancy: Vacancy) -> None:
    eight = "cpus=4,policy=dedicated,threads=require"
    text = vacancy("place", "--numa", eight, "--consumer", "siblings-0")
    assert '"threads":"require"' in text
    vacancy("place", "--numa", eight, "--consumer", "siblings-1")
    cpus = [grant["cpus"] for n in (0, 1) for grant in grants(vacancy, f"siblings-{n}").values()]
    assert sorted(cpus) == [[2, 10, 3, 11], [6, 14, 7, 15]]
    assert "no valid host" in vacancy.fails(3, "place", "--numa", "cpus=1,policy=dedicated")
    vacancy("release", "pinned")
    vacancy("place", "--numa", eight, "--consumer", "siblings-2")
    assert sorted(next(iter(grants(vacancy, "siblings-2").values()))["cpus"]) in (
        [0, 1, 8, 9],
        [4, 5, 12, 13],
    )


def test_a_guest_gets_a_device_of_its_numa_cell(vacancy: Vacancy) -> None:
    near = ("--numa", "memory_mb=2,page=2M", "--group", "nic=CUSTOM_NIC:1", "--same-subtree", "numa0,nic")
    for _ in range(8):  # at random it would go to the other cell sometimes
        (found,) = vacancy.json("candidates", *near)["candidates"]
        assert {one["group"]: one["provider"] for one in found["allocations"]} == {
            "numa0": "big:numa1",
            "nic": "big:nic",
        }
    vacancy("place", *near, "--consumer", "near-0")
    told = vacancy("why-not", "big", "--numa", "cpus=1,policy=shared")
    assert "NUMA_CELL: shared_free >= 1" in told


def test_a_device_in_the_inventory_of_the_numa_cell(vacancy: Vacancy, tmp_path: Path) -> None:
    near = (
        "--numa",
        "memory_mb=2,page=2M",
        "--group",
        "nic=PCI_DEVICE:1[kind=network]",
        "--same-subtree",
        "numa0,nic",
    )
    for _ in range(8):
        (found,) = vacancy.json("candidates", *near)["candidates"]
        assert {one["group"]: one["provider"] for one in found["allocations"]} == {
            "numa0": "big:numa1",
            "nic": "big:numa1",
        }
    ask = {"memory_mb": 2, "page_kib": 2048}
    card = {"count": 1, "where": {"kind": "network"}}
    two_cells = {
        "groups": [
            {"name": "a", "resources": {"NUMA_CELL": ask, "PCI_DEVICE": card}},
            {"name": "b", "resources": {"NUMA_CELL": ask}},
        ],
        "group_policy": "isolate",
    }
    (tmp_path / "two-cells.json").write_text(json.dumps(two_cells))
    placed = vacancy.json("place", "--request", tmp_path / "two-cells.json", "--consumer", "near-1")
    devices = [one for one in placed["grants"] if one["resource_class"] == "PCI_DEVICE"]
    assert [(one["provider"], one["grant"]) for one in devices] == [("big:numa1", ["0000:81:00.0"])]
    assert "no valid host" in vacancy.fails(3, "place", *near, "--consumer", "near-2")


def test_the_audit_finds_no_problem_and_invalid_requests_are_refused(vacancy: Vacancy) -> None:
    verified = vacancy.json("verify")
    assert verified["ok"]
    assert verified["audit"]["accepted"] == 6
    assert "has no 'sockets=2'" in vacancy.fails(2, "candidates", "--numa", "sockets=2")
    assert "is not a list of CPUs" in vacancy.fails(2, "publish", "--once", "--dedicated-cpus", "2..4")
    assert "both dedicated and shared" in vacancy.fails(
        2, "publish", "--once", "--dedicated-cpus", "0", "--shared-cpus", "0"
    )
    assert "write split or whole" in vacancy.fails(2, "publish", "--once", "--numa", "all")
    assert "write {" in vacancy.fails(2, "candidates", "--resources", "NUMA_CELL:4")


def test_this_host_offers_its_numa_cells_by_the_options(vacancy: Vacancy) -> None:
    vacancy("publish", "--once", "--root", "here", "--numa", "whole", "--dedicated-cpus", "0")
    tree = vacancy.json("show", "provider", "here")["providers"]
    classes = {i["resource_class"] for one in tree for i in one["inventories"]}
    has_cells = any(one["id"].startswith("here:numa") for one in tree)
    assert ("NUMA_CELL" in classes) == has_cells
    assert ("VCPU" in classes) != has_cells
    assert vacancy.json("verify")["ok"]
