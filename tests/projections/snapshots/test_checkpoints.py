"""A worker makes the checkpoints that another process asks for; without a worker that process opens the store."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.sites.snapshot_site import PARTITIONS, REGISTRY, SnapshotSite, snapshot_site
from vacancy.clients.runtime.child_process import ChildProcess
from vacancy.projections.snapshots.checkpoint_tables import prepare_checkpoint
from vacancy.projections.snapshots.checkpoints import POLL_S, CheckpointRequest, CheckpointServer
from vacancy.projections.store.manifest import Manifest, read_manifest
from vacancy.projections.store.store import Store
from vacancy.resources.model.errors import StoreError, StoreInUse


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SnapshotSite]:
    with snapshot_site(tmp_path) as made:
        yield made


def manifest_of(store: Path) -> Manifest:
    found = read_manifest(store)
    assert found is not None
    return found


@contextmanager
def serving(store: Path, *partitions: int) -> Iterator[Store]:
    """A worker's part in it: a thread that has these partitions open."""
    named, stopping = manifest_of(store), threading.Event()
    with Store(store, log=named.log, partitions=named.partitions, registry=REGISTRY) as tables:
        for partition in partitions:
            tables.open(partition)
        server = CheckpointServer(tables)

        def serve() -> None:
            while not stopping.wait(POLL_S / 10):
                server.answer()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield tables
        finally:
            stopping.set()
            thread.join()


def positions(made: dict[int, Path]) -> dict[int, int]:
    return {partition: prepare_checkpoint(path, REGISTRY).position for partition, path in made.items()}


def leftovers(store: Path) -> list[Path]:
    return [path for path in (store / "checkpoints").iterdir() if path.name != "lock"]


def test_without_a_worker_the_store_is_opened(site: SnapshotSite) -> None:
    with CheckpointRequest(site.store, manifest_of(site.store)) as request:
        assert positions(request.take(REGISTRY, 30)) == site.log.end()
    assert leftovers(site.store) == []
    assert site.digest().position == site.log.end()


def test_a_worker_is_asked_and_two_that_share_a_store_make_theirs(site: SnapshotSite) -> None:
    with (
        serving(site.store, 0, 1),
        CheckpointRequest(site.store, manifest_of(site.store)) as request,
    ):
        assert positions(request.take(REGISTRY, 30)) == site.log.end()
    with (
        serving(site.store, 0),
        serving(site.store, 1),
        CheckpointRequest(site.store, manifest_of(site.store)) as request,
    ):
        assert positions(request.take(REGISTRY, 30)) == site.log.end()


def test_a_partition_without_a_worker_is_opened_beside_the_other(site: SnapshotSite) -> None:
    with serving(site.store, 1), CheckpointRequest(site.store, manifest_of(site.store)) as request:
        assert positions(request.take(REGISTRY, 30)) == site.log.end()


def _hold_partition(parent: object, store: Path) -> None:
    """A worker of an earlier build, which makes no checkpoints."""
    named = manifest_of(store)
    with Store(store, log=named.log, partitions=named.partitions, registry=REGISTRY) as tables:
        tables.open(0)
        parent.send("open")  # type: ignore[attr-defined]
        threading.Event().wait()


def test_a_worker_that_does_not_answer_is_named(site: SnapshotSite) -> None:
    with (
        ChildProcess("holder", _hold_partition, site.store) as holder,
        CheckpointRequest(site.store, manifest_of(site.store)) as request,
    ):
        assert holder.receive(90) == "open"
        with pytest.raises(StoreError, match="no worker made a checkpoint of partition 0"):
            request.take(REGISTRY, 0.5)


def test_a_partition_is_left_to_the_worker_that_is_about_to_open_it(site: SnapshotSite) -> None:
    with CheckpointRequest(site.store, manifest_of(site.store)) as request:
        with pytest.raises(StoreError, match="no worker made a checkpoint of partition 0"):
            request.take(REGISTRY, 0.2, only_ask=True)
        with serving(site.store, 0, 1):
            assert positions(request.take(REGISTRY, 30, only_ask=True)) == site.log.end()


def test_what_a_killed_process_left_is_removed_by_the_worker(site: SnapshotSite) -> None:
    with CheckpointRequest(site.store, manifest_of(site.store)) as request:
        request.take(REGISTRY, 30)
        (site.store / "checkpoints" / "left" / "p00000").mkdir(parents=True)
    with serving(site.store, 0, 1):
        give_up_at = time.monotonic() + 90
        while leftovers(site.store):
            assert time.monotonic() < give_up_at
            time.sleep(0.01)


def test_what_a_killed_process_left_is_removed_by_the_next(site: SnapshotSite) -> None:
    (site.store / "checkpoints" / "left" / "p00000").mkdir(parents=True)
    with CheckpointRequest(site.store, manifest_of(site.store)) as request:
        assert len(leftovers(site.store)) == 1
        assert positions(request.take(REGISTRY, 30)) == site.log.end()
    assert leftovers(site.store) == []


def test_one_at_a_time(site: SnapshotSite) -> None:
    named = manifest_of(site.store)
    with (
        CheckpointRequest(site.store, named),
        pytest.raises(StoreInUse, match="another process makes a snapshot"),
        CheckpointRequest(site.store, named),
    ):
        pass


def test_an_error_of_the_worker_is_reported_and_it_goes_on(site: SnapshotSite) -> None:
    named = manifest_of(site.store)
    with serving(site.store, 0, 1) as tables:
        with CheckpointRequest(site.store, named) as request:
            (request_path,) = leftovers(site.store)
            request_path.chmod(0o750)
            (request_path / "p00000.tmp").write_text("a file where RocksDB wants a directory")
            with pytest.raises(StoreError, match="the worker made no checkpoint of partition 0"):
                request.take(REGISTRY, 30)
        with CheckpointRequest(site.store, named) as request:
            assert positions(request.take(REGISTRY, 30)) == site.log.end()
        assert tables.position() == site.log.end()


def test_it_costs_the_worker_nothing_while_nobody_asks(site: SnapshotSite) -> None:
    named = manifest_of(site.store)
    with Store(site.store, log=named.log, partitions=PARTITIONS, registry=REGISTRY) as tables:
        server = CheckpointServer(tables)
        server.answer()
        assert not (site.store / "checkpoints").exists()
