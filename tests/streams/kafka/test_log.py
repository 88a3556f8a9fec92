"""Errors that only a Kafka log can have: wrong topics, foreign records, brokers that do not answer."""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.net.selector import NetworkSelector

from vacancy.resources.model.errors import LogError, LogUnavailable, UsageError
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.kafka import log as kafka_log
from vacancy.streams.kafka.topic import _open_partitions, check_topic
from vacancy.streams.log import RECORD_BYTES_MAX, create_log, open_log
from vacancy.streams.log_url import parse_log_url

pytestmark = pytest.mark.kafka


@pytest.fixture
def url(kafka: str) -> str:
    return f"kafka://{kafka}/events-{uuid.uuid4()}"


@pytest.fixture
def admin(kafka: str) -> Any:
    client = KafkaAdminClient(bootstrap_servers=kafka)
    yield client
    client.close()


def topic_of(url: str) -> str:
    return parse_log_url(url).place


def make_topic(admin: Any, url: str, partitions: int = 1, **configuration: str) -> None:
    configs = {name.replace("_", "."): value for name, value in configuration.items()}
    topic = {"num_partitions": partitions, "replication_factor": 1, "configs": configs}
    admin.create_topics({topic_of(url): topic})
    admin.wait_for_topics([topic_of(url)])


def test_a_new_topic_lacks_only_replicas_on_one_broker(url: str, openings: Any) -> None:
    create_log(url, 3, openings(3)).close()
    (wrong,) = check_topic(url)
    assert wrong.startswith("replication is 1, not 3")


def test_every_problem_of_a_topic_is_listed(url: str, admin: Any) -> None:
    make_topic(
        admin,
        url,
        partitions=2,
        message_timestamp_type="CreateTime",
        cleanup_policy="compact",
        retention_ms="1000",
        retention_bytes="1000",
        unclean_leader_election_enable="true",
        max_message_bytes="1000",
        min_insync_replicas="2",
    )
    wrong = check_topic(url)
    expected = [
        "message.timestamp.type is CreateTime",
        "cleanup.policy is compact",
        "retention.ms is 1000",
        "retention.bytes is 1000",
        "replication is 1",
        "unclean.leader.election.enable is true",
        "max.message.bytes is 1000, below",
        "partition 0 has 1 in-sync replicas, 2 are needed",
        "partition 1 has 1 in-sync replicas, 2 are needed",
    ]
    assert [sentence[: len(start)] for sentence, start in zip(wrong, expected, strict=True)] == expected


def test_checking_a_missing_topic(url: str) -> None:
    with pytest.raises(LogError, match="vacancy topics create"):
        check_topic(url)


def test_more_replicas_than_brokers(url: str, openings: Any) -> None:
    with pytest.raises(UsageError, match="replication 3 needs 3 brokers, but there are 1"):
        create_log(url, 1, openings(1), replication=3)


def test_a_topic_that_was_written_to_before_it_was_opened(url: str, openings: Any) -> None:
    create_log(url, 2, openings(2)).close()
    with pytest.raises(LogError, match=r"wrote to the topic first.*\[0, 1\].*delete the topic"):
        _open_partitions(parse_log_url(url), openings(2), {})


def test_a_missing_broker_is_reported_within_the_timeout(openings: Any) -> None:
    started = time.monotonic()
    url = "kafka://127.0.0.1:9/events"
    with pytest.raises(LogUnavailable, match="did not answer") as raised:
        open_log(url, **{"bootstrap.timeout.ms": "500"})
    assert url in str(raised.value)
    with pytest.raises(LogUnavailable):
        create_log(url, 1, openings(1), replication=None, **{"bootstrap.timeout.ms": "500"})
    assert time.monotonic() - started < 30


