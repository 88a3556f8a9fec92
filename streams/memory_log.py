"""A log in the memory of this process, for tests and demonstrations: `memory://NAME`.

Every `open_log` of one name in one process sees the same records, from any thread. They are lost when the process ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Condition, Lock
from typing import Final

from vacancy.resources.model.errors import LogError
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.model.record import NewRecord, Record
from vacancy.streams.clocks.clock import Clock, wall_ms
from vacancy.streams.clocks.log_clock import LogClock
from vacancy.streams.log import (
    SEND_S,
    AppendedAt,
    Log,
    SettledReceipt,
    check_entries,
    existing_log,
    missing_log,
    no_partition,
    out_of_range,
)
from vacancy.streams.log_url import LogUrl


class _Topic:
    """The records of one memory log. The condition `changed` guards them and wakes waiting readers."""

    def __init__(self, partitions: int) -> None:
        self.changed = Condition(Lock())
        self.starts = [0] * partitions
        self.records: list[list[Record]] = [[] for _ in range(partitions)]

    def append(self, entries: Sequence[NewRecord], now_ms: int) -> list[AppendedAt]:
        appended = []
        with self.changed:
            for key, value in entries:
                partition = partition_for(key, len(self.records))
                records = self.records[partition]
                offset = self.starts[partition] + len(records)
                records.append(Record(partition, offset, now_ms, key.encode(), value))
                appended.append(AppendedAt(partition, offset, now_ms))
            self.changed.notify_all()
        return appended


_topics: Final[dict[str, _Topic]] = {}
_topics_lock: Final = Lock()


def create_memory_log(place: LogUrl, openings: Sequence[NewRecord]) -> None:
    """Create the log with one opening entry per partition. Raises LogError if the name is in use."""
    topic = _Topic(len(openings))
    topic.append(openings, wall_ms())
    with _topics_lock:
        if _topics.setdefault(place.place, topic) is not topic:
            raise existing_log(place.url)


class MemoryLog(Log):
    """See `Log`. `clock` gives the timestamps of entries that this handle appends (milliseconds since 1970, UTC)."""

    def __init__(self, place: LogUrl, clock: Clock = wall_ms) -> None:
        with _topics_lock:
            topic = _topics.get(place.place)
        if topic is None:
            raise missing_log(place.url)
        self.url, self.name, self.partitions = place.url, place.name, len(topic.records)
        self.clock, self._clock = LogClock(self.name), clock
        self._open: _Topic | None = topic

    @property
    def _topic(self) -> _Topic:
        if self._open is None:
            raise LogError("the log is closed", where=self.url, do="open it again")
        return self._open

    def send(self, entries: Sequence[NewRecord], timeout_s: float = SEND_S) -> SettledReceipt:
        """Append before returning; the receipt is done."""
        check_entries(entries, self.url)
        sent_ms = self.clock.host_ms()
        appended = self._topic.append(entries, self._clock())
        if appended:
            self.clock.note(sent_ms, appended[-1].timestamp_ms)
        return SettledReceipt(appended)

    def read(self, partition: int, offset: int, limit: int, timeout_s: float = 0.0) -> list[Record]:
        """See `Log.read`."""
        topic = self._topic
        if not 0 <= partition < self.partitions:
            raise no_partition(self.name, partition, self.partitions)
        with topic.changed:
            records = topic.records[partition]
            if timeout_s > 0:
                topic.changed.wait_for(lambda: topic.starts[partition] + len(records) != offset, timeout_s)
            start = topic.starts[partition]
            if not start <= offset <= start + len(records):
                raise out_of_range(self.name, partition, offset, start, start + len(records))
            return records[offset - start : offset - start + limit]

    def start(self) -> dict[int, int]:
        """See `Log.start`."""
        with self._topic.changed:
            return dict(enumerate(self._topic.starts))

    def end(self) -> dict[int, int]:
        """See `Log.end`."""
        topic = self._topic
        with topic.changed:
            return {p: topic.starts[p] + len(records) for p, records in enumerate(topic.records)}

    def trim(self, partition: int, before: int) -> None:
        """See `Log.trim`."""
        topic = self._topic
        if not 0 <= partition < self.partitions:
            raise no_partition(self.name, partition, self.partitions)
        with topic.changed:
            start, records = topic.starts[partition], topic.records[partition]
            gone = min(max(before - start, 0), len(records) - 1)
            del records[:gone]
            topic.starts[partition] = start + gone

    def close(self) -> None:
        """Close this handle; the records stay available to other handles of this process."""
        self._open = None
