"""The producer of librdkafka: its settings, and what becomes of records that are refused, that expire, or that wait."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import KafkaError, Producer
from kafka import KafkaAdminClient

from tests.support.processes.kafka_server import KafkaCluster
from vacancy.resources.model.errors import LogError, LogUnavailable, RecordTooLarge
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.clocks.log_clock import LogClock
from vacancy.streams.kafka import librdkafka_sender as sender_module
from vacancy.streams.kafka import librdkafka_settings as settings_module
from vacancy.streams.kafka.librdkafka_sender import LibrdkafkaReceipt, LibrdkafkaSender, _Producer, _Sent
from vacancy.streams.kafka.librdkafka_settings import librdkafka_settings
from vacancy.streams.log import Log, create_log, open_log
from vacancy.streams.log_url import parse_log_url

WAIT_S = 90
CELLS = covering_cells(2)


def configuration(**given: str) -> dict[str, Any]:
    found = librdkafka_settings(
        ("a:1", "b:2"), {name.replace("_", "."): text for name, text in given.items()}
    )
    assert found is not None
    return dict(found.configuration)


# -- settings ---------------------------------------------------------------------------------------------------------


def test_the_producer_is_durable_idempotent_and_leaves_no_gap() -> None:
    expected = {
        "bootstrap.servers": "a:1,b:2",
        "acks": "all",
        "enable.idempotence": True,
        "enable.gapless.guarantee": True,
        "message.timeout.ms": 0,
        "allow.auto.create.topics": False,
        "message.max.bytes": 8_390_656,
    }
    assert expected.items() <= configuration().items()


@pytest.mark.parametrize(
    ("name", "text", "named", "value"),
    [
        ("security.protocol", "SSL", "security.protocol", "SSL"),
        ("ssl.cafile", "/ca.pem", "ssl.ca.location", "/ca.pem"),
        ("ssl.certificate.location", "/me.pem", "ssl.certificate.location", "/me.pem"),
        ("ssl_keyfile", "/key.pem", "ssl.key.location", "/key.pem"),
        ("ssl.password", "hunter2", "ssl.key.password", "hunter2"),
        ("ssl.check.hostname", "false", "ssl.endpoint.identification.algorithm", "none"),
        ("ssl.check.hostname", "true", "ssl.endpoint.identification.algorithm", "https"),
        ("linger.ms", "5", "linger.ms", 5),
        ("compression.type", "gzip", "compression.type", "gzip"),
        ("request.timeout.ms", "20000", "socket.timeout.ms", 20_000),
        ("max.request.size", "10000", "message.max.bytes", 10_000),
    ],
)
def test_a_setting_gets_librdkafkas_name(name: str, text: str, named: str, value: object) -> None:
    assert configuration(**{name: text})[named] == value


def test_a_name_and_a_password() -> None:
    given = {"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "me"}
    found = configuration(**given, **{"sasl.password": "hunter2"})
    assert (found["sasl.username"], found["sasl.password"]) == ("me", "hunter2")


@pytest.mark.parametrize(
    "given",
    [
        {"security.protocol": "SASL_SSL", "sasl.mechanism": "GSSAPI"},
        {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "AWS_MSK_IAM"},
        {"socks5.proxy": "socks5://proxy:1080"},
        {"api.version": "3.0"},
        {"batch.size": "0"},
        {"request.timeout.ms": "600000"},
        {"reconnect.backoff.ms": "2000"},
    ],
    ids=str,
)
def test_what_librdkafka_cannot_do_is_left_to_kafka_python(given: dict[str, str]) -> None:
    assert librdkafka_settings(("a:1",), given) is None


def test_a_key_may_be_in_the_file_of_the_certificate() -> None:
    assert configuration(ssl_certfile="/me.pem")["ssl.key.location"] == "/me.pem"


def test_settings_are_printed_without_passwords() -> None:
    given = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "me"}
    settings = librdkafka_settings(("a:1",), {**given, "sasl.password": "hunter2", "ssl.password": "hunter3"})
    assert settings is not None
    assert "hunter" not in repr(settings)


@pytest.mark.parametrize("bound", [0, 1])
def test_librdkafka_takes_the_bounds_that_are_known(bound: int) -> None:
    """Each value out of them is left to kafka-python, as it was before."""
    for name, bounds in settings_module._RANGES.items():
        given = {"reconnect_backoff_ms": "0", name: str(bounds[bound])}
        if name == "reconnect_backoff_ms":
            given["reconnect_backoff_max_ms"] = given[name]
        found = librdkafka_settings(("127.0.0.1:9",), given)
        assert found is not None, name
        Producer({**found.configuration, "log_level": 0}).close()
        out = {**given, name: str(bounds[bound] + (-1, 1)[bound])}
        assert librdkafka_settings(("127.0.0.1:9",), out) is None, name


def test_without_librdkafka_kafka_python_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_module, "find_spec", lambda _: None)
    assert librdkafka_settings(("a:1",), {}) is None


def test_brokers_that_refuse_connections_are_named_and_nothing_is_sent() -> None:
    place = parse_log_url("kafka://127.0.0.1:9/events")
    settings = librdkafka_settings(place.servers, {})
    assert settings is not None
    sender = LibrdkafkaSender(place, settings, 1, LogClock("events"))
    for _ in range(2):
        with pytest.raises(LogUnavailable, match=r"did not answer.*127.0.0.1:9 refuses connections"):
            sender.send([NewRecord("a", b"x")], 3.0)
    sender.close(0.0)
    with pytest.raises(LogError, match="closed"):
        sender.send([NewRecord("a", b"x")], 1.0)


@dataclass
class Ended:
    """A producer that the brokers have refused a record of."""

    refusal: KafkaError

    def wait(self, _sent: object, _timeout_s: float) -> bool:
        return True


@pytest.mark.parametrize(
    ("code", "expected"),
    [(KafkaError._PURGE_INFLIGHT, LogUnavailable), (KafkaError._PURGE_QUEUE, RecordTooLarge)],
)
def test_a_refusal_says_nothing_about_what_is_under_way(code: int, expected: type[LogError]) -> None:
    """Another broker may append it. What was not sent is refused."""
    ended: Any = Ended(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
    sent = _Sent(1, ended)
    sent.fail(KafkaError(code), 1)
    with pytest.raises(expected):
        LibrdkafkaReceipt(ended, sent, "kafka://a/events", LogClock("events"), 0).wait(0.0)


@pytest.mark.parametrize(
    ("level", "expected"),
    [(logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 2)],
)
def test_lines_that_nobody_sees_do_not_wait_in_librdkafka(
    level: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that sends nothing takes none of them, and there are many while brokers are away."""
    made: list[dict[str, Any]] = []
    real = Producer

    def noted(configuration: dict[str, Any], **more: Any) -> Any:
        made.append(configuration)
        return real(configuration, **more)

    monkeypatch.setattr("confluent_kafka.Producer", noted)
    monkeypatch.setattr(sender_module.logger, "isEnabledFor", lambda asked: asked >= level)
    place = parse_log_url("kafka://127.0.0.1:9/events")
    settings = librdkafka_settings(place.servers, {})
    assert settings is not None
    _Producer(place, settings).close(0.0)
    assert made[0]["log_level"] == expected


