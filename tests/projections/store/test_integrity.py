"""Directories whose files no longer belong together: each is refused by writer and reader, or what it has is right."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.projections.store.test_bad_stores import REBUILD, RECORDS, check, digest, opened, replayed
from tests.support.classes.ports_class import REGISTRY
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store import partition_store, rocksdb
from vacancy.projections.store.digest import partition_digest
from vacancy.projections.store.integrity import ManifestFile, check_manifest, current_manifest, manifest_file
from vacancy.projections.store.metadata import FEED_FAMILY, LOCAL_FAMILY, LOCAL_KEY, MetadataRow
from vacancy.projections.store.partition_store import PartitionStore
from vacancy.projections.store.store import partition_path
from vacancy.resources.model.errors import StoreCorrupt

PREFIXES = [replayed(RECORDS[:at]) for at in range(len(RECORDS) + 1)]

Answer = tuple[int, str]
"""Position and digest."""


def as_reader(path: Path) -> Answer:
    rocksdb._caches.clear()
    with StoreReader(path, REGISTRY) as reader:
        return reader.position[0], partition_digest(lambda family: reader.raw(0, family), REGISTRY)


def as_writer(path: Path) -> Answer:
    """What there is, and, if that is right, what there is after the rest of the log."""
    rocksdb._caches.clear()
    with opened(path) as store:
        found = store.position()[0], digest(store)
        if found[1] == PREFIXES[found[0]]:
            store.apply(0, RECORDS)
            found = len(RECORDS), digest(store)
        return found


def opened_once(path: Path, dead: Path) -> None:
    """Some rows are in tables, some in the write-ahead log; the manifest has all since the directory was made."""
    with opened(path) as store:
        fold(store, 0, 60)
        rocksdb.flush(store.partition(0)._db, path.with_suffix(".scratch"))
        fold(store, 60, 90)
        shutil.copytree(path, dead)


def opened_again(path: Path, dead: Path) -> None:
    """The manifest begins with all tables that there were, and the last flush follows."""
    with opened(path) as store:
        fold(store, 0, 60)
    with opened(path) as store:
        fold(store, 60, 80)
        rocksdb.flush(store.partition(0)._db, path.with_suffix(".scratch"))
        fold(store, 80, 90)
        shutil.copytree(path, dead)


def flushed_last(path: Path, dead: Path) -> None:
    """Nothing was committed after the last flush."""
    with opened(path) as store:
        fold(store, 0, 60)
        rocksdb.flush(store.partition(0)._db, path.with_suffix(".scratch"))
        shutil.copytree(path, dead)


def fold(store: object, start: int, end: int) -> None:
    for at in range(start, end, 5):
        store.apply(0, RECORDS[at : at + 5])  # type: ignore[attr-defined]


def records_of(manifest: bytes) -> Iterator[int]:
    """Where the records of RocksDB's manifest start: 4 bytes of checksum, 2 of length, 1 of kind."""
    at = 0
    while at + 7 <= len(manifest):
        yield at
        at += 7 + int(struct.unpack_from("<H", manifest, at + 4)[0])


def cut(data: bytes, at: int) -> bytes:
    return data[:at]


def length_changed(data: bytes, at: int) -> bytes:
    """RocksDB takes a record that ends behind the end of the file for the place where a writer died."""
    return data[: at + 5] + bytes([data[at + 5] | 0x40]) + data[at + 6 :]


@pytest.mark.parametrize("damage", [cut, length_changed])
@pytest.mark.parametrize("made", [opened_once, opened_again, flushed_last])
def test_a_manifest_that_lost_its_end_is_refused_or_what_there_is_is_right(
    tmp_path: Path, made: Callable[[Path, Path], None], damage: Callable[[bytes, int], bytes]
) -> None:
    dead, path = tmp_path / "dead", tmp_path / "damaged"
    made(tmp_path / "living", dead)
    whole = manifest_file(partition_path(dead, 0), current_manifest(partition_path(dead, 0))).read_bytes()
    starts = list(records_of(whole))
    refused = 0
    for at in [*starts[::8], *starts[-4:]]:  # the last flush is at the end
        for look in (as_reader, as_writer):
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(dead, path)
            directory = partition_path(path, 0)
            manifest_file(directory, current_manifest(directory)).write_bytes(damage(whole, at))
            try:
                position, found = look(path)
                assert found == PREFIXES[position]
            except StoreCorrupt as error:
                check(error, str(directory), REBUILD)
                refused += 1
    assert refused


def edited(path: Path, edit: Callable[[PartitionStore], None]) -> None:
    """Change rows of a directory, as damage would that no checksum of RocksDB finds."""
    tables = PartitionStore(partition_path(path, 0), manifest_store(path), REGISTRY)
    edit(tables)
    tables.close()


