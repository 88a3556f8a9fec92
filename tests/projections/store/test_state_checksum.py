"""The checksum that is kept beside the position is that of the rows, however they came; and stores compare it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.projections.store.test_store_properties import FEW
from tests.support.events_json import LOG, START_MS, opened
from tests.support.ports_class import REGISTRY
from tests.support.strategies import batches, logs
from tests.support.temporary_stores import FAST, opened_store
from vacancy.projections.store import partition_store
from vacancy.projections.store.metadata import (
    LOCAL_FAMILY,
    LOCAL_KEY,
    STATE_UNKNOWN,
    encode_metadata,
)
from vacancy.projections.store.state_checksum import row_hash, state_checksum
from vacancy.projections.store.store import Store
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import Record
from vacancy.resources.state.rows import DeadLetterRow
from vacancy.resources.state.tables import DEAD_LETTERS, NODES


def counted(store: Store, partition: int = 0) -> int:
    """From all rows."""
    return state_checksum(store.partition(partition).scan, REGISTRY)


@FEW
@given(st.data())
def test_it_is_that_of_the_rows_after_each_commit(data: st.DataObject) -> None:
    records = data.draw(logs()).records[0]
    with opened_store() as store:
        for first, end in data.draw(st.composite(batches)(len(records))):
            if data.draw(st.booleans()):
                store.release(0)
            store.apply(0, records[first:end])
            assert store.partition(0).local.state == counted(store)


@FEW
@given(st.data())
def test_it_is_that_of_the_rows_of_a_store_that_is_written_in_bulk(data: st.DataObject) -> None:
    records = data.draw(logs()).records[0]
    with tempfile.TemporaryDirectory(dir=FAST) as path:
        for first, end in data.draw(st.composite(batches)(len(records))):
            with Store(Path(path), log=LOG, partitions=1, registry=REGISTRY, bulk=True) as store:
                store.apply(0, records[first:end])
                assert store.partition(0).local.state == counted(store)


@FEW
@given(st.data())
def test_it_is_that_of_the_rows_where_no_hash_is_remembered(data: st.DataObject) -> None:
    records = data.draw(logs()).records[0]
    with pytest.MonkeyPatch.context() as patch, opened_store() as store:
        patch.setattr(partition_store, "HASHES_CACHED", data.draw(st.sampled_from((0, 10))))
        for first, end in data.draw(st.composite(batches)(len(records))):
            store.apply(0, records[first:end])
            assert store.partition(0).local.state == counted(store)


def test_a_store_of_an_earlier_build_gets_it_when_it_is_opened(tmp_path: Path) -> None:
    record = Record(0, 0, START_MS, covering_cells(1)[0].encode(), opened())
    with Store(tmp_path, log=LOG, partitions=1, registry=REGISTRY) as store:
        store.apply(0, [record])
        tables = store.partition(0)
        tables._dbs[LOCAL_FAMILY][LOCAL_KEY] = encode_metadata(replace(tables.local, state=STATE_UNKNOWN))
    with Store(tmp_path, log=LOG, partitions=1, registry=REGISTRY) as store:
        assert store.partition(0).local.state == counted(store) != 0


def test_the_reason_of_a_dead_letter_does_not_count() -> None:
    """Its text comes in part from libraries."""
    rows = [DEAD_LETTERS.encode(DeadLetterRow(1, 2, reason, b"", b"", 0)) for reason in ("a", "b")]
    assert len({row_hash(DEAD_LETTERS.family, b"k", row) for row in rows}) == 1
    assert len({row_hash(NODES.family, b"k", row) for row in rows}) == 2
