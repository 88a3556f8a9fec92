"""A partition's memory: bounds that do not grow with how long the log is."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import pytest

from tests.support.classes.ports_class import REGISTRY
from vacancy.projections.store import partition_store, rocksdb
from vacancy.projections.store.metadata import FEED_FAMILY
from vacancy.projections.store.partition_store import PartitionStore, families
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.state.rows import RequestRow
from vacancy.resources.state.tables import REQUESTS

FAMILIES = families(REGISTRY, RULES_VERSIONS.newest)


def test_where_few_rows_come_and_go_none_are_kept_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer than `PASSING_CACHED` in all, over half an hour: at low rates memory would go up all the while."""
    now = [0.0]
    monkeypatch.setattr(partition_store, "monotonic", lambda: now[0])
    store = PartitionStore(tmp_path / "p00000", "store", REGISTRY)

    def spec(number: int) -> bytes:
        return b"%08d" % number * 250

    def come(first: int) -> int:
        for number in range(first, first + 900):
            now[0] += 1.0
            store.stage({REQUESTS: {b"%d" % number: RequestRow(spec(number), 1)}})
            store.commit(number + 1, 0, 0)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        grown = -come(0) + come(900)
    finally:
        tracemalloc.stop()
    assert partition_store.PASSING_CACHED > 1800
    assert grown < 500_000  # the specs of 900 more are 1,800,000
    for number in (0, 899, 1799):
        row = store.get(REQUESTS, b"%d" % number)
        assert row is not None
        assert row.spec == spec(number)
    store.close()


def test_memtables_are_within_their_bound_and_tables_that_say_little_fill_none_of_it(tmp_path: Path) -> None:
    db = rocksdb.open_primary(tmp_path / "p00000", FAMILIES, (FEED_FAMILY,))
    dbs = [db.get_column_family(name) for name in FAMILIES]

    def memtables() -> list[int]:
        return [one.property_int_value("rocksdb.cur-size-active-mem-table") or 0 for one in dbs]

    for one in dbs:
        one[b"first"] = bytes(20_000)
    assert min(memtables()) > 20_000  # nothing was flushed: with a megabyte each, all of it would be
    noise, largest = random.Random(0), 0
    for number in range(64 * 16):
        dbs[number % len(dbs)][number.to_bytes(8, "big")] = noise.randbytes(64 * 1024)
        largest = max(largest, sum(memtables()))
    assert rocksdb.WRITE_BUFFER_BYTES // 4 < largest < 1.25 * rocksdb.WRITE_BUFFER_BYTES
    for one in (*dbs, db):
        one.close()


def test_opening_reads_the_feed_without_filling_the_cache_with_it(tmp_path: Path) -> None:
    store = PartitionStore(tmp_path / "p00000", "store", REGISTRY)
    noise = random.Random(0)
    feed, feed_bytes = store._dbs[FEED_FAMILY], 0
    while feed_bytes < 4 * rocksdb.QUEUE_CACHE_BYTES:
        store.stage({REGISTRY.table("VCPU"): {}})
        store.commit(store.local.position + 1, 0, 0)
        number = store.local.feed_next - 1
        feed[number.to_bytes(8, "big")] = entry = noise.randbytes(64 * 1024)
        feed_bytes += len(entry)
    store.close()
    again = PartitionStore(tmp_path / "p00000", "store", REGISTRY)
    assert again._feed_bytes == feed_bytes
    used = again._dbs[FEED_FAMILY].property_int_value("rocksdb.block-cache-usage")
    assert used is not None
    assert used <= rocksdb.QUEUE_CACHE_BYTES
    again.close()
