"""The command on a real Kafka."""

from __future__ import annotations

import json
import os
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Vacancy, node_file

pytestmark = pytest.mark.kafka


def test_a_topic_is_made_checked_written_and_folded(kafka: str, tmp_path: Path) -> None:
    url = f"kafka://{kafka}/cli-{uuid.uuid4().hex[:8]}"
    with Vacancy(tmp_path, log=url, store=str(tmp_path / "store")) as vacancy:
        assert "vacancy topics create" in vacancy.fails(1, "topics", "check")
        made = vacancy.json("topics", "create", "--partitions", 3, "--replication", 1)
        assert made["partitions"] == 3
        ended = vacancy.run_shared("topics", "check")
        assert ended.code == 5
        assert "replication is 1, not 3" in ended.out
        vacancy("publish", "--once", "--file", node_file(tmp_path, "node-1"))
        folded = vacancy.json("replay")
        assert vacancy.json("show", "nodes")["nodes"][0]["root"] == "node-1"
        assert [one["lag"] for one in vacancy.json("status")["partitions"]] == [0, 0, 0]
        assert vacancy.json("verify")["digest_store"] == folded["digest"]
        settings = ("--set", "max.poll.records=7", "--set", "client.id=me")
        assert vacancy.json("replay", *settings) == folded
        assert "there is no Kafka setting 'colour'" in vacancy.fails(2, "status", "--set", "colour=red")
        assert "is not allowed" in vacancy.fails(2, "replay", "--set", "group.id=mine")


def with_plugin(home: Path) -> str:
    """A `PYTHONPATH` on which the class PORTS of the tests is installed as a plugin."""
    information = home / "ports-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: ports\nVersion: 1\n")
    (information / "entry_points.txt").write_text(
        "[vacancy.resource_classes]\nPORTS = tests.support.classes.ports_class:Ports\n"
    )
    return f"{home}{os.pathsep}{Path(__file__).parents[2]}"


def test_rules_are_raised_with_the_answers_of_all_workers(kafka: str, tmp_path: Path) -> None:
    """Two hosts of which one lacks a plugin; then it is installed there, and then that host is down."""
    url = f"kafka://{kafka}/rules-{uuid.uuid4().hex[:8]}"
    homes = tmp_path / "a", tmp_path / "b"
    for home in homes:
        home.mkdir()
    a, b = (Vacancy(home, log=url, store=str(home / "store"), web_port="off") for home in homes)
    a("topics", "create", "--partitions", 2, "--replication", 1)
    a.close()  # the next command has the plugin
    path = with_plugin(tmp_path)

    def activated(code: int, *more: object) -> tuple[dict[str, Any], str]:
        ended = a.run("classes", "activate", "--timeout", 60, "--json", *more)
        assert ended.code == code, ended
        return json.loads(ended.out), ended.err

    a.environment["PYTHONPATH"] = path
    with a.worker():
        store_a = manifest_of(homes[0])
        with b.worker():
            store_b = manifest_of(homes[1])
            found, error = activated(1)
            assert (found["outcome"], found["raised"], found["unanswered"]) == ("lacking", [], [])
            assert "not activated: " in error
            answers = {
                (one["partition"], answer["store"]): answer["missing"]
                for one in found["proposals"]
                for answer in one["answers"]
            }
            lacks = ["resource class PORTS"]
            assert answers == {(p, store_a): [] for p in (0, 1)} | {(p, store_b): lacks for p in (0, 1)}
        b.environment["PYTHONPATH"] = path
        with b.worker():
            until = time.monotonic() + 90
            while not all(
                not answer["missing"]
                for one in a.json("rules", "show")["proposals"]
                for answer in one["answers"]
            ):
                assert time.monotonic() < until
                time.sleep(0.05)
            b("rules", "withdraw")
        found, _ = activated(0)
        assert (found["outcome"], found["raised"]) == ("activated", [0, 1])
        assert found["unanswered"] == [{"store": store_b, "running": False}]
        shown = a.json("rules", "show")
        assert [one["classes"] for one in shown["partitions"]] == [["PORTS"]] * 2
        assert shown["proposals"] == []
    for one in (a, b):
        one.close()


def test_two_workers_of_a_store_make_a_snapshot_and_another_host_starts_with_it(
    kafka: str, tmp_path: Path
) -> None:
    url = f"kafka://{kafka}/snapshots-{uuid.uuid4().hex[:8]}"
    kept = str(tmp_path / "kept")
    homes = tmp_path / "a", tmp_path / "b"
    for home in homes:
        home.mkdir()
    a, b = (
        Vacancy(home, log=url, store=str(home / "store"), web_port="off", snapshots=kept) for home in homes
    )
    with a, b:
        a("topics", "create", "--partitions", 3, "--replication", 1)
        with a.worker(), a.worker():
            a("publish", "--once", "--file", node_file(homes[0], "node-1"))
            made = a.json("snapshot", "create")
            assert sum(one["position"] for one in made["partitions"]) >= 4
            a("publish", "--once", "--file", node_file(homes[0], "node-2"))
        whole = a.json("replay")
        with b.serving("worker", "--from-snapshot", kept, until="caught up") as said:
            assert any(f"the store starts with snapshot {made['id']}" in line for line in said)
        assert b.json("replay") == whole
        assert manifest_of(homes[0]) != manifest_of(homes[1]) != made["store"]
        assert a.json("snapshot", "verify")["snapshots"][0]["ok"]


def test_two_workers_of_a_store_go_on_with_the_one_that_takes_its_place(kafka: str, tmp_path: Path) -> None:
    url = f"kafka://{kafka}/swap-{uuid.uuid4().hex[:8]}"
    with Vacancy(tmp_path, log=url, store=str(tmp_path / "store"), web_port="off") as vacancy:
        vacancy("topics", "create", "--partitions", 3, "--replication", 1)
        with vacancy.worker(), vacancy.worker():
            vacancy("publish", "--once", "--file", node_file(tmp_path, "node-1"))
            before = manifest_of(tmp_path)
            vacancy("replay", "--swap")
            assert manifest_of(tmp_path) != before
            vacancy("publish", "--once", "--file", node_file(tmp_path, "node-2"))
            end = vacancy.json("replay", "--into", tmp_path / "again")
            assert vacancy.json("status", "--at-least", position_of(end))
            assert vacancy.json("digest") == end


def position_of(digest: dict[str, Any]) -> str:
    """The position of a digest, as it is written on the command line."""
    return ",".join(f"{partition}:{offset}" for partition, offset in digest["position"].items())


def manifest_of(home: Path) -> str:
    """The id of the store of a host."""
    found: str = json.loads((home / "store/store.json").read_text())["store"]
    return found
