"""The worker applies exactly the records that the log returns; bad records stop nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from kafka import KafkaProducer

from tests.live.site import WorkerCommand, new_topic, rebuilt, report, said, wait_for
from tests.support.logs.events_json import provider, reported
from vacancy.clients.inspection.status import dead_letters
from vacancy.clients.runtime.bootstrap import answer_entry, installed_registry, tick_entry
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import Halt
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord, Record
from vacancy.resources.model.rules_answer import RulesAnswer
from vacancy.streams.faust.app import make_app
from vacancy.streams.faust.worker import run_app
from vacancy.streams.log import RECORD_BYTES_MAX, Log
from vacancy.streams.log_url import parse_log_url
from vacancy.streams.settings import WebAddress
from vacancy.streams.worker.projection_protocol import WorkerParts

pytestmark = pytest.mark.kafka


class Kept:
    """A projection that keeps what it is given. `failing` maps (partition, offset) to what it raises there."""

    def __init__(self, id_: str, partitions: int) -> None:
        self.id, self.partitions = id_, partitions
        self.records: dict[int, list[Record]] = defaultdict(list)
        self.failing: dict[tuple[int, int], Halt] = {}

    def position(self) -> Mapping[int, int]:
        return {p: len(self.records[p]) for p in range(self.partitions)}

    def open(self, partition: int) -> int:
        return len(self.records[partition])

    def apply(self, partition: int, records: Sequence[Record]) -> None:
        for record in records:
            if (partition, record.offset) in self.failing:
                raise self.failing[partition, record.offset]
            assert record.offset == len(self.records[partition])
            self.records[partition].append(record)

    def release(self, partition: int) -> None:
        pass

    def close(self) -> None:
        pass

    def check_log(self, partition: int, before: Iterable[Record]) -> None:
        pass

    def overdue(self, partition: int) -> bool:
        return False

    def next_deadline_ms(self, partition: int) -> int | None:
        return None

    def unanswered(self, partition: int) -> list[RulesAnswer]:
        return []

    def log_time_ms(self, partition: int) -> int:
        return 0

    def differences(self, partition: int) -> dict[str, str]:
        return {}

    def contested(self, partition: int) -> dict[str, int]:
        return {"closed": 0, "dropped": 0, "dropped_reports": 0}

    def claims(self, partition: int) -> dict[str, int]:
        return {"accepted": 5, "no_room": 2}

    def dead_letters(self, partition: int) -> int:
        return 0


def follow(log: Log, kept: Kept) -> None:
    """Give `kept` all that is in the log."""
    told: SimpleQueue[None] = SimpleQueue()
    parts = WorkerParts(
        kept,
        lambda partition: tick_entry(partition, kept.partitions),
        lambda partition, answer: answer_entry(partition, kept.partitions, kept.id, answer),
    )
    app = make_app(log, parts, {}, WebAddress(port="off"))
    run_app(app, told, lambda _: told.put(None))


def send_bare(servers: str, log: Log) -> None:
    """Records that this product never writes: without a key, without a value, empty."""
    producer = KafkaProducer(bootstrap_servers=servers)
    topic = parse_log_url(log.url).place
    for key, value in ((b"a", None), (None, b"{}"), (None, b""), (b"", b""), (b"\xff", b"\xfe")):
        producer.send(topic, key=key, value=value, partition=0).get(90)
    producer.close()


def test_the_worker_is_given_what_the_log_reads(kafka: str) -> None:
    cells = covering_cells(3)
    with new_topic(kafka, 3) as log:
        for n in range(1700):
            log.send([report(cells[n % 2], f"node-{n}")])
        log.append([report(cells[2], "last")])
        send_bare(kafka, log)
        kept = Kept("kept", 3)
        follow(log, kept)
        end = log.end()
        for partition in range(3):
            read: list[Record] = []
            while len(read) < end[partition]:
                read += log.read(partition, len(read), 1000, timeout_s=90)
            assert kept.records[partition] == read
            assert all(isinstance(record.timestamp_ms, int) for record in kept.records[partition])


def test_a_partition_that_must_stop_leaves_the_others_alone(kafka: str) -> None:
    cells = covering_cells(2)
    with new_topic(kafka, 2) as log:
        log.append([report(cells[n % 2], f"node-{n}") for n in range(100)])
        kept = Kept("kept", 2)
        kept.failing[1, 7] = Halt("unknown rules", where="partition 1, offset 7", do="upgrade vacancy")
        with pytest.raises(Halt, match="partition 1, offset 7"):
            follow(log, kept)
        assert [len(kept.records[p]) for p in range(2)] == [51, 7]


def test_poison_in_mid_stream(kafka: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with new_topic(kafka, 1) as log, WorkerCommand(log, store) as worker:
        log.append([report("a", f"before-{n}") for n in range(50)])
        send_bare(kafka, log)
        log.append([report("a", f"after-{n}") for n in range(50)])
        wait_for(store, log.end())
        assert worker.status()["partitions"][0]["dead_letters"] == 5
        assert worker.end().code == 0
        with StoreReader(store, installed_registry()) as reader:
            letters = dead_letters(reader)
        assert [letter.offset for letter in letters] == list(range(51, 56))
        assert said(store) == rebuilt(log, tmp_path / "again")


def test_the_largest_reports_and_records_pass(kafka: str, tmp_path: Path) -> None:
    """A report of 4,096 providers with eight classes each is folded; records of the largest size are read, and refused."""
    store = tmp_path / "store"
    inventories: dict[str, Any] = {f"CUSTOM_CLASS_{number}": 1_000 for number in range(8)}
    parts = [provider("n1"), *(provider(f"n1:{number}", "n1", **inventories) for number in range(1, 4_096))]
    value = reported("n1", parts)
    assert len(value) > 1_048_588  # what Kafka takes by default
    with new_topic(kafka, 1) as log, WorkerCommand(log, store) as worker:
        log.append([NewRecord("a", value), NewRecord("a", bytes(RECORD_BYTES_MAX)), report("a", "after")])
        wait_for(store, log.end(), 120.0)
        assert worker.status()["partitions"][0]["dead_letters"] == 1
        assert worker.end().code == 0
        with StoreReader(store, installed_registry()) as reader:
            assert reader.view.size == 4_097
        assert said(store) == rebuilt(log, tmp_path / "again")


def test_a_gap_in_the_log_stops_the_partition_and_names_it(kafka: str, tmp_path: Path) -> None:
    """A transaction leaves a marker, which takes an offset and is no record."""
    store = tmp_path / "store"
    with new_topic(kafka, 1) as log:
        producer = KafkaProducer(bootstrap_servers=kafka, transactional_id="gap")
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(parse_log_url(log.url).place, key=b"a", value=b"1")
        producer.commit_transaction()
        producer.close()
        log.append([report("a", "after")])
        worker = WorkerCommand(log, store)
        ended = worker.start().ended()
    assert ended.code == 1
    assert ended.lines[-1].startswith(
        "vacancy: the log has a gap: offset 2 is missing before 3 (partition 0)"
    )
    assert not any("Traceback" in line for line in ended.lines)
