"""Reading a log: which records, in which order."""

from __future__ import annotations

import random
from collections import defaultdict
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.recorded_logs.recording import read_recording
from tests.support.logs.events_json import Tape, claim, claims, event, provider, released, reported
from tests.support.logs.node_logs import memory_log
from tests.support.logs.tape_log import TapeLog
from vacancy.clients.history.log_reading import (
    RecordFilter,
    TimedRecord,
    follow,
    newest,
    read_from,
    read_range,
)
from vacancy.clients.history.record_view import json_object, names_of
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.record import NewRecord, Record

TIMES = st.lists(st.lists(st.integers(0, 20), max_size=30), min_size=1, max_size=4)


def log_of(times: list[list[int]]) -> TapeLog:
    return TapeLog(
        {
            p: [Record(p, o, at, b"", b"wanted" if at % 3 else b"") for o, at in enumerate(one)]
            for p, one in enumerate(times)
        }
    )


@cache
def recorded(name: str) -> TapeLog:
    records = defaultdict(list)
    for record in read_recording(name).records:
        records[record.partition].append(record)
    return TapeLog(records)


def brute_force(log: TapeLog) -> list[TimedRecord]:
    """All records by log time, then by partition and offset."""
    found = []
    for partition, end in log.end().items():
        time_ms = -1
        for record in log.read(partition, 0, end):
            time_ms = max(time_ms, record.timestamp_ms)
            found.append(TimedRecord(time_ms, record))
    return sorted(found, key=lambda one: one.order)


@given(TIMES, st.integers(1, 40))
def test_the_newest_records_are_those_of_all_partitions(times: list[list[int]], count: int) -> None:
    log = log_of(times)
    assert newest(log, count) == brute_force(log)[-count:]


@given(TIMES, st.data())
def test_records_from_a_position_are_merged_by_log_time(times: list[list[int]], data: st.DataObject) -> None:
    log = log_of(times)
    start = {p: data.draw(st.integers(0, end)) for p, end in log.end().items()}
    found = list(read_from(log, start))
    assert found == [one for one in brute_force(log) if one.record.offset >= start[one.record.partition]]


def test_a_recorded_log_is_read_the_same_forwards_and_backwards() -> None:
    log = recorded("demo")
    everything = list(read_from(log, log.start()))
    assert everything == brute_force(log)
    assert newest(log, 300) == everything[-300:]


def test_a_filter_finds_what_names_a_consumer() -> None:
    tape = Tape()
    cell = tape.cells[0]
    values = (
        reported("node-1", [provider("node-1", VCPU=8)], consumers=["vm-1"]),
        claims(
            claim("c-1", "vm-1", "node-1", {"VCPU": 1}, 5), claim("c-2", "vm-2", "node-1", {"VCPU": 1}, 5)
        ),
        claims(claim("c-3", "vm-10", "node-1", {"VCPU": 1}, 5)),
        released("vm-1", "c-1"),
        event("gang.requested.v1", {"claims": [claim("c-4", "vm-1", "node-2", {"VCPU": 1}, 5)]}),
        event("consumer.replaced.v1", claim("c-5", "vm-1", "node-2", {"VCPU": 1}, 5)),
        event("consumer.confirmed.v1", {"consumer": "vm-1", "claim": "c-5"}),
        event("note.taken.v1", {"text": "vm-1"}),
        b'{"data": {"consumer": "vm-1"',
    )
    for value in values:
        tape.append(cell, value)
    log = TapeLog(tape.records)

    def found(**names: frozenset[str]) -> list[int]:
        return [one.record.offset for one in newest(log, 100, wanted=RecordFilter(**names))]

    assert found(consumers=frozenset({"vm-1"})) == [1, 2, 4, 5, 6, 7]
    assert found(providers=frozenset({"node-2"})) == [5, 6]
    assert found(consumers=frozenset({"vm-1"}), providers=frozenset({"node-2"})) == [5, 6]
    assert found(types=frozenset({"claims.requested"})) == [2, 3]
    assert found(types=frozenset({"vacancy.consumer.confirmed.v1", "node.reported.v1"})) == [1, 7]
    assert found(types=frozenset({"consumer.confirmed.v2"})) == []


@pytest.mark.parametrize("name", ["version_4", "every_event"])
def test_every_record_is_found_by_the_names_in_it(name: str) -> None:
    """One name of each record, at random: the filter finds the record itself."""
    rng = random.Random(1)
    for one in brute_force(recorded(name)):
        value = one.record.value
        names = names_of(json_object(value))
        for field, known in (("providers", names.providers), ("consumers", names.consumers)):
            if known:
                wanted = RecordFilter(**{field: frozenset({rng.choice(sorted(known))})})
                assert wanted.passes(value), one


def test_a_range_that_does_not_exist_names_the_one_that_does() -> None:
    log = log_of([[1, 2, 3], []])
    assert [one.offset for one in read_range(log, 0, 1, 3)] == [1, 2]
    with pytest.raises(UsageError, match=r"there is no record 0:3.*0:0 to 0:2"):
        read_range(log, 0, 3, 4)
    with pytest.raises(UsageError, match=r"there is no record 0:1 to 0:8.*0:0 to 0:2"):
        read_range(log, 0, 1, 9)
    with pytest.raises(UsageError, match="partition 1 has no records"):
        read_range(log, 1, 0, 1)
    with pytest.raises(UsageError, match="there is no partition 2"):
        read_range(log, 2, 0, 1)


def test_following_shows_each_new_record_once() -> None:
    with memory_log(partitions=2) as log:
        looks = iter(range(3))

        def wait() -> bool:
            """Append a record at each look, and stop at the third."""
            if next(looks) == 2:
                return True
            log.append([NewRecord(f"cell-{n}", event("tick.v1", {})) for n in range(6)])
            return False

        seen = [(one.record.partition, one.record.offset) for one in follow(log, log.end(), wait)]
        assert len(seen) == 12
        assert sorted(seen) == sorted((p, o) for p, end in log.end().items() for o in range(1, end))
