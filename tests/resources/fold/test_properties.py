"""What holds of every log: nothing is given twice, the books balance, duplicates and neighbours do not matter."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import Tape, event
from tests.support.models.allocation_model import (
    AllocationModel,
    Slot,
    class_rows,
    rows_of,
    used_by_allocations,
    used_by_rows,
)
from tests.support.models.memory_state import MemoryState
from tests.support.random_logs.strategies import logs
from vacancy.resources.fold.fold import fold
from vacancy.resources.fold.log_time import LEAP_MS_MAX
from vacancy.resources.model.record import Record
from vacancy.resources.state.tables import (
    ALLOCATIONS,
    DEAD_LETTERS,
    DEADLINES,
    NODES,
    PARTITION,
    PARTITION_KEY,
    REQUESTS,
    VERDICTS,
    split_deadline,
)
from vacancy.resources.state.transaction import Changes

MANY = settings(max_examples=150, deadline=None)


def folded(records: Sequence[Record]) -> MemoryState:
    state = MemoryState()
    for record in records:
        state.commit(fold(state, record, REGISTRY))
    return state


def capacity_of(state: MemoryState, slot: Slot) -> int:
    """By the documented rule, not as the fold computes it."""
    record = class_rows(state, REGISTRY).get(slot)
    if record is None:
        return 0
    total: int = record.total
    reserved = record.reserved_override if record.reserved_override != -1 else record.reserved
    ratio = record.ratio_milli_override if record.ratio_milli_override != -1 else record.ratio_milli
    capacity: int = max(0, (total - reserved) * ratio // 1000)
    return capacity


def note(ledger: AllocationModel, state: MemoryState, record: Record, changes: Changes) -> list[str]:
    """Tell the ledger of a record that was folded, unless it was no event at all."""
    verdicts = changes.get(VERDICTS, {})

    def accepted(cell: str, claim: str) -> bool:
        row = verdicts.get(f"{cell}\0{claim}".encode())
        return row is not None and row.accepted and row.offset == record.offset

    time_ms = changes[PARTITION][PARTITION_KEY].time_ms
    try:
        said = json.loads(record.value)["data"]
    except (ValueError, TypeError, KeyError):
        return []
    if DEAD_LETTERS in changes and "claims" not in said:
        record = record._replace(value=event("tick.v1", {}))
    problems = ledger.note(record, time_ms, accepted, lambda slot: capacity_of(state, slot))
    if (
        said.get("consumers")
        and NODES in changes
        and f"{record.key.decode()}\0{said['root']}".encode() in changes[NODES]
    ):
        ledger.confirmed(record.key.decode(), said["consumers"])
    return problems


@MANY
@given(logs())
def test_nothing_is_given_twice_and_the_books_balance(tape: Tape) -> None:
    state, ledger = MemoryState(), AllocationModel()
    for record in tape.records[0]:
        changes = fold(state, record, REGISTRY)
        if PARTITION in changes and record.offset:
            assert note(ledger, state, record, changes) == []
        state.commit(changes)
        assert used_by_rows(state, REGISTRY) == used_by_allocations(state)
        if DEAD_LETTERS not in changes:
            assert used_by_rows(state, REGISTRY) == ledger.used
        ports = [
            (key.split(b"\0")[0], part.provider, port)
            for key, row in rows_of(state, ALLOCATIONS).items()
            for part in row.parts
            if part.resource_class == "PORTS"
            for port in part.grant
        ]
        assert len(ports) == len(set(ports))


@MANY
@given(logs(wild=False), st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=9))
def test_what_comes_twice_changes_nothing(tape: Tape, copies: list[tuple[int, int]]) -> None:
    originals = [record._replace(offset=10 * record.offset) for record in tape.records[0]]
    records = list(originals)
    for number, (first, second) in enumerate(copies, 1):
        early, late = sorted((first % len(originals), second % len(originals)))
        copy = originals[late]._replace(offset=10 * late + number, key=originals[early].key)
        records.append(copy._replace(value=originals[early].value))
    records.sort(key=lambda record: record.offset)
    assert list(folded(records).items()) == list(folded(originals).items())


@MANY
@given(logs())
def test_what_happens_in_a_cell_is_its_own(tape: Tape) -> None:
    """Where all that others write into a cell's partition are ticks, the cell is the same."""
    mine = tape.cells[0].encode()
    tick = event("tick.v1", {})
    alone = [
        r if r.key == mine or not r.offset else r._replace(key=mine, value=tick) for r in tape.records[0]
    ]
    assert of_cell(folded(alone), mine) == of_cell(folded(tape.records[0]), mine)


def of_cell(state: MemoryState, cell: bytes) -> list[tuple[str, bytes, bytes]]:
    shared = (PARTITION.name, DEAD_LETTERS.name, REQUESTS.name)
    return [
        (family, key, data)
        for family, key, data in state.items()
        if family not in shared
        and cell in (split_deadline(key)[2] if family == DEADLINES.name else key).split(b"\0")
    ]


@MANY
@given(logs())
def test_log_time_never_goes_back_and_never_leaps(tape: Tape) -> None:
    state, before_ms = MemoryState(), 0
    for record in tape.records[0]:
        state.commit(fold(state, record, REGISTRY))
        row = state.get(PARTITION, PARTITION_KEY)
        assert row is not None
        if before_ms:
            assert before_ms <= row.time_ms <= before_ms + LEAP_MS_MAX
            assert row.time_ms >= min(record.timestamp_ms, before_ms + LEAP_MS_MAX)
        before_ms = row.time_ms


@MANY
@given(logs())
def test_nothing_outlives_its_deadline_and_nothing_waits_for_what_is_gone(tape: Tape) -> None:
    state = folded(tape.records[0])
    partition = state.get(PARTITION, PARTITION_KEY)
    assert partition is not None
    assert list(state.due(partition.time_ms - 1)) == []
    waiting = {split_deadline(key) for key in rows_of(state, DEADLINES)}
    for key, verdict in rows_of(state, VERDICTS).items():
        assert verdict.deadline_ms >= partition.time_ms
        assert (verdict.deadline_ms, b"V", key) in waiting
    holds = {
        (row.hold_until_ms, b"H", key)
        for key, row in rows_of(state, ALLOCATIONS).items()
        if row.hold_until_ms
    }
    assert holds == {slot for slot in waiting if slot[1] == b"H"}
    assert {slot[2] for slot in waiting if slot[1] == b"R"} == set(rows_of(state, REQUESTS))
