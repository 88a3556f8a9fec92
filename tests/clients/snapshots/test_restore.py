"""A snapshot and the tail of the log are the store that folds the whole log; what does not belong to the log is refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.support.sites.snapshot_site import REGISTRY, SnapshotSite
from vacancy.clients.runtime.bootstrap import new_log, open_store
from vacancy.clients.runtime.worker_process import WorkerProcess
from vacancy.clients.snapshots.restore import restore_snapshot
from vacancy.projections.snapshots.creation import create_snapshot
from vacancy.projections.snapshots.storage import NoSnapshot, SnapshotStorage
from vacancy.resources.model.errors import LogError, StoreCorrupt, StoreError, StoreInUse, StoreMismatch
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import open_log


def test_snapshot_and_tail_are_the_whole_log(site: SnapshotSite, storage: SnapshotStorage) -> None:
    create_snapshot(site.store, storage, REGISTRY)
    site.report()
    site.fold()
    made = create_snapshot(site.store, storage, REGISTRY)
    site.report()
    whole = site.fold()
    other = site.home / "other"
    done = restore_snapshot(site.log, storage, other, REGISTRY)
    assert (done.manifest, done.aside, done.passed_over) == (made, None, ())
    assert site.digest(other)[:2] == site.folded_again(made.position)[:2]
    with WorkerProcess(site.log.url, other) as worker:
        assert worker.wait_ready() == whole.position
    assert site.digest(other) == whole


def test_beside_a_worker_that_folds(site: SnapshotSite, storage: SnapshotStorage) -> None:
    """Each snapshot is a state that the log had, whatever the worker commits meanwhile."""
    with WorkerProcess(site.log.url, site.store) as worker:
        worker.wait_ready()
        for _ in range(3):
            site.report(100)
            made = create_snapshot(site.store, storage, REGISTRY)
            again = site.folded_again(made.position)
            assert (made.digest, tuple(one.digest for one in made.partitions)) == again[:2]
        worker.check()


def test_a_snapshot_of_another_log_is_refused(
    site: SnapshotSite, storage: SnapshotStorage, tmp_path: Path
) -> None:
    made = create_snapshot(site.store, storage, REGISTRY)
    with new_log(f"sqlite://{tmp_path}/other.db", 2, REGISTRY) as other:
        with pytest.raises(StoreMismatch, match=f"the snapshot is of log {made.log} with 2 partitions"):
            restore_snapshot(other, storage, tmp_path / "new", REGISTRY, made.id)
        with pytest.raises(NoSnapshot, match="there is no snapshot of log"):
            restore_snapshot(other, storage, tmp_path / "new", REGISTRY)
    assert not (tmp_path / "new").exists()


def test_a_log_that_lost_its_end_or_has_other_records_is_refused(
    site: SnapshotSite, storage: SnapshotStorage, tmp_path: Path
) -> None:
    made = create_snapshot(site.store, storage, REGISTRY)
    path = tmp_path / "log.db"
    last = made.position[0] - 1
    with closing(sqlite3.connect(path)) as file:
        file.execute("DELETE FROM records WHERE partition = 0 AND offset = ?", (last,))
        file.execute("UPDATE meta SET value = ? WHERE name = 'end_0'", (last,))
        file.commit()
    with (
        open_log(f"sqlite://{path}") as cut,
        pytest.raises(LogError, match=rf"(?s)offset {last + 1}|ends"),
    ):
        restore_snapshot(cut, storage, tmp_path / "new", REGISTRY)
    with open_log(f"sqlite://{path}") as other:
        while other.end()[0] <= last:
            other.append([NewRecord(covering_cells(2)[0], b"another one")])
        with pytest.raises(StoreMismatch, match="another record than the one that was folded"):
            restore_snapshot(other, storage, tmp_path / "new", REGISTRY)
    assert not (tmp_path / "new").exists()


def test_a_store_that_is_there_is_kept(site: SnapshotSite, storage: SnapshotStorage) -> None:
    create_snapshot(site.store, storage, REGISTRY)
    before = site.digest()
    with pytest.raises(StoreError, match="there is a store already"):
        restore_snapshot(site.log, storage, site.store, REGISTRY)
    with open_store(site.store, site.log, REGISTRY) as tables:
        tables.open(0)
    done = restore_snapshot(site.log, storage, site.store, REGISTRY, replace=True)
    assert done.aside is not None
    assert site.digest(done.aside) == site.digest() == before


def test_the_store_of_a_running_worker_is_not_replaced(site: SnapshotSite, storage: SnapshotStorage) -> None:
    create_snapshot(site.store, storage, REGISTRY)
    with WorkerProcess(site.log.url, site.store) as worker:
        worker.wait_ready()
        with pytest.raises(StoreInUse, match="another process writes this store"):
            restore_snapshot(site.log, storage, site.store, REGISTRY, replace=True)
        worker.check()


def test_a_damaged_snapshot_leaves_the_store_that_was_there(
    site: SnapshotSite, storage: SnapshotStorage, tmp_path: Path
) -> None:
    made = create_snapshot(site.store, storage, REGISTRY)
    file = next((tmp_path / "kept" / made.id / "p00001").glob("*.sst.gz"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StoreCorrupt, match=rf"p00001/{file.name}"):
        restore_snapshot(site.log, storage, site.store, REGISTRY, replace=True)
    assert site.digest().whole == made.digest
    with pytest.raises(StoreCorrupt, match=rf"p00001/{file.name}"):
        restore_snapshot(site.log, storage, tmp_path / "new", REGISTRY)
    assert not (tmp_path / "new").exists()


def test_an_older_format_is_passed_over_and_never_guessed(
    site: SnapshotSite, storage: SnapshotStorage, tmp_path: Path
) -> None:
    first = create_snapshot(site.store, storage, REGISTRY)
    site.report()
    site.fold()
    older = replace(create_snapshot(site.store, storage, REGISTRY), store_format=0)
    storage.finish(older)
    with pytest.raises(StoreMismatch, match="the store in the snapshot has format 0, this build reads 1"):
        restore_snapshot(site.log, storage, tmp_path / "new", REGISTRY, older.id)
    done = restore_snapshot(site.log, storage, tmp_path / "new", REGISTRY)
    assert done.manifest == first
    assert [one.what for one in done.passed_over] == [
        "the store in the snapshot has format 0, this build reads 1"
    ]
    storage.remove(first.id)
    with pytest.raises(NoSnapshot, match="1 cannot: the store in the snapshot has format 0"):
        restore_snapshot(site.log, storage, tmp_path / "third", REGISTRY)


def test_a_damaged_manifest_is_passed_over_and_named(
    site: SnapshotSite, storage: SnapshotStorage, tmp_path: Path
) -> None:
    first = create_snapshot(site.store, storage, REGISTRY)
    second = create_snapshot(site.store, storage, REGISTRY)
    file = tmp_path / "kept" / second.id / "manifest.json"
    file.write_bytes(file.read_bytes()[:-9])
    done = restore_snapshot(site.log, storage, tmp_path / "new", REGISTRY)
    assert done.manifest == first
    assert [one.where for one in done.passed_over] == [str(file)]