# -- a broker ---------------------------------------------------------------------------------------------------------


def values(log: Log, partition: int = 0) -> list[bytes]:
    found: list[bytes] = []
    end = log.end()[partition]
    while len(found) < end:
        found += [one.value for one in log.read(partition, len(found), 1000, timeout_s=WAIT_S)]
    return found


@contextmanager
def paused(cluster: KafkaCluster) -> Iterator[None]:
    os.kill(cluster.pid(1), signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(cluster.pid(1), signal.SIGCONT)


@pytest.mark.kafka
def test_after_a_record_that_is_refused_none_is_appended(mortal_kafka: KafkaCluster) -> None:
    """So that who sends all of them again sends them in their order. The broker stands still until all are sent: it would refuse the
    first one before the others otherwise, at times, and they would be sent by another producer."""
    topic = f"events-{uuid.uuid4()}"
    admin = KafkaAdminClient(bootstrap_servers=mortal_kafka.servers)
    configs = {"max.message.bytes": "10000"}
    admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1, "configs": configs}})
    admin.wait_for_topics([topic])
    admin.close()
    with open_log(f"kafka://{mortal_kafka.servers}/{topic}") as log:
        log.append([NewRecord("a", b"0")], WAIT_S)
        with paused(mortal_kafka):
            refused = log.send([NewRecord("a", b"1" * 50_000)])
            later = [log.send([NewRecord("a", b"%d" % n)]) for n in (2, 3)]
        with pytest.raises(LogError, match=r"larger than the topic's max\.message\.bytes") as raised:
            refused.wait(WAIT_S)
        assert not isinstance(raised.value, LogUnavailable)
        for receipt in later:
            with pytest.raises(LogError):  # in the same request, or not sent at all
                receipt.wait(WAIT_S)
            assert receipt.done
        assert log.append([NewRecord("a", b"4")], WAIT_S)[0].offset == 1
        assert values(log) == [b"0", b"4"]


@pytest.mark.kafka
def test_threads_that_wait_at_the_same_time_get_their_own_positions(kafka: str, openings: Any) -> None:
    with create_log(f"kafka://{kafka}/events-{uuid.uuid4()}", 2, openings(2)) as log:
        found: dict[int, list[int]] = {}

        def write(thread: int) -> None:
            found[thread] = []
            for number in range(50):
                value = b"%d %d" % (thread, number)
                (at,) = log.append([NewRecord(CELLS[thread % 2], value)], WAIT_S)
                found[thread].append(at.offset)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        for partition in range(2):
            stored = values(log, partition)
            for number in (partition, partition + 2):
                assert [stored[at] for at in found[number]] == [b"%d %d" % (number, n) for n in range(50)]
            assert len(stored) == 101


