"""`vacancy replay`: up to a point, from a snapshot, against a build and against a store."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import EXECUTABLE, Vacancy, node_file
from tests.clients.replay_tool.replay_site import append_reports, other_build
from tests.support.logs.events_json import rules_in_steps
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import open_log


@pytest.fixture
def vacancy(tmp_path: Path) -> Iterator[Vacancy]:
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db") as started:
        started("topics", "create", "--partitions", 2)
        with open_log(f"sqlite://{tmp_path}/log.db") as log:
            append_reports(log, 20)
        yield started


def test_a_replay_ends_at_a_point_and_starts_with_a_snapshot(vacancy: Vacancy, tmp_path: Path) -> None:
    whole = vacancy.json("replay")
    first = vacancy.json("replay", "--into", "early", "--until", "0:4,1:3", "--processes", 2)
    assert first["position"] == {"0": 4, "1": 3}
    vacancy("snapshot", "create", "--snapshots", "kept")
    early = vacancy.json("snapshot", "create", "--store", "early", "--snapshots", "kept")
    ended = vacancy.run_shared(
        *("replay", "--into", "again", "--from-snapshot", "kept", "--until", "0:5,1:5", "--json")
    )
    assert f"the store starts with snapshot {early['id']}" in ended.err, "the other one is after that"
    assert vacancy.json("replay", "--into", "again", "--from-snapshot", "kept") == whole
    error = vacancy.fails(1, "replay", "--until", "0:4,1:3")
    assert "the store is at 0:" in error
    assert "past 0:4" in error
    assert "is not a point in time" in vacancy.fails(2, "replay", "--until", "later")


def test_it_is_compared_with_a_build(vacancy: Vacancy, tmp_path: Path) -> None:
    build = other_build(tmp_path / "build", (1, 5))
    ended = vacancy.run_shared("replay", "--against", build)
    assert ended.code == 5
    assert "the builds fold record 1:5 differently" in ended.err
    assert "first difference of partition 1: record 1:5" in ended.out
    assert "VCPU" in ended.out
    early = vacancy.json("replay", "--against", EXECUTABLE.parent.parent, "--until", "0:4,1:3")
    assert (early["equal"], early["records"]) == (True, 7)
    assert "leave out --into" in vacancy.fails(2, "replay", "--against", build, "--into", "there")
    assert "there is no build" in vacancy.fails(2, "replay", "--against", "nowhere")


def test_it_is_compared_with_a_store(vacancy: Vacancy, tmp_path: Path) -> None:
    vacancy("replay", "--into", "second")
    vacancy("snapshot", "create", "--store", "second", "--snapshots", "kept")
    equal = vacancy.json("replay", "--against", "second", "--snapshots", "kept")
    assert equal["equal"]
    assert [mark["name"].split()[0] for mark in equal["partitions"][0]["marks"]] == ["snapshot", "the"]
    vacancy("publish", "--once", "--file", node_file(tmp_path, "node-1"))
    other = f"sqlite://{tmp_path}/other.db"
    vacancy("topics", "create", "--log", other, "--partitions", 2)
    assert "the store was folded from log" in vacancy.fails(
        1, "replay", "--against", "second", "--log", other
    )


def test_an_error_stays_above_the_bar(vacancy: Vacancy, tmp_path: Path) -> None:
    """What stops one partition is on the screen while the others go on, and after the bar has gone."""
    with open_log(f"sqlite://{tmp_path}/log.db") as log:
        log.append([NewRecord(covering_cells(2)[0], value) for value in rules_in_steps(99)])
        append_reports(log, 50, sequence=2)
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        [EXECUTABLE, "replay", "--processes", "2"],
        stdout=subprocess.DEVNULL,
        stderr=terminal,
        cwd=tmp_path,
        env={**vacancy.environment, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(terminal)
    shown = b""
    try:
        while data := os.read(screen, 65536):
            shown += data
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(screen)
    assert process.wait(60) == 1
    text = shown.decode()
    assert "records folded" in text
    assert "/s" in text
    bar, error = text.rindex("records folded"), text.index("vacancy: partition 0 stopped: the log's rules")
    assert error < bar, "the bar goes on below it"
    assert "vacancy: the log's rules are version 99" in text.rstrip().splitlines()[-1]


def test_a_new_store_takes_the_place_of_the_old_one(vacancy: Vacancy, tmp_path: Path) -> None:
    with vacancy.worker():
        vacancy("snapshot", "create", "--snapshots", "kept")
        ended = vacancy.run_shared("replay", "--swap", "--from-snapshot", "kept", "--json")
        assert "the store starts with snapshot" in ended.err
        assert f"the old store is now {tmp_path}/state/vacancy/store.old-" in ended.err
        vacancy("publish", "--once", "--file", node_file(tmp_path, "node-1"))
    assert vacancy.json("digest") == vacancy.json("replay", "--into", "again")
    assert "leave out --until" in vacancy.fails(2, "replay", "--swap", "--until", "-1s")
