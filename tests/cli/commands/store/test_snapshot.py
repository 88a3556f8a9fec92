"""The commands of snapshots: beside a worker, on an empty host, and what they refuse."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.command import EXECUTABLE, Vacancy, node_file


@pytest.fixture
def vacancy(tmp_path: Path) -> Iterator[Vacancy]:
    with Vacancy(tmp_path) as started:
        started("topics", "create", "--partitions", 2)
        yield started


def test_a_host_starts_with_a_snapshot_and_the_tail(vacancy: Vacancy, tmp_path: Path) -> None:
    with vacancy.worker():
        vacancy("publish", "--once", "--file", node_file(tmp_path, "node-1"))
        made = vacancy.json("snapshot", "create")
        assert vacancy.json("snapshot", "list") == {"snapshots": [made], "damaged": []}
        assert vacancy.json("snapshot", "verify")["snapshots"] == [
            {"id": made["id"], "ok": True, "error": None}
        ]
        vacancy("publish", "--once", "--file", node_file(tmp_path, "node-2"))
    restored = vacancy.json("snapshot", "restore", "--store", "second")
    assert (restored["id"], restored["digest"]) == (made["id"], made["digest"])
    assert vacancy.json("digest", "--store", "second")["digest"] == made["digest"]
    assert vacancy.json("replay", "--into", "second") == vacancy.json("digest")
    assert "there is a store already" in vacancy.fails(1, "snapshot", "restore")
    assert "the old store" in vacancy.run_shared("snapshot", "restore", made["id"], "--replace").err
    assert vacancy.json("digest")["digest"] == made["digest"]


def test_what_is_damaged_is_named(vacancy: Vacancy, tmp_path: Path) -> None:
    vacancy("replay")
    name = vacancy.json("snapshot", "create")["id"]
    kept = tmp_path / "state/vacancy/snapshots" / name
    (kept / "p00001" / "CURRENT.gz").unlink()
    line = vacancy.fails(5, "snapshot", "verify")
    assert f"{name} cannot be restored: a file of the snapshot is missing ({kept}/p00001/CURRENT.gz)" in line
    assert "remove this one with `vacancy snapshot prune ID`" in line
    another = vacancy.json("snapshot", "create")["id"]
    (kept.with_name(another) / "p00001" / "CURRENT.gz").unlink()
    ended = vacancy.run_shared("snapshot", "verify")
    assert ended.code == 5
    assert [line.split()[2] for line in ended.err.splitlines()] == [name, another]
    vacancy("snapshot", "prune", another)
    assert "missing" in vacancy.fails(1, "snapshot", "restore", "--store", "second")
    assert not (tmp_path / "second").exists()
    (kept / "manifest.json").write_text("{}")
    assert [one["id"] for one in vacancy.json("snapshot", "list")["damaged"]] == [name]
    assert vacancy.json("snapshot", "prune", name, "--dry-run") == {"removed": [name], "dry_run": True}
    assert vacancy.json("snapshot", "prune", name) == {"removed": [name], "dry_run": False}
    assert vacancy.json("snapshot", "list") == {"snapshots": [], "damaged": []}
    assert not kept.exists()


def test_old_ones_are_removed(vacancy: Vacancy) -> None:
    vacancy("replay")
    names = [vacancy.json("snapshot", "create")["id"] for _ in range(3)]
    assert vacancy.json("snapshot", "prune", "--keep", 2)["removed"] == names[:1]
    assert vacancy.json("snapshot", "prune", "--max-age", "1d")["removed"] == []


def test_wrong_use_is_one_line(vacancy: Vacancy) -> None:
    assert "there is no store" in vacancy.fails(1, "snapshot", "create")
    assert "there is no snapshot of log" in vacancy.fails(1, "snapshot", "restore")
    assert "is not the id of a snapshot" in vacancy.fails(1, "snapshot", "verify", "yesterday")
    assert "is not the id of a snapshot" in vacancy.fails(1, "snapshot", "prune", "../store")
    assert "it is not clear what to remove" in vacancy.fails(2, "snapshot", "prune")
    assert "'tomorrow' is not a time" in vacancy.fails(2, "snapshot", "prune", "--max-age", "tomorrow")
    assert "is not installed" in vacancy.fails(2, "snapshot", "list", "--snapshots", "s3://bucket/here")
    assert "Not a directory" in vacancy.fails(1, "snapshot", "list", "--snapshots", EXECUTABLE)
    assert json.loads(vacancy.run_shared("snapshot", "list", "--json").out)["snapshots"] == []


def wait_until(done: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 120
    while not done():
        assert time.monotonic() < give_up_at
        time.sleep(0.1)


def test_a_worker_makes_them_and_another_host_starts_with_the_newest(
    vacancy: Vacancy, tmp_path: Path
) -> None:
    def ids() -> list[str]:
        return [one["id"] for one in vacancy.json("snapshot", "list", "--snapshots", "kept")["snapshots"]]

    vacancy("publish", "--once", "--file", node_file(tmp_path, "node-1"))
    words = ("worker", "--snapshots", "kept", "--snapshot-every", "1s", "--snapshot-keep", 2)
    with vacancy.serving(*words, until="caught up"):
        wait_until(lambda: len(ids()) == 2)
        first = ids()[0]
        wait_until(lambda: first not in ids())
        assert len(ids()) <= 3, "the newest is there before the oldest is removed"
        vacancy("publish", "--once", "--file", node_file(tmp_path, "node-2"))
    whole = vacancy.json("digest")
    newest = ids()[-1]
    another = ("worker", "--store", "second", "--from-snapshot", "kept")
    for lines in (1, 0):
        with vacancy.serving(*another, until="caught up") as said:
            starts = [line for line in said if f"the store starts with snapshot {newest}" in line]
        assert len(starts) == lines, "once there is a store, it is used"
        assert vacancy.json("digest", "--store", "second") == whole


def test_a_worker_without_a_usable_snapshot_folds_the_log(vacancy: Vacancy, tmp_path: Path) -> None:
    vacancy("publish", "--once", "--file", node_file(tmp_path, "node-1"))
    whole = vacancy.json("replay")
    with vacancy.serving("worker", "--store", "second", "--from-snapshot", "kept", until="caught up") as said:
        pass
    assert any("can be used: the log is folded from its start" in line for line in said)
    assert vacancy.json("digest", "--store", "second") == whole


def test_a_worker_refuses_a_damaged_snapshot(vacancy: Vacancy, tmp_path: Path) -> None:
    vacancy("replay")
    name = vacancy.json("snapshot", "create", "--snapshots", "kept")["id"]
    file = tmp_path / "kept" / name / "p00000" / "CURRENT.gz"
    file.write_bytes(b"")
    ended = vacancy.run_shared("worker", "--store", "second", "--from-snapshot", "kept")
    assert ended.code == 1
    said = ended.err
    assert f"a file of the snapshot is damaged ({tmp_path}/kept/{name}/p00000/CURRENT.gz)" in said
    assert not (tmp_path / "second").exists()


def test_options_of_the_worker_that_are_wrong_end_it_at_once(vacancy: Vacancy) -> None:
    assert "'often' is not a time" in vacancy.fails(2, "worker", "--snapshot-every", "often")
    assert "needs --snapshot-every" in vacancy.fails(2, "worker", "--snapshot-max-age", "7d")
    every = ("worker", "--snapshot-every", "1h")
    assert "is not installed" in vacancy.fails(2, *every, "--snapshots", "s3://bucket/here")
