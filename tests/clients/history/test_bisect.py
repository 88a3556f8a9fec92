"""Which record changed an answer: the order of records of several partitions, and the search in it."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.logs.tape_log import TapeLog
from tests.support.sites.snapshot_site import PARTITIONS, REGISTRY, SnapshotSite
from vacancy.clients.demo.synthetic_fleet import node_reports
from vacancy.clients.history.bisect import RecordOrder, SameAnswer, bisect
from vacancy.clients.past.historical_store import HistoricalStores
from vacancy.clients.past.store_cache import StoreCache
from vacancy.clients.scheduler.store_query import StoreQuery
from vacancy.projections.snapshots.creation import create_snapshot
from vacancy.projections.snapshots.storage import SnapshotStorage
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.events import ProviderReport
from vacancy.resources.model.record import Record

RNG = random.Random(os.environ.get("VACANCY_SEED", "7"))


@given(st.lists(st.lists(st.integers(0, 9), max_size=8), min_size=1, max_size=4), st.data())
def test_records_are_in_order_of_log_time_then_partition_then_offset(
    times: list[list[int]], data: st.DataObject
) -> None:
    log = TapeLog(
        {p: [Record(p, o, at, b"", b"") for o, at in enumerate(one)] for p, one in enumerate(times)}
    )
    first = {p: data.draw(st.integers(0, len(one))) for p, one in enumerate(times)}
    last = {p: data.draw(st.integers(first[p], len(one))) for p, one in enumerate(times)}
    keys = [
        (max(one[: offset + 1]), p, offset)
        for p, one in enumerate(times)
        for offset in range(first[p], last[p])
    ]
    order = RecordOrder(log, first, last)
    assert order.records == len(keys)
    expected = dict(first)
    for place, (_, partition, offset) in enumerate(sorted(keys)):
        assert order.at(place) == expected
        assert expected[partition] == offset
        expected[partition] += 1
    assert order.at(order.records) == expected == last


def report_large(site: SnapshotSite) -> tuple[int, int]:
    """Append the report of the only node with 16 VCPU. Returns its partition and offset."""
    tree = (ProviderReport(id="large", inventories={"VCPU": {"total": 16}}),)
    (at,) = site.log.append(list(node_reports([tree], PARTITIONS)))
    return at.partition, at.offset


def has_room(query: StoreQuery) -> bool:
    return bool(query.candidates("resources=VCPU:16").candidates)


def test_a_record_at_a_random_offset_is_found(
    site: SnapshotSite, cache: StoreCache, storage: SnapshotStorage
) -> None:
    stores = HistoricalStores(site.log, REGISTRY, cache, storage)
    for part in [1] * RNG.randint(0, 6):
        site.report(part)
    place = report_large(site)
    for part in [1] * RNG.randint(0, 6):
        site.report(part)
    site.fold()
    create_snapshot(site.store, storage, REGISTRY)
    site.report(3)
    first, last = dict.fromkeys(range(PARTITIONS), 0), site.log.end()
    seen: list[int] = []
    flip = bisect(
        site.log,
        stores,
        REGISTRY,
        has_room,
        first,
        last,
        report=lambda *answer: seen.append(answer[-1]),
    )
    assert (flip.record.partition, flip.record.offset) == place
    assert b'"large"' in flip.record.value
    assert (flip.before, flip.after) == (False, True)
    assert flip.position_after == {**flip.position_before, place[0]: place[1] + 1}
    assert flip.asked <= 2 + sum(last.values()).bit_length()
    assert seen[-1] == 1


def test_the_same_answer_at_both_ends_is_an_error(
    site: SnapshotSite, cache: StoreCache, storage: SnapshotStorage
) -> None:
    stores = HistoricalStores(site.log, REGISTRY, cache, storage)
    first, last = dict.fromkeys(range(PARTITIONS), 0), site.log.end()
    with pytest.raises(SameAnswer, match="the same at 0:0,1:0 and at"):
        bisect(site.log, stores, REGISTRY, has_room, first, last)
    with pytest.raises(UsageError, match="is not before"):
        bisect(site.log, stores, REGISTRY, has_room, last, first)
