"""A live worker answers proposed rules once, at the end of the log, and again only if the log did not take the answer."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from vacancy.resources.model.errors import LogError, LogUnavailable
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.rules_answer import RulesAnswer
from vacancy.streams.log import AppendedAt, Log, create_log
from vacancy.streams.worker.rules_answers import RulesAnswers

CELLS = covering_cells(2)
YES, NO = RulesAnswer("p", ()), RulesAnswer("q", ("rules version 9",))


def entry(partition: int, answer: RulesAnswer) -> NewRecord:
    return NewRecord(CELLS[partition], repr(tuple(answer)).encode())


class Asked:
    """What the tables of each partition lack, and how often they were asked."""

    def __init__(self) -> None:
        self.answers: dict[int, list[RulesAnswer]] = {}
        self.times = 0

    def __call__(self, partition: int) -> list[RulesAnswer]:
        self.times += 1
        return self.answers.get(partition, [])


class Pending:
    """A receipt that the test settles."""

    def __init__(self) -> None:
        self.done = False
        self.error: LogError | None = None

    def wait(self, timeout_s: float = 30.0) -> list[AppendedAt]:
        assert self.done
        if self.error:
            raise self.error
        return []


class SlowLog:
    """Keeps what is sent, and acknowledges it when the test says so. `failing` is raised by `send`."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.receipts: list[Pending] = []
        self.failing: LogError | None = None

    def send(self, entries: Sequence[NewRecord], timeout_s: float = 0.0) -> Pending:
        if self.failing:
            raise self.failing
        self.sent += [one.value for one in entries]
        self.receipts.append(Pending())
        return self.receipts[-1]


@pytest.fixture
def log(openings: Any) -> Iterator[Log]:
    with create_log(f"memory://{uuid.uuid4()}", 2, openings(2)) as made:
        yield made


def send_due(answers: RulesAnswers, partition: int) -> int:
    due = answers.due(partition)
    if due:
        answers.send(partition, due)
    return len(due)


def test_the_tables_are_asked_once_after_records_were_applied(log: Log) -> None:
    asked = Asked()
    answers = RulesAnswers(log, asked, entry)
    for _ in range(5):
        assert send_due(answers, 0) == 0
    assert asked.times == 1
    answers.start(0)
    assert send_due(answers, 0) == 0
    assert asked.times == 2
    assert log.end() == {0: 1, 1: 1}


def test_each_answer_is_sent_once_though_the_tables_do_not_have_it_yet(log: Log) -> None:
    asked = Asked()
    asked.answers = {0: [YES, NO]}
    answers = RulesAnswers(log, asked, entry)
    assert send_due(answers, 0) == 2
    for _ in range(5):
        answers.start(0)  # other records are applied
        assert send_due(answers, 0) == 0
    assert send_due(answers, 1) == 0
    assert [r.value for r in log.read(0, 1, 9)] == [entry(0, YES).value, entry(0, NO).value]
    asked.answers = {0: []}  # the log had them
    answers.start(0)
    assert send_due(answers, 0) == 0
    asked.answers = {0: [RulesAnswer("p", ("resource class X",))]}  # the build has changed
    answers.start(0)
    assert send_due(answers, 0) == 1


def test_what_the_log_refused_or_lost_is_sent_again() -> None:
    asked, slow = Asked(), SlowLog()
    asked.answers = {0: [YES]}
    answers = RulesAnswers(slow, asked, entry)  # type: ignore[arg-type]  # it needs `send` only
    slow.failing = LogUnavailable("away")
    with pytest.raises(LogUnavailable):
        send_due(answers, 0)
    slow.failing = None
    assert send_due(answers, 0) == 1
    assert send_due(answers, 0) == 0  # it may still arrive
    slow.receipts[0].done, slow.receipts[0].error = True, LogUnavailable("away")
    assert send_due(answers, 0) == 1
    slow.receipts[1].done = True
    assert send_due(answers, 0) == 0
    times = asked.times
    assert send_due(answers, 0) == 0
    assert asked.times == times
    assert slow.sent == [entry(0, YES).value] * 2


def test_without_a_function_that_makes_records_nothing_is_asked(log: Log) -> None:
    asked = Asked()
    asked.answers = {0: [YES]}
    answers = RulesAnswers(log, asked, None)
    assert answers.due(0) == []
    answers.send(0, [YES])
    assert (asked.times, log.end()[0]) == (0, 1)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_fails_each_answer_arrives(seed: int) -> None:
    rng = random.Random(seed)
    asked, slow = Asked(), SlowLog()
    asked.answers = {0: [YES, NO]}
    answers = RulesAnswers(slow, asked, entry)  # type: ignore[arg-type]  # it needs `send` only
    arrived: set[bytes] = set()
    for step in range(200):
        slow.failing = LogUnavailable("away") if step < 100 and rng.random() < 0.5 else None
        try:
            send_due(answers, 0)
        except LogUnavailable:
            continue
        for value, receipt in zip(slow.sent, slow.receipts, strict=True):
            if not receipt.done and rng.random() < 0.5:
                receipt.done = True
                receipt.error = LogUnavailable("away") if step < 100 and rng.random() < 0.5 else None
                if receipt.error is None:
                    arrived.add(value)
        if rng.random() < 0.3:
            answers.start(0)
    assert arrived == {entry(0, YES).value, entry(0, NO).value}
    assert sum(receipt.error is None for receipt in slow.receipts) == 2
