"""Writing to a topic with librdkafka: in order, acknowledged by all in-sync replicas, retried without duplicates.

It does what `KafkaSender` does with kafka-python, for less processor time: librdkafka's threads do not need the interpreter.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from threading import Condition, Lock
from typing import Any, Final

from kafka.errors import KafkaTimeoutError

from vacancy.resources.model.errors import LogError, LogUnavailable, VacancyError
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.model.record import NewRecord
from vacancy.streams.clocks.log_clock import LogClock
from vacancy.streams.kafka.errors import translate_error
from vacancy.streams.kafka.librdkafka_errors import describe, is_final, may_be_appended, translate
from vacancy.streams.kafka.librdkafka_settings import LibrdkafkaSettings
from vacancy.streams.kafka.sender import check_sizes
from vacancy.streams.log import AppendedAt, check_entries
from vacancy.streams.log_url import LogUrl

_SERVE_S: Final = 1.0
"""How long one call of librdkafka waits for acknowledgements. In between, records may expire."""

_CONNECT_LOOK_S: Final = 0.5
"""How often it is looked whether the brokers refuse the client for good, while it connects."""

_END_S: Final = 1.0
"""How long a producer that failed gets to give back its records."""

_CLOSE_S: Final = 0.1
"""How long librdkafka itself waits for records that are left: there are none."""

_NO_TIMESTAMP: Final = 0

_NOT_LOGGED: Final = ("CONFWARN", "FATAL")
"""Hints at other choices of settings, and errors that are raised."""

_LOG_LEVELS: Final = ((logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 2))
"""Python's levels as those of librdkafka, which are syslog's."""

logger = logging.getLogger("kafka.librdkafka")
"""For librdkafka's own lines, below the logger of kafka-python, so that both have one level."""
logger.addFilter(lambda line: not line.getMessage().startswith(_NOT_LOGGED))


class _Sent:
    """The records of one `send`: where they are in the log, as far as that is known."""

    __slots__ = ("_producer", "appended", "at", "error", "left")

    def __init__(self, count: int, producer: _Producer) -> None:
        self._producer = producer
        self.at = time.monotonic()
        self.left = count
        self.appended: list[AppendedAt | None] = [None] * count
        self.error: Any = None

    def note(self, number: int, error: Any, message: Any) -> None:
        """librdkafka calls it once for each record."""
        if not self.left:
            return  # it was given up before
        if error is not None:
            self._producer.failed = True
            self.fail(error, 1)
            return
        kind, timestamp_ms = message.timestamp()
        if kind == _NO_TIMESTAMP:
            timestamp_ms = -1
        self.appended[number] = AppendedAt(message.partition(), message.offset(), timestamp_ms)
        self.left -= 1  # last: who waits reads the others then

    def fail(self, error: Any, count: int) -> None:
        """`count` records are not acknowledged any more."""
        self.error = self.error or error
        self.left -= count