def test_no_secret_reaches_a_log_line(url: str, openings: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    settings = {"ssl.password": "hunter2", "sasl.password": "hunter2", "sasl.username": "me"}
    with create_log(url, 1, openings(1), replication=None, **settings) as log:
        log.append([NewRecord("a", b"x")])
        assert "hunter2" not in repr(log)
    assert check_topic(url, **settings)
    assert "KafkaAdminClient" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("key", ["a", "a" * 1_024], ids=["short key", "long key"])
def test_the_largest_record_passes_and_a_larger_one_stops_the_whole_append(
    key: str, url: str, openings: Any
) -> None:
    largest = random.Random(1).randbytes(RECORD_BYTES_MAX)
    with create_log(url, 1, openings(1)) as log:
        (landed,) = log.append([NewRecord(key, largest)])
        assert landed.offset == 1
        with pytest.raises(LogError, match=r"has 8388609 bytes.*a log takes 8388608 bytes") as raised:
            log.append([NewRecord(key, b"small"), NewRecord(key, largest + b"x")])
        assert not isinstance(raised.value, LogUnavailable)
        assert log.end() == {0: 2}
        (read,) = log.read(0, 1, 10, timeout_s=90)
        assert read.value == largest
        log.append([NewRecord(key, largest), NewRecord(key, b"small"), NewRecord(key, largest)])
        assert log.end() == {0: 5}


def test_a_record_larger_than_the_topic_allows(url: str, openings: Any, admin: Any) -> None:
    make_topic(admin, url, max_message_bytes="10000")
    with open_log(url) as log:
        with pytest.raises(
            LogError, match=r"larger than the topic's max\.message\.bytes.*topics check"
        ) as raised:
            log.append([NewRecord("a", b"x" * 50_000)])
        assert not isinstance(raised.value, LogUnavailable)
        assert log.append([NewRecord("a", b"small")])[0].offset == 0
    assert "max.message.bytes is 10000, below 8390656: the reports of large nodes do not fit" in check_topic(
        url
    )


def test_a_record_larger_than_this_client_allows(url: str, openings: Any) -> None:
    create_log(url, 1, openings(1)).close()
    with open_log(url, **{"max.request.size": "10000"}) as log:
        with pytest.raises(LogError, match=r"a record of 50000 bytes.*this client's max\.request\.size"):
            log.append([NewRecord("a", b"small"), NewRecord("a", b"x" * 50_000)])
        assert log.end() == {0: 1}


def test_a_topic_of_another_program_has_no_identity(url: str, admin: Any, kafka: str) -> None:
    make_topic(admin, url)
    with open_log(url) as log:
        with pytest.raises(LogError, match="no partition of the log has its first record"):
            log.identity()
        producer = KafkaProducer(bootstrap_servers=kafka)
        producer.send(topic_of(url), value=b"hello").get(90)
        producer.send(topic_of(url), key=b"only a key").get(90)
        producer.close()
        with pytest.raises(LogError, match="does not start with a readable"):
            log.identity()
        assert [(r.key, r.value) for r in log.read(0, 0, 10, timeout_s=90)][:1] == [(b"", b"hello")]
        assert [(r.key, r.value) for r in log.read(0, 1, 10, timeout_s=90)] == [(b"only a key", b"")]


def test_partitions_added_to_a_log_are_noticed(url: str, openings: Any, admin: Any) -> None:
    create_log(url, 2, openings(2)).close()
    admin.create_partitions({topic_of(url): 4})
    admin.wait_for_topics([topic_of(url)])
    deadline = time.monotonic() + 90
    while True:
        with open_log(url) as log:
            if log.partitions == 4:
                break
        assert time.monotonic() < deadline
    with open_log(url) as log, pytest.raises(LogError, match="4 partitions but was created with 2"):
        log.identity()


def test_the_gap_of_a_transaction_is_reported(url: str, openings: Any, kafka: str) -> None:
    with create_log(url, 1, openings(1)) as log:
        producer = KafkaProducer(bootstrap_servers=kafka, transactional_id=str(uuid.uuid4()))
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(topic_of(url), key=b"a", value=b"1")
        producer.commit_transaction()
        producer.close()
        log.append([NewRecord("a", b"2")])
        assert [r.value for r in log.read(0, 1, 1, timeout_s=90)] == [b"1"]
        with pytest.raises(LogError, match=r"gap.*partition 0.*transactions"):
            log.read(0, 2, 1, timeout_s=90)


def test_a_topic_that_is_replaced_while_it_is_read_is_noticed(url: str, openings: Any, admin: Any) -> None:
    with create_log(url, 1, openings(1)) as log:
        log.append([NewRecord("a", b"%d" % n) for n in range(50)])
        position = 0
        while position < 51:
            position += len(log.read(0, position, 100, timeout_s=90))
        admin.delete_topics([topic_of(url)])
        deadline = time.monotonic() + 90
        while True:
            try:
                create_log(url, 1, openings(1)).close()
                break
            except LogError:  # until the old one is gone
                assert time.monotonic() < deadline
                time.sleep(0.1)
        with pytest.raises(LogError, match=r"beyond the end.*created again"):
            log.read(0, position, 100, timeout_s=90)


def test_a_reader_far_behind_reads_everything_in_order(url: str, openings: Any) -> None:
    """More records than are buffered of a partition, read unevenly, so that partitions are paused and resumed."""
    cells = covering_cells(3)
    with create_log(url, 3, openings(3)) as log:
        receipts = [
            log.send([NewRecord(cells[n % 3], b"%d" % n) for n in range(p, p + 1000)])
            for p in range(0, 24_000, 1000)
        ]
        for receipt in receipts:
            receipt.wait(90)
    with open_log(url) as log:
        position = {0: 1, 1: 1, 2: 1}
        seen: dict[int, list[int]] = {0: [], 1: [], 2: []}
        turn = 0
        while any(position[p] < 8001 for p in position):
            turn += 1
            for partition, limit in ((0, 1000), (1, 300), (2, 50)):
                if turn % (partition + 1) == 0:
                    records = log.read(partition, position[partition], limit)
                    seen[partition] += [int(r.value) for r in records]
                    position[partition] += len(records)
        for partition in range(3):
            assert seen[partition] == list(range(partition, 24_000, 3))


@pytest.fixture
def without_librdkafka(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the settings ask for something that librdkafka cannot do."""
    monkeypatch.setattr(kafka_log, "librdkafka_settings", lambda *_: None)


def test_one_send_wakes_the_thread_of_the_producer_once(
    url: str, openings: Any, monkeypatch: pytest.MonkeyPatch, without_librdkafka: None
) -> None:
    with create_log(url, 4, openings(4)) as log:
        log.append([NewRecord(cell, b"before") for cell in covering_cells(4)])
        wakeups: list[NetworkSelector] = []
        wake, here = NetworkSelector.wakeup, threading.get_ident()

        def counting(selector: NetworkSelector) -> None:
            if (
                threading.get_ident() == here
            ):  # the threads of this client and of others wake themselves at any time
                wakeups.append(selector)
            wake(selector)

        monkeypatch.setattr(NetworkSelector, "wakeup", counting)
        receipt = log.send([NewRecord(cell, b"one") for cell in covering_cells(4)] * 3)
        assert len(wakeups) == 1
        assert sorted(at.partition for at in receipt.wait()) == sorted([*range(4)] * 3)


def test_kafka_python_sends_as_librdkafka_does(
    url: str, openings: Any, admin: Any, without_librdkafka: None
) -> None:
    test_the_largest_record_passes_and_a_larger_one_stops_the_whole_append("a", url, openings)
    other = f"{url}-small"
    test_a_record_larger_than_the_topic_allows(other, openings, admin)
    test_a_record_larger_than_this_client_allows(f"{url}-client", openings)
