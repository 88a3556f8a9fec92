"""The embedded worker applies every record once and in order, advances log time, and fails by partition."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from vacancy.resources.model.errors import Halt, LogError, LogUnavailable, StoreError, VacancyError
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord, Record
from vacancy.resources.model.rules_answer import RulesAnswer
from vacancy.streams.log import Log, create_log
from vacancy.streams.log_url import parse_log_url
from vacancy.streams.memory_log import MemoryLog
from vacancy.streams.worker.embedded_worker import EmbeddedWorker

CELLS = covering_cells(3)
START_MS = 1_800_000_000_000


class Tables:
    """A projection that keeps its records. `failing` maps (partition, offset) to the error that it raises there."""

    def __init__(self) -> None:
        self.records: dict[int, list[Record]] = defaultdict(list)
        self.batches: list[int] = []
        self.deadlines: dict[int, int] = {}
        self.late: dict[int, int] = {}
        self.failing: dict[tuple[int, int], Exception] = {}
        self.asked = self.asked_rules = 0
        self.answers: dict[int, list[RulesAnswer]] = {}

    def position(self) -> dict[int, int]:
        return {partition: records[-1].offset + 1 for partition, records in self.records.items()}

    def apply(self, partition: int, records: Sequence[Record]) -> None:
        for record in records:
            assert record.offset == self.position().get(partition, 0)
            if error := self.failing.get((partition, record.offset)):
                raise error
            self.records[partition].append(record)
        self.batches.append(len(records))

    def overdue(self, partition: int) -> bool:
        return self.late.get(partition, 0) > len(self.records[partition])

    def next_deadline_ms(self, partition: int) -> int | None:
        self.asked += 1
        return self.deadlines.get(partition)

    def unanswered(self, partition: int) -> list[RulesAnswer]:
        self.asked_rules += 1
        return self.answers.get(partition, [])

    def log_time_ms(self, partition: int) -> int:
        return self.records[partition][-1].timestamp_ms if self.records[partition] else 0


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def tables() -> Tables:
    return Tables()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(openings: Any) -> Any:
    with create_log(f"memory://{uuid.uuid4()}", 3, openings(3)) as made:
        yield made


def entries(count: int) -> list[NewRecord]:
    return [NewRecord(CELLS[n % 3], b"%d" % n) for n in range(count)]


def tick_entry(partition: int) -> NewRecord:
    return NewRecord(CELLS[partition], b"tick")


def make(log: Log, tables: Tables, clock: Clock, **more: Any) -> EmbeddedWorker:
    return EmbeddedWorker(log, tables, clock=clock, rng=random.Random(7), tick_entry=tick_entry, **more)


def drain(worker: EmbeddedWorker) -> None:
    while worker.step():
        pass


def test_everything_is_applied_once_in_order_and_in_batches(log: Any, tables: Tables, clock: Clock) -> None:
    log.append(entries(300))
    worker = make(log, tables, clock, batch_max=40)
    drain(worker)
    for partition in range(3):
        assert [int(r.value) for r in tables.records[partition][1:]] == list(range(partition, 300, 3))
    assert tables.batches == [40] * 6 + [21] * 3
    assert (worker.progress.records, worker.progress.batches, worker.progress.ticks) == (303, 9, 0)
    assert worker.position == log.end()


def test_it_continues_at_the_position_of_the_projection(log: Any, tables: Tables, clock: Clock) -> None:
    log.append(entries(30))
    drain(make(log, tables, clock))
    log.append(entries(30))
    worker = make(log, tables, clock)
    drain(worker)
    assert worker.progress.records == 30
    assert tables.position() == log.end()


def test_it_follows_only_the_given_partitions(log: Any, tables: Tables, clock: Clock) -> None:
    log.append(entries(30))
    drain(make(log, tables, clock, partitions=[1]))
    assert set(tables.records) == {1}


def test_a_tick_is_sent_when_a_deadline_is_due_and_nothing_arrives(
    log: Any, tables: Tables, clock: Clock
) -> None:
    worker = make(log, tables, clock)
    drain(worker)
    tables.deadlines = {1: START_MS + 5_000}
    clock.now_ms += 700
    drain(worker)
    assert tables.asked == 0, "nobody is asked before a partition was quiet for a while"
    clock.now_ms += 800
    for _ in range(10):
        drain(worker)
    assert tables.asked == 3, "the answer holds until something arrives"
    assert worker.progress.ticks == 0
    clock.now_ms = START_MS + 5_000
    drain(worker)
    assert worker.progress.ticks == 1
    drain(worker)
    assert [r.value for r in tables.records[1][1:]] == [b"tick"]
    assert (len(tables.records[0]), len(tables.records[2])) == (1, 1)


def test_ticks_repeat_at_the_same_rate_while_the_deadline_is_open(
    log: Any, tables: Tables, clock: Clock
) -> None:
    worker = make(log, tables, clock)
    drain(worker)
    tables.deadlines = {2: START_MS - 1}
    for _ in range(100):
        clock.now_ms += 100
        drain(worker)
    assert 10_000 / 1_400 - 1 <= worker.progress.ticks <= 10_000 / 800
    tables.deadlines = {}
    drain(worker)
    clock.now_ms += 3_000
    ticks = worker.progress.ticks
    drain(worker)
    drain(worker)
    assert worker.progress.ticks <= ticks + 1


def test_ticks_follow_each_other_while_something_is_overdue(log: Any, tables: Tables, clock: Clock) -> None:
    worker = make(log, tables, clock)
    drain(worker)
    tables.deadlines, tables.late = {2: START_MS - 1}, {2: 30}
    log.append([NewRecord(CELLS[2], b"x")])
    for _ in range(100):
        drain(worker)
    assert len(tables.records[2]) == 30, "no time passed"
    assert worker.progress.ticks == 28


def test_other_records_delay_ticks(log: Any, tables: Tables, clock: Clock) -> None:
    worker = make(log, tables, clock)
    tables.deadlines = {0: START_MS - 1}
    for _ in range(50):
        clock.now_ms += 500
        log.append([NewRecord(CELLS[0], b"x")])
        drain(worker)
    assert worker.progress.ticks == 0


def test_two_workers_do_not_tick_together(log: Any, clock: Clock) -> None:
    workers = [
        EmbeddedWorker(log, Tables(), clock=clock, rng=random.Random(seed), tick_entry=tick_entry)
        for seed in range(2)
    ]
    waits = [[one.tick_after_ms for one in worker._ticker._partitions.values()] for worker in workers]
    assert len({*waits[0], *waits[1]}) == 6
    assert all(800 <= wait <= 1400 for wait in waits[0] + waits[1])


def test_without_a_tick_entry_it_never_ticks(log: Any, tables: Tables, clock: Clock) -> None:
    worker = EmbeddedWorker(log, tables, clock=clock)
    tables.deadlines = {0: START_MS - 1}
    drain(worker)
    clock.now_ms += 10_000
    drain(worker)
    assert worker.progress.ticks == tables.asked == 0


@pytest.mark.parametrize("error", [Halt("an unknown rule"), StoreError("the disk is full"), LogError("gone")])
def test_a_failing_partition_stops_and_the_others_continue(
    log: Any, tables: Tables, clock: Clock, error: VacancyError
) -> None:
    log.append(entries(30))
    tables.failing[1, 5] = error
    worker = make(log, tables, clock, batch_max=1)
    with capture_logs() as lines:
        drain(worker)
    assert tables.position() == {0: 11, 1: 5, 2: 11}
    assert worker.errors == {1: error}
    (line,) = lines
    assert line["log_level"] == "error"
    assert (line["partition"], line["offset"], line["kind"]) == (1, 5, type(error).__name__)
    assert line["log"] == log.name
    assert str(error) in line["error"]


def test_run_raises_the_first_error_when_no_partition_is_left(log: Any, tables: Tables, clock: Clock) -> None:
    tables.failing = {(0, 0): Halt("first"), (1, 0): Halt("second"), (2, 0): StoreError("third")}
    worker = make(log, tables, clock)
    with capture_logs() as lines, pytest.raises(Halt, match="first"):
        worker.run()
    assert [line["partition"] for line in lines] == [0, 1, 2]


def test_an_error_that_is_a_bug_is_not_swallowed(log: Any, tables: Tables, clock: Clock) -> None:
    tables.failing[0, 0] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        make(log, tables, clock).run()


def test_run_follows_until_it_is_stopped(log: Any, tables: Tables) -> None:
    worker = EmbeddedWorker(log, tables)
    thread = threading.Thread(target=worker.run)
    thread.start()
    for _ in range(20):
        log.append(entries(30))
        time.sleep(0.001)
    deadline = time.monotonic() + 30
    while worker.position != log.end():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    worker.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert worker.progress.records == 603


def test_run_raises_what_stopped_a_partition_when_it_is_stopped(log: Any, tables: Tables) -> None:
    tables.failing[1, 0] = Halt("an unknown rule")
    worker = EmbeddedWorker(log, tables)
    raised: list[BaseException] = []

    def run() -> None:
        try:
            worker.run()
        except Halt as error:
            raised.append(error)

    with capture_logs():
        thread = threading.Thread(target=run)
        thread.start()
        deadline = time.monotonic() + 30
        while worker.position != {0: 1, 1: 0, 2: 1}:  # the tables are of the other thread
            assert time.monotonic() < deadline
            time.sleep(0.001)
        worker.stop()
        thread.join(10)
    assert raised == [tables.failing[1, 0]]


class Away(MemoryLog):
    """A log that does not answer for a while."""

    away = True

    def read(self, partition: int, offset: int, limit: int, timeout_s: float = 0.0) -> list[Record]:
        if self.away:
            raise LogUnavailable("The log does not answer", where=self.name)
        return super().read(partition, offset, limit, timeout_s)


def test_a_log_that_does_not_answer_is_retried_with_growing_pauses(
    log: Any, tables: Tables, clock: Clock
) -> None:
    away = Away(parse_log_url(log.url))
    worker = make(away, tables, clock)
    with capture_logs() as lines:
        for _ in range(600):
            clock.now_ms += 50
            worker.step()
    assert [line["log_level"] for line in lines] == ["warning"] * 3
    assert worker.errors == {}
    away.away = False
    clock.now_ms += 5_000
    drain(worker)
    assert worker.position == log.end()
