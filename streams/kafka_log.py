"""The log as a Kafka topic: `kafka://host:port[,host:port]/topic`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, Final

from kafka.errors import KafkaError, MessageSizeTooLargeError

from vacancy.resources.errors import LogError
from vacancy.resources.partitioner import partition_for
from vacancy.resources.record import Entry, Record
from vacancy.streams.kafka_client import connect, telling
from vacancy.streams.kafka_errors import told
from vacancy.streams.kafka_reader import KafkaReader
from vacancy.streams.kafka_topic import count_partitions
from vacancy.streams.log import Appended, Log, no_partition
from vacancy.streams.log_url import LogUrl

_CLOSE_S: Final = 5.0
_OVERHEAD_BYTES: Final = 128  # at most, of one record in a batch of its own


class KafkaReceipt:
    """See `Receipt`."""

    __slots__ = ("_futures", "_where")

    def __init__(self, futures: list[Any], where: str) -> None:
        self._futures, self._where = futures, where

    @property
    def done(self) -> bool:
        """See `Receipt.done`."""
        return all(future.is_done for future in self._futures)

    def wait(self, timeout_s: float = 30.0) -> list[Appended]:
        """See `Receipt.wait`."""
        deadline = time.monotonic() + timeout_s
        landed = []
        for future in self._futures:
            try:
                metadata = future.get(timeout=max(deadline - time.monotonic(), 0.0))
            except KafkaError as error:
                raise told(error, self._where) from error
            landed.append(Appended(metadata.partition, metadata.offset, metadata.timestamp))
        return landed


class KafkaLog(Log):
    """See `Log`. While Kafka is away `read` finds nothing, and `end` raises LogUnavailable."""

    def __init__(self, place: LogUrl, settings: Mapping[str, str]) -> None:
        self.url, self.name = place.url, place.name
        self._place, self._settings = place, dict(settings)
        self._closed = False
        self._sending = Lock()
        self._producer: Any = None
        self.partitions = count_partitions(place, settings)
        self._reader = KafkaReader(connect("consumer", place, settings), place, self.partitions)

    def send(self, entries: Sequence[Entry]) -> KafkaReceipt:
        """See `Log.send`. Waits only while the brokers are not known yet."""
        with self._sending, telling(self.url):
            self._check_open()
            if self._producer is None:  # most processes only read
                self._producer = connect("producer", self._place, self._settings)
            self._check_sizes(entries)
            send, topic, partitions = self._producer.send, self._place.place, self.partitions
            futures = [
                send(topic, value=value, key=key.encode(), partition=partition_for(key, partitions))
                for key, value in entries
            ]
        return KafkaReceipt(futures, self.url)

    def _check_sizes(self, entries: Sequence[Entry]) -> None:
        # Before anything is sent: half of an append would be worse than none.
        largest = self._producer.config["max_request_size"] - _OVERHEAD_BYTES
        for key, value in entries:
            if len(key) * 4 + len(value) > largest:
                raise MessageSizeTooLargeError

    def read(self, partition: int, offset: int, limit: int, timeout_s: float = 0.0) -> list[Record]:
        """See `Log.read`. Without a timeout it gives what has come already, so at first it gives nothing."""
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

    def _check_open(self) -> None:
        if self._closed:
            raise LogError("The log is closed", where=self.url, do="open it again")

    def close(self) -> None:
        """See `Log.close`. What was sent gets 5 s to land."""
        if self._closed:
            return
        self._closed = True
        with self._sending:
            if self._producer is not None:
                with contextlib.suppress(KafkaError):
                    self._producer.close(timeout=_CLOSE_S)
        self._reader.close()
