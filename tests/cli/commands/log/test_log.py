"""`vacancy log show`, `vacancy log tail` and `vacancy history`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import EXECUTABLE, Vacancy
from tests.support.logs.events_json import claim, claims, provider, released, reported
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.clocks.clock import wall_ms
from vacancy.streams.log import open_log

CELL = covering_cells(1)[0]
NOISE = b'{"data": {"consumer": "vm-1", \x1b[2J'


@pytest.fixture(scope="module")
def vacancy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vacancy]:
    """A node, two claims, a release, and bytes that are no event; folded."""
    home = tmp_path_factory.mktemp("log")
    with Vacancy(home, log=f"sqlite://{home}/log.db", store=str(home / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", 1)
        later = wall_ms() + 300_000
        values = (
            reported("node-1", [provider("node-1", VCPU=4)]),
            claims(
                claim("c-1", "vm-1", "node-1", {"VCPU": 3}, later),
                claim("c-2", "vm-2", "node-1", {"VCPU": 2}, later),
            ),
            released("vm-1", "c-1"),
            NOISE,
        )
        with open_log(vacancy.environment["VACANCY_LOG"]) as log:
            log.append([NewRecord(CELL, value) for value in values])
        vacancy("replay", "--into", "store")
        yield vacancy


def json_lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_one_record_with_what_the_fold_made_of_it(vacancy: Vacancy) -> None:
    lines = vacancy("log", "show", "0:2").splitlines()
    assert lines[0] == "record 0:2: claims.requested.v1"
    assert lines[-3:] == [
        "outcome:  applied",
        "  claim c-1 of vm-1: accepted",
        "  claim c-2 of vm-2: rejected: no room, VCPU on node-1: asked 2, available 1",
    ]
    (found,) = json_lines(vacancy("log", "show", "0:2", "--json"))
    assert found["event"]["data"]["claims"][1]["consumer"] == "vm-2"
    assert [one["accepted"] for one in found["outcome"]["claims"]] == [True, False]


def test_bytes_that_are_no_event_are_shown_without_control_characters(vacancy: Vacancy) -> None:
    said = vacancy("log", "show", "0:4")
    assert "\\x1b[2J" in said
    assert "\x1b" not in said
    assert "invalid:  Invalid JSON" in said
    assert "outcome:  refused: Invalid JSON" in said


def test_several_records(vacancy: Vacancy) -> None:
    for words in (("0:1-2",), ("0:1-0:2",), ("0:1", "--count", 2)):
        assert [one["offset"] for one in json_lines(vacancy("log", "show", *words, "--json"))] == [1, 2]


def test_what_cannot_be_shown_is_one_line(vacancy: Vacancy) -> None:
    assert "has the records 0:0 to 0:4" in vacancy.fails(2, "log", "show", "0:5")
    assert "there is no partition 7" in vacancy.fails(2, "log", "show", "7:0")
    for wrong in ("x", "0", "0:3-1", "0:1-1:2"):
        vacancy.fails(2, "log", "show", wrong)
    assert "there is no partition 9" in vacancy.fails(2, "log", "tail", "--partition", 9)


def test_without_a_store_the_outcome_is_left_out(vacancy: Vacancy) -> None:
    said = vacancy("log", "show", "0:2", "--store", "nowhere")
    assert "outcome" not in said
    assert json_lines(vacancy("log", "show", "0:2", "--store", "nowhere", "--json"))[0]["outcome"] is None


def test_the_newest_records_and_those_that_name_something(vacancy: Vacancy) -> None:
    def offsets(*words: object) -> list[int]:
        return [one["offset"] for one in json_lines(vacancy("log", "tail", *words, "--json"))]

    assert offsets() == [0, 1, 2, 3, 4]
    assert offsets("--count", 2) == [3, 4]
    assert offsets("--consumer", "vm-1") == [2, 3]
    assert offsets("--node", "node-1") == [1, 2]
    assert offsets("--provider", "node-1", "--type", "claims.requested") == [2]
    assert offsets("--from", "0:3") == [3, 4]
    assert offsets("--from", "-1d") == offsets()
    assert offsets("--from", "0:1", "--count", 2) == [1, 2]
    assert offsets("--from", "0:0", "--partition", 0)[:1] == [0]
    lines = vacancy("log", "tail", "--count", 3).splitlines()
    assert lines[0].endswith("2 claims: vm-1 on node-1, vm-2 on node-1")


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def test_following_ends_with_a_signal(
    kind: str, vacancy: Vacancy, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url, more = f"sqlite://{tmp_path}/log.db", tuple[object, ...]()
    if kind == "kafka":
        url = f"kafka://{request.getfixturevalue('kafka')}/log-{uuid.uuid4().hex[:8]}"
        more = ("--replication", 1)
    vacancy("topics", "create", "--partitions", 1, "--log", url, *more)
    command = [str(EXECUTABLE), "log", "tail", "--follow", "--json", "--log", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ, text=True) as process:
        assert process.stdout is not None
        try:
            assert json.loads(process.stdout.readline())["offset"] == 0
            with open_log(url) as log:
                log.append([NewRecord(CELL, released("vm-1", "c-1"))])
            assert json.loads(process.stdout.readline())["event"]["data"]["releases"][0]["consumer"] == "vm-1"
            assert "1 release: vm-1" in vacancy("log", "show", "0:1", "--log", url)
            process.send_signal(signal.SIGTERM)
            assert process.wait(90) == 0
        finally:
            process.kill()


def test_the_history_of_one_thing(vacancy: Vacancy) -> None:
    lines = vacancy("history", "vm-1").splitlines()
    assert lines[0].split() == ["RECORD", "TIME", "EVENT", "WHAT", "HAPPENED"]
    assert [line.split("  ")[-1].strip() for line in lines[1:]] == [
        "placed on node-1: VCPU 3 (claim c-1)",
        "released: gave back node-1: VCPU 3 (claim c-1)",
    ]
    found = vacancy.json("history", "node-1", "--from", "0:2")
    assert [one["offset"] for one in found["entries"]] == [2, 3]
    assert found["entries"][0]["effects"][0]["amounts"] == {"node-1": {"VCPU": 3}}
    assert "no record names" in vacancy.fails(1, "history", "vm-9")
    vacancy.fails(2, "history", "vm-1", "--kind", "machine")
