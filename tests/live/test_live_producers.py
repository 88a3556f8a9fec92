"""Producers that send records again, and records that arrive after their deadline."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from tests.live.site import new_topic, rebuilt, report, said, until, wait_for
from tests.support.logs.events_json import claim, claims, released
from tests.support.processes.kafka_server import KafkaCluster
from tests.support.processes.tcp_proxy import TcpProxy
from vacancy.clients.auditor import AuditReport, audit
from vacancy.clients.inspection.verdicts import exported_verdicts
from vacancy.clients.replay_tool.replay import read_all
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.runtime.worker_process import WorkerProcess
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.partitioner import covering_cells, partition_for
from vacancy.resources.model.record import NewRecord
from vacancy.resources.state.tables import ALLOCATIONS, split_key
from vacancy.streams.log import Log, Receipt, open_log
from vacancy.streams.log_url import parse_log_url

pytestmark = pytest.mark.kafka

CELLS = covering_cells(2)
SILENT_S = 1.5


@pytest.fixture
def log(mortal_kafka: KafkaCluster) -> Iterator[Log]:
    with new_topic(mortal_kafka.servers, 2) as made:
        yield made


@pytest.fixture
def line(mortal_kafka: KafkaCluster) -> Iterator[TcpProxy]:
    (one,) = mortal_kafka.proxies()
    with one:
        yield one


def soon_ms(seconds: float) -> int:
    return int((time.time() + seconds) * 1000)


def work(number: int) -> list[NewRecord]:
    """The records of one round: a node report, a claim on the node, and the release of an earlier claim."""
    cell = CELLS[number % 2]
    asked = claim(f"c{number}", f"i{number}", f"n{number % 6}", {"VCPU": 3}, soon_ms(120))
    said = [report(cell, f"n{number % 6}", life=number + 1, vcpus=8), NewRecord(cell, claims(asked))]
    if number >= 12:
        said.append(NewRecord(cell, released(f"i{number - 12}", f"c{number - 12}", soon_ms(120))))
    return said


class Trouble:
    """In rounds 10 to 19 and 40 to 49 records arrive but acknowledgements are lost; then the connections end.

    All that was sent before is acknowledged first, and something has arrived before the connections end: so who sends it must send it
    again, on a slow machine, too."""

    def __init__(self, log: Log, line: TcpProxy) -> None:
        self._log, self._line, self._before = log, line, 0

    def round(self, number: int, wait_for_all: Callable[[], object]) -> None:
        """The trouble before a round. `wait_for_all` waits until what was sent is acknowledged."""
        if number in (10, 40):
            wait_for_all()
            self._before = self._records()
            self._line.lose_answers()
        elif number in (20, 50):
            until(lambda: self._records() > self._before, "nothing arrives")
            time.sleep(SILENT_S)
            self._line.reset()

    def _records(self) -> int:
        return sum(self._log.end().values())


def check(log: Log, home: Path) -> AuditReport:
    """The store equals the log, and nothing was allocated wrongly."""
    store = home / "store"
    with WorkerProcess(log.url, store) as worker:
        worker.wait_ready(120)
    with StoreReader(store, installed_registry()) as reader:
        found = audit(read_all(log, reader.position), exported_verdicts(reader))
    assert found.problems == []
    assert said(store) == rebuilt(log, home / "again", said(store).position)
    return found


def times_in(log: Log) -> Counter[str]:
    """How often each record is in the log."""
    records = (record for some in read_all(log).values() for record in some)
    events = (json.loads(record.value) for record in records)
    return Counter(json.dumps(one["data"]) for one in events if one["type"] != "vacancy.log.opened.v1")


def test_records_sent_again_by_a_producer_count_once(
    mortal_kafka: KafkaCluster, log: Log, line: TcpProxy, tmp_path: Path
) -> None:
    """A producer that is not idempotent loses acknowledgements and sends records again."""
    producer = KafkaProducer(
        bootstrap_servers=mortal_kafka.proxied_servers,
        enable_idempotence=False,
        acks="all",
        retries=50,
        request_timeout_ms=1_000,
        delivery_timeout_ms=60_000,
        reconnect_backoff_max_ms=200,
        linger_ms=5,
    )
    topic, futures, trouble = parse_log_url(log.url).place, list[Any](), Trouble(log, line)
    for number in range(60):
        trouble.round(number, lambda: [future.get(90) for future in futures])
        for key, value in work(number):
            futures.append(
                producer.send(topic, key=key.encode(), value=value, partition=partition_for(key, 2))
            )
        time.sleep(0.01)
    for future in futures:
        future.get(90)
    producer.close()
    assert max(times_in(log).values()) > 1, "nothing was repeated"
    found = check(log, tmp_path)
    assert (found.claims, found.missing_verdicts, found.extra_verdicts) == (60, 0, 0)
    assert found.accepted > 30


def test_this_log_s_producer_neither_repeats_nor_loses_records(
    mortal_kafka: KafkaCluster, log: Log, line: TcpProxy, tmp_path: Path
) -> None:
    """The same with this project's log, whose producer is idempotent."""
    far_url = log.url.replace(mortal_kafka.servers, mortal_kafka.proxied_servers)
    with open_log(far_url, **{"request.timeout.ms": "1000"}) as far:
        receipts, trouble = list[Receipt](), Trouble(log, line)
        for number in range(60):
            trouble.round(number, lambda: [receipt.wait(90) for receipt in receipts])
            receipts.append(far.send(work(number)))
            time.sleep(0.01)
        for receipt in receipts:
            receipt.wait(90)
    assert set(times_in(log).values()) == {1}
    assert check(log, tmp_path).claims == 60


def test_claims_that_arrive_after_their_deadline_are_never_accepted(
    mortal_kafka: KafkaCluster, log: Log, line: TcpProxy, tmp_path: Path
) -> None:
    far_url = log.url.replace(mortal_kafka.servers, mortal_kafka.proxied_servers)
    log.append([report(CELLS[0], "n0", vcpus=8)])
    with WorkerProcess(log.url, tmp_path / "store") as worker, open_log(far_url) as far:
        worker.wait_ready()
        far.append([report(CELLS[1], "n1", vcpus=8)])
        line.cut()
        late = claim("late", "i-late", "n0", {"VCPU": 3}, soon_ms(1.5))
        soon = claim("soon", "i-soon", "n0", {"VCPU": 3}, soon_ms(120))
        receipt = far.send([NewRecord(CELLS[0], claims(late)), NewRecord(CELLS[0], claims(soon))])
        time.sleep(2.0)
        log.append([report(CELLS[0], "n2", vcpus=8)])  # others go on, and with them log time
        line.restore()
        receipt.wait(90)
        far.append([NewRecord(CELLS[0], claims(late))])  # and once more
        wait_for(tmp_path / "store", log.end())
    with StoreReader(tmp_path / "store", installed_registry()) as reader:
        assert [split_key(name)[1] for _, name, _ in reader.scan(ALLOCATIONS)] == ["i-soon"]
    found = check(log, tmp_path)
    assert (found.accepted, found.late) == (1, 1)  # by its id, it is one claim
