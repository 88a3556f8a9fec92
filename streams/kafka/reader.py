"""Reading a topic from any position: partitions assigned by hand, no group, fetched ahead.

kafka-python gives records of all partitions as they come; here they wait in a buffer for each partition until
they are asked for. A partition whose buffer is full is not followed until there is room again. (Not with the
client's `pause`: in kafka-python 3.0.12 a partition paused in the middle of a fetched batch may never resume.)
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
from vacancy.streams.log import out_of_range
from vacancy.streams.log_url import LogUrl

_POLL_MAX_RECORDS: Final = 2_000
_BUFFER_FULL: Final = 4_000
_BUFFER_LOW: Final = 1_000
_POLL_SLICE_S: Final = 0.1
# Those who poll partition after partition without waiting share one look at what has come.
_POLL_AGAIN_S: Final = 0.0005
_OFFSETS_TIMEOUT_MS: Final = 10_000


@dataclass(slots=True)
class _Partition:
    """`position` is that of the next record to hand out, `fetched` that of the next to come from Kafka.

    Records come only while the partition is `followed`.
    """

    topic: TopicPartition
    position: int = -1
    fetched: int = -1
    followed: bool = False
    problem: Exception | None = None
    buffer: deque[Record] = field(default_factory=deque)


class KafkaReader:
    """Reads the topic of `place` through `consumer`, which it closes. One thread reads at a time."""

    def __init__(self, consumer: Any, place: LogUrl, partitions: int) -> None:
        self._consumer, self._place = consumer, place
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
                    return self._take(one, limit)
                if one.problem is not None:
                    self._raise_problem(one)
                left_s = deadline - time.monotonic()
                if left_s <= 0 and time.monotonic() - self._polled_at < _POLL_AGAIN_S:
                    return []
                self._poll(min(max(left_s, 0.0), _POLL_SLICE_S))
                if left_s <= 0 and not one.buffer and one.problem is None:
                    return []

    def _take(self, one: _Partition, limit: int) -> list[Record]:
        records = [one.buffer.popleft() for _ in range(min(limit, len(one.buffer)))]
        one.position += len(records)
        if not one.followed and one.problem is None and len(one.buffer) < _BUFFER_LOW:
            self._follow(one)
        return records

    def _seek(self, one: _Partition, offset: int) -> None:
        one.buffer.clear()
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

    def _poll(self, timeout_s: float) -> None:
        try:
            found = self._consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=_POLL_MAX_RECORDS)
        except OffsetOutOfRangeError as error:
            self._note_problem(error.args[0], error)
        except LogTruncationError as error:
            self._note_problem(error.divergent_offsets, error)
        else:
            for topic, raw in found.items():
                self._keep(self._partitions[topic.partition], raw)
        self._polled_at = time.monotonic()

    def _keep(self, one: _Partition, raw: list[Any]) -> None:
        partition = one.topic.partition
        whole = raw[-1].offset == one.fetched + len(raw) - 1
        if not whole:
            raw = [record for place, record in enumerate(raw, one.fetched) if record.offset == place]
        one.buffer.extend(
            Record(partition, record.offset, record.timestamp, record.key or b"", record.value or b"")
            for record in raw
        )
        one.fetched += len(raw)
        if not whole:
            self._note_problem([one.topic], self._gap(one))
        elif one.followed and len(one.buffer) >= _BUFFER_FULL:
            self._unfollow(one)

    def _gap(self, one: _Partition) -> LogError:
        return LogError(
            "The log has a gap",
            where=f"{self._place.name}, partition {one.topic.partition}, offset {one.fetched}",
            do="set cleanup.policy=delete, let nobody write to it in transactions, and make a new log",
        )

    def _note_problem(self, topics: Any, error: Exception) -> None:
        for topic in topics:
            one = self._partitions[topic.partition]
            one.problem = error
            self._unfollow(one)

    def _raise_problem(self, one: _Partition) -> None:
        """Raise what is wrong with `one`, and forget it: whoever reads again tries again."""
        problem, one.problem = one.problem, None
        offset, partition = one.fetched, one.topic.partition
        self._seek(one, offset)
        if isinstance(problem, LogError):
            one.position = -1
            raise problem
        start, end = self.bounds(partition)
        if isinstance(problem, LogTruncationError):
            end = min(end, offset - 1)  # other records may stand there by now: what was read is gone
        if not start <= offset <= end:
            one.position = -1
            raise out_of_range(self._place.name, partition, offset, start, end)

    def bounds(self, partition: int) -> tuple[int, int]:
        """The first offset kept and the offset after the last, of one partition."""
        topics = [self._partitions[partition].topic]
        with translated_errors(self._place.url):
            start = self._consumer.beginning_offsets(topics, timeout_ms=_OFFSETS_TIMEOUT_MS)
            end = self._consumer.end_offsets(topics, timeout_ms=_OFFSETS_TIMEOUT_MS)
        return start[topics[0]], end[topics[0]]

    def starts(self) -> dict[int, int]:
        """Partition -> the first offset kept."""
        return self._offsets(self._consumer.beginning_offsets)

    def ends(self) -> dict[int, int]:
        """Partition -> the offset after the last."""
        return self._offsets(self._consumer.end_offsets)

    def _offsets(self, ask: Any) -> dict[int, int]:
        with translated_errors(self._place.url):
            found = ask([one.topic for one in self._partitions], timeout_ms=_OFFSETS_TIMEOUT_MS)
        return {topic.partition: offset for topic, offset in sorted(found.items())}

    def close(self) -> None:
        """Disconnect."""
        with self._reading:
            self._consumer.close(autocommit=False, timeout_ms=1_000)
