"""Stores that are not as they were left: each is refused with the error and what to do, or is complete. Never half."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.projections.reader.test_reader_race import start
from tests.projections.store import writer_process
from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import LOG, START_MS, Tape, claim, claims, provider, released, reported
from tests.support.models.memory_state import MemoryState
from tests.support.sites.damaged_files import flip
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store import rocksdb
from vacancy.projections.store.digest import as_scan, partition_digest
from vacancy.projections.store.manifest import FILE, FORMAT
from vacancy.projections.store.metadata import FEED_FAMILY
from vacancy.projections.store.partition_store import PartitionStore
from vacancy.projections.store.store import Store, partition_path
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.fold import fold
from vacancy.resources.model.errors import StoreCorrupt, StoreError, StoreInUse, StoreMismatch
from vacancy.resources.model.record import Record

REBUILD = "vacancy replay --rebuild"


def busy_records(count: int) -> list[Record]:
    """A log of one partition in which most records change many rows."""
    tape, cell = Tape(), Tape().cells[0]
    for n in range(1, count):
        tape.now_ms += 1000
        if n % 5 == 1:
            tree = [provider(f"n{n % 7}", VCPU=64), provider(f"n{n % 7}-a", f"n{n % 7}", CUSTOM_GPU=n)]
            tape.append(cell, reported(f"n{n % 7}", tree, life=1 + n // 70, sequence=n))
        elif n % 5 == 4:
            tape.append(cell, released(f"i{n - 2}", f"c{n - 2}"))
        else:
            tape.append(cell, claims(claim(f"c{n}", f"i{n}", f"n{n % 7}", {"VCPU": 1}, tape.now_ms + 9000)))
    return tape.records[0]


def replayed(records: list[Record]) -> str:
    state = MemoryState()
    for record in records:
        state.commit(fold(state, record, REGISTRY))
    return partition_digest(as_scan(state.items), REGISTRY)


def digest(store: Store) -> str:
    return partition_digest(store.partition(0).scan, REGISTRY)


def opened(path: Path, **other: Any) -> Store:
    return Store(path, **{"log": LOG, "partitions": 1, "registry": REGISTRY, **other})


RECORDS = busy_records(120)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store that was closed in order."""
    made = tmp_path / "store"
    with opened(made) as store:
        for at in range(0, len(RECORDS), 10):
            store.apply(0, RECORDS[at : at + 10])
    return made


def check(error: BaseException, *told: str) -> None:
    """An error is one line that says what, where, and what to do."""
    assert isinstance(error, StoreError)
    text = str(error)
    assert "\n" not in text
    assert error.where, text
    assert error.do, text
    for part in told:
        assert part in text


# -- of another log, another build, or no store at all --------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"log": "another"}, "was folded from log the-log, this is log another"),
        ({"partitions": 2}, "has 1 partitions, the log has 2"),
        ({"registry": Registry()}, "tables of resource class PORTS, which this build does not have"),
    ],
    ids=["log", "partitions", "classes"],
)
def test_a_store_of_another_log_or_build_is_refused(path: Path, other: dict[str, Any], told: str) -> None:
    before = (path / FILE).read_bytes()
    with pytest.raises(StoreMismatch) as refused:
        opened(path, **other)
    check(refused.value, told)
    assert (path / FILE).read_bytes() == before


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (json.dumps({"format": FORMAT + 1}), f"has format {FORMAT + 1}, this build reads {FORMAT}"),
        (json.dumps({"store": "x"}), "has format None"),
        (json.dumps({"format": FORMAT}), "does not read back"),
        ("[]", "does not read back"),
        ("", "does not read back"),
        ("{", "does not read back"),
    ],
)
@pytest.mark.parametrize("how", [opened, lambda path: StoreReader(path, REGISTRY)], ids=["writer", "reader"])
def test_a_manifest_that_is_invalid_is_refused(
    path: Path, text: str, told: str, how: Callable[[Path], Any]
) -> None:
    (path / FILE).write_text(text)
    with pytest.raises((StoreMismatch, StoreCorrupt)) as refused:
        how(path)
    check(refused.value, told, REBUILD)


