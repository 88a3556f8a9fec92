"""The partitions of a worker: acquired and released, applied to only while owned, measured, stopped one by one."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import pytest
from prometheus_client.parser import text_string_to_metric_families

from vacancy.resources.model.errors import Halt, StoreInUse, VacancyError
from vacancy.resources.model.record import Record
from vacancy.resources.model.rules_answer import RulesAnswer
from vacancy.streams.faust import group
from vacancy.streams.pages import metrics
from vacancy.streams.worker.partition_ownership import PartitionOwnership

START_MS = 1_800_000_000_000


class Clock:
    """Time that advances when the test sets it."""

    now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms


class Tables:
    """An in-memory projection. `locked`: partitions of another worker. `failing`: (partition, offset) -> error."""

    id = "the-store"
    partitions = 3

    def __init__(self) -> None:
        self.records: dict[int, list[Record]] = defaultdict(list)
        self.opened: set[int] = set()
        self.locked: set[int] = set()
        self.failing: dict[tuple[int, int], VacancyError] = {}

    def position(self) -> Mapping[int, int]:
        return {p: len(self.records[p]) for p in range(self.partitions)}

    def open(self, partition: int) -> int:
        if partition in self.locked:
            raise StoreInUse("another process writes this store")
        self.opened.add(partition)
        return len(self.records[partition])

    def release(self, partition: int) -> None:
        self.opened.discard(partition)

    def close(self) -> None:
        self.opened.clear()

    def apply(self, partition: int, records: Sequence[Record]) -> None:
        assert partition in self.opened
        for record in records:
            if (partition, record.offset) in self.failing:
                raise self.failing[partition, record.offset]
            if record.offset >= len(self.records[partition]):
                self.records[partition].append(record)

    def check_log(self, partition: int, before: Iterable[Record]) -> None:
        pass

    def overdue(self, partition: int) -> bool:
        return False

    def next_deadline_ms(self, partition: int) -> int | None:
        return None

    def unanswered(self, partition: int) -> list[RulesAnswer]:
        return []

    def log_time_ms(self, partition: int) -> int:
        return START_MS - 5_000

    def differences(self, partition: int) -> dict[str, str]:
        return {}

    def contested(self, partition: int) -> dict[str, int]:
        return {"closed": 0, "dropped": 0, "dropped_reports": 0}

    def claims(self, partition: int) -> dict[str, int]:
        return {"accepted": 5, "no_room": 2}

    def dead_letters(self, partition: int) -> int:
        return 7


def records(partition: int, first: int, count: int, time_ms: int = START_MS) -> list[Record]:
    return [Record(partition, offset, time_ms, b"k", b"v") for offset in range(first, first + count)]


@pytest.fixture
def tables() -> Tables:
    return Tables()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def failures() -> list[VacancyError]:
    return []


@pytest.fixture
def ownership(tables: Tables, clock: Clock, failures: list[VacancyError]) -> PartitionOwnership:
    return PartitionOwnership(tables, "the-log", on_failed=failures.append, clock=clock)


def test_nothing_is_applied_to_partitions_that_are_not_owned(
    ownership: PartitionOwnership, tables: Tables
) -> None:
    assert not ownership.apply(0, records(0, 0, 3))
    ownership.open(0)
    assert ownership.apply(0, records(0, 0, 3))
    ownership.suspend([0, 1])
    assert not ownership.apply(0, records(0, 3, 3))
    assert tables.opened == {0}, "it may come back at once, so it stays open"
    ownership.open(0)
    assert ownership.apply(0, records(0, 3, 3))
    ownership.keep_only({1})
    assert tables.opened == set()
    assert not ownership.apply(0, records(0, 6, 3))
    assert (ownership.records, ownership.batches) == (6, 2)


def test_records_before_the_position_are_not_counted_again(ownership: PartitionOwnership) -> None:
    ownership.open(0)
    ownership.apply(0, records(0, 0, 5))
    ownership.apply(0, records(0, 3, 4))
    ownership.apply(0, records(0, 0, 2))
    assert ownership.position == {0: 7}
    assert ownership.records == 7


def test_a_partition_of_another_worker_is_an_error(ownership: PartitionOwnership, tables: Tables) -> None:
    tables.locked.add(1)
    with pytest.raises(StoreInUse):
        ownership.open(1)
    assert ownership.held == {}


def test_a_failing_partition_stops_and_the_others_continue(
    ownership: PartitionOwnership, tables: Tables, failures: list[VacancyError]
) -> None:
    for partition in (0, 1):
        ownership.open(partition)
    tables.failing[1, 2] = Halt("unknown rules")
    assert not ownership.apply(1, records(1, 0, 5))
    assert ownership.held[1].position == 2, "what came before it was committed"
    assert failures == [tables.failing[1, 2]] == list(ownership.errors.values())
    assert [ownership.all_failed, ownership.apply(0, records(0, 0, 5))] == [False, True]
    tables.failing.clear()
    assert not ownership.apply(1, records(1, 2, 3)), "it stays stopped"
    tables.failing[0, 5] = Halt("unknown rules")
    ownership.apply(0, records(0, 5, 1))
    assert ownership.all_failed
    assert len(failures) == 2


def test_lag_is_the_age_of_the_waiting_records(ownership: PartitionOwnership, clock: Clock) -> None:
    one = ownership.open(0)
    assert one.lag_ms(clock()) == 0
    one.saw_end(10, clock())
    assert (one.lag, one.lag_ms(clock())) == (10, 5_000), "since the last record that it had folded before"
    ownership.apply(0, records(0, 0, 10))
    assert (one.lag, one.lag_ms(clock())) == (0, 0)
    clock.now_ms += 3_600_000
    one.saw_end(12, clock())
    assert one.lag_ms(clock()) == 0, "the log was quiet for an hour, but what waits has just come"
    clock.now_ms += 2_000
    assert one.lag_ms(clock()) == 2_000
    ownership.apply(0, records(0, 10, 1, clock() - 500))
    assert one.lag_ms(clock()) == 500


def test_status_as_json_and_as_metrics(ownership: PartitionOwnership, tables: Tables, clock: Clock) -> None:
    class Worker:
        ready, ticks, log_name = True, 3, "the-log"

        def __init__(self) -> None:
            self.ownership = ownership

    for partition in (2, 0):
        ownership.open(partition).saw_end(9, START_MS)
    tables.failing[2, 4] = Halt("unknown rules")
    ownership.apply(0, records(0, 0, 9))
    ownership.apply(2, records(2, 0, 9))
    ownership.sample_rate()
    found = metrics.status(Worker())
    assert [one["partition"] for one in found["partitions"]] == [0, 2]
    assert [one["lag_records"] for one in found["partitions"]] == [0, 5]
    assert [one["error"] for one in found["partitions"]] == [None, "unknown rules"]
    assert (found["store"], found["records"], found["ticks"]) == ("the-store", 9, 3)
    families = {one.name: one for one in text_string_to_metric_families(metrics.render(Worker()))}
    by_partition = {
        name: {sample.labels.get("partition"): sample.value for sample in family.samples}
        for name, family in families.items()
    }
    assert by_partition["vacancy_worker_position"] == {"0": 9, "2": 4}
    assert by_partition["vacancy_worker_dead_letters"] == {"0": 7, "2": 7}
    assert by_partition["vacancy_worker_partition_stopped"] == {"0": 0, "2": 1}
    assert by_partition["vacancy_worker_log_time_seconds"]["0"] == (START_MS - 5_000) / 1000
    assert by_partition["vacancy_worker_log_time_ahead_seconds"] == {"0": 0, "2": 0}
    clock.now_ms -= 65_000
    assert 'vacancy_worker_log_time_ahead_seconds{log="the-log",partition="0"} 60.0' in metrics.render(
        Worker()
    )
    assert by_partition["vacancy_worker_ready"] == {None: 1}


def test_which_processes_are_known_to_have_ended() -> None:
    mine = group.client_id()
    assert group.is_gone(mine), "this process has not joined, so it is one before it that had its number"
    assert not group.is_gone(mine.replace(f":{os.getpid()}", f":{os.getppid()}"))
    assert group.is_gone(mine.replace(f":{os.getpid()}", ":4194304"))  # beyond the largest there can be
    assert not group.is_gone("vacancy-worker@another-host:1")
    assert not group.is_gone("somebody-else")
    assert not group.is_gone("vacancy-worker@:x")
