"""Decodes the records of a fetched partition, a batch at a time.

kafka-python makes three objects of each record and calls a function for each number in it, which took a sixth of the
time of a replay. Here one loop makes the `Record`s of a whole batch. Which partitions are fetched, from whom, and what is
done about errors stays with kafka-python.
"""

from __future__ import annotations

from typing import Any, Final

from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError, KafkaError
from kafka.record import MemoryRecords

from vacancy.resources.model.record import Record

_MAGIC: Final = 2
"""The format of batches since Kafka 0.11. An older topic may have older ones."""
_APPEND_TIME: Final = 1
_SHIFT_MAX: Final = 63


class FetchedRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """What one fetch returned of one partition, as `Record`s. kafka-python asks it for the next ones (`take`), and then for
    the offset after them. The markers that end a transaction are passed over, so they leave a gap."""

    def __init__(self, fetch_offset: int, tp: TopicPartition, records: MemoryRecords, **options: Any) -> None:
        super().__init__(fetch_offset, tp, records, **options)
        self._batches = records
        self._decoded: list[Record] = []
        self._taken = 0
        self._end = fetch_offset
        self._error: Exception | None = None

    def take(self, n: int | None = None) -> list[Record]:
        """The next records, at most `n` if it is given. The records before a batch that cannot be decoded are returned
        first; then the error is raised: CorruptRecordError, or UnsupportedCodecError."""
        found: list[Record] = []
        while n is None or len(found) < n:
            if self._taken == len(self._decoded):
                if self._error is not None or not self._batches.has_next():
                    break
                self._decode_next()
                continue
            end = len(self._decoded) if n is None else self._taken + n - len(found)
            some = self._decoded[self._taken : end]
            self._taken += len(some)
            found += some
            self.next_fetch_offset = some[-1].offset + 1
        if self._taken == len(self._decoded):
            if self._error is None and not self._batches.has_next():
                self.next_fetch_offset = self._end
                self.drain()
            elif self._error is not None and not found:
                self.drain()  # the next poll fetches the batch again
                raise self._error
        return found

    def _decode_next(self) -> None:
        self._decoded, self._taken = [], 0
        batch = self._batches.next_batch()
        try:
            if self.check_crcs and not batch.validate_crc():
                raise ValueError("its checksum does not match")
            records = decoded(self.topic_partition.partition, batch)
        except (ValueError, IndexError) as error:
            where = f"partition {self.topic_partition} at offset {batch.base_offset}"
            self._error = CorruptRecordError(f"the batch of {where}: {error}")
            return
        except KafkaError as error:
            self._error = error
            return
        self.bytes_read += batch.size_in_bytes
        self.records_read += len(records)
        if batch.magic == _MAGIC:
            self.leader_epoch = batch.leader_epoch
            self._end = batch.next_offset
        elif records:
            self._end = records[-1].offset + 1
        if records and records[0].offset < self.fetch_offset:
            # A fetch starts with the whole batch that has its first offset.
            records = [one for one in records if one.offset >= self.fetch_offset]
        self._decoded = records


def decoded(partition: int, batch: Any) -> list[Record]:
    """The records of a batch of kafka-python. Raises ValueError or IndexError where it is not one, and errors of kafka-python."""
    if batch.magic != _MAGIC:
        return [Record(partition, r.offset, r.timestamp, r.key or b"", r.value or b"") for r in batch]
    if batch.is_control_batch:
        return []
    iter(batch)  # decompresses it
    append_ms = batch.max_timestamp if batch.timestamp_type == _APPEND_TIME else None
    return _decode(
        bytes(batch._buffer),
        batch._pos,
        batch.records_count,
        partition,
        batch.base_offset,
        batch.first_timestamp,
        append_ms,
    )


def _decode(
    data: bytes, at: int, count: int, partition: int, base: int, first_ms: int, append_ms: int | None
) -> list[Record]:
    """`count` records from `at` on. A record has, as numbers of variable length unless another type is given: its size, attributes (a
    byte), milliseconds after the first, offset after the first, size of the key, key, size of the value, value, and the number of
    headers, which are not used. Numbers are zigzag: their lowest bit is the sign. Sizes of what is missing are -1, which
    a shift makes 0. Short numbers are decoded here, as a call costs as much as the rest.
    """
    records = []
    for _ in range(count):
        size = data[at]
        if size < 128:
            at += 1
        elif (more := data[at + 1]) < 128:
            size, at = size & 127 | more << 7, at + 2
        else:
            size, at = _varint(data, at)
        end = at + (size >> 1)
        at += 1
        if append_ms is None:
            number, at = _varint(data, at)
            time_ms = first_ms + (number >> 1 ^ -(number & 1))
        else:
            time_ms = append_ms
            while data[at] > 127:
                at += 1
            at += 1
        place = data[at]
        if place < 128:
            at += 1
        elif (more := data[at + 1]) < 128:
            place, at = place & 127 | more << 7, at + 2
        else:
            place, at = _varint(data, at)
        size = data[at]
        if size < 128:
            at += 1
        else:
            size, at = _varint(data, at)
        key = data[at : at + (size >> 1)]
        at += size >> 1
        size = data[at]
        if size < 128:
            at += 1
        elif (more := data[at + 1]) < 128:
            size, at = size & 127 | more << 7, at + 2
        else:
            size, at = _varint(data, at)
        value = data[at : at + (size >> 1)]
        at += size >> 1
        at = at + 1 if not data[at] else _after_headers(data, at)
        if at != end:
            raise ValueError(f"its record at offset {base + (place >> 1)} has another size")
        records.append(Record(partition, base + (place >> 1), time_ms, key, value))
    if at != len(data):
        raise ValueError("it has more than its records")
    return records


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, still zigzag, and what comes after it."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
        if shift > _SHIFT_MAX:
            raise ValueError("a number of it has more than 64 bits")


def _after_headers(data: bytes, at: int) -> int:
    """The end of the headers that start at `at`."""
    count, at = _varint(data, at)
    for _ in range(count):  # twice the number: a key and a value each
        size, at = _varint(data, at)
        at += size >> 1
    return at


def decode_in_batches(consumer: Any) -> None:
    """Have this consumer of kafka-python return `Record`s."""
    consumer._fetcher.PartitionRecords = FetchedRecords