def test_a_manifest_that_is_gone_is_not_made_again_over_what_is_there(path: Path) -> None:
    (path / FILE).unlink()
    with pytest.raises(StoreCorrupt) as refused:
        opened(path)
    check(refused.value, "has no manifest", REBUILD)


def test_whatever_byte_of_the_manifest_flips_it_is_noticed_or_does_not_matter(path: Path) -> None:
    sound = (path / FILE).read_bytes()
    with opened(path) as store:
        before = digest(store)
    refused = 0
    for at in range(len(sound)):
        bits = 0x80 if at % 2 else 0x01
        (path / FILE).write_bytes(sound[:at] + bytes([sound[at] ^ bits]) + sound[at + 1 :])
        try:
            with opened(path) as store:
                assert digest(store) == before
        except StoreError as error:
            check(error)
            refused += 1
    assert refused > 0.8 * len(sound)


def test_a_partition_of_another_store_is_refused(path: Path, tmp_path: Path) -> None:
    with opened(tmp_path / "other") as other:
        other.apply(0, RECORDS[:3])
    shutil.rmtree(partition_path(path, 0))
    shutil.copytree(partition_path(tmp_path / "other", 0), partition_path(path, 0))
    with opened(path) as store, pytest.raises(StoreMismatch) as refused:
        store.position()
    check(refused.value, "belongs to store", REBUILD)


@pytest.mark.parametrize("place", ["/proc/nowhere/store", "/dev/null/store"])
def test_a_place_that_cannot_be_written_is_reported(place: str) -> None:
    with pytest.raises(StoreError) as refused:
        opened(Path(place))
    check(refused.value, place)


def test_a_partition_whose_place_is_taken_by_a_file_is_reported(path: Path) -> None:
    shutil.rmtree(partition_path(path, 0))
    partition_path(path, 0).write_text("in the way")
    with opened(path) as store, pytest.raises(StoreError) as refused:
        store.position()
    check(refused.value, str(partition_path(path, 0)))


# -- in use -----------------------------------------------------------------------------------------------------


def test_a_store_in_use_is_reported_and_free_again_when_it_is_let_go(tmp_path: Path) -> None:
    with start("hold", tmp_path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with opened(tmp_path) as store:
            with pytest.raises(StoreInUse) as refused:
                store.position()
            check(refused.value, "another process writes this store", "another --store")
            with StoreReader(tmp_path, REGISTRY) as reader:
                assert reader.position == {0: 1}
            holder.communicate("let go\n")
            assert store.position() == {0: 1}


def test_the_lock_of_a_writer_that_was_killed_is_free(tmp_path: Path) -> None:
    with start("hold", tmp_path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.kill()
        holder.communicate()
    with opened(tmp_path) as store:
        assert store.position() == {0: 1}


# -- damaged files ------------------------------------------------------------------------------------------------


def files(path: Path, pattern: str) -> list[Path]:
    return sorted(partition_path(path, 0).glob(pattern))


@pytest.mark.parametrize("flushes", [False, True], ids=["closed", "killed"])
def test_a_table_file_that_does_not_read_back_is_reported(tmp_path: Path, flushes: bool) -> None:
    """Wherever the damage is, and however old the file: found when the directory is opened, or when the rows are
    read. Nothing wrong is ever read, and nothing is passed over."""
    path, kept = tmp_path / "store", tmp_path / "kept"
    with opened(path) as store:
        for at in range(0, len(RECORDS), 5):
            store.apply(0, RECORDS[at : at + 5])
            if flushes and at in (30, 60, 90):
                rocksdb.flush(store.partition(0)._db, tmp_path / "scratch")
        if flushes:
            shutil.copytree(path, kept)
    if not flushes:
        shutil.copytree(path, kept)
    sound, rng = replayed(RECORDS), random.Random(3)
    told = 0
    for number in range(20):
        shutil.rmtree(path)
        shutil.copytree(kept, path)
        tables = files(path, "*.sst")
        damaged = tables[number % len(tables)]
        flip(damaged, rng.randrange(damaged.stat().st_size))
        for look in (look_as_reader, look_as_writer):
            try:
                assert look(path) == sound
            except StoreCorrupt as error:
                check(error, REBUILD)
                told += 1
    assert told > 15


def look_as_writer(path: Path) -> str:
    rocksdb._caches.clear()  # what another store's files said must not hide what these say
    with opened(path) as store:
        return digest(store)


def look_as_reader(path: Path) -> str:
    rocksdb._caches.clear()
    with StoreReader(path, REGISTRY) as reader:
        return partition_digest(lambda family: reader.raw(0, family), REGISTRY)


FIRST_CHECKSUM = 0
"""Where RocksDB's logs have the checksum of their first record."""


@pytest.mark.parametrize("how", [look_as_writer, look_as_reader], ids=["writer", "reader"])
@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        ("MANIFEST-*", lambda file: flip(file, FIRST_CHECKSUM)),
        ("MANIFEST-*", lambda file: file.write_bytes(b"")),
        ("MANIFEST-*", lambda file: file.unlink()),
        ("CURRENT", lambda file: file.write_text("nonsense")),
        ("CURRENT", lambda file: file.write_text("MANIFEST-999999\n")),
        ("*.sst", lambda file: file.unlink()),
        ("*.sst", lambda file: file.write_bytes(file.read_bytes()[:50])),
    ],
    ids=[
        "manifest flipped",
        "manifest empty",
        "manifest gone",
        "no current",
        "another current",
        "table gone",
        "table cut",
    ],
)
def test_a_directory_that_is_damaged_is_reported(
    path: Path, how: Callable[[Path], str], pattern: str, damage: Callable[[Path], Any]
) -> None:
    damage(files(path, pattern)[-1])
    with pytest.raises(StoreCorrupt) as refused:
        how(path)
    check(refused.value, REBUILD)


