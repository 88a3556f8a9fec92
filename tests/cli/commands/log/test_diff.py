"""`vacancy diff` of points in time, snapshots and stores."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import Vacancy
from tests.support.logs.events_json import claim, claims, provider, released, reported
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.clocks.clock import wall_ms
from vacancy.streams.log import open_log

CELL = covering_cells(1)[0]


@pytest.fixture(scope="module")
def vacancy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vacancy]:
    """A log of six records. A snapshot has the first three, the store all of them."""
    home = tmp_path_factory.mktemp("diff")
    with Vacancy(home, log=f"sqlite://{home}/log.db", store=str(home / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", 1)
        later = wall_ms() + 300_000
        url = vacancy.environment["VACANCY_LOG"]

        def append(*values: bytes) -> None:
            with open_log(url) as log:
                log.append([NewRecord(CELL, value) for value in values])
            vacancy("replay", "--into", "store")

        append(
            reported("node-1", [provider("node-1", VCPU=4)]),
            claims(claim("c-1", "vm-1", "node-1", {"VCPU": 3}, later, project="red")),
        )
        vacancy("snapshot", "create")
        append(
            released("vm-1", "c-1"),
            claims(claim("c-2", "vm-2", "node-1", {"VCPU": 1}, later, project="blue")),
            reported("node-1", [provider("node-1", VCPU=2)], sequence=2),
        )
        yield vacancy


def test_points_snapshots_and_stores_are_compared(vacancy: Vacancy) -> None:
    (snapshot,) = vacancy.json("snapshot", "list")["snapshots"]
    name = f"snapshot:{snapshot['id']}"
    answers = [
        vacancy.json("diff", *words) for words in (("0:3", "0:6"), (name, "store"), (name, "-0s"), ("0:3",))
    ]
    for answer in answers:
        assert answer == answers[0]
    found = answers[0]
    assert [(one["consumer"], one["what"]) for one in found["consumers"]] == [
        ("vm-1", "gave back"),
        ("vm-2", "took"),
    ]
    assert (found["before"]["position"], found["after"]["position"]) == ({"0": 3}, {"0": 6})
    assert found["totals"] == [
        {"unit": "VCPU", "capacity_before": 4, "capacity_after": 2, "used_before": 3, "used_after": 1}
    ]


def test_a_history_from_a_point_on_begins_with_a_snapshot(vacancy: Vacancy) -> None:
    assert [one["offset"] for one in vacancy.json("history", "vm-1", "--from", "0:3")["entries"]] == [3]
    with_start, whole = (
        vacancy.json("history", "node-1", *words)["entries"] for words in (("--from", "0:4"), ())
    )
    assert with_start == whole[-2:]
    assert vacancy.json("history", "node-1", "--from", "-1d")["entries"] == whole
    assert "the log is younger than -1d" in vacancy.run_shared("history", "node-1", "--from", "-1d").err


def test_a_history_does_without_snapshots_that_cannot_be_read(vacancy: Vacancy, tmp_path: Path) -> None:
    """The log has all records, so the answer is the same; the error is on standard error."""
    whole = vacancy("history", "vm-2")
    (name,) = [one["id"] for one in vacancy.json("snapshot", "list")["snapshots"]]
    damaged = tmp_path / "damaged"
    shutil.copytree(vacancy.home / "state/vacancy/snapshots", damaged)
    (damaged / name / "p00000" / "CURRENT.gz").unlink()
    (tmp_path / "file").write_text("")
    settings = {"log": vacancy.environment["VACANCY_LOG"], "history": str(tmp_path / "history")}
    with Vacancy(vacancy.home, **settings) as fresh:
        ended = fresh.run_shared("history", "vm-2", "--snapshots", damaged)
        assert (ended.code, ended.out) == (0, whole)
        assert "missing" in ended.err
        refused = ("--snapshots", tmp_path / "file")
        ended = fresh.run_shared("history", "vm-2", *refused)
        assert (ended.code, ended.out) == (0, whole)
        (line,) = ended.err.splitlines()
        assert line.startswith("vacancy: folding from the first record: ")
        assert str(tmp_path / "file") in fresh.fails(1, "history", "vm-2", "--from", "0:4", *refused)


def test_what_people_see(vacancy: Vacancy) -> None:
    lines = [" ".join(line.split()) for line in vacancy("diff", "0:3").splitlines()]
    assert lines[2:4] == ["nodes: 0 came, 0 gone, 1 changed", "consumers: 1 took, 1 gave back, 0 changed"]
    assert f"node-1 {CELL} VCPU 4 -> 2, max_unit 4 -> 2" in lines
    assert f"vm-1 {CELL} red gave back node-1: VCPU 3" in lines
    assert "VCPU 4 -> 2 3 -> 1" in lines
    assert lines[lines.index("PROJECT CLASS USED") + 1 :][:2] == ["blue VCPU 0 -> 1", "red VCPU 3 -> 0"]
    ended = vacancy.run_shared("diff", "0:3", "--limit", 1)
    assert "--limit 2 shows them" in ended.err


def test_what_cannot_be_compared_is_one_line(vacancy: Vacancy) -> None:
    assert "no point in time, no snapshot and no store" in vacancy.fails(2, "diff", "nowhere")
    assert "0:9 does not exist" in vacancy.fails(2, "diff", "0:9")
    vacancy.fails(1, "diff", "snapshot:other")
    vacancy("topics", "create", "--partitions", 1, "--log", f"sqlite://{vacancy.home}/other.db")
    vacancy("replay", "--into", "other", "--log", f"sqlite://{vacancy.home}/other.db")
    (snapshot,) = vacancy.json("snapshot", "list")["snapshots"]
    for before in ("store", f"snapshot:{snapshot['id']}"):
        line = vacancy.fails(1, "diff", before, "other")
        assert "are of different logs" in line
        assert f"({before}, other)" in line
    assert vacancy.json("diff", "store", "other", "--across-logs")["nodes"][0]["what"] == "gone"
