"""A log on three brokers while brokers are killed."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from kafka import KafkaAdminClient

from tests.support.processes.kafka_server import KafkaCluster
from vacancy.resources.model.errors import LogUnavailable
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.kafka.topic import check_topic
from vacancy.streams.log import Log, Receipt, create_log, open_log

pytestmark = pytest.mark.kafka
CELLS = covering_cells(3)
PREFERRED = 0
"""A kind of election: the first broker of each partition leads it, if it is in step."""


@pytest.fixture
def cluster(three_brokers: KafkaCluster) -> KafkaCluster:
    return three_brokers


@pytest.fixture
def log(cluster: KafkaCluster, openings: Any) -> Iterator[Log]:
    with create_log(f"kafka://{cluster.servers}/events-{uuid.uuid4()}", 3, openings(3)) as made:
        yield made


def wait_until_whole(url: str) -> None:
    deadline = time.monotonic() + 90
    while check_topic(url):
        assert time.monotonic() < deadline
        time.sleep(0.2)


class Follower(threading.Thread):
    """Reads all partitions of a log from their start, in its own thread, until it has read the given number of records."""

    def __init__(self, url: str) -> None:
        # A test that fails before `finish` must not keep the interpreter from its end.
        super().__init__(daemon=True)
        self.url = url
        self.values: dict[int, list[int]] = {0: [], 1: [], 2: []}
        self.until: dict[int, int] | None = None
        self.start()

    def run(self) -> None:
        with open_log(self.url) as log:
            position = {0: 1, 1: 1, 2: 1}
            while self.until is None or position != self.until:
                found = 0
                for partition in position:
                    records = log.read(partition, position[partition], 1000)
                    self.values[partition] += [int(r.value) for r in records]
                    position[partition] += len(records)
                    found += len(records)
                if not found:
                    time.sleep(0.005)

    def finish(self, until: dict[int, int]) -> None:
        self.until = until
        self.join(90)
        assert not self.is_alive(), (
            f"at {self.values and {p: len(v) for p, v in self.values.items()}} of {until}"
        )


def test_three_brokers_keep_three_replicas(log: Log) -> None:
    wait_until_whole(log.url)
    assert check_topic(log.url) == []


def test_a_killed_broker_loses_and_doubles_nothing(log: Log, cluster: KafkaCluster) -> None:
    wait_until_whole(log.url)
    follower = Follower(log.url)
    receipts: list[Receipt] = []
    for n in range(0, 900, 3):
        if n == 300:
            cluster.kill(2)
        if n == 600:
            cluster.restart(2, wait=False)
        receipts.append(log.send([NewRecord(cell, b"%d" % (n + i)) for i, cell in enumerate(CELLS)]))
        time.sleep(0.005)
    for receipt in receipts:
        receipt.wait(90)
    follower.finish({0: 301, 1: 301, 2: 301})
    for partition in range(3):
        assert follower.values[partition] == list(range(partition, 900, 3))
    wait_until_whole(log.url)


def test_a_log_opens_while_any_broker_is_down(log: Log, cluster: KafkaCluster) -> None:
    """For some seconds the other brokers still list it, and a client may choose any listed broker."""
    wait_until_whole(log.url)
    log.append([NewRecord(cell, b"0") for cell in CELLS])
    cluster.kill(1)
    for _ in range(8):
        with open_log(log.url) as opened:
            assert opened.end() == {0: 2, 1: 2, 2: 2}
    cluster.restart(1)
    wait_until_whole(log.url)
    # The partition that broker 1 led has moved to another one. Now it moves back, and that one refuses to answer.
    with open_log(log.url) as opened, closing(KafkaAdminClient(bootstrap_servers=cluster.servers)) as admin:
        assert opened.end() == {0: 2, 1: 2, 2: 2}
        admin.elect_leaders(PREFERRED, raise_errors=False)
        for _ in range(10):
            asked_at = time.monotonic()
            assert opened.end() == {0: 2, 1: 2, 2: 2}
            assert time.monotonic() - asked_at < 20
            time.sleep(0.2)


def test_without_two_replicas_appends_fail_and_nothing_is_lost(log: Log, cluster: KafkaCluster) -> None:
    wait_until_whole(log.url)
    follower = Follower(log.url)
    log.append([NewRecord(CELLS[0], b"0")])
    for node in (1, 2, 3):
        cluster.kill(node)
    receipt = log.send([NewRecord(CELLS[0], b"1")])
    with pytest.raises(LogUnavailable):
        receipt.wait(1.0)
    with pytest.raises(LogUnavailable, match="did not answer"):
        log.end()
    for node in (1, 2, 3):
        cluster.restart(node, wait=False)
    assert receipt.wait(90)[0].offset == 2
    assert log.append([NewRecord(CELLS[0], b"2")], timeout_s=90)[0].offset == 3
    follower.finish({0: 4, 1: 1, 2: 1})
    assert follower.values[0] == [0, 1, 2]
    wait_until_whole(log.url)
