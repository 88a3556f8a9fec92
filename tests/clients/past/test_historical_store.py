"""The tables of the past: equal to those that were, made of the nearest snapshot, bounded, and never half made.

`VACANCY_HISTORY_KILLS` is how many random moments of making one are tried (`make explore`).
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.clients.past import actors
from tests.support.processes.killed_process import ANSWER_S
from tests.support.sites.snapshot_site import REGISTRY, SnapshotSite
from vacancy.clients.past.historical_store import HistoricalStores, Processes
from vacancy.clients.past.store_cache import StoreCache
from vacancy.clients.runtime.child_process import ChildProcess
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.snapshots.creation import create_snapshot
from vacancy.projections.snapshots.storage import SnapshotStorage
from vacancy.resources.model.errors import LogError, UsageError

KILLS = int(os.environ.get("VACANCY_HISTORY_KILLS", "2"))
RNG = random.Random(os.environ.get("VACANCY_SEED", "7"))


class Folded:
    """How many records were folded, by what is reported."""

    def __init__(self) -> None:
        self.records = 0

    def __call__(self, done: int, total: int) -> None:
        assert done <= total
        self.records = done


def stores_of(site: SnapshotSite, cache: StoreCache, storage: SnapshotStorage) -> HistoricalStores:
    return HistoricalStores(site.log, REGISTRY, cache, storage)


def names(cache: StoreCache) -> set[str]:
    return {path.name for path in cache.directory.iterdir()}


def trim(site: SnapshotSite, before: Mapping[int, int]) -> None:
    """Delete the oldest records, as a retention does, but for the first one of partition 0, which has the log's id."""
    db = sqlite3.connect(site.home / "log.db")
    with db:
        for partition, offset in before.items():
            db.execute("DELETE FROM records WHERE partition = ? AND offset < ?", (partition, offset))
    db.close()


def test_the_tables_equal_those_that_were(
    site: SnapshotSite, cache: StoreCache, storage: SnapshotStorage
) -> None:
    stores = stores_of(site, cache, storage)
    for _ in range(6):
        site.report(10)
        if RNG.random() < 0.5:
            site.fold()
            create_snapshot(site.store, storage, REGISTRY)
        position = {p: RNG.randint(0, end) for p, end in site.log.end().items()}
        with stores.at(position) as store:
            found = site.digest(store.path)
            assert found == site.folded_again(position)
            assert found.position == position


def test_the_nearest_snapshot_is_where_folding_begins(
    site: SnapshotSite, cache: StoreCache, storage: SnapshotStorage
) -> None:
    first = create_snapshot(site.store, storage, REGISTRY)
    site.report(20)
    site.fold()
    second = create_snapshot(site.store, storage, REGISTRY)
    site.report(20)
    end = site.log.end()
    folded = Folded()
    with stores_of(site, cache, storage).at(end, folded) as store:
        assert folded.records == sum(end.values()) - sum(second.position.values())
        assert site.digest(store.path) == site.folded_again(end)
    before = {**second.position, 1: second.position[1] - 1}
    with stores_of(site, cache, storage).at(before, folded) as store:
        assert folded.records == sum(before.values()) - sum(first.position.values())
        assert site.digest(store.path) == site.folded_again(before)


def test_other_processes_fold(site: SnapshotSite, cache: StoreCache, storage: SnapshotStorage) -> None:
    create_snapshot(site.store, storage, REGISTRY)
    site.report(40)
    end = site.log.end()
    position = {**end, 0: end[0] - 3}
    others = Processes(site.log.url, {}, 2)
    with HistoricalStores(site.log, REGISTRY, cache, storage, processes=others).at(position) as store:
        assert site.digest(store.path) == site.folded_again(position)


def test_a_store_of_the_cache_is_used_again_and_continued(
    site: SnapshotSite, cache: StoreCache, storage: SnapshotStorage
) -> None:
    stores = stores_of(site, cache, storage)
    early, late = site.log.end(), {}
    site.report(20)
    late = site.log.end()
    with stores.at(early) as store:
        before = site.digest(store.path)
        path = store.path
    folded = Folded()
    with stores.at(early, folded) as store:
        assert (store.path, folded.records) == (path, 0)
    with stores.at(late, folded) as store:
        assert folded.records == sum(late.values()) - sum(early.values())
        assert site.digest(store.path) == site.folded_again(late)
    assert site.digest(path) == before == site.folded_again(early)


def test_a_reader_of_the_past_stays_there(
    site: SnapshotSite, cache: StoreCache, storage: SnapshotStorage
) -> None:
    position = site.log.end()
    with (
        stores_of(site, cache, storage).at(position) as store,
        StoreReader(store.path, REGISTRY, still=True) as reader,
    ):
        site.report(5)
        site.fold()
        reader.catch_up()
        reader.follow()
        assert reader.position == position
        assert reader.view.size == 20