@pytest.mark.kafka
def test_a_receipt_is_done_by_itself(kafka: str, openings: Any) -> None:
    with create_log(f"kafka://{kafka}/events-{uuid.uuid4()}", 2, openings(2)) as log:
        receipt = log.send([NewRecord(cell, b"x") for cell in (*CELLS, *CELLS)])
        until = time.monotonic() + WAIT_S
        while not receipt.done:
            assert time.monotonic() < until
            time.sleep(0.01)
        landed = receipt.wait(0.0)
        assert [(at.partition, at.offset) for at in landed] == [(0, 1), (1, 1), (0, 2), (1, 2)]
        assert all(abs(at.timestamp_ms - time.time() * 1000) < 600_000 for at in landed)
        assert log.clock.measured


@pytest.mark.kafka
def test_records_expire_together_and_later_ones_follow_them(
    mortal_kafka: KafkaCluster, openings: Any
) -> None:
    """While a broker is silent. What had reached it may be appended later, but nothing without what it follows."""
    url = f"kafka://{mortal_kafka.servers}/events-{uuid.uuid4()}"
    create_log(url, 1, openings(1)).close()
    with open_log(url, **{"delivery.timeout.ms": "8000"}) as log:
        log.append([NewRecord("a", b"0")], WAIT_S)
        with paused(mortal_kafka):
            first = log.send([NewRecord("a", b"1")])
            time.sleep(1.0)
            second = log.send([NewRecord("a", b"2")])
            for receipt in (first, second):
                with pytest.raises(LogUnavailable, match="did not answer"):
                    receipt.wait(WAIT_S)
        log.append([NewRecord("a", b"1"), NewRecord("a", b"2"), NewRecord("a", b"3")], WAIT_S)
        stored = values(log)[1:]
        assert stored[-3:] == [b"1", b"2", b"3"]
        assert stored[:-3] in ([b"0"], [b"0", b"1"], [b"0", b"1", b"2"])


@pytest.mark.kafka
def test_a_log_that_is_closed_gives_up_what_is_not_acknowledged(
    mortal_kafka: KafkaCluster, openings: Any
) -> None:
    url = f"kafka://{mortal_kafka.servers}/events-{uuid.uuid4()}"
    create_log(url, 1, openings(1)).close()
    place = parse_log_url(url)
    settings = librdkafka_settings(place.servers, {})
    assert settings is not None
    sender = LibrdkafkaSender(place, settings, 1, LogClock("events"))
    sender.send([NewRecord("a", b"0")], WAIT_S).wait(WAIT_S)
    with paused(mortal_kafka):
        receipt = sender.send([NewRecord("a", b"1")], WAIT_S)
        known = [receipt.done]
        sender.close(0.1)
        known.append(receipt.done)
        assert known == [False, True]
        with pytest.raises(LogUnavailable):
            receipt.wait(0.0)


@pytest.mark.kafka
def test_a_log_is_closed_while_threads_wait_and_send(mortal_kafka: KafkaCluster, openings: Any) -> None:
    """Each gets an answer, and none that it is appended."""
    url = f"kafka://{mortal_kafka.servers}/events-{uuid.uuid4()}"
    create_log(url, 1, openings(1)).close()
    place = parse_log_url(url)
    settings = librdkafka_settings(place.servers, {})
    assert settings is not None
    sender = LibrdkafkaSender(place, settings, 1, LogClock("events"))
    sender.send([NewRecord("a", b"0")], WAIT_S).wait(WAIT_S)
    found: list[str] = []

    def write() -> None:
        try:
            while True:
                sender.send([NewRecord("a", b"1")], WAIT_S).wait(WAIT_S)
        except LogError as error:
            found.append(error.what)

    with paused(mortal_kafka):
        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        sender.close(0.1)
        for thread in threads:
            thread.join(WAIT_S)
    assert len(found) == 4
    assert all("did not answer" in what or "closed" in what for what in found), found


@pytest.mark.kafka
def test_records_wait_for_a_broker_that_is_killed(mortal_kafka: KafkaCluster, openings: Any) -> None:
    url = f"kafka://{mortal_kafka.servers}/events-{uuid.uuid4()}"
    with create_log(url, 1, openings(1)) as log:
        log.append([NewRecord("a", b"0")], WAIT_S)
        mortal_kafka.kill(1)
        receipts = [log.send([NewRecord("a", b"%d" % n)]) for n in range(1, 20)]
        with pytest.raises(LogUnavailable):
            receipts[0].wait(0.2)
        mortal_kafka.restart(1)
        for receipt in receipts:
            receipt.wait(WAIT_S)
        assert values(log)[1:] == [b"%d" % n for n in range(20)]
