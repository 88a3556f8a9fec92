"""The ring's file is cut, deleted or replaced under a living writer and its readers: none dies, and both go on."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.projections.changefeed.test_epochs import KEPT, RECORDS, Place
from tests.support.classes.ports_class import REGISTRY
from vacancy.projections.changefeed import shared_ring
from vacancy.projections.changefeed.shared_ring import SILENT, RingReader, RingWriter, ring_path
from vacancy.projections.reader.partition_reader import PartitionReader
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store.manifest import FILE
from vacancy.projections.store.store import Store, partition_path
from vacancy.resources.model.errors import StoreError


@pytest.fixture(autouse=True)
def looks_at_each_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shared_ring.LOOK_S <= 0.1
    monkeypatch.setattr(shared_ring, "LOOK_S", 0.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Place(tmp_path / "store", tmp_path / "kept").opened() as opened:
        opened.apply(0, RECORDS[:KEPT])
        yield opened


def replace_by_another(ring: Path) -> None:
    other = ring.with_name("other")
    other.write_bytes(b"\xff" * shared_ring._SIZE)
    other.rename(ring)


CASES: dict[str, Callable[[Path], object]] = {
    "cut to nothing": lambda ring: os.truncate(ring, 0),
    "cut": lambda ring: os.truncate(ring, 100),
    "cut in the data": lambda ring: os.truncate(ring, 1_000_000),
    "deleted": lambda ring: ring.unlink(),
    "replaced": replace_by_another,
    "moved away": lambda ring: ring.rename(ring.with_name("elsewhere")),
}


@pytest.mark.parametrize("case", CASES)
def test_writer_and_readers_go_on(store: Store, case: str) -> None:
    directory = partition_path(store.path, 0)
    with StoreReader(store.path, REGISTRY) as reader:
        for at in range(KEPT, 100, 10):
            CASES[case](ring_path(directory))
            reader.follow()
            assert reader.position == {0: at}
            store.apply(0, RECORDS[at : at + 5])
            reader.follow()
            assert reader.position == {0: at + 5}
            # The writer has made it again: it has the next entry.
            asked = reader._partitions[0]._asked_at
            store.apply(0, RECORDS[at + 5 : at + 10])
            reader.follow()
            assert reader.position == {0: at + 10}
            assert reader._partitions[0]._asked_at == asked


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """To a writer this is a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_no_ring_and_the_commits(store: Store) -> None:
    ring = ring_path(partition_path(store.path, 0))
    with StoreReader(store.path, REGISTRY) as reader:
        with files_up_to(1_000_000):
            os.truncate(ring, 0)
            for at in range(KEPT, 40, 10):
                store.apply(0, RECORDS[at : at + 10])
                assert not ring.exists()
                reader.follow()
                assert reader.position == {0: at + 10}
        store.apply(0, RECORDS[40:50])
        assert ring.stat().st_size == shared_ring._SIZE
        reader.follow()
        assert reader.position == {0: 50}


def test_a_disk_that_is_full_when_a_partition_is_opened_is_an_error(tmp_path: Path) -> None:
    with (
        files_up_to(1_000_000),
        Place(tmp_path / "store", tmp_path / "kept").opened() as store,
        pytest.raises(StoreError, match="cannot be read or written"),
    ):
        store.open(0)


def test_what_is_in_the_place_of_a_ring_hinders_nobody(store: Store) -> None:
    ring = ring_path(partition_path(store.path, 0))
    ring.unlink()
    ring.mkdir()
    with StoreReader(store.path, REGISTRY) as reader:
        store.apply(0, RECORDS[KEPT:20])
        reader.follow()
        assert reader.position == {0: 20}


def test_a_ring_that_was_given_up_is_left(tmp_path: Path) -> None:
    partition = tmp_path / "p00000"
    writer, reader = RingWriter(partition, 3, 5), RingReader(partition)
    assert reader.look() == (5, 3)
    ring_path(partition).unlink()
    writer.add(5, b"entry")
    assert reader.look()[0] == SILENT
    assert (reader.look(), reader.entries(5, 6, 3)) == ((6, 3), [b"entry"])
    shutil.copy(ring_path(partition), tmp_path / "copy")
    (tmp_path / "copy").rename(ring_path(partition))
    reader.check_path()
    assert reader.look() == (6, 3)
    writer.close()
    reader.close()


def test_no_file_of_a_store_is_mapped(store: Store) -> None:
    """A page of a mapped file that is cut off is a signal that kills the process."""
    store.release(0)
    store.apply(0, RECORDS[KEPT:20])
    reader = PartitionReader(partition_path(store.path, 0), REGISTRY)
    reader.follow()
    assert str(store.path) not in Path("/proc/self/maps").read_text()
    reader.close()


def test_only_owner_and_group_may_read_a_store(store: Store) -> None:
    directory = partition_path(store.path, 0)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (store.path, directory)}
    modes |= {path.name: path.stat().st_mode & 0o777 for path in (ring_path(directory), store.path / FILE)}
    assert modes == {"store": 0o750, "p00000": 0o750, "p00000.ring": 0o640, FILE: 0o640}
    ring_path(directory).chmod(0o644)
    store.release(0)
    store.open(0)
    assert ring_path(directory).stat().st_mode & 0o777 == 0o640
