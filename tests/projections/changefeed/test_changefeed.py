"""The change feed and its readers: nothing is missed, nothing is read twice, and what cannot be followed is reloaded."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.classes.ports_class import REGISTRY, Ports
from tests.support.logs.events_json import LOG, START_MS, Tape, claim, claims, event, provider, reported
from tests.support.sites.temporary_stores import opened_store
from vacancy.projections.changefeed import shared_ring
from vacancy.projections.reader import partition_reader, store_reader
from vacancy.projections.reader.partition_reader import PartitionReader
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store import partition_store
from vacancy.projections.store.digest import partition_digest, store_digest
from vacancy.projections.store.metadata import FEED_FAMILY
from vacancy.projections.store.store import Store, partition_path
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import StoreError, StoreMismatch
from vacancy.resources.state.tables import NODES, PROVIDERS, VERDICTS, key, split_key


def heartbeat(sequence: int) -> bytes:
    return event("node.heartbeat.v1", {"root": "n1", "incarnation": f"{1:016x}", "sequence": sequence})


class Writer:
    """A store of some partitions and the tape it follows."""

    def __init__(self, store: Store, partitions: int) -> None:
        self.store, self.tape = store, Tape(partitions)
        self.beats = 1

    def open(self, partition: int) -> None:
        self.store.apply(partition, self.tape.records[partition])

    def beat(self, times: int = 1) -> None:
        """A number of commits of one record to the first partition."""
        for _ in range(times):
            self.beats += 1
            self.write(heartbeat(self.beats))

    def write(self, *values: bytes, partition: int = 0) -> None:
        self.store.apply(partition, [self.tape.append(self.tape.cells[partition], value) for value in values])


@pytest.fixture
def writer() -> Iterator[Writer]:
    with opened_store(2) as store:
        made = Writer(store, 2)
        made.open(0)
        made.write(reported("n1", [provider("n1", VCPU=8)]))
        yield made


@pytest.fixture
def partition(writer: Writer) -> Iterator[PartitionReader]:
    made = PartitionReader(partition_path(writer.store.path, 0), REGISTRY)
    made.catch_up()
    yield made
    made.close()


@pytest.fixture
def reader(writer: Writer) -> Iterator[StoreReader]:
    with StoreReader(writer.store.path, REGISTRY) as made:
        yield made


def test_each_commit_is_one_entry_and_comes_once(writer: Writer, partition: PartitionReader) -> None:
    writer.beat(3)
    entries = partition.catch_up()
    assert entries is not None
    assert [entry.position for entry in entries] == [3, 4, 5]
    assert [table for entry in entries for table, _, _ in entry.images] == [NODES.name] * 3
    assert partition.catch_up() == []
    assert partition.local.position == writer.store.position()[0]
    writer.write(heartbeat(5), heartbeat(6), heartbeat(7))
    (entry,) = partition.catch_up() or []
    assert (entry.position, entry.time_ms) == (8, START_MS)


def test_only_what_readers_keep_is_in_the_feed(writer: Writer, partition: PartitionReader) -> None:
    writer.write(claims(claim("c1", "i1", "n1", {"VCPU": 1}, START_MS)))
    (entry,) = partition.catch_up() or []
    assert sorted(table for table, _, _ in entry.images) == ["VCPU", VERDICTS.name]


def test_the_feed_is_bounded_by_its_entries(
    writer: Writer, partition: PartitionReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_store, "ENTRIES_MAX", 5)
    writer.beat(12)
    local = writer.store.partition(0).local
    assert local.feed_next - local.feed_first == 5
    assert partition.catch_up() is None
    writer.beat(5)
    entries = partition.catch_up()
    assert entries is not None
    assert len(entries) == 5
    writer.beat(6)
    assert partition.catch_up() is None
    assert partition.catch_up() == []


def test_the_feed_is_bounded_by_its_bytes_and_a_restart_counts_them_again(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_store, "BYTES_MAX", 1000)

    def held() -> int:
        tables = writer.store.partition(0)
        first, end = tables.local.feed_first, tables.local.feed_next
        entries = {int.from_bytes(k, "big"): len(data) for k, data in tables.scan(FEED_FAMILY)}
        return sum(entries[number] for number in range(first, end))

    for _ in range(3):
        writer.beat(20)
        assert 800 < held() <= 1000
        writer.store.release(0)
    # An entry larger than the bound is kept alone: its readers are still told.
    writer.write(*(reported(f"m{n}", [provider(f"m{n}", VCPU=8)]) for n in range(30)))
    local = writer.store.partition(0).local
    assert local.feed_next - local.feed_first == 1


def test_a_reader_that_fell_behind_the_feed_loads_everything_again(
    writer: Writer, reader: StoreReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_store, "ENTRIES_MAX", 3)
    before = reader.view
    writer.tape.now_ms += 60_000
    writer.write(reported("n2", [provider("n2", VCPU=4)]))
    writer.beat(9)
    reader.catch_up()
    assert reader.view is not before
    assert reader.position == writer.store.position()
    assert reader.log_time_ms(0) == START_MS + 60_000
    assert len(reader.view.row_of) == 2


def test_a_reload_leaves_no_other_partition_behind(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    writer.open(1)
    with StoreReader(writer.store.path, REGISTRY) as reader:
        monkeypatch.setattr(partition_store, "ENTRIES_MAX", 3)
        writer.beat(9)
        writer.write(reported("m1", [provider("m1", VCPU=4)]), partition=1)
        reader.catch_up()
        assert reader.position == writer.store.position()
        assert {reader.view.name(row)[1] for row in reader.view.row_of.values()} == {"n1", "m1"}


def test_a_partition_that_comes_later_is_taken_in(writer: Writer, reader: StoreReader) -> None:
    assert reader.position == {0: 2, 1: 0}
    writer.open(1)
    writer.write(reported("m1", [provider("m1", VCPU=4)]), partition=1)
    eventually(reader, lambda: reader.position == writer.store.position())
    assert len(reader.view.row_of) == 2


class Heard:
    """Verdicts that a reader returned, by claim, and what was free in its view when it did."""

    def __init__(self, reader: StoreReader) -> None:
        self.reader, self.verdicts, self.free = reader, dict[str, tuple[bool, str]](), list[int]()

    def __call__(self, came: Sequence[tuple[bytes, bytes]]) -> None:
        rows = {split_key(name)[1]: VERDICTS.decode(data) for name, data in came}
        self.verdicts |= {name: (row.accepted, row.reason) for name, row in rows.items()}
        self.free.append(free(self.reader))


def free(reader: StoreReader) -> int:
    (row,) = reader.view.row_of.values()
    return int(reader.view.classes["VCPU"].arrays["free"][row])


def test_verdicts_are_reported_once_and_before_the_rows_that_came_with_them(
    writer: Writer, reader: StoreReader
) -> None:
    cell, heard = writer.tape.cells[0], Heard(reader)
    with reader.listening(heard):
        writer.write(claims(*(claim(f"c{n}", f"i{n}", "n1", {"VCPU": 3}, START_MS + 9) for n in range(3))))
        reader.catch_up()
        assert heard.verdicts == {"c0": (True, ""), "c1": (True, ""), "c2": (False, "no_room")}
        assert (heard.free, free(reader)) == ([8], 2)
        heard.verdicts.clear()
        reader.catch_up()
        # What log time deletes is no verdict.
        writer.tape.now_ms += 10
        writer.beat()
        reader.catch_up()
        assert not heard.verdicts
        assert reader.get(VERDICTS, key(cell, "c1")) is None
    writer.write(claims(claim("c4", "i4", "n1", {"VCPU": 1}, START_MS + 99)))
    reader.catch_up()
    assert not heard.verdicts


@pytest.mark.parametrize("how", ["follow", "catch_up"])
def test_a_partition_that_cannot_be_read_loses_nothing_of_another(
    writer: Writer, reader: StoreReader, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.open(1)
    eventually(reader, lambda: reader.position == writer.store.position())
    writer.write(claims(claim("c1", "i1", "n1", {"VCPU": 5}, START_MS)))
    second, move, heard = reader._partitions[1], getattr(PartitionReader, how), Heard(reader)

    def failing(self: PartitionReader) -> Any:
        if self is second:
            raise StoreError("it cannot be read", where="here", do="try again")
        return move(self)

    with monkeypatch.context() as patch, reader.listening(heard):
        patch.setattr(PartitionReader, how, failing)
        with pytest.raises(StoreError):
            getattr(reader, how)()
        assert heard.verdicts == {"c1": (True, "")}
    assert (free(reader), reader.position) == (3, writer.store.position())


def test_a_reload_that_failed_is_done_the_next_time(
    writer: Writer, reader: StoreReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.write(claims(claim("c1", "i1", "n1", {"VCPU": 5}, START_MS)))

    def lost(self: PartitionReader) -> None:
        self.catch_up()

    def failing(self: StoreReader) -> None:
        raise StoreError("it cannot be read", where="here", do="try again")

    with monkeypatch.context() as patch:
        patch.setattr(PartitionReader, "follow", lost)
        patch.setattr(StoreReader, "_load_partitions", failing)
        with pytest.raises(StoreError):
            reader.follow()
    reader.follow()
    assert free(reader) == 3


def test_what_is_read_stands_still_between_two_catch_ups(writer: Writer, reader: StoreReader) -> None:
    reader.catch_up()
    before = reader.position, list(reader.scan(NODES))
    writer.beat(3)
    writer.store.release(0)
    assert (reader.position, list(reader.scan(NODES))) == before
    reader.catch_up()
    assert reader.position == {0: 5, 1: 0}


def test_a_reader_follows_through_restarts_of_its_writer(writer: Writer, reader: StoreReader) -> None:
    view = reader.view
    for _ in range(3):
        writer.beat(2)
        writer.store.release(0)
        writer.beat(1)
        reader.catch_up()
        assert reader.position[0] == writer.store.partition(0).local.position
    assert reader.view is view


def test_rows_are_found_in_the_partition_of_their_cell(writer: Writer, reader: StoreReader) -> None:
    writer.open(1)
    writer.write(reported("m1", [provider("m1", CUSTOM_A=3, CUSTOM_AB=4)]), partition=1)
    eventually(reader, lambda: reader.position[1] == 2)
    here, there = writer.tape.cells[:2]
    assert reader.get(PROVIDERS, key(here, "n1")) is not None
    assert reader.get(PROVIDERS, key(there, "m1")) is not None
    assert reader.get(PROVIDERS, key(here, "m1")) is None
    assert reader.get(PROVIDERS, key(there, "m1"), cell=there) is not None
    assert [(p, k) for p, k, _ in reader.scan(PROVIDERS)] == [(0, key(here, "n1")), (1, key(there, "m1"))]
    custom = REGISTRY.table("CUSTOM_A")
    assert [k for _, k, _ in reader.scan(custom)] == [custom.prefix + key(there, "m1")]


def test_a_reader_without_a_view_reads_rows_and_digests(writer: Writer) -> None:
    with StoreReader(writer.store.path, REGISTRY, with_view=False) as reader:
        writer.beat(2)
        reader.catch_up()
        assert reader.view.size == 0
        live = partition_digest(writer.store.partition(0).scan, REGISTRY)
        assert partition_digest(lambda family: reader.raw(0, family), REGISTRY) == live
        assert store_digest([live]) != live
        assert list(reader.raw(1, NODES.family)) == []


# -- a store that is made anew, or is not there -------------------------------------------------------------


def eventually(reader: StoreReader, holds: Any, seconds: float = 60) -> None:
    """Catch up, as a scheduler does all the time, until it holds."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "a reader that asks all the time did not see it"
        reader.catch_up()
        time.sleep(0.01)