def manifest_store(path: Path) -> str:
    with opened(path) as store:
        return store.id


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "store"
    with opened(made) as store:
        fold(store, 0, 60)
    return made


def entry(number: int) -> Callable[[PartitionStore], None]:
    def delete(tables: PartitionStore) -> None:
        del tables._dbs[FEED_FAMILY][struct.pack(">Q", number)]

    return delete


def own_row(tables: PartitionStore) -> None:
    del tables._dbs[LOCAL_FAMILY][LOCAL_KEY]


def own_row_nonsense(tables: PartitionStore) -> None:
    tables._dbs[LOCAL_FAMILY][LOCAL_KEY] = b"\x93nonsense"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (entry(0), "the change feed lacks entry 0"),
        (entry(7), "the change feed lacks entry 7"),
        (entry(11), "the change feed lacks entry 11"),
        (own_row, "its own row is missing"),
        (own_row_nonsense, "own row does not read back"),
    ],
    ids=["first entry", "an entry", "last entry", "own row", "own row that does not read back"],
)
@pytest.mark.parametrize("look", [as_reader, as_writer])
def test_rows_that_are_missing_are_noticed(
    path: Path, edit: Callable[[PartitionStore], None], message: str, look: Callable[[Path], Answer]
) -> None:
    edited(path, edit)
    with pytest.raises(StoreCorrupt) as refused:
        look(path)
    check(refused.value, message, str(partition_path(path, 0)), REBUILD)


@pytest.mark.parametrize("name", [LOCAL_FAMILY, FEED_FAMILY, "nodes", "VCPU"])
@pytest.mark.parametrize("look", [as_reader, as_writer])
def test_a_table_that_is_missing_is_noticed(path: Path, name: str, look: Callable[[Path], Answer]) -> None:
    directory = partition_path(path, 0)
    db = rocksdb.open_primary(directory, rocksdb.existing_families(directory), (FEED_FAMILY,))
    db.drop_column_family(name)
    db.close()
    with pytest.raises(StoreCorrupt) as refused:
        look(path)
    check(refused.value, f"the store lacks tables: {name}", REBUILD)


def test_tables_that_another_worker_makes_meanwhile_are_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers start with one store: the second lists the tables, and then the first raises the rules."""
    path = tmp_path / "store"
    opened(path).close()
    lists: list[tuple[str, ...]] = []

    def listed(directory: Path) -> tuple[str, ...]:
        found = rocksdb.existing_families(directory)
        if not lists:
            lists.append(found)
            with opened(path) as first:
                first.apply(0, RECORDS)
        return found

    directory = partition_path(path, 0)
    rocksdb.open_primary(directory, ("partition", "nodes", LOCAL_FAMILY, FEED_FAMILY), (FEED_FAMILY,)).close()
    monkeypatch.setattr(partition_store, "existing_families", listed)
    with opened(path) as second:
        assert digest(second) == PREFIXES[-1]
    assert set(lists[0]) < set(rocksdb.existing_families(directory))


def test_a_writer_that_was_killed_while_it_made_the_tables_left_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with opened(path) as store:
        directory = partition_path(path, 0)
        rocksdb.open_primary(directory, ("partition", "nodes")).close()
        store.apply(0, RECORDS)
        assert digest(store) == PREFIXES[-1]


def test_what_is_recorded_of_a_manifest_is_what_it_was(tmp_path: Path) -> None:
    (tmp_path / "CURRENT").write_text("MANIFEST-000007\n")
    file = tmp_path / "MANIFEST-000007"
    file.write_bytes(b"snapshot")
    manifest = ManifestFile(tmp_path)
    states = [manifest.state()]
    for more in (b"", b" edit", b" and another"):
        with file.open("ab") as there:
            there.write(more)
        states.append(manifest.state())
    assert [size for _, size, _ in states] == [8, 8, 13, 25]
    for number, size, checksum in states:
        row = MetadataRow("s", manifest_number=number, manifest_bytes=size, manifest_checksum=checksum)
        check_manifest(tmp_path, row)
    file.write_bytes(file.read_bytes()[:12])
    assert manifest.state() == states[-1]
    with pytest.raises(StoreCorrupt, match="not what it was at the store's last commit"):
        check_manifest(tmp_path, row)
    # RocksDB begins another one when it is large, and when the directory is opened for writing.
    (tmp_path / "MANIFEST-000009").write_bytes(b"all")
    (tmp_path / "CURRENT").write_text("MANIFEST-000009\n")
    file.unlink()
    assert manifest.state()[:2] == (9, 3)
    check_manifest(tmp_path, row)
    (tmp_path / "CURRENT").write_text("MANIFEST-000005\n")
    with pytest.raises(StoreCorrupt):
        check_manifest(tmp_path, row)
