"""The commands of archives: a folder that another host replays, verifies and asks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import Vacancy, node_file


@pytest.fixture
def vacancy(tmp_path: Path) -> Iterator[Vacancy]:
    with Vacancy(tmp_path) as started:
        started("topics", "create", "--partitions", 2)
        for n in range(3):
            started("publish", "--once", "--file", node_file(tmp_path, f"node-{n}"))
        yield started


def test_another_host_replays_an_archive(vacancy: Vacancy, tmp_path: Path) -> None:
    expected = vacancy.json("replay", "--into", "live")
    done = vacancy.json("log", "export", "--to", "report")
    assert done["url"] == f"file://{tmp_path}/report"
    assert done["new"]["records"] == sum(done["position"].values())
    archive = ("--log", f"archive+file://{tmp_path}/report")
    (tmp_path / "state/vacancy/log.db").unlink()
    assert vacancy.json("replay", *archive, "--into", "other") == expected
    assert vacancy.json("verify", *archive, "--store", "other")["ok"] is True
    assert vacancy.json("topics", "check", *archive)["log"] == done["log"]
    file = next((tmp_path / "report" / "p00001").iterdir())
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert f"{file}); restore the archive" in vacancy.fails(1, "replay", *archive, "--into", "third")


def test_an_export_goes_on(vacancy: Vacancy, tmp_path: Path) -> None:
    first = vacancy.json("log", "export", "--to", "report", "--until", "0:1,1:1")
    assert first["position"] == {"0": 1, "1": 1}
    second = vacancy.json("log", "export", "--to", "report", "--segment-records", 1)
    assert second["segments"] == sum(second["position"].values())
    assert "exported 0 records" in vacancy("log", "export", "--to", "report")


def test_what_an_archive_cannot_do_is_one_line(vacancy: Vacancy, tmp_path: Path) -> None:
    vacancy("log", "export", "--to", "report")
    archive = ("--log", f"archive+file://{tmp_path}/report")
    assert "has no new records" in vacancy.run_shared("worker", *archive).err
    assert "cannot be created as a log" in vacancy.fails(2, "topics", "create", *archive)
    assert "only read" in vacancy.fails(
        1, "publish", "--once", *archive, "--file", node_file(tmp_path, "node-9")
    )
    assert "is not installed" in vacancy.fails(2, "log", "export", "--to", "s3://bucket/here")
    assert "user name or password" in vacancy.fails(2, "log", "export", "--to", "s3://key:secret@bucket/here")
    assert "is not a point" in vacancy.fails(2, "log", "export", "--to", "report", "--until", "tomorrow")
    assert "there is no archive" in vacancy.fails(1, "replay", "--log", "archive+file:///nowhere")


def test_everything_goes_on_after_a_trim(vacancy: Vacancy, tmp_path: Path) -> None:
    with vacancy.worker():
        vacancy("place", "--resources", "VCPU:1", "--consumer", "web-1")
        first = vacancy.json("digest")
        marks = vacancy.json("topics", "trim", "--prepare")["marks"]
        vacancy("place", "--resources", "VCPU:1", "--consumer", "web-2")
        snapshot = _snapshot_after(vacancy, marks)
        words = ("topics", "trim", "--before", snapshot)
        assert "an archive has its records" in vacancy.fails(2, *words)
        assert "it is not clear what to do" in vacancy.fails(2, "topics", "trim")
        assert "there is no archive" in vacancy.fails(1, *words, "--archive", "kept")
        vacancy("log", "export", "--to", "kept")
        planned = vacancy.json(*words, "--archive", "kept", "--dry-run")
        assert [one["before"] for one in planned["partitions"]] == [marks["0"], marks["1"]]
        assert "deleted" in vacancy(*words, "--archive", "kept")
        assert "deleted 0 records" in vacancy(*words, "--archive", "kept")
        vacancy("publish", "--once", "--file", node_file(tmp_path, "node-9"))
        vacancy("place", "--resources", "VCPU:1", "--consumer", "web-3")
    with vacancy.worker():  # another one goes on, and needs no archive
        vacancy("place", "--resources", "VCPU:1", "--consumer", "web-4")
    live = vacancy.json("replay")  # the worker may have ended before the last records
    assert "VACANCY_ARCHIVE" in vacancy.fails(1, "replay", "--into", "second")
    assert "VACANCY_ARCHIVE" in vacancy.fails(1, "log", "show", "0:0")
    with vacancy.serving("worker", "--store", "new", "--archive", "kept", until="caught up") as said:
        assert any("folding them from" in line for line in said)
    assert vacancy.json("digest", "--store", "new") == live
    vacancy.close()  # the next command starts with the environment
    vacancy.environment["VACANCY_ARCHIVE"] = str(tmp_path / "kept")
    assert vacancy.json("replay", "--into", "second") == live
    assert "log.opened.v1" in vacancy("log", "show", "0:0")
    assert vacancy.json("verify", "--store", "second")["ok"] is True
    then = ",".join(f"{p}:{offset}" for p, offset in first["position"].items())
    assert vacancy.json("digest", "--as-of", then)["digest"] == first["digest"]
    done = vacancy.json("log", "export", "--to", "all")
    assert done["position"] == live["position"]
    imported = ("--log", f"sqlite://{tmp_path}/imported.db")
    assert vacancy.json("log", "import", "--from", "all", *imported)["log"] == done["log"]
    assert "exists already" in vacancy.fails(1, "log", "import", "--from", "all", *imported)
    assert vacancy.json("replay", *imported, "--into", "third") == live


def _snapshot_after(vacancy: Vacancy, marks: dict[str, int]) -> str:
    """Make a snapshot once the store has read the marks. Its id."""
    until = time.monotonic() + 60
    while True:
        made = vacancy.json("snapshot", "create")
        if all(one["position"] > marks[str(one["partition"])] for one in made["partitions"]):
            return str(made["id"])
        assert time.monotonic() < until
