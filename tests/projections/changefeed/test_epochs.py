"""Stores that lost their last commits, under readers that had read them: a reader is right, or loads everything again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import LOG, Tape, provider, reported
from vacancy.projections.changefeed.entries import FeedEntry, decode_entry, joins
from vacancy.projections.changefeed.shared_ring import RingReader, RingWriter, ring_path
from vacancy.projections.reader.partition_reader import PartitionReader
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store.metadata import FEED_FAMILY, LOCAL_FAMILY, LOCAL_KEY
from vacancy.projections.store.rocksdb import existing_families, open_primary
from vacancy.projections.store.store import Store, partition_path
from vacancy.resources.model.record import Record

KEPT = 10
"""Commits of one record each that the store does not lose."""

LOST = 10

View = dict[str, int]
"""What is free of each node."""


def reports(count: int, most: int = 1000) -> list[Record]:
    tape = Tape()
    for number in range(1, count):
        root = f"n{number % 5}"
        tape.append(tape.cells[0], reported(root, [provider(root, VCPU=most - number)], sequence=number))
    return tape.records[0]


RECORDS = reports(200)


def seen_by(reader: StoreReader) -> View:
    free = reader.view.classes["VCPU"].arrays["free"]
    return {reader.view.name(row)[1]: int(free[row]) for row in reader.view.row_of.values()}


def right_at(position: int) -> View:
    last = {f"n{number % 5}": 1000 - number for number in range(1, position)}
    return {root: total for root, total in last.items() if total}


class Place(NamedTuple):
    """A store that can lose commits."""

    path: Path
    kept: Path

    def opened(self) -> Store:
        return Store(self.path, log=LOG, partitions=1, registry=REGISTRY)

    def keep(self) -> None:
        shutil.copytree(partition_path(self.path, 0), self.kept)

    def lose(self) -> None:
        """What was kept is put back in place of the directory."""
        shutil.rmtree(partition_path(self.path, 0))
        shutil.copytree(self.kept, partition_path(self.path, 0))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "store", tmp_path / "kept")


@pytest.fixture
def follower(place: Place) -> Iterator[StoreReader]:
    """A reader that has read all commits, of which the store then loses the last ones."""
    store = place.opened()
    for record in RECORDS[:KEPT]:
        store.apply(0, [record])
    place.keep()
    with StoreReader(place.path, REGISTRY) as reader:
        for record in RECORDS[KEPT : KEPT + LOST]:
            store.apply(0, [record])
        reader.follow()
        assert (reader.position, seen_by(reader)) == ({0: KEPT + LOST}, right_at(KEPT + LOST))
        store.close()
        place.lose()
        yield reader


@pytest.mark.parametrize("how", [StoreReader.follow, StoreReader.catch_up], ids=["follow", "catch up"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 30])
def test_a_reader_is_right_after_its_store_lost_commits(
    place: Place, follower: StoreReader, size: int, how: object
) -> None:
    """The next commits have the numbers of those that were lost, and other limits."""
    assert callable(how)
    with place.opened() as store:
        how(follower)
        for at in range(KEPT, 150, size):
            store.apply(0, RECORDS[at : at + size])
            how(follower)
            assert follower.position == store.position()
            assert seen_by(follower) == right_at(follower.position[0])


@pytest.mark.parametrize("more", [-5, -1, 0, 1, 5])
def test_a_reader_that_did_not_look_meanwhile_is_right(
    place: Place, follower: StoreReader, more: int
) -> None:
    """Also where the feed has come to the number, or to the position, that the reader knows."""
    with place.opened() as store:
        for at in range(LOST + more):
            store.apply(0, RECORDS[KEPT + 3 * at : KEPT + 3 * at + 3])
        follower.follow()
        assert follower.position == {0: KEPT + 3 * (LOST + more)}
        assert seen_by(follower) == right_at(follower.position[0])
        before = follower.view
        store.apply(0, RECORDS[follower.position[0] :])
        follower.follow()
        assert seen_by(follower) == right_at(len(RECORDS))
        assert follower.view is before


def test_what_was_lost_and_comes_again_is_not_loaded_again(place: Place, follower: StoreReader) -> None:
    """The reader has a beginning of what the store has."""
    before = follower.view
    with place.opened() as store:
        for record in RECORDS[KEPT : KEPT + LOST + 5]:
            store.apply(0, [record])
        follower.follow()
        assert (follower.position, seen_by(follower)) == (store.position(), right_at(KEPT + LOST + 5))
        assert follower.view is before


def test_other_records_at_the_same_position_are_loaded_again(place: Place, follower: StoreReader) -> None:
    """The log was put back, too, and has other records since."""
    others = reports(KEPT + LOST, most=100)
    with place.opened() as store:
        for record in others[KEPT:]:
            store.apply(0, [record])
        follower.follow()
        assert follower.position == store.position() == {0: KEPT + LOST}
        assert set(seen_by(follower).values()) == set(range(81, 86))


def test_a_directory_that_is_put_back_while_a_reader_has_it_open_is_opened_again(
    place: Place, follower: StoreReader
) -> None:
    """Its files may have the names, and the sizes, of those that the reader has open."""
    for _ in range(3):
        with place.opened() as store:
            store.apply(0, RECORDS[KEPT : KEPT + 2])
            follower.catch_up()
            assert follower.position == {0: KEPT + 2}
            assert seen_by(follower) == right_at(KEPT + 2)
        place.lose()


def test_a_reader_follows_the_ring_in_a_new_epoch(place: Place, follower: StoreReader) -> None:
    with place.opened() as store:
        store.open(0)
        follower.follow()
        asked = follower._partitions[0]._asked_at
        for record in RECORDS[KEPT:100]:
            store.apply(0, [record])
            follower.follow()
        assert follower._partitions[0]._asked_at == asked


def test_each_opening_is_another_epoch(place: Place) -> None:
    epochs = set()
    for _ in range(3):
        with place.opened() as store:
            store.open(0)
            epochs.add(store.partition(0).local.epoch)
            assert RingReader(partition_path(place.path, 0)).look() == (0, store.partition(0).local.epoch)
    assert len(epochs) == 3


def test_entries_join_where_each_starts_at_the_end_of_the_one_before() -> None:
    def entries(*bounds: tuple[int, int]) -> list[FeedEntry]:
        return [FeedEntry(end, 0, [], 1, start, 0) for start, end in bounds]

    assert joins(3, [])
    assert joins(3, entries((3, 4), (4, 9)))
    assert not joins(3, entries((2, 4)))
    assert not joins(3, entries((4, 9)))
    assert not joins(3, entries((3, 4), (5, 9)))
    assert not joins(3, [FeedEntry(4, 0, [])])


# -- stores of earlier builds -----------------------------------------------------------------------------------


def as_earlier_builds_wrote(path: Path) -> None:
    """The store's own row and the feed without the fields that were added later, and a ring of their form."""
    directory = partition_path(path, 0)
    db = open_primary(directory, existing_families(directory), (FEED_FAMILY,))
    local, feed = db.get_column_family(LOCAL_FAMILY), db.get_column_family(FEED_FAMILY)
    data = local.get(LOCAL_KEY)
    assert data is not None
    row = msgspec.msgpack.decode(data)
    local[LOCAL_KEY] = msgspec.msgpack.encode(row[:6])
    for number, data in list(feed.items()):
        feed[number] = msgspec.msgpack.encode(msgspec.msgpack.decode(data)[:4])
    for one in (local, feed, db):
        one.close()
    ring = bytearray(4_259_856)
    ring[:8] = row[4].to_bytes(8, "little")
    ring_path(directory).write_bytes(ring)


