"""Fetched batches are decoded as kafka-python decodes them, whatever is in them and however they are taken."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.record import MemoryRecords, MemoryRecordsBuilder
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.util import calc_crc32c

from vacancy.resources.model.record import Record
from vacancy.streams.kafka.fetched_records import FetchedRecords

HERE = TopicPartition("events", 3)
GZIP, APPEND_TIME, CONTROL = 1, DefaultRecordBatch.TIMESTAMP_TYPE_MASK, DefaultRecordBatch.CONTROL_MASK
ATTRIBUTES, CRC = DefaultRecordBatch.ATTRIBUTES_OFFSET, DefaultRecordBatch.CRC_OFFSET

BYTES = st.none() | st.binary(max_size=80) | st.integers(0, 20_000).map(lambda n: b"v" * n)
HEADERS = st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=70)), max_size=2)
ENTRIES = st.tuples(st.integers(0, 2**42), BYTES, BYTES, st.just([]) | HEADERS)
BATCHES = st.tuples(
    st.lists(ENTRIES, min_size=1, max_size=9),
    st.sampled_from([0, GZIP]),
    st.sampled_from([0, 0, APPEND_TIME, CONTROL]),
    st.integers(0, 90),
)


def batch(
    entries: list[Any], first: int, compression: int = 0, attributes: int = 0, skipped: int = 0
) -> bytearray:
    """A batch as a broker keeps it: with its offset, and with more attributes than a producer sets. Its first `skipped` offsets
    have no record."""
    made = MemoryRecordsBuilder(magic=2, compression_type=compression, batch_size=2**24)
    made.skip(skipped)
    for time_ms, key, value, headers in entries:
        made.append(time_ms, key, value, headers)
    made.close()
    data = bytearray(made.buffer())
    struct.pack_into(">q", data, 0, first)
    (those,) = struct.unpack_from(">h", data, ATTRIBUTES)
    struct.pack_into(">h", data, ATTRIBUTES, those | attributes)
    struct.pack_into(">I", data, CRC, calc_crc32c(memoryview(data)[ATTRIBUTES:]))
    return data


def plain(partition: int, records: list[Any]) -> list[Record]:
    return [Record(partition, r.offset, r.timestamp, r.key or b"", r.value or b"") for r in records]


def taken(found: Any, count: int | None) -> tuple[list[Any], list[int]]:
    """What all calls of `take` return, and the next offset after each."""
    records, offsets = [], []
    while found:
        records += found.take(count)
        offsets.append(found.next_fetch_offset)
    return records, offsets


@given(st.lists(BATCHES, min_size=1, max_size=4), st.none() | st.integers(1, 12), st.data())
def test_it_decodes_and_takes_as_kafka_python_does(
    batches: list[Any], count: int | None, data: st.DataObject
) -> None:
    buffer, first = bytearray(), 1_000
    for entries, compression, attributes, skipped in batches:
        if attributes == CONTROL:
            entries = [(0, b"\0\0\0\1", b"", [])]  # the marker of a commit
        buffer += batch(entries, first, compression, attributes, skipped)
        first += skipped + len(entries)
    start = data.draw(st.integers(1_000, first))
    cut = bytes(buffer[: len(buffer) - data.draw(st.integers(0, 40))])  # a fetch may end within a batch

    theirs = Fetcher.PartitionRecords(start, HERE, MemoryRecords(cut))
    ours = FetchedRecords(start, HERE, MemoryRecords(cut))
    expected, _ = taken(theirs, count)
    found, _ = taken(ours, count)
    assert found == plain(HERE.partition, expected)
    assert (ours.next_fetch_offset, ours.leader_epoch) == (theirs.next_fetch_offset, theirs.leader_epoch)


@given(st.data())
def test_a_flipped_bit_is_noticed_after_the_records_before_it(data: st.DataObject) -> None:
    one, two = (batch([(1, b"key", b"value", [])] * 5, first) for first in (0, 5))
    at = data.draw(st.integers(ATTRIBUTES * 8, len(two) * 8 - 1))
    two[at // 8] ^= 1 << at % 8
    drained: list[Any] = []
    found = FetchedRecords(0, HERE, MemoryRecords(bytes(one + two)), on_drain=drained.append)
    assert [record.offset for record in found.take(20)] == [0, 1, 2, 3, 4]
    assert found
    with pytest.raises(CorruptRecordError, match=r"partition=3\) at offset 5: its checksum"):
        found.take(20)
    assert not found, "the next poll has to fetch the batch again"
    assert (drained, found.next_fetch_offset) == ([found], 5)


@pytest.mark.parametrize(
    "change",
    [lambda body: body + b"\0", lambda body: body[:-1], lambda body: b"\xff" * 12 + body],
    ids=["more than its records", "cut", "a number that never ends"],
)
def test_a_batch_that_was_made_wrong_is_no_other_error(change: Any) -> None:
    good = batch([(1, b"key", b"value", [])] * 3, 0)
    size = DefaultRecordBatch.HEADER_STRUCT.size
    data = bytearray(good[:size] + change(bytes(good[size:])))
    struct.pack_into(">i", data, 8, len(data) - DefaultRecordBatch.AFTER_LEN_OFFSET)
    struct.pack_into(">I", data, CRC, calc_crc32c(memoryview(data)[ATTRIBUTES:]))
    with pytest.raises(CorruptRecordError, match="partition=3"):
        FetchedRecords(0, HERE, MemoryRecords(bytes(data))).take()