@pytest.mark.parametrize("how", [look_as_writer, look_as_reader], ids=["writer", "reader"])
def test_a_manifest_with_a_byte_flipped_is_refused_or_is_the_state_after_some_commit(
    path: Path, how: Callable[[Path], str]
) -> None:
    """A record whose length is damaged looks to RocksDB as one that a crash cut: it, and what comes after it, is left out.
    As the families are flushed in one step, what is left is an earlier state, and the log has the rest."""
    states = {replayed(RECORDS[:count]) for count in (0, *range(10, len(RECORDS), 10), len(RECORDS))}
    manifest = files(path, "MANIFEST-*")[-1]
    name, size, kept = manifest.name, manifest.stat().st_size, path.with_suffix(".kept")
    shutil.copytree(path, kept)
    refusals = 0
    for at in sorted(
        {*random.Random(14).sample(range(size), 60), *lengths_of_records(manifest.read_bytes())}
    ):
        shutil.rmtree(path)
        shutil.copytree(kept, path)
        flip(path / manifest.relative_to(path), at)
        try:
            assert how(path) in states, f"{name}, byte {at} of {size}"
        except StoreCorrupt as error:
            check(error, REBUILD)
            refusals += 1
    assert refusals > 40


def lengths_of_records(log: bytes) -> list[int]:
    """Where the upper byte of each record's length is, in a log of RocksDB's that is shorter than a block (32 KiB). The
    format is in RocksDB's wiki, "Write Ahead Log File Format": checksum (4 bytes), length (2), type (1), the record."""
    found, at = [], 0
    while at + 7 <= len(log):
        found.append(at + 5)
        at += 7 + int.from_bytes(log[at + 4 : at + 6], "little")
    return found


