"""Commands that write say what became of their record: applied, refused and why, or not known yet."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Vacancy, node_file
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.streams.log import open_log

SMALL = ("--resources", "VCPU:1")


@pytest.fixture(scope="module")
def vacancy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vacancy]:
    """A log with one node in each of the cells c1 and c2, and a worker that follows it."""
    home = tmp_path_factory.mktemp("outcomes")
    with Vacancy(home, log=f"sqlite://{home}/log.db", store=str(home / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", 3)
        with vacancy.worker():
            for root, cell in (("node-1", "c1"), ("node-2", "c2")):
                vacancy("publish", "--once", "--cell", cell, "--file", node_file(home, root))
            yield vacancy


def described(home: Path, root: str, inventories: dict[str, Any]) -> Path:
    file = home / f"{root}.json"
    file.write_text(json.dumps([{"id": root, "inventories": inventories}]))
    return file


# -- reports ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inventories", "reason"),
    [
        ({"MEMORY_MB": {"total": 4096, "reserved": 8192}}, "reserved"),
        ({"VCPU": {"total": 4, "allocation_ratio_milli": 0}}, "allocation_ratio_milli"),
        (
            {"PCI_DEVICE": {"devices": {f"d{n}": {} for n in range(5000)}}},
            "PCI_DEVICE: an inventory has 4,096 devices at most, and this one has 5,000",
        ),
    ],
)
def test_a_refused_report_is_an_error_with_its_reason(
    vacancy: Vacancy, tmp_path: Path, inventories: dict[str, Any], reason: str
) -> None:
    publish = ("publish", "--once", "--cell", "c1", "--file", described(tmp_path, "bad-1", inventories))
    told = vacancy.fails(1, *publish)
    assert "the report of bad-1 was refused: " in told
    assert reason in told
    ended = vacancy.run_shared(*publish, "--json")
    answer = json.loads(ended.out)
    assert (ended.code, answer["node"], answer["outcome"]) == (1, "bad-1", "refused")
    assert reason in answer["reason"]
    letters = vacancy.json("dead-letters")["dead_letters"]
    assert (answer["partition"], answer["offset"]) in {(one["partition"], one["offset"]) for one in letters}


def test_a_report_that_is_applied_says_so(vacancy: Vacancy, tmp_path: Path) -> None:
    publish = ("publish", "--once", "--cell", "c1", "--file", node_file(tmp_path, "good-1"))
    assert vacancy.json(*publish)["outcome"] == "applied"
    assert vacancy.json("show", "provider", "good-1")["cell"] == "c1"
    sent = vacancy.run_shared(*publish, "--no-wait")
    assert (sent.code, "not known yet" in sent.err) == (0, True)


def test_what_no_worker_reads_is_not_known_yet(tmp_path: Path) -> None:
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        vacancy("topics", "create")
        publish = ("publish", "--once", "--file", node_file(tmp_path, "node-1"), "--timeout", 0.2)
        sent = vacancy.run_shared(*publish)
        assert (sent.code, "not known yet" in sent.err) == (0, True), "no store on this host follows the log"
        vacancy("replay")
        assert "the log has the report of node-1, but the store has not read that far" in vacancy.fails(
            6, *publish
        )
        ended = vacancy.run_shared(*publish, "--json")
        assert json.loads(ended.out)["outcome"] == "unknown"
        assert "the retirement of node-1" in vacancy.fails(
            6, "provider", "retire", "node-1", "--timeout", 0.2
        )
        disable = ("provider", "disable", "node-1", "--timeout", 0.2)
        assert "not known yet" in vacancy.fails(6, *disable)
        sent = vacancy.run_shared(*disable, "--no-wait", "--json")
        assert (sent.code, json.loads(sent.out)["outcome"]) == (0, "unknown")


# -- another log --------------------------------------------------------------------------------------------------


def records(log: Path) -> int:
    with closing(sqlite3.connect(log)) as opened:
        found: int = opened.execute("SELECT count(*) FROM records").fetchone()[0]
    return found


def test_nothing_is_written_to_a_log_that_was_made_again(tmp_path: Path) -> None:
    log = tmp_path / "log.db"
    with Vacancy(tmp_path, log=f"sqlite://{log}", store=str(tmp_path / "store")) as vacancy:
        vacancy("topics", "create")
        vacancy("publish", "--once", "--file", node_file(tmp_path, "node-1"))
        with vacancy.worker():
            vacancy("place", *SMALL, "--consumer", "vm-1", "--hold", 3600)
        for file in tmp_path.glob("log.db*"):
            file.unlink()
        vacancy("topics", "create")
        before = records(log)
        for command in (
            ("place", *SMALL, "--consumer", "vm-2"),
            ("release", "vm-1"),
            ("confirm", "vm-1"),
            ("settle", "vm-3", "--timeout", 0.5),
            ("provider", "disable", "node-1"),
            ("provider", "retire", "node-1"),
            ("rules", "activate", RULES_VERSION),
            ("rules", "withdraw"),
            ("classes", "activate"),
        ):
            assert "this is another log than the store's" in vacancy.fails(1, *command), command
        assert records(log) == before


# -- nodes that are gone -------------------------------------------------------------------------------------------


def test_a_node_is_retired_from_anywhere_in_its_own_cell(vacancy: Vacancy, tmp_path: Path) -> None:
    vacancy("publish", "--once", "--cell", "c2", "--file", node_file(tmp_path, "dead-1"))
    assert "no provider 'dead-2'" in vacancy.fails(1, "provider", "retire", "dead-2")
    elsewhere = ("publish", "--retire", "--root", "dead-1", "--outbox", tmp_path / "elsewhere")
    assert "has not published node dead-1" in vacancy.fails(1, *elsewhere)
    assert "there is no node 'dead-1' in cell c1" in vacancy.fails(1, *elsewhere, "--cell", "c1")
    assert vacancy("provider", "retire", "dead-1") == "retired dead-1 in cell c2\n"
    nodes = {(one["root"], one["cell"]): one["state"] for one in vacancy.json("show", "nodes")["nodes"]}
    assert [cell for root, cell in nodes if root == "dead-1"] == ["c2"], "no phantom"
    assert nodes["dead-1", "c2"] == "retired"
    again = vacancy.json("provider", "retire", "dead-1")
    assert (again["changed"], again["cell"]) == (False, "c2")
    assert "no provider 'ghost'" in vacancy.fails(1, "provider", "disable", "ghost")
    assert "is in cell c1, not in c2" in vacancy.fails(1, "provider", "disable", "node-1", "--cell", "c2")


def test_a_name_in_two_cells_needs_its_cell(vacancy: Vacancy, tmp_path: Path) -> None:
    for cell in ("c1", "c2"):
        outbox = tmp_path / cell
        vacancy(
            "publish", "--once", "--cell", cell, "--file", node_file(tmp_path, "twice"), "--outbox", outbox
        )
    for command in ("retire", "disable"):
        assert "'twice' is in cells c1 and c2" in vacancy.fails(2, "provider", command, "twice")
    assert "retired twice in cell c1" in vacancy("provider", "retire", "twice", "--cell", "c1")
    assert "retired twice in cell c2" in vacancy("provider", "retire", "twice")


def test_a_node_in_use_is_retired_only_with_force(vacancy: Vacancy, tmp_path: Path) -> None:
    publish = ("publish", "--once", "--cell", "c1", "--file", node_file(tmp_path, "busy-1"))
    vacancy(*publish)
    vacancy("place", *SMALL, "--in-tree", "busy-1", "--consumer", "vm-busy")
    told = vacancy.fails(1, "provider", "retire", "busy-1")
    assert "1 consumer holds something of it: vm-busy (1 VCPU of busy-1)" in told
    assert "--force" in told
    assert "vm-busy" in vacancy.fails(1, "publish", "--retire", *publish[2:])
    retired = vacancy.json("provider", "retire", "busy-1", "--force")
    assert [one["consumer"] for one in retired["held"]] == ["vm-busy"]
    assert vacancy.json("show", "consumer", "vm-busy")[0]["holdings"], "what is held is not forgotten"
    vacancy("release", "vm-busy")


# -- consumers ------------------------------------------------------------------------------------------------------


def hold_in_both_cells(vacancy: Vacancy, consumer: str) -> dict[str, str]:
    """Make a consumer hold something in both cells, as during a move. Returns the claims by cell."""
    url, store = vacancy.environment["VACANCY_LOG"], Path(vacancy.environment["VACANCY_STORE"])
    with open_log(url) as log, Scheduler(log, store, installed_registry()) as scheduler:
        wanted = [
            PlacementRequest(f"resources=VCPU:1&in_tree={node}", consumer=consumer, project="p")
            for node in ("node-1", "node-2")
        ]
        return {placed.cell: placed.claim for placed in scheduler.place_many(wanted, in_flight=1)}


def test_each_half_of_a_consumer_in_two_cells_is_released_by_itself(vacancy: Vacancy) -> None:
    claims = hold_in_both_cells(vacancy, "vm-1")
    assert {one["cell"] for one in vacancy.json("show", "consumer", "vm-1")} == {"c1", "c2"}
    used = vacancy.json("usage", "--project", "p")
    assert used["in_two_cells"] == [{"consumer": "vm-1", "cells": ["c1", "c2"]}]
    assert "vm-1 holds something in cells c1 and c2" in vacancy.run_shared("usage").err
    assert "no allocations of vm-1 in cell c3" in vacancy.fails(1, "release", "vm-1", "--cell", "c3")
    assert vacancy("release", "vm-1", "--cell", "c1") == "released vm-1 in cell c1\n"
    assert [one["cell"] for one in vacancy.json("show", "consumer", "vm-1")] == ["c2"]
    assert vacancy.json("usage", "--project", "p")["in_two_cells"] == []
    assert "by claim" in vacancy.fails(1, "release", "vm-1", "--claim", claims["c1"])
    assert vacancy.json("release", "vm-1", "--claim", claims["c2"])["released"] == {"vm-1": ["c2"]}
    hold_in_both_cells(vacancy, "vm-1")
    assert vacancy("release", "vm-1") == "released vm-1 in cells c1 and c2\n"


def test_a_consumer_that_exists_is_not_placed_again_in_any_cell(vacancy: Vacancy) -> None:
    placed = vacancy.json("place", *SMALL, "--in-tree", "node-1", "--consumer", "vm-2")
    told = vacancy.fails(7, "place", *SMALL, "--in-tree", "node-2", "--consumer", "vm-2")
    assert f"consumer vm-2 exists: it holds 1 VCPU of node-1 in cell c1 by claim {placed['claim']}" in told
    assert [one["cell"] for one in vacancy.json("show", "consumer", "vm-2")] == ["c1"]
    vacancy("release", "vm-2")


def test_a_consumer_has_a_type(vacancy: Vacancy) -> None:
    vacancy("place", *SMALL, "--consumer", "moving", "--consumer-type", "MIGRATION")
    assert vacancy.json("show", "consumer", "moving")[0]["consumer_type"] == "MIGRATION"
    (used,) = vacancy.json("usage", "--consumer-type", "MIGRATION")["usages"]
    assert used["usages"] == {"VCPU": 1}
    assert "consumer type" in vacancy.fails(2, "place", *SMALL, "--consumer-type", "x" * 65)
    vacancy("release", "moving")


# -- answers --------------------------------------------------------------------------------------------------------


@pytest.fixture
def full_host(vacancy: Vacancy, tmp_path: Path) -> Iterator[str]:
    """A node with the trait AVX2 that is full and disabled."""
    vacancy("publish", "--once", "--cell", "c3", "--file", node_file(tmp_path, "full-1"))
    vacancy("place", "--resources", "VCPU:8,MEMORY_MB:15872", "--in-tree", "full-1", "--consumer", "all")
    yield "full-1"
    vacancy("release", "all")
    vacancy("provider", "enable", "full-1")


@pytest.mark.parametrize("trait", ["HW_CPU_X86_AVX2", "in:HW_CPU_X86_AVX2,CUSTOM_Z"])
def test_a_full_node_does_not_lack_a_trait_that_it_has(vacancy: Vacancy, full_host: str, trait: str) -> None:
    asked = ("--resources", "VCPU:1,MEMORY_MB:1", "--required", trait, "--in-tree", full_host)
    free = {"VCPU: free >= 1", "MEMORY_MB: free >= 1"}
    why = vacancy.json("why-not", full_host, *asked)
    lacks = {one["constraint"] for g in why["groups"] for p in g["providers"][:1] for one in p["lacks"]}
    assert (lacks, why["whole"]) == (free, [])
    assert "trait" not in vacancy("why-not", full_host, *asked)
    for command in (("candidates",), ("place", "--consumer", "no")):
        ended = vacancy.run_shared(*command, *asked, "--json")
        assert ended.code == 3
        (nearest,) = [n for n in json.loads(ended.out)["explanation"]["nearest"] if n["root"] == full_host]
        assert nearest["whole"] == []
        assert {one["constraint"] for g in nearest["groups"] for one in g["providers"][0]["failures"]} == free


def test_qualities_are_checked_without_room(vacancy: Vacancy, full_host: str) -> None:
    """As for a rebuild with another image: the node is full and disabled, and shall stay where it is."""
    vacancy("provider", "disable", full_host)
    avx2 = ("--required", "HW_CPU_X86_AVX2", "--in-tree", full_host)
    assert "at least one resource" in vacancy.fails(2, "why-not", full_host, *avx2)
    why = vacancy.json("why-not", full_host, *avx2, "--qualities-only")
    assert (why["fits"], why["node"]["state"]) == (True, "disabled")
    assert "it has the qualities that are asked for" in vacancy(
        "why-not", full_host, *avx2, "--qualities-only"
    )
    found = vacancy.json("candidates", *avx2, "--resources", "VCPU:99", "--qualities-only")
    assert found["candidates"] == [{"cell": "c3", "root": full_host, "state": "disabled"}]
    other = ("--required", "CUSTOM_TPM", "--in-tree", full_host, "--qualities-only")
    assert "required trait CUSTOM_TPM" in vacancy("why-not", full_host, *other)
    ended = vacancy.run_shared("candidates", *other)
    assert (ended.code, "required trait CUSTOM_TPM" in ended.out) == (3, True)


def test_in_tree_holds_for_numa_and_groups(vacancy: Vacancy, tmp_path: Path) -> None:
    for root in ("src", "dst"):
        node = {"id": root, "inventories": {"DISK_GB": {"total": 10}}, "traits": ["HW_CPU_X86_AVX2"]}
        cores = {"cores": [[0], [1]], "memory_mb": 1024}
        cell = {"id": f"{root}:numa0", "parent": root, "inventories": {"NUMA_CELL": cores}}
        file = tmp_path / f"{root}.json"
        file.write_text(json.dumps([node, cell]))
        vacancy("publish", "--once", "--cell", "c3", "--file", file)
    for asked in (
        ("--numa", "cpus=2,policy=dedicated,memory_mb=512"),
        ("--group", "n=DISK_GB:1"),
        ("--group", "n=DISK_GB:1", "--required", "HW_CPU_X86_AVX2"),
    ):
        found = vacancy.json("candidates", *asked, "--in-tree", "dst")["candidates"]
        assert {one["root"] for one in found} == {"dst"}, asked
        placed = vacancy.json("place", *asked, "--in-tree", "dst", "--consumer", "there")
        assert placed["root"] == "dst"
        vacancy("release", "there")