@pytest.mark.parametrize("partitions", [1, 0], ids=["with rows", "still empty"])
def test_a_store_that_is_made_again_is_loaded_again(
    writer: Writer, reader: StoreReader, partitions: int
) -> None:
    path = writer.store.path
    writer.store.close()
    shutil.rmtree(path)
    with Store(path, log=LOG, partitions=2, registry=REGISTRY) as anew:
        if partitions:
            tape = Tape(2)
            tape.append(tape.cells[0], reported("n2", [provider("n2", VCPU=4)]))
            anew.apply(0, tape.records[0])
        eventually(reader, lambda: reader.manifest.store == anew.manifest.store)
        reader.catch_up()
        assert reader.position[0] == 2 * partitions
        names = {reader.view.name(row)[1] for row in reader.view.row_of.values()}
        assert names == ({"n2"} if partitions else set())
    shutil.rmtree(path)
    path.mkdir()


def test_there_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no store .*; start `vacancy worker`"):
        StoreReader(tmp_path, REGISTRY)


def test_a_class_that_this_build_lacks_is_no_reader_of_the_store(writer: Writer) -> None:
    with pytest.raises(StoreMismatch, match=r"tables of resource class PORTS, which this build lacks"):
        StoreReader(writer.store.path, Registry())


def test_a_reader_may_know_more_classes_than_the_store(tmp_path: Path) -> None:
    tape = Tape()
    with Store(tmp_path, log=LOG, partitions=1, registry=Registry()) as store:
        opening = tape.records[0][0]
        store.apply(0, [opening._replace(value=opening.value.replace(b'["PORTS"]', b"[]"))])
        with StoreReader(tmp_path, Registry([Ports()])) as reader:
            assert reader.position == {0: 1}


