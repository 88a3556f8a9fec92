"""The project's main claim: however records reach the tables, equal logs make equal tables.

Live folding in batches of any size, replay in memory, re-delivery, restarts at any commit and batches that fail
midway: one digest.
"""

from __future__ import annotations

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import Tape, event
from tests.support.models.memory_state import MemoryState
from tests.support.random_logs.strategies import batches, logs
from tests.support.sites.temporary_stores import opened_store
from vacancy.projections.store.digest import as_scan, partition_digest
from vacancy.projections.store.store import Store
from vacancy.resources.fold.fold import fold
from vacancy.resources.model.errors import Halt, LogError
from vacancy.resources.model.record import Record

PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
MANY = settings(max_examples=60, deadline=None, phases=PHASES)
FEW = settings(MANY, max_examples=25)


def replayed(records: list[Record]) -> MemoryState:
    state = MemoryState()
    for record in records:
        state.commit(fold(state, record, REGISTRY))
    return state


def digest_of(state: MemoryState) -> str:
    return partition_digest(as_scan(state.items), REGISTRY)


def digests(tape: Tape) -> dict[int, str]:
    return {p: digest_of(replayed(records)) for p, records in tape.records.items()}


def live(store: Store) -> dict[int, str]:
    return {p: partition_digest(store.partition(p).scan, REGISTRY) for p in store.position()}


@MANY
@given(st.data())
def test_live_in_batches_equals_replay_in_memory(data: st.DataObject) -> None:
    records = data.draw(logs()).records[0]
    with opened_store() as store:
        for first, end in data.draw(st.composite(batches)(len(records))):
            store.apply(0, records[first:end])
        assert live(store)[0] == digest_of(replayed(records))


@FEW
@given(st.data())
def test_what_is_delivered_again_changes_nothing(data: st.DataObject) -> None:
    records = data.draw(logs()).records[0]
    with opened_store() as store:
        for first, end in data.draw(st.composite(batches)(len(records))):
            store.apply(0, records[data.draw(st.integers(0, first)) : end])
            before = live(store)
            store.apply(0, records[:end])
            assert live(store) == before
        assert live(store)[0] == digest_of(replayed(records))


@FEW
@given(st.data())
def test_the_order_among_partitions_is_irrelevant(data: st.DataObject) -> None:
    tape = data.draw(logs(partitions=3))
    waiting = {p: list(records) for p, records in tape.records.items()}
    with opened_store(3) as store:
        while any(waiting.values()):
            partition = data.draw(st.sampled_from([p for p, records in waiting.items() if records]))
            size = data.draw(st.integers(1, 10))
            store.apply(partition, waiting[partition][:size])
            del waiting[partition][:size]
        assert live(store) == digests(tape)


@FEW
@given(st.data())
def test_a_restart_after_any_commit_changes_nothing(data: st.DataObject) -> None:
    records = data.draw(logs()).records[0]
    with opened_store() as store:
        for first, end in data.draw(st.composite(batches)(len(records))):
            store.apply(0, records[first:end])
            before = live(store), store.position(), store.log_time_ms(0)
            store.release(0)
            assert (live(store), store.position(), store.log_time_ms(0)) == before
        assert live(store)[0] == digest_of(replayed(records))


@FEW
@given(st.data())
def test_a_batch_that_fails_midway_leaves_what_came_before_and_can_be_given_again(
    data: st.DataObject,
) -> None:
    records = data.draw(logs()).records[0]
    at = data.draw(st.integers(1, len(records)))
    first = data.draw(st.integers(0, at - 1))
    newer = event("rules.activated.v1", {"version": 9})
    leap = data.draw(st.sampled_from((0, 60_000, 3_600_000)))
    halting = Record(0, at, records[at - 1].timestamp_ms + leap, records[0].key, newer)
    with opened_store() as store:
        store.apply(0, records[:first])
        with pytest.raises(Halt, match="version 9"):
            store.apply(0, [*records[first:at], halting])
        assert store.position() == {0: at}
        assert live(store)[0] == digest_of(replayed(records[:at]))
        store.apply(0, records[at:])
        assert live(store)[0] == digest_of(replayed(records))


@FEW
@given(st.data())
def test_what_was_staged_and_abandoned_leaves_no_trace(data: st.DataObject) -> None:
    records = data.draw(logs()).records[0]
    at = data.draw(st.integers(1, len(records)))
    with opened_store() as store:
        store.apply(0, records[:at])
        tables, before = store.partition(0), live(store)
        for record in records[at:]:
            tables.stage(fold(tables, record, REGISTRY))
        tables.abandon()
        assert live(store) == before
        store.apply(0, records[at:])
        assert live(store)[0] == digest_of(replayed(records))


@FEW
@given(logs(), st.integers(1, 50))
def test_a_gap_stops_the_partition_where_it_begins(tape: Tape, missing: int) -> None:
    records = tape.records[0]
    missing = min(missing, len(records) - 1)
    with opened_store() as store:
        if missing + 1 < len(records):
            with pytest.raises(LogError, match=f"offset {missing} is missing before {missing + 1}"):
                store.apply(0, records[:missing] + records[missing + 1 :])
        else:
            store.apply(0, records[:missing])
        assert store.position() == {0: missing}
        assert live(store)[0] == digest_of(replayed(records[:missing]))
