"""When a worker says what its tables are like."""

from __future__ import annotations

import random
import uuid

from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import create_log
from vacancy.streams.state_digests import DIGEST_INTERVAL, DigestInterval, DigestSender

(CELL,) = covering_cells(1)
ENTRY = NewRecord(CELL, b"{}")


class Clock:
    now_ms = 0

    def __call__(self) -> int:
        return self.now_ms


def test_it_is_due_after_a_time_or_after_records() -> None:
    clock = Clock()
    with create_log(f"memory://{uuid.uuid4()}", 1, [ENTRY]) as log:
        sender = DigestSender(
            log, lambda _: ENTRY, DigestInterval(100.0, 10), clock=clock, rng=random.Random(1)
        )
        sender.start(0)
        assert sender.due(0) is None
        clock.now_ms = 74_000
        assert sender.due(0) is None
        clock.now_ms = 126_000
        entry = sender.due(0)
        assert entry is ENTRY
        sender.send(0, entry)
        assert log.end() == {0: 2}
        assert sender.due(0) is None
        sender.start(0, 9)
        assert sender.due(0) is None
        sender.start(0, 1)
        assert sender.due(0) is ENTRY
        assert sender.due(0) is None  # once an interval, also where nothing was sent


def test_it_is_never_due_where_it_is_off_or_there_is_nothing_to_say() -> None:
    clock = Clock()
    with create_log(f"memory://{uuid.uuid4()}", 1, [ENTRY]) as log:
        for sender in (
            DigestSender(log, None, DIGEST_INTERVAL, clock=clock),
            DigestSender(log, lambda _: ENTRY, DigestInterval(0.0, 1), clock=clock),
            DigestSender(log, lambda _: None, DIGEST_INTERVAL, clock=clock),
        ):
            sender.start(0, 10**9)
            clock.now_ms += 10**9
            assert sender.due(0) is None
