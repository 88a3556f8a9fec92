"""Writing to a topic with kafka-python: in order, acknowledged by all in-sync replicas, retried without duplicates.

`librdkafka_sender` does the same with less processor time. This is for settings that librdkafka does not have."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, Final

from kafka.errors import KafkaError, KafkaTimeoutError

from vacancy.resources.model.errors import LogError, RecordTooLarge
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.model.record import NewRecord
from vacancy.streams.clocks.log_clock import LogClock
from vacancy.streams.kafka.client import connect, translated_errors
from vacancy.streams.kafka.errors import translate_error
from vacancy.streams.kafka.network import Network
from vacancy.streams.log import AppendedAt, check_entries
from vacancy.streams.log_url import LogUrl

_OVERHEAD_BYTES: Final = 128  # at most, of one record in a batch of its own


class KafkaReceipt:
    """See `Receipt`."""

    __slots__ = ("_clock", "_futures", "_rest", "_sent_ms", "_where")

    def __init__(
        self, futures: list[Any], where: str, clock: LogClock, rest: KafkaError | None = None
    ) -> None:
        """`rest` is why entries after those of `futures` were not sent, if any were not."""
        self._futures, self._where, self._rest = futures, where, rest
        self._clock, self._sent_ms = clock, clock.host_ms()

    @property
    def done(self) -> bool:
        """See `Receipt.done`."""
        return all(future.is_done for future in self._futures)

    def wait(self, timeout_s: float = 30.0) -> list[AppendedAt]:
        """See `Receipt.wait`."""
        deadline = time.monotonic() + timeout_s
        appended = []
        for future in self._futures:
            try:
                metadata = future.get(timeout=max(deadline - time.monotonic(), 0.0))
            except KafkaError as error:
                raise translate_error(error, self._where) from error
            appended.append(AppendedAt(metadata.partition, metadata.offset, metadata.timestamp))
        if appended and appended[-1].timestamp_ms >= 0:  # -1: the broker did not say
            self._clock.note(self._sent_ms, appended[-1].timestamp_ms)
        if self._rest is not None:
            raise translate_error(self._rest, self._where) from self._rest
        return appended


class _Live:
    """A producer, and whether it has failed: after one failed send an idempotent producer refuses all others."""

    def __init__(self, producer: Any) -> None:
        self.producer = producer
        self.failed = False
        self._block_ms: int = producer.config["max_block_ms"]

    def allow(self, wait_s: float) -> None:
        """Let sends wait up to this time, if the settings allow it."""
        self.producer.config["max_block_ms"] = min(self._block_ms, max(0, int(wait_s * 1000)))

    def note_failure(self, error: Exception) -> None:
        """Remember that a send failed."""
        del error
        self.failed = True

    def one_wakeup(self, topic: str) -> contextlib.AbstractContextManager[None]:
        """See `Network.one_wakeup`. Before the topic's partitions are known a send waits for them, and so must wake
        the thread itself."""
        network: Network = self.producer._sender._client
        known = network.cluster.partitions_for_topic(topic) is not None
        return network.one_wakeup() if known else contextlib.nullcontext()


class KafkaSender:
    """Sends to the topic of `place`, from any thread. The producer is made when it is first needed.

    When a send fails, all later sends that are not acknowledged fail, too. So records that are sent again never come
    before the records that they followed.
    """

    def __init__(self, place: LogUrl, settings: Mapping[str, str], partitions: int, clock: LogClock) -> None:
        self._place, self._settings, self._partitions = place, dict(settings), partitions
        self._clock = clock
        self._sending = Lock()
        self._live: _Live | None = None
        self._closed = False

    def send(self, entries: Sequence[NewRecord], timeout_s: float) -> KafkaReceipt:
        """See `Log.send`."""
        until = time.monotonic() + timeout_s
        if not self._sending.acquire(timeout=timeout_s):
            raise translate_error(
                KafkaTimeoutError(), self._place.url
            )  # another thread waits for the brokers
        try:
            return self._send(entries, until)
        finally:
            self._sending.release()

    def _send(self, entries: Sequence[NewRecord], until: float) -> KafkaReceipt:
        with translated_errors(self._place.url):
            live = self._ready(until)
            # Checked before anything is sent: a partial append would be worse than none.
            check_entries(entries, self._place.url)
            check_sizes(entries, self._place.url, live.producer.config["max_request_size"])
            with live.one_wakeup(self._place.place):
                return self._enqueue(live, entries)

    def _enqueue(self, live: _Live, entries: Sequence[NewRecord]) -> KafkaReceipt:
        """Hand all entries to the producer, which sends them in a thread of its own."""
        send, topic, partitions = live.producer.send, self._place.place, self._partitions
        futures: list[Any] = []
        for key, value in entries:
            try:
                future = send(topic, value=value, key=key.encode(), partition=partition_for(key, partitions))
            except KafkaTimeoutError as error:
                if not futures:
                    raise
                # Some entries are under way. The receipt reports the rest as sent and lost.
                return KafkaReceipt(futures, self._place.url, self._clock, error)
            future.add_errback(live.note_failure)
            futures.append(future)
        return KafkaReceipt(futures, self._place.url, self._clock)

    def _ready(self, until: float) -> _Live:
        if self._closed:
            raise LogError("the log is closed", where=self._place.url, do="open it again")
        if self._live is not None and self._live.failed:
            close_producer(self._live.producer, 0.0)
            self._live = None
        if self._live is None:
            left_s = max(0.0, until - time.monotonic())
            self._live = _Live(connect("producer", self._place, self._settings, left_s))
        # How long a send may wait for the topic's metadata, if the producer does not have it yet.
        self._live.allow(until - time.monotonic())
        return self._live

    def close(self, timeout_s: float) -> None:
        """Disconnect. Sent records get `timeout_s` to be acknowledged."""
        with self._sending:
            self._closed = True
            if self._live is not None:
                close_producer(self._live.producer, timeout_s)
                self._live = None


def check_sizes(entries: Sequence[NewRecord], where: str, request_bytes_max: int) -> None:
    """Raise `RecordTooLarge` for a record that does not fit into a request of this size (`max.request.size`)."""
    largest = request_bytes_max - _OVERHEAD_BYTES
    for key, value in entries:
        if len(key) * 4 + len(value) > largest and len(key.encode()) + len(value) > largest:
            raise RecordTooLarge(
                f"a record of {len(value)} bytes is larger than this client's max.request.size allows",
                where=where,
                do="send less in one record, or omit the setting max.request.size",
            )


def close_producer(producer: Any, timeout_s: float) -> None:
    """Close `producer`. Sends that are not acknowledged within `timeout_s` fail."""
    with contextlib.suppress(KafkaError):
        producer.flush(timeout_s)
    # kafka-python's own close gives up, and leaves its thread running, if there are unsent records.
    producer._sender.force_close()
    producer._sender.join(timeout_s + 1.0)
    with contextlib.suppress(KafkaError):
        producer.close(timeout=0)