class _Producer:
    """A producer of librdkafka. Once a record has failed it is of no use any more: all its records fail."""

    def __init__(self, place: LogUrl, settings: LibrdkafkaSettings) -> None:
        """Raises `UsageError` for settings that librdkafka refuses."""
        from confluent_kafka import KafkaException, Producer

        self._kafka_exception = KafkaException
        self._place, self._settings = place, settings
        self._sent: deque[_Sent] = deque()
        self._changed = Condition(Lock())
        self._is_connected = self._is_serving = self._is_closed = False
        self.failed = False
        self.observed: dict[str, None] = {}
        self._refused: Any = None
        # Lines wait in librdkafka until it is called the next time, many of them while a broker closes connections.
        level = next((level for enabled, level in _LOG_LEVELS if logger.isEnabledFor(enabled)), 0)
        configuration = {**settings.configuration, "log_level": level, "error_cb": self._note_error}
        try:
            self._producer: Any = Producer(configuration, logger=logger)
        except KafkaException as error:
            raise translate(error.args[0], place.url) from None

    def _note_error(self, error: Any) -> None:
        """librdkafka retries after errors of connections by itself, and reports them here."""
        if (text := describe(error)) and not self.failed:
            self.observed[text] = None
        if error.fatal() or (is_final(error) and not self._is_connected):
            self._refused = self._refused or error

    def connect(self, timeout_s: float) -> None:
        """Ask for the topic. Raises `LogUnavailable` where no broker answers, `LogError` where they refuse this client."""
        until = time.monotonic() + timeout_s
        while True:
            left_s = until - time.monotonic()
            try:
                found = self._producer.list_topics(
                    self._place.place, min(max(left_s, 0.001), _CONNECT_LOOK_S)
                )
            except self._kafka_exception as error:
                self.serve()
                if self._refused is not None or time.monotonic() >= until:
                    refused = self._refused or error.args[0]
                    raise translate(refused, self._place.url, ", ".join(self.observed)) from None
                continue
            topic_error = found.topics[self._place.place].error
            if topic_error is not None:
                raise translate(topic_error, self._place.url)
            self._is_connected = True
            return

    def send(self, entries: Sequence[NewRecord], partitions: int) -> _Sent | None:
        """Hand all entries to librdkafka. Returns None, and sends nothing, where the producer has failed meanwhile. Raises
        `LogError` where the brokers refuse it, and `LogUnavailable` where librdkafka takes nothing."""
        with self._changed:  # so that nothing is sent after what was given up
            return None if self.failed else self._send(entries, partitions)

    def _send(self, entries: Sequence[NewRecord], partitions: int) -> _Sent:
        sent = _Sent(len(entries), self)
        produce, topic = self._producer.produce, self._place.place
        for number, (key, value) in enumerate(entries):
            try:
                produce(
                    topic, value, key.encode(), partition_for(key, partitions), partial(sent.note, number)
                )
            except (self._kafka_exception, BufferError) as error:
                self.failed = True
                if not number:
                    raise self._not_taken(error) from None
                # Some entries are under way. The receipt reports all as sent and lost.
                sent.fail(_Expired, len(entries) - number)
                break
        self._sent.append(sent)
        return sent

    def _not_taken(self, error: Exception) -> VacancyError:
        """Why librdkafka took no record: mostly an error that ended the producer, which it reports apart."""
        self._poll(0.0)
        given = error.args[0] if isinstance(error, self._kafka_exception) else None
        if self._refused is None and given is None:
            return translate_error(KafkaTimeoutError(), self._place.url)
        return translate(self._refused or given, self._place.url)

    # -- acknowledgements ------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Take in what librdkafka reports now. Where another thread is waiting for reports, that one does it."""
        with self._changed:
            if not (self._is_serving or self._is_closed):
                self._serve(0.0)

    def wait(self, sent: _Sent, timeout_s: float) -> bool:
        """Wait until all records of a `send` are acknowledged or have failed. Returns False after the time.

        One of the threads that wait takes in the reports for all: each of librdkafka's reports goes to one thread."""
        until = time.monotonic() + timeout_s
        with self._changed:
            while sent.left:
                left_s = until - time.monotonic()
                if self._is_serving:
                    if left_s <= 0:
                        return False
                    self._changed.wait(left_s)
                    continue
                self._serve(min(max(left_s, 0.0), _SERVE_S))
                if left_s <= 0:
                    return not sent.left
        return True

    def _serve(self, timeout_s: float) -> None:
        """Take in reports, and wait for the first one. For one thread at a time, which holds the lock; others may send and
        look in the meantime."""
        self._is_serving = True
        self._changed.release()
        try:
            self._poll(timeout_s)
        finally:
            self._changed.acquire()
            self._is_serving = False
            self._take_in()
            self._changed.notify_all()

    def _poll(self, timeout_s: float) -> None:
        """Have librdkafka call back for what was acknowledged, and for what failed."""
        try:
            self._producer.poll(timeout_s)
        except self._kafka_exception as error:
            # A fatal one, which `_note_error` gets, too. librdkafka sends nothing any more.
            self.failed = True
            self._refused = self._refused or error.args[0]

    def _take_in(self) -> None:
        while self._sent and not self._sent[0].left:
            self._sent.popleft()
        if self._sent and time.monotonic() - self._sent[0].at > self._settings.delivery_s:
            self.failed = True  # all that is sent expires with the oldest: nothing is sent after a gap
        if self.failed and self._sent:
            self._give_up()

    def _give_up(self) -> None:
        """Have all records fail that are not acknowledged. What was sent may still be appended."""
        self._purge()
        until = time.monotonic() + _END_S
        while any(one.left for one in self._sent) and time.monotonic() < until:
            self._poll(0.01)
        for one in self._sent:
            if one.left:
                one.fail(_Expired, one.left)
        self._sent.clear()

    def _purge(self) -> None:
        self._producer.purge(in_queue=True, in_flight=True, blocking=True)

    @property
    def refusal(self) -> Any:
        """What the brokers refuse this producer for, if they do."""
        return self._refused

    def close(self, timeout_s: float) -> None:
        """Give what is sent `timeout_s` to be acknowledged, then end."""
        until = time.monotonic() + timeout_s
        with self._changed:
            sent = list(self._sent)
        for one in sent:
            if not self.wait(one, max(0.0, until - time.monotonic())):
                break
        with self._changed:
            self.failed = True
            if self._sent:
                self._purge()  # a thread that is in librdkafka gets the reports, and leaves it
            # Two threads must not count reports, and librdkafka must not end while one is in it.
            while self._is_serving:
                self._changed.wait()
            if self._sent:
                self._give_up()
            self._is_closed = True
        with contextlib.suppress(self._kafka_exception):  # a fatal error, again
            self._producer.close(_CLOSE_S)


