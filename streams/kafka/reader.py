"""Reads a topic from any position: without a consumer group, with partitions assigned explicitly, fetching ahead.

kafka-python returns records of all partitions as they arrive; here they are buffered by partition until they are read.
A partition whose buffer is full is unassigned until there is space. (The client's `pause` is not used: in kafka-python
3.0.12 a partition that is paused in the middle of a fetched batch may never resume.)
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final

from kafka import TopicPartition
from kafka.errors import LogTruncationError, OffsetOutOfRangeError

from vacancy.resources.model.errors import LogError
from vacancy.resources.model.record import Record
from vacancy.streams.kafka.client import translated_errors
from vacancy.streams.kafka.fetched_records import decode_in_batches
from vacancy.streams.log import READ_BYTES, out_of_range
from vacancy.streams.log_url import LogUrl

_POLL_MAX_RECORDS: Final = 2_000
_BUFFER_FULL: Final = 4_000
_BUFFER_LOW: Final = 1_000
_BUFFER_BYTES: Final = 4 * READ_BYTES
_POLL_SLICE_S: Final = 0.1
# Calls of `read` for several partitions in a row, without a timeout, share one poll.
_POLL_AGAIN_S: Final = 0.0005
_OFFSETS_TIMEOUT_MS: Final = 10_000


@dataclass(slots=True)
class _Partition:
    """`position`: offset of the next record to return. `fetched`: offset of the next record to fetch from Kafka.

    Records are fetched only while the partition is `followed`. `size` is that of the values in `buffer`, in bytes.
    """

    topic: TopicPartition
    position: int = -1
    fetched: int = -1
    followed: bool = False
    problem: Exception | None = None
    buffer: deque[Record] = field(default_factory=deque)
    size: int = 0


class KafkaReader:
    """Reads the topic of `place` with `consumer`, which it closes. One thread reads at a time."""

    def __init__(self, consumer: Any, place: LogUrl, partitions: int) -> None:
        self._consumer, self._place = consumer, place
        decode_in_batches(consumer)
        self._partitions = [_Partition(TopicPartition(place.place, p)) for p in range(partitions)]
        self._polled_at = 0.0
        self._reading = Lock()

    def read(self, partition: int, offset: int, limit: int, timeout_s: float) -> list[Record]:
        """See `Log.read`."""
        deadline = time.monotonic() + timeout_s
        with self._reading, translated_errors(self._place.url):
            one = self._partitions[partition]
            if offset != one.position:
                self._seek(one, offset)
            while True:
                if one.buffer:
                    return self._from_buffer(one, limit)
                if one.problem is not None:
                    self._raise_problem(one)
                left_s = deadline - time.monotonic()
                if left_s <= 0 and time.monotonic() - self._polled_at < _POLL_AGAIN_S:
                    return []
                # Who reads one record, as to see which log it is, does not want thousands to be decoded.
                self._poll(min(max(left_s, 0.0), _POLL_SLICE_S), 1 if limit == 1 else _POLL_MAX_RECORDS)
                if left_s <= 0 and not one.buffer and one.problem is None:
                    return []

    def _from_buffer(self, one: _Partition, limit: int) -> list[Record]:
        records: list[Record] = []
        size = 0
        if len(one.buffer) <= limit and one.size <= READ_BYTES:
            records, size = list(one.buffer), one.size
            one.buffer.clear()
        while one.buffer and len(records) < limit and size < READ_BYTES:
            records.append(one.buffer.popleft())
            size += len(records[-1].value)
        one.size -= size
        one.position += len(records)
        if not one.followed and one.problem is None and _is_low(one):
            self._follow(one)
        return records

    def _seek(self, one: _Partition, offset: int) -> None:
        one.buffer.clear()
        one.size = 0
        one.position = one.fetched = offset
        one.problem = None
        self._follow(one)

    def _follow(self, one: _Partition) -> None:
        if not one.followed:
            one.followed = True
            self._assign()
        self._consumer.seek(one.topic, one.fetched)

    def _unfollow(self, one: _Partition) -> None:
        one.followed = False
        self._assign()

    def _assign(self) -> None:
        self._consumer.assign([one.topic for one in self._partitions if one.followed])

    def _poll(self, timeout_s: float, records: int) -> None:
        try:
            found = self._consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=records)
        except OffsetOutOfRangeError as error:
            self._note_problem(error.args[0], error)
        except LogTruncationError as error:
            self._note_problem(error.divergent_offsets, error)
        else:
            for topic, raw in found.items():
                self._buffer(self._partitions[topic.partition], raw)
        self._polled_at = time.monotonic()

    def _buffer(self, one: _Partition, records: list[Record]) -> None:
        is_contiguous = records[-1].offset == one.fetched + len(records) - 1
        if not is_contiguous:
            records = [record for place, record in enumerate(records, one.fetched) if record.offset == place]
        one.buffer.extend(records)
        one.size += sum(len(record.value) for record in records)
        one.fetched += len(records)
        if not is_contiguous:
            self._note_problem([one.topic], self._gap(one))
        elif one.followed and (len(one.buffer) >= _BUFFER_FULL or one.size >= _BUFFER_BYTES):
            self._unfollow(one)

    def _gap(self, one: _Partition) -> LogError:
        return LogError(
            "the log has a gap",
            where=f"{self._place.name}, partition {one.topic.partition}, offset {one.fetched}",
            do="set cleanup.policy=delete, do not write to it in transactions, and create a new log",
        )

    def _note_problem(self, topics: Any, error: Exception) -> None:
        for topic in topics:
            one = self._partitions[topic.partition]
            one.problem = error
            self._unfollow(one)

    def _raise_problem(self, one: _Partition) -> None:
        """Raise the error of a partition and clear it, so that the next read tries again."""
        problem, one.problem = one.problem, None
        offset, partition = one.fetched, one.topic.partition
        self._seek(one, offset)
        if isinstance(problem, LogError):
            one.position = -1
            raise problem
        start, end = self.bounds(partition)
        if isinstance(problem, LogTruncationError):
            end = min(
                end, offset - 1
            )  # the records that were read are gone; others may have their offsets now
        if not start <= offset <= end:
            one.position = -1
            raise out_of_range(self._place.name, partition, offset, start, end)

    def bounds(self, partition: int) -> tuple[int, int]:
        """The first offset kept, and the offset after the last record, of one partition."""
        topics = [self._partitions[partition].topic]
        with translated_errors(self._place.url):
            start = self._consumer.beginning_offsets(topics, timeout_ms=_OFFSETS_TIMEOUT_MS)
            end = self._consumer.end_offsets(topics, timeout_ms=_OFFSETS_TIMEOUT_MS)
        return start[topics[0]], end[topics[0]]

    def starts(self) -> dict[int, int]:
        """Partition -> the first offset kept."""
        return self._offsets(self._consumer.beginning_offsets)

    def ends(self) -> dict[int, int]:
        """Partition -> the offset after the last record."""
        return self._offsets(self._consumer.end_offsets)

    def offset_after(self, partition: int, time_ms: int) -> int:
        """The first offset whose timestamp is later than `time_ms`, or the end of the partition."""
        topic = self._partitions[partition].topic
        with translated_errors(self._place.url):
            # Negative times have other meanings for a broker: its first and its last record.
            asked = {topic: max(time_ms + 1, 0)}
            found = self._consumer.offsets_for_times(asked, timeout_ms=_OFFSETS_TIMEOUT_MS)[topic]
        return self.bounds(partition)[1] if found is None else int(found.offset)

    def _offsets(self, request: Any) -> dict[int, int]:
        with translated_errors(self._place.url):
            found = request([one.topic for one in self._partitions], timeout_ms=_OFFSETS_TIMEOUT_MS)
        return {topic.partition: offset for topic, offset in sorted(found.items())}

    def close(self) -> None:
        """Disconnect."""
        with self._reading:
            self._consumer.close(autocommit=False, timeout_ms=1_000)


def _is_low(one: _Partition) -> bool:
    """Whether more records of a partition should be fetched."""
    return len(one.buffer) < _BUFFER_LOW and one.size < _BUFFER_BYTES // 2
