"""SIGKILL at random moments of create, restore and prune, beside a running worker on a SQLite log.

`VACANCY_SNAPSHOT_KILLS` is how many moments of each are tried (`make explore`).
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.clients.snapshots import actors
from tests.support.processes.killed_process import ANSWER_S, killed_within, seconds_of
from tests.support.sites.snapshot_site import REGISTRY, SnapshotSite
from vacancy.clients.runtime.child_process import ChildProcess
from vacancy.clients.runtime.worker_process import WorkerProcess
from vacancy.clients.snapshots.restore import restore_snapshot, verify_snapshot
from vacancy.projections.snapshots.creation import create_snapshot
from vacancy.projections.snapshots.retention import prune
from vacancy.projections.snapshots.storage import SnapshotStorage

KILLS = int(os.environ.get("VACANCY_SNAPSHOT_KILLS", "2"))
RNG = random.Random(os.environ.get("VACANCY_SEED", "7"))


@contextmanager
def worker_of(site: SnapshotSite) -> Iterator[None]:
    with WorkerProcess(site.log.url, site.store) as worker:
        worker.wait_ready()
        yield
        worker.check()


def test_a_killed_create_leaves_no_half_snapshot(site: SnapshotSite, storage: SnapshotStorage) -> None:
    with worker_of(site):
        seconds = seconds_of(actors.create, site.store, storage.url)
        for _ in range(KILLS):
            site.report(5)
            killed_within(RNG, seconds, actors.create, site.store, storage.url)
            for one in storage.snapshots():
                assert one.error is None
                verify_snapshot(storage, one.id, REGISTRY)
        made = create_snapshot(site.store, storage, REGISTRY)
        assert storage.unfinished() == []
        assert [path.name for path in (site.store / "checkpoints").iterdir()] == ["lock"]
    assert made.digest == site.folded_again(made.position).whole


def test_a_killed_worker_does_not_stop_a_create(site: SnapshotSite, storage: SnapshotStorage) -> None:
    """The checkpoints that it did not make are made without it."""
    for _ in range(max(1, KILLS // 3)):
        worker = WorkerProcess(site.log.url, site.store)
        worker.start()
        worker.wait_ready()
        with ChildProcess("create", actors.create, site.store, storage.url) as child:
            assert child.receive(ANSWER_S) == "begins"
            time.sleep(RNG.uniform(0, 0.1))
            worker.kill()
            name = child.receive(ANSWER_S)
        made = verify_snapshot(storage, name, REGISTRY)
        assert made.digest == site.folded_again(made.position).whole


def test_a_killed_restore_leaves_no_half_store(site: SnapshotSite, storage: SnapshotStorage) -> None:
    made = create_snapshot(site.store, storage, REGISTRY)
    arguments = (site.log.url, storage.url)
    seconds = seconds_of(actors.restore, *arguments, site.home / "first")
    new = site.home / "new"
    for _ in range(KILLS):
        killed_within(RNG, seconds, actors.restore, *arguments, new)
        if new.exists():
            assert site.digest(new).whole == made.digest
            new.rename(site.home / f"whole-{time.monotonic_ns()}")
    restore_snapshot(site.log, storage, new, REGISTRY)
    assert site.digest(new).whole == made.digest
    assert not (site.home / "new.restoring").exists()


def test_a_killed_prune_leaves_no_half_snapshot(site: SnapshotSite, storage: SnapshotStorage) -> None:
    create_snapshot(site.store, storage, REGISTRY)
    create_snapshot(site.store, storage, REGISTRY)
    seconds = seconds_of(actors.remove, storage.url)
    for _ in range(KILLS):
        last = create_snapshot(site.store, storage, REGISTRY)
        killed_within(RNG, seconds, actors.remove, storage.url)
        for one in storage.snapshots():
            verify_snapshot(storage, one.id, REGISTRY)
    prune(storage, last.made_ms, keep=1, max_age_ms=None)
    assert [one.id for one in storage.snapshots()] == [last.id]
