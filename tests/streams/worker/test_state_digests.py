"""When a worker sends digests and marks."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator

import pytest

from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import Log, create_log
from vacancy.streams.worker.state_digests import DIGEST_INTERVAL, DigestEntries, DigestInterval, DigestSender

(CELL,) = covering_cells(1)
ENTRY, MARK, DIGEST = (NewRecord(CELL, value) for value in (b"{}", b"mark", b"digest"))


class Worker:
    """What a sender asks, answered by hand."""

    def __init__(self) -> None:
        self.now_ms, self.digests = 0, list[NewRecord]()
        self.marked: tuple[int, int] | None = (0, 1)
        self.entries = DigestEntries(
            lambda _: self.digests.pop() if self.digests else None, lambda _: self.marked, lambda _: MARK
        )

    def sender(self, log: Log, interval: DigestInterval) -> DigestSender:
        made = DigestSender(log, self.entries, interval, clock=lambda: self.now_ms, rng=random.Random(1))
        made.start(0)
        return made

    def first_due(self, sender: DigestSender, until_ms: int) -> int | None:
        """The time at which a mark is due, if one is until then."""
        while self.now_ms < until_ms:
            if sender.due(0) is not None:
                return self.now_ms
            self.now_ms += 500
        return None


@pytest.fixture
def log() -> Iterator[Log]:
    with create_log(f"memory://{uuid.uuid4()}", 1, [ENTRY]) as log:
        yield log


def test_a_digest_is_sent_when_it_is_computed(log: Log) -> None:
    worker = Worker()
    sender = worker.sender(log, DIGEST_INTERVAL)
    assert sender.due(0) is None
    worker.digests.append(DIGEST)
    entry = sender.due(0)
    assert entry is DIGEST
    sender.send(0, entry)
    assert log.end() == {0: 2}
    assert sender.due(0) is None


def test_a_mark_is_due_after_the_interval_if_records_came(log: Log) -> None:
    worker = Worker()
    sender = worker.sender(log, DigestInterval(100.0, 10))
    found = worker.first_due(sender, 200_000)
    assert found is not None
    assert 100_000 <= found <= 115_000
    worker.marked = (7, 0)  # it was read
    assert worker.first_due(sender, worker.now_ms + 400_000) is None
    worker.marked = (7, 1)
    assert worker.first_due(sender, worker.now_ms + 20_000) is not None


def test_the_mark_of_another_host_serves(log: Log) -> None:
    worker = Worker()
    sender = worker.sender(log, DigestInterval(100.0, 1000))
    assert worker.first_due(sender, 80_000) is None
    worker.marked = (5, 3)
    assert worker.first_due(sender, 175_000) is None
    assert worker.first_due(sender, 220_000) is not None


def test_a_mark_is_due_earlier_after_many_records(log: Log) -> None:
    worker = Worker()
    worker.marked = (0, 10)
    found = worker.first_due(worker.sender(log, DigestInterval(100.0, 10)), 200_000)
    assert found is not None
    assert 10_000 <= found <= 30_000


def test_nothing_is_due_where_it_is_off_or_the_rules_have_no_marks(log: Log) -> None:
    worker = Worker()
    worker.digests.append(DIGEST)
    assert worker.sender(log, DigestInterval(0.0, 1)).due(0) is None
    assert DigestSender(log, None, DIGEST_INTERVAL).due(0) is None
    worker.digests.clear()
    worker.marked = None
    assert worker.first_due(worker.sender(log, DigestInterval(10.0, 1)), 100_000) is None