def test_a_store_of_an_earlier_build_is_read_and_continued(place: Place) -> None:
    """Its entries do not say where they start: a reader that has not read them loads everything."""
    with place.opened() as store:
        for record in RECORDS[:KEPT]:
            store.apply(0, [record])
    as_earlier_builds_wrote(place.path)
    with StoreReader(place.path, REGISTRY) as reader:
        assert (reader.position, seen_by(reader)) == ({0: KEPT}, right_at(KEPT))
        with place.opened() as store:
            assert store.position() == {0: KEPT}
            for at in range(KEPT, 50, 4):
                store.apply(0, RECORDS[at : at + 4])
                reader.follow()
                assert (reader.position, seen_by(reader)) == (store.position(), right_at(store.position()[0]))
    with StoreReader(place.path, REGISTRY) as reader:
        assert seen_by(reader) == right_at(reader.position[0])


def test_the_commits_of_an_earlier_build_are_loaded(place: Place) -> None:
    """A reader of this build, under a worker of an earlier one."""
    with place.opened() as store:
        store.apply(0, RECORDS[:KEPT])
    as_earlier_builds_wrote(place.path)
    with StoreReader(place.path, REGISTRY) as reader:
        with place.opened() as store:
            store.apply(0, RECORDS[KEPT:30])
        as_earlier_builds_wrote(place.path)
        reader.catch_up()
        assert (reader.position, seen_by(reader)) == ({0: 30}, right_at(30))


def test_what_earlier_builds_wrote_decodes(place: Place) -> None:
    entry = decode_entry(msgspec.msgpack.encode([7, 1, []]))
    assert (entry.rules_version, entry.start, entry.checksum) == (1, -1, -1)
    with place.opened() as store:
        store.apply(0, RECORDS[:KEPT])
    as_earlier_builds_wrote(place.path)
    reader = PartitionReader(partition_path(place.path, 0), REGISTRY)
    assert (reader.local.epoch, reader.local.manifest_bytes) == (0, 0)
    reader.close()


def test_an_entry_of_another_epoch_is_not_taken(tmp_path: Path) -> None:
    """The file has the number, the place and the bytes, but they are those of another writer."""
    partition = tmp_path / "p00000"
    first = RingWriter(partition, 1, 0)
    first.add(0, b"entry")
    reader = RingReader(partition)
    assert reader.look() == (1, 1)
    assert reader.entries(0, 1, 1) == [b"entry"]
    assert reader.entries(0, 1, 2) is None
    first.close()
    reader.close()