def test_the_cache_is_bounded_and_nothing_in_use_is_removed(
    site: SnapshotSite, cache: StoreCache, storage: SnapshotStorage
) -> None:
    stores = stores_of(site, cache, storage)
    end = site.log.end()
    positions = [{**end, 0: end[0] - back} for back in range(6)]
    with stores.at(positions[0]) as used:
        paths = []
        for position in positions[1:]:
            with stores.at(position) as store:
                paths.append(store.path)
        assert used.path.exists()
        assert site.digest(used.path) == site.folded_again(positions[0])
        assert [path.exists() for path in paths] == [False, False, False, True, True]
    assert len(names(cache)) == 6  # three stores and their locks
    small = StoreCache(cache.directory, stores_max=3, bytes_max=1)
    with stores_of(site, small, storage).at({**end, 1: end[1] - 1}) as store:
        assert names(cache) == {store.path.parent.name, f"{store.path.parent.name}.lock"}


def test_what_a_killed_process_left_is_removed(
    site: SnapshotSite, cache: StoreCache, storage: SnapshotStorage
) -> None:
    for name in ("0123.part", "4567.gone"):
        (cache.directory / name / "store").mkdir(parents=True)
    with stores_of(site, cache, storage).at(site.log.end()) as store:
        assert names(cache) == {store.path.parent.name, f"{store.path.parent.name}.lock"}


def test_a_position_that_does_not_exist(
    site: SnapshotSite, cache: StoreCache, storage: SnapshotStorage
) -> None:
    end = site.log.end()
    with pytest.raises(UsageError, match=f"0:{end[0] + 1} does not exist.*ends at 0:{end[0]}"):
        stores_of(site, cache, storage).at({**end, 0: end[0] + 1})
    assert not cache.directory.exists()


def test_what_retention_removed_is_reached_from_a_snapshot_only(
    site: SnapshotSite, cache: StoreCache, storage: SnapshotStorage
) -> None:
    stores = stores_of(site, cache, storage)
    kept = create_snapshot(site.store, storage, REGISTRY).position
    site.report(20)
    end = site.log.end()
    expected = site.folded_again(end)
    trim(site, {1: kept[1]})
    with stores.at(end) as store:
        assert site.digest(store.path) == expected
    with stores.at(kept) as store:
        assert site.digest(store.path).position == kept
    before = {**kept, 1: kept[1] - 1}
    with pytest.raises(LogError, match="no longer has records") as raised:
        stores.at(before)
    text = ",".join(f"{p}:{o}" for p, o in kept.items())
    assert f"the earliest position that can be had is {text}, that of snapshot" in str(raised.value)
    assert f"log holds {kept[1]} to {end[1]}" in str(raised.value)


def test_without_a_snapshot_the_error_says_to_make_one(
    site: SnapshotSite, cache: StoreCache, storage: SnapshotStorage
) -> None:
    end = site.log.end()
    trim(site, {1: 2})
    with pytest.raises(LogError, match="make one"):
        stores_of(site, cache, storage).at(end)


def test_a_damaged_snapshot_is_passed_over(
    site: SnapshotSite, cache: StoreCache, storage: SnapshotStorage, caplog: pytest.LogCaptureFixture
) -> None:
    made = create_snapshot(site.store, storage, REGISTRY)
    file = next(Path(storage.url, made.id, "p00000").glob("*.sst.gz"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with stores_of(site, cache, storage).at(made.position) as store:
        assert site.digest(store.path).whole == made.digest
    assert file.name in caplog.text


def test_several_processes_make_one_store(
    site: SnapshotSite, cache: StoreCache, storage: SnapshotStorage
) -> None:
    position = site.log.end()
    arguments = (site.log.url, cache.directory, storage.url, position)
    with (
        ChildProcess("first", actors.make, *arguments) as first,
        ChildProcess("second", actors.make, *arguments) as second,
    ):
        for child in (first, second):
            assert child.receive(ANSWER_S) == "begins"
        digests = {child.receive(ANSWER_S) for child in (first, second)}
    assert digests == {site.folded_again(position).whole}
    assert len(cache.entries()) == 1


def test_a_killed_process_leaves_no_half_store(
    site: SnapshotSite, cache: StoreCache, storage: SnapshotStorage
) -> None:
    create_snapshot(site.store, storage, REGISTRY)
    site.report(300)
    end = site.log.end()
    stores = stores_of(site, cache, storage)
    seconds = 0.0
    for round_ in range(KILLS + 1):
        position = {**end, 0: end[0] - round_}
        arguments = (site.log.url, cache.directory, storage.url, position)
        with ChildProcess("killed", actors.make, *arguments) as child:
            assert child.receive(ANSWER_S) == "begins"
            began = time.monotonic()
            if round_ == 0:
                child.receive(ANSWER_S)
                seconds = time.monotonic() - began
            time.sleep(RNG.uniform(0, seconds))
            child.kill()
        for entry in cache.entries():
            assert site.digest(cache.store_path(entry.key)) == site.folded_again(entry.position)
    position = {**end, 0: end[0] - KILLS - 1}  # one that was not made yet: making it removes what was left
    with stores.at(position) as store:
        assert site.digest(store.path) == site.folded_again(position)
    assert not [name for name in names(cache) if name.endswith((".part", ".gone"))]