class _Expired:
    """In place of an error of librdkafka, for records that it did not give back."""

    @staticmethod
    def code() -> int:
        """That of `_MSG_TIMED_OUT`."""
        return -192

    @staticmethod
    def name() -> str:
        """Its name."""
        return "_MSG_TIMED_OUT"


class LibrdkafkaReceipt:
    """See `Receipt`."""

    __slots__ = ("_clock", "_producer", "_sent", "_sent_ms", "_where")

    def __init__(self, producer: _Producer, sent: _Sent, where: str, clock: LogClock, sent_ms: int) -> None:
        self._producer, self._sent, self._where = producer, sent, where
        self._clock, self._sent_ms = clock, sent_ms

    @property
    def done(self) -> bool:
        """See `Receipt.done`."""
        if self._sent.left:
            self._producer.serve()
        return not self._sent.left

    def wait(self, timeout_s: float = 30.0) -> list[AppendedAt]:
        """See `Receipt.wait`."""
        if not self._producer.wait(self._sent, timeout_s):
            raise translate_error(KafkaTimeoutError(), self._where)
        if (error := self._sent.error) is not None:
            cause = None if may_be_appended(error) else self._producer.refusal
            raise translate(cause or error, self._where)
        appended = [at for at in self._sent.appended if at is not None]
        if appended and appended[-1].timestamp_ms >= 0:  # -1: the broker did not say
            self._clock.note(self._sent_ms, appended[-1].timestamp_ms)
        return appended


class LibrdkafkaSender:
    """Sends to the topic of `place`, from any thread. The producer is made when it is first needed.

    When a send fails, all later sends that are not acknowledged fail, too. So records that are sent again never come
    before the records that they followed.
    """

    def __init__(self, place: LogUrl, settings: LibrdkafkaSettings, partitions: int, clock: LogClock) -> None:
        self._place, self._settings, self._partitions = place, settings, partitions
        self._where = place.url
        self._clock = clock
        self._sending = Lock()
        self._producer: _Producer | None = None
        self._closed = False

    def send(self, entries: Sequence[NewRecord], timeout_s: float) -> LibrdkafkaReceipt:
        """See `Log.send`."""
        until = time.monotonic() + timeout_s
        if not self._sending.acquire(timeout=timeout_s):
            raise translate_error(KafkaTimeoutError(), self._where)  # another thread waits for the brokers
        try:
            # Checked before anything is sent: a partial append would be worse than none.
            check_entries(entries, self._where)
            check_sizes(entries, self._where, self._settings.record_bytes_max)
            while True:
                producer = self._ready(until)
                sent_ms = self._clock.host_ms()
                if (sent := producer.send(entries, self._partitions)) is not None:
                    return LibrdkafkaReceipt(producer, sent, self._where, self._clock, sent_ms)
        finally:
            self._sending.release()

    def _ready(self, until: float) -> _Producer:
        if self._closed:
            raise LogError("the log is closed", where=self._where, do="open it again")
        if self._producer is not None:
            self._producer.serve()
            if self._producer.failed:
                self._producer.close(0.0)
                self._producer = None
        if self._producer is None:
            left_s = min(max(0.0, until - time.monotonic()), self._settings.connect_s, self._settings.block_s)
            made = _Producer(self._place, self._settings)
            try:
                made.connect(left_s)
            except BaseException:
                made.close(0.0)
                raise
            self._producer = made
        return self._producer

    def close(self, timeout_s: float) -> None:
        """Disconnect. Sent records get `timeout_s` to be acknowledged."""
        with self._sending:
            self._closed = True
            if self._producer is not None:
                with contextlib.suppress(LogUnavailable):
                    self._producer.close(timeout_s)
                self._producer = None