def test_a_damaged_store_is_rebuilt_by_folding_again(path: Path) -> None:
    for table in files(path, "*.sst"):
        flip(table, table.stat().st_size // 2)
    shutil.rmtree(path)
    with opened(path) as store:
        store.apply(0, RECORDS)
        assert digest(store) == replayed(RECORDS)


def crashed(path: Path) -> Path:
    """The files as a killed writer leaves them: nothing flushed, all in the write-ahead log."""
    living, dead = path.with_suffix(".living"), path.with_suffix(".dead")
    with opened(living) as store:
        for at in range(0, len(RECORDS), 7):
            store.apply(0, RECORDS[at : at + 7])
        shutil.copytree(living, dead)
    return dead


def test_a_write_ahead_log_that_is_cut_anywhere_leaves_whole_commits(tmp_path: Path) -> None:
    """The end of a log may be lost with the machine. What is left is the state after some commit, and goes on."""
    dead = crashed(tmp_path / "store")
    prefixes = {at: replayed(RECORDS[:at]) for at in (0, *range(7, len(RECORDS), 7), len(RECORDS))}
    rng, seen = random.Random(5), set()
    for number in range(25):
        path = tmp_path / f"cut{number}"
        shutil.copytree(dead, path)
        log = max(files(path, "*.log"), key=lambda file: file.stat().st_size)
        data = log.read_bytes()
        cut = rng.randrange(len(data)) if number else len(data)
        log.write_bytes(data[:cut])
        with opened(path) as store:
            position = store.position()[0]
            assert digest(store) == prefixes[position]
            seen.add(position)
            store.apply(0, RECORDS)
            assert digest(store) == prefixes[len(RECORDS)]
        shutil.rmtree(path)
    assert len(seen) > 8
    assert len(RECORDS) in seen


def test_a_reader_of_a_log_that_is_cut_sees_whole_commits(tmp_path: Path) -> None:
    dead = crashed(tmp_path / "store")
    log = max(files(dead, "*.log"), key=lambda file: file.stat().st_size)
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])
    with StoreReader(dead, REGISTRY) as reader:
        position = reader.position[0]
        assert 0 < position < len(RECORDS)
        assert partition_digest(lambda family: reader.raw(0, family), REGISTRY) == replayed(
            RECORDS[:position]
        )


# -- the log is not what it was -------------------------------------------------------------------------------------


def test_the_log_must_still_hold_what_was_folded_last(path: Path) -> None:
    last = RECORDS[-1]
    with opened(path) as store:
        store.check_log(0, [last])
        with pytest.raises(StoreMismatch) as refused:
            store.check_log(0, [])
        check(refused.value, "the log ends before the store's position", f"offset {last.offset}", REBUILD)
        others = (
            last._replace(value=last.value + b" "),
            last._replace(key=b"another"),
            last._replace(timestamp_ms=last.timestamp_ms + 1),
        )
        for other in others:
            with pytest.raises(StoreMismatch) as refused:
                store.check_log(0, [other])
            check(refused.value, "another record than the one that was folded", REBUILD)
    with opened(path.with_suffix(".new")) as empty:
        empty.check_log(0, [])


# -- a full disk ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size_max", [200_000, 1_500_000])
def test_a_full_disk_is_reported_and_leaves_the_last_commit(tmp_path: Path, size_max: int) -> None:
    """Files may not grow beyond some size, which to a writer is a disk that is full."""
    with start("fill", tmp_path, size_max) as filler:
        said, _ = filler.communicate(timeout=120)
    lines = said.splitlines()
    assert len(lines) == 2, said
    position = int(lines[0].split()[0])
    for line in lines:
        assert line.startswith(f"{position} StoreError"), line
    assert "the disk is full" in lines[0]
    assert "free some space and start again: the store stands at its last commit" in lines[0]
    assert position > 20
    log = list(itertools.islice(writer_process.records(), position + 40))
    with opened(tmp_path) as store:
        # A commit that was refused may have got to the disk before its end did not: it is whole, or it is not there.
        found = store.position()[0]
        assert found in (position, position + 20)
        assert digest(store) == replayed(log[:found])
        store.apply(0, log)
        assert digest(store) == replayed(log)


def test_a_commit_that_fails_for_any_reason_leaves_the_last_one(tmp_path: Path) -> None:
    store = PartitionStore(tmp_path / "p00000", "store", REGISTRY)
    state = MemoryState()
    for record in RECORDS[:20]:
        store.stage(fold(store, record, REGISTRY))
        state.commit(fold(state, record, REGISTRY))
    store.commit(20, START_MS, 0)
    before = partition_digest(store.scan, REGISTRY)
    store.stage(fold(store, RECORDS[20], REGISTRY))
    with pytest.raises(OverflowError):
        store.commit(21, 2**70, 0)
    assert (store.local.position, partition_digest(store.scan, REGISTRY)) == (20, before)
    store.stage(fold(store, RECORDS[20], REGISTRY))
    store.commit(21, START_MS, 0)
    state.commit(fold(state, RECORDS[20], REGISTRY))
    assert partition_digest(store.scan, REGISTRY) == partition_digest(as_scan(state.items), REGISTRY)
    assert len(list(store.scan(FEED_FAMILY))) == 2
    store.close()
