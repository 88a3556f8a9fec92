"""The contract of `Log`, for every backend."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from typing import Any

import pytest

from tests.streams.conftest import ArchivedBackend
from vacancy.resources.model.errors import LogError, UsageError
from vacancy.resources.model.partitioner import covering_cells, partition_for
from vacancy.resources.model.record import NewRecord, Record
from vacancy.streams.log import RECORD_BYTES_MAX, Log, create_log

CELLS = covering_cells(4)


def read_all(log: Log, partition: int, chunk: int = 100) -> list[Record]:
    """All records of a partition."""
    records: list[Record] = []
    position, end = log.start()[partition], log.end()[partition]
    while position < end:
        records += log.read(partition, position, chunk, timeout_s=90)
        position = records[-1].offset + 1
    return records


def test_a_new_log_holds_its_openings(backend: Any) -> None:
    uid = str(uuid.uuid4())
    with backend.create(4, uid) as made:
        assert made.partitions == 4
        assert made.identity() == (uid, 4)
    with backend.open() as log:
        assert log.partitions == 4
        assert log.name in log.url
        assert log.identity() == (uid, 4)
        assert log.start() == {0: 0, 1: 0, 2: 0, 3: 0}
        assert log.end() == {0: 1, 1: 1, 2: 1, 3: 1}
        for partition in range(4):
            (first,) = log.read(partition, 0, 10, timeout_s=90)
            assert (first.partition, first.offset) == (partition, 0)
            assert partition_for(first.key, 4) == partition


def test_one_partition_is_enough(backend: Any) -> None:
    log = backend.create(1)
    assert log.identity().partitions == 1
    assert [a.partition for a in log.append([NewRecord("any", b"1"), NewRecord("other", b"2")])] == [0, 0]


def test_an_existing_log_is_not_made_again(backend: Any) -> None:
    uid = str(uuid.uuid4())
    backend.create(4, uid)
    with pytest.raises(LogError, match="exists already"):
        backend.create(4)
    assert backend.open().identity().log == uid


def test_the_error_for_a_missing_log_says_how_to_create_it(backend: Any) -> None:
    with pytest.raises(LogError, match="vacancy topics create --log ") as raised:
        backend.open()
    assert backend.url in str(raised.value)


def test_openings_must_cover_the_partitions(backend: Any, openings: Any) -> None:
    for wrong in (openings(4)[:3], [*openings(4), openings(4)[0]], [openings(4)[0]] * 4, openings(3)):
        with pytest.raises(UsageError, match="opening records"):
            create_log(backend.url, 4, wrong)
    with pytest.raises(UsageError, match="0 partitions"):
        create_log(backend.url, 0, [])
    with pytest.raises(LogError, match="no log"):
        backend.open()


def test_entries_come_back_as_they_were(backend: Any) -> None:
    log = backend.create(4)
    entries = [
        NewRecord("cell-a", b"{}"),
        NewRecord("zażółć", b"\x00\xff binary"),
        NewRecord("cell-a", b""),
        NewRecord("cell-b", b"x" * 500_000),
    ]
    landed = log.append(entries)
    assert len(landed) == 4
    for entry, (partition, offset, timestamp_ms) in zip(entries, landed, strict=True):
        assert partition == partition_for(entry.key, 4)
        (record,) = log.read(partition, offset, 1, timeout_s=90)
        assert record == (partition, offset, timestamp_ms, entry.key.encode(), entry.value)
    assert log.append([]) == []


def test_order_offsets_and_time_of_a_partition(backend: Any) -> None:
    log = backend.create(4)
    before_ms = time.time_ns() // 1_000_000
    for batch in range(5):
        entries = [NewRecord(CELLS[n % 4], b"%d" % (batch * 40 + n)) for n in range(40)]
        landed = log.append(entries)
        assert [a.partition for a in landed] == [n % 4 for n in range(40)]
    for partition in range(4):
        records = read_all(log, partition, chunk=7)
        assert [r.offset for r in records] == list(range(51))
        assert [int(r.value) for r in records[1:]] == list(range(partition, 200, 4))
        times = [r.timestamp_ms for r in records]
        assert before_ms - 60_000 < times[-1] < before_ms + 60_000


def test_an_entry_that_is_too_large_is_refused_and_nothing_is_appended(backend: Any) -> None:
    log = backend.create(4)
    end = log.end()
    for entry in (NewRecord("a", bytes(RECORD_BYTES_MAX + 1)), NewRecord("a" * 2000, b"")):
        with pytest.raises(LogError, match="send less in one record"):
            log.append([NewRecord("a", b"small"), entry])
    assert log.end() == end


def test_entries_of_one_append_are_consecutive(backend: Any) -> None:
    log, other = backend.create(4), backend.open()
    landed = []
    for n in range(10):
        landed.append(log.append([NewRecord(CELLS[1], b"%d-%d" % (n, i)) for i in range(20)]))
        other.append([NewRecord(CELLS[1], b"other")])
    for places in landed:
        assert [p.offset for p in places] == list(range(places[0].offset, places[0].offset + 20))


def test_read_starts_exactly_at_the_offset_and_keeps_the_limit(backend: Any) -> None:
    log = backend.create(4)
    log.append([NewRecord(CELLS[2], b"%d" % n) for n in range(1, 30)])
    for offset, limit in ((0, 1), (5, 3), (3, 100), (29, 1), (28, 50), (4, 2), (0, 100)):
        records: list[Record] = []
        while len(records) < min(limit, 30 - offset):
            part = log.read(2, offset + len(records), limit - len(records), timeout_s=90)
            assert 0 < len(part) <= limit - len(records)
            records += part
        assert [r.offset for r in records] == list(range(offset, min(offset + limit, 30)))


def test_reading_at_the_end_is_empty_and_waits_no_longer_than_the_timeout(backend: Any) -> None:
    log = backend.create(4)
    started = time.monotonic()
    assert log.read(0, 1, 10) == []
    assert log.read(0, 1, 10, timeout_s=0.1) == []
    assert 0.1 <= time.monotonic() - started < 30


def test_a_waiting_reader_is_woken(backend: Any) -> None:
    log, other = backend.create(4), backend.open()
    assert log.read(3, 1, 10) == []
    timer = threading.Timer(0.05, other.append, ([NewRecord(CELLS[3], b"news")],))
    timer.start()
    started = time.monotonic()
    assert [r.value for r in log.read(3, 1, 10, timeout_s=120)] == [b"news"]
    assert time.monotonic() - started < 60
    timer.join()


def test_polling_without_waiting_finds_what_was_appended(backend: Any) -> None:
    log, other = backend.create(4), backend.open()
    for n in range(1, 6):
        other.append([NewRecord(CELLS[0], b"%d" % n)])
        deadline = time.monotonic() + 90
        while not (found := log.read(0, n, 10)):
            assert time.monotonic() < deadline
        assert [r.value for r in found] == [b"%d" % n]


def test_reading_beyond_the_end_is_an_error(backend: Any) -> None:
    log = backend.create(4)
    with pytest.raises(LogError, match="beyond the end") as raised:
        log.read(1, 7, 10, timeout_s=90)
    for part in (log.name, "partition 1", "offset 7", "0 to 1"):
        assert part in str(raised.value)
    assert [r.offset for r in log.read(1, 0, 10, timeout_s=90)] == [0]


def test_reading_records_that_retention_removed_is_an_error(backend: Any) -> None:
    log = backend.create(4)
    log.append([NewRecord(CELLS[1], b"%d" % n) for n in range(20)])
    backend.trim(1, 10)
    assert log.start() == {0: 0, 1: 10, 2: 0, 3: 0}
    assert log.end()[1] == 21
    reader = backend.open()
    with pytest.raises(LogError, match="no longer in the log") as raised:
        reader.read(1, 3, 10, timeout_s=90)
    for part in (log.name, "partition 1", "offset 3", "10 to 21"):
        assert part in str(raised.value)
    assert reader.read(1, 10, 1, timeout_s=90)[0].value == b"9"


def test_the_first_offset_after_a_time(backend: Any) -> None:
    log = backend.create(4)
    for n in range(5):
        log.append([NewRecord(CELLS[1], b"%d" % n)])
        time.sleep(0.003)  # the next one has another millisecond
    records = read_all(log, 1)
    times = [r.timestamp_ms for r in records]
    assert times == sorted(times)
    assert times[1] < times[-1]
    for time_ms in (0, times[0] - 1, *times, times[-1] + 3_600_000):
        expected = next((r.offset for r in records if r.timestamp_ms > time_ms), 6)
        assert log.offset_after(1, time_ms) == expected
    assert log.offset_after(0, times[-1] + 3_600_000) == 1  # another partition has its own end


def test_the_first_offset_after_a_time_is_one_that_retention_left(backend: Any) -> None:
    log = backend.create(4)
    log.append([NewRecord(CELLS[1], b"%d" % n) for n in range(20)])
    backend.trim(1, 10)
    assert backend.open().offset_after(1, 0) == 10


def test_the_oldest_records_are_deleted(backend: Any) -> None:
    log = backend.create(4)
    log.append([NewRecord(CELLS[1], b"%d" % n) for n in range(20)])
    if isinstance(backend, ArchivedBackend):
        with pytest.raises(LogError, match="cannot be deleted"):
            log.trim(1, 10)
        return
    log.trim(1, 10)
    assert log.start() == {0: 0, 1: 10, 2: 0, 3: 0}
    assert log.read(1, 10, 1, timeout_s=90)[0].value == b"9"
    log.trim(1, 5)
    assert log.start()[1] == 10
    log.trim(1, 1_000)  # the last record stays
    assert backend.open().start()[1] == 20
    assert [at.offset for at in log.append([NewRecord(CELLS[1], b"next")])] == [21]
    with pytest.raises(LogError, match="no partition 4"):
        log.trim(4, 1)


def test_a_later_opening_names_a_trimmed_log(backend: Any, openings: Any) -> None:
    uid = str(uuid.uuid4())
    log = backend.create(4, uid)
    log.append(openings(4, uid))
    for partition in range(4):
        backend.trim(partition, 1)
    assert backend.open().identity() == (uid, 4)


def test_identity_needs_one_first_record(backend: Any) -> None:
    uid = str(uuid.uuid4())
    log = backend.create(4, uid)
    log.append([NewRecord(cell, b"x") for cell in CELLS])
    backend.trim(0, 1)
    assert backend.open().identity() == (uid, 4)
    for partition in range(1, 4):
        backend.trim(partition, 1)
    with pytest.raises(LogError, match="no partition of the log has its first record"):
        backend.open().identity()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"not json", "readable"),
        (b"[]", "readable"),
        (b'{"type": "vacancy.tick.v1", "data": {}}', "vacancy.tick.v1"),
        (b'{"type": "vacancy.log.opened.v1", "data": {"log": "x"}}', "readable"),
        (
            b'{"type": "vacancy.log.opened.v1", "data": {"log": "x", "partitions": 0, "partition": 0}}',
            "no log id or no partitions",
        ),
        (
            b'{"type": "vacancy.log.opened.v1", "data": {"log": "x", "partitions": 1, "partition": 5}}',
            "partition 5",
        ),
        (
            b'{"type": "vacancy.log.opened.v1", "data": {"log": "x", "partitions": 9, "partition": 0}}',
            "1 partitions",
        ),
    ],
)
def test_a_log_with_another_first_record_has_no_identity(backend: Any, value: bytes, message: str) -> None:
    with create_log(backend.url, 1, [NewRecord("a", value)]) as log, pytest.raises(LogError, match=message):
        log.identity()


def test_receipts_return_the_positions_of_entries(backend: Any) -> None:
    log = backend.create(4)
    receipts = [log.send([NewRecord(CELLS[n % 4], b"%d" % n), NewRecord(CELLS[0], b"+")]) for n in range(50)]
    landed = [receipt.wait(90) for receipt in receipts]
    assert all(receipt.done for receipt in receipts)
    assert [receipt.wait(0) for receipt in receipts] == landed
    for n, (first, second) in enumerate(landed):
        assert (first.partition, second.partition) == (n % 4, 0)
        (record,) = log.read(first.partition, first.offset, 1, timeout_s=90)
        assert int(record.value) == n
    zeros = [place.offset for places in landed for place in places if place.partition == 0]
    assert zeros == sorted(zeros)


def test_many_threads_and_handles_neither_lose_nor_repeat_records(backend: Any) -> None:
    shared = backend.create(4)
    own = [backend.open() for _ in range(2)]
    landed: list[Any] = []

    def append(name: int, log: Log) -> None:
        for n in range(30):
            landed.extend(
                log.append([NewRecord(CELLS[(name + n) % 4], b"%d %d" % (name, n)) for _ in range(2)])
            )

    threads = [
        threading.Thread(target=append, args=(name, log)) for name, log in enumerate([shared, shared, *own])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({(p.partition, p.offset) for p in landed}) == len(landed) == 240
    records = [r for p in range(4) for r in read_all(shared, p)[1:]]
    assert Counter(r.value for r in records) == {b"%d %d" % (m, n): 2 for m in range(4) for n in range(30)}


def test_a_missing_partition(backend: Any) -> None:
    log = backend.create(4)
    for partition in (-1, 4):
        with pytest.raises(LogError, match=f"no partition {partition}"):
            log.read(partition, 0, 1)
        with pytest.raises(LogError, match=f"no partition {partition}"):
            log.offset_after(partition, 0)


def test_a_closed_log_refuses_every_call(backend: Any) -> None:
    log = backend.create(4)
    log.close()
    log.close()
    calls = (
        lambda: log.append([NewRecord("a", b"")]),
        lambda: log.read(0, 0, 1),
        lambda: log.offset_after(0, 0),
        log.start,
        log.end,
        log.identity,
    )
    for call in calls:
        with pytest.raises(LogError, match="closed"):
            call()
