"""The log as a Kafka topic: `kafka://host:port[,host:port]/topic`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from vacancy.resources.model.errors import LogError
from vacancy.resources.model.record import NewRecord, Record
from vacancy.streams.clocks.log_clock import LogClock
from vacancy.streams.kafka.client import connect
from vacancy.streams.kafka.librdkafka_sender import LibrdkafkaSender
from vacancy.streams.kafka.librdkafka_settings import librdkafka_settings
from vacancy.streams.kafka.reader import KafkaReader
from vacancy.streams.kafka.sender import KafkaSender
from vacancy.streams.kafka.topic import count_partitions, delete_records
from vacancy.streams.log import SEND_S, Log, Receipt, no_partition
from vacancy.streams.log_url import LogUrl

_CLOSE_S: Final = 5.0


class KafkaLog(Log):
    """See `Log`. While Kafka does not answer, `read` returns no records and `end` raises LogUnavailable."""

    def __init__(self, place: LogUrl, settings: Mapping[str, str], timeout_s: float | None = None) -> None:
        self.url, self.name = place.url, place.name
        self._place, self._settings = place, dict(settings)
        self._closed = False
        self.clock = LogClock(self.name)
        self.partitions = count_partitions(place, settings, timeout_s)
        self._sender = _sender(place, settings, self.partitions, self.clock)
        self._reader = KafkaReader(connect("consumer", place, settings), place, self.partitions)

    def send(self, entries: Sequence[NewRecord], timeout_s: float = SEND_S) -> Receipt:
        """See `Log.send`. It waits only while the client does not know the brokers yet."""
        return self._sender.send(entries, timeout_s)

    def read(self, partition: int, offset: int, limit: int, timeout_s: float = 0.0) -> list[Record]:
        """See `Log.read`. Without a timeout it returns records fetched already; the first call returns none."""
        self._check_open()
        if not 0 <= partition < self.partitions:
            raise no_partition(self.name, partition, self.partitions)
        return self._reader.read(partition, offset, limit, timeout_s)

    def start(self) -> dict[int, int]:
        """See `Log.start`."""
        self._check_open()
        return self._reader.starts()

    def end(self) -> dict[int, int]:
        """See `Log.end`."""
        self._check_open()
        return self._reader.ends()

    def offset_after(self, partition: int, time_ms: int) -> int:
        """See `Log.offset_after`. The broker finds it with its index of times."""
        self._check_open()
        if not 0 <= partition < self.partitions:
            raise no_partition(self.name, partition, self.partitions)
        return self._reader.offset_after(partition, time_ms)

    def trim(self, partition: int, before: int) -> None:
        """See `Log.trim`. Brokers delete the files whose records are all below `before` later."""
        self._check_open()
        if not 0 <= partition < self.partitions:
            raise no_partition(self.name, partition, self.partitions)
        start, end = self._reader.bounds(partition)
        if start < min(before, end - 1):
            delete_records(self._place, self._settings, partition, min(before, end - 1))

    def _check_open(self) -> None:
        if self._closed:
            raise LogError("the log is closed", where=self.url, do="open it again")

    def close(self) -> None:
        """See `Log.close`. It waits up to 5 s for entries that were sent."""
        if not self._closed:
            self._closed = True
            self._sender.close(_CLOSE_S)
            self._reader.close()


def _sender(
    place: LogUrl, settings: Mapping[str, str], partitions: int, clock: LogClock
) -> LibrdkafkaSender | KafkaSender:
    """librdkafka's where it can do what the settings ask for."""
    native = librdkafka_settings(place.servers, settings)
    if native is None:
        return KafkaSender(place, settings, partitions, clock)
    return LibrdkafkaSender(place, native, partitions, clock)