# -- the ring -----------------------------------------------------------------------------------------------


def test_following_is_catching_up(writer: Writer, partition: PartitionReader) -> None:
    writer.beat(3)
    entries = partition.follow()
    assert entries is not None
    assert [entry.position for entry in entries] == [3, 4, 5]
    assert partition.follow() == []
    assert partition.catch_up() == []
    assert partition.local == writer.store.partition(0).local


def test_rows_that_the_ring_told_are_kept_until_rocksdb_has_answered(
    writer: Writer, partition: PartitionReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.beat()
    partition.follow()

    def failing(self: PartitionReader) -> None:
        raise StoreError("too many open files", where="here", do="allow more")

    with monkeypatch.context() as patch:
        patch.setattr(PartitionReader, "_answer", failing)
        with pytest.raises(StoreError):
            partition._ask()
    node = partition.get(NODES, key(writer.tape.cells[0], "n1"))
    assert node is not None
    assert node.incarnations[0][1] == 2
    assert partition.follow() == []
    assert not len(partition._newer), "it asked again at once"


def test_rows_that_came_by_the_ring_are_read(writer: Writer, partition: PartitionReader) -> None:
    cell = writer.tape.cells[0]
    writer.beat()
    partition.follow()
    node = partition.get(NODES, key(cell, "n1"))
    assert node is not None
    assert node.incarnations[0][1] == 2
    writer.write(event("node.retired.v1", {"root": "n1", "incarnation": f"{1:016x}", "sequence": 3}))
    partition.follow()
    assert partition.get(PROVIDERS, key(cell, "n1")) is None
    partition.catch_up()
    assert partition.get(PROVIDERS, key(cell, "n1")) is None


def test_catching_up_after_following_reads_what_the_ring_does_not_keep(
    writer: Writer, partition: PartitionReader
) -> None:
    """Verdicts come by and are not kept: who catches up finds them in RocksDB, however lately it asked there."""
    writer.write(claims(claim("c1", "i1", "nobody", {"VCPU": 1}, START_MS)))
    assert partition.catch_up()
    writer.write(claims(claim("c2", "i1", "nobody", {"VCPU": 1}, START_MS)))
    assert partition.follow()
    assert not len(partition._newer)
    name = key(writer.tape.cells[0], "c2")
    assert partition.get(VERDICTS, name) is None
    partition.catch_up()
    assert partition.get(VERDICTS, name) is not None


@pytest.mark.parametrize("slots", [2, 3, 8192])
@pytest.mark.parametrize("room", [300, 1000, 4096])
def test_a_ring_keeps_the_newest_and_never_tells_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slots: int, room: int
) -> None:
    monkeypatch.setattr(shared_ring, "SLOTS", slots)
    monkeypatch.setattr(shared_ring, "DATA_BYTES", room)
    rng, kept = random.Random(slots * room), []
    ringer, reader = shared_ring.RingWriter(tmp_path / "p0", 5, 7), shared_ring.RingReader(tmp_path / "p0")
    assert reader.look() == (7, 5)
    for number in range(7, 300):
        kept.append(bytes([number % 251]) * rng.choice((0, 1, 20, 100, room // 2)))
        ringer.add(number, kept[-1])
        assert reader.look() == (number + 1, 5)
        fits = len(kept[-1]) <= room // 2
        assert reader.entries(number, number + 1, 5) == ([kept[-1]] if fits else None)
        back = rng.randint(1, min(12, len(kept)))
        assert reader.entries(number + 1 - back, number + 1, 5) in (None, kept[-back:])
        assert reader.entries(number, number + 1, 6) is None
    assert reader.entries(0, 1, 5) is None
    assert reader.entries(7, 300, 5) is None
    ringer.close()
    reader.close()


def test_a_ring_is_taken_over_by_the_next_writer(tmp_path: Path) -> None:
    first, reader = shared_ring.RingWriter(tmp_path / "p0", 8, 0), shared_ring.RingReader(tmp_path / "p0")
    first.add(0, b"a")
    first.close()
    assert reader.look() == (1, 8)
    second = shared_ring.RingWriter(tmp_path / "p0", 9, 1)
    assert (reader.look(), reader.entries(0, 1, 9)) == ((1, 9), None)
    second.add(1, b"b")
    assert (reader.look(), reader.entries(1, 2, 9), reader.entries(1, 2, 8)) == ((2, 9), [b"b"], None)
    second.close()
    reader.close()


def overwrite(writer: Writer, at: int, data: bytes) -> None:
    with shared_ring.ring_path(partition_path(writer.store.path, 0)).open("r+b") as file:
        file.seek(at)
        file.write(data)


def test_a_ring_that_is_silent_is_not_believed_for_long(
    writer: Writer, partition: PartitionReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that was killed between commit and ring leaves it in this state."""
    monkeypatch.setattr(partition_reader, "SILENT_S", 0.25)
    assert partition.catch_up() == []
    before = writer.store.partition(0).local.feed_next
    writer.beat()
    overwrite(writer, 0, before.to_bytes(8, "little"))
    asked = time.monotonic()
    while not partition.follow():
        assert time.monotonic() < asked + 60


@pytest.mark.parametrize("follow", [True, False], ids=["follow", "catch up"])
@pytest.mark.parametrize("number", [0, 1, 7, 2**64 - 1])
def test_a_ring_that_tells_wrong_hides_nothing(
    writer: Writer, partition: PartitionReader, number: int, follow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_reader, "SILENT_S", 0.25)
    for _ in range(5):
        writer.beat()
        overwrite(writer, 0, number.to_bytes(8, "little"))
        until = time.monotonic() + 60
        while partition.local.position < writer.store.position()[0]:
            news = partition.follow() if follow else partition.catch_up()
            assert news is not None
            assert time.monotonic() < until


def test_a_damaged_entry_is_read_from_the_tables(writer: Writer, partition: PartitionReader) -> None:
    writer.beat(2)
    overwrite(writer, shared_ring._DATA, b"\xff" * 4096)
    entries = partition.follow()
    assert entries is not None
    assert [entry.position for entry in entries] == [3, 4]


@pytest.mark.parametrize("left", [None, b"", b"\0\0"], ids=["gone", "empty", "short"])
def test_a_partition_without_a_ring_is_read_all_the_same(writer: Writer, left: bytes | None) -> None:
    path = shared_ring.ring_path(partition_path(writer.store.path, 0))
    writer.store.close()
    path.unlink()
    if left is not None:
        path.write_bytes(left)
    with StoreReader(writer.store.path, REGISTRY) as reader:
        assert reader.position == {0: 2, 1: 0}
        assert len(reader.view.row_of) == 1
        writer.beat()
        reader.catch_up()
        assert reader.position == {0: 3, 1: 0}


def test_a_partition_that_is_being_made_is_not_there_yet(writer: Writer) -> None:
    """Its directory comes first, its tables then, its ring at last."""
    half = partition_path(writer.store.path, 1)
    half.mkdir()
    (half / "CURRENT").write_text("MANIFEST-000001\n")
    with StoreReader(writer.store.path, REGISTRY) as reader:
        assert reader.position == {0: 2, 1: 0}
    shutil.rmtree(half)


def test_how_often_a_reader_looks_is_what_the_tests_wait_for() -> None:
    assert store_reader._LOOK_AGAIN_S <= 1.0
    assert partition_reader.TRUST_S <= 0.05
    assert partition_reader.SILENT_S <= 5.0
