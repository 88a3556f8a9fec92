"""Numbers of signatures, publishers that sign, and the log that signs for operators."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.logs.events_json import event
from tests.support.logs.node_logs import ROOT, UnreliableLog, memory_log, node, records
from tests.support.logs.signing import key_of, node_keys, policy, signed
from vacancy.clients.publisher.outbox import Outbox
from vacancy.clients.publisher.publisher import Publisher
from vacancy.clients.publisher.running import RunningReporter
from vacancy.clients.signing.operator_log import OperatorLog
from vacancy.clients.signing.signer import EventSigner
from vacancy.resources.model.errors import LogUnavailable
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.signatures import Signature, signed_message, split_signature, verifies
from vacancy.streams.log import Log

CELL = "auto-0"
KEY = key_of("node")


def signature(value: bytes) -> Signature:
    found = split_signature(value)
    assert found is not None
    return found


def is_right(value: bytes, log: str, cell: str = CELL) -> bool:
    found = signature(value)
    return verifies(KEY.public, found.raw, signed_message(log, cell, found.key, found.number, found.body))


def test_numbers_rise_also_where_the_clock_goes_back() -> None:
    times = iter((1_000, 1_000, 500, 2_000))
    signer = EventSigner(KEY, lambda: "log", last=7, clock=lambda: next(times))
    found = [signature(signer.sign(b'{"a":1}', "c")).number for _ in range(4)]
    assert found == [1_000_000, 1_000_001, 1_000_002, 2_000_000]


def test_a_clock_that_is_centuries_ahead_is_not_believed() -> None:
    times = iter((10**14, 2_000, 1_000))
    signer = EventSigner(KEY, lambda: "log", last=7, clock=lambda: next(times))
    found = [signature(signer.sign(b'{"a":1}', "c")).number for _ in range(3)]
    assert found == [8, 2_000_000, 2_000_001]


def test_the_log_is_asked_for_once_and_its_error_is_raised() -> None:
    asked: list[int] = []

    def log() -> str:
        asked.append(1)
        if len(asked) == 1:
            raise LogUnavailable("away")
        return "log"

    signer = EventSigner(KEY, log)
    with pytest.raises(LogUnavailable):
        signer.sign(b'{"a":1}', "c")
    assert signer.last == 0
    signer.sign(b'{"a":1}', "c")
    signer.sign(b'{"a":1}', "c")
    assert len(asked) == 2


def publisher(log: Log | UnreliableLog, outbox: Outbox, real: Log, clock_ms: int) -> Publisher:
    signer = EventSigner(KEY, lambda: real.identity().log, last=outbox.last_signed, clock=lambda: clock_ms)
    return Publisher(log, ROOT, CELL, outbox, signer=signer)


def test_a_publisher_signs_what_it_sends_and_sends_again(tmp_path: Path) -> None:
    with memory_log() as real, Outbox(tmp_path / "outbox.db") as outbox:
        log = UnreliableLog(real)
        log.lose_answers = True
        made = publisher(log, outbox, real, 1_000)
        made.report(node(512))
        made.changed(node(1024))
        with pytest.raises(LogUnavailable):
            made.flush(1.0)
        log.lose_answers = False
        made.flush(1.0)
        # Another start, on a host whose clock was set back.
        again = publisher(log, outbox, real, 1)
        again.report(node(512))
        again.flush(1.0)
        values = [record.value for record in records(real)[1:]]
        assert all(is_right(value, real.identity().log) for value in values)
        assert not is_right(values[0], "another-log")
        assert not is_right(values[0], real.identity().log, "another-cell")
        found = [signature(value).number for value in values]
        assert found == sorted(set(found))
        assert signature(values[0]).body == signature(values[2]).body
        assert outbox.last_signed == found[-1]


def test_the_numbers_outlive_a_disk_that_fails_and_the_retirement(tmp_path: Path) -> None:
    file = tmp_path / "outbox.db"
    with memory_log() as real:
        with Outbox(file) as outbox:
            made = publisher(real, outbox, real, 5_000)
            made.report(node(512))
            made.retire()
            made.flush(1.0)
        with Outbox(file) as outbox:
            assert outbox.last_signed == 5_000_001
            assert outbox.newest_incarnation is None


def test_what_a_node_runs_is_signed_too() -> None:
    with memory_log() as real:
        signer = EventSigner(KEY, lambda: real.identity().log)
        RunningReporter(real, ROOT, CELL, signer=signer).report(["vm-1"])
        assert is_right(records(real)[-1].value, real.identity().log)


def test_a_log_signs_what_operators_say_and_nothing_else() -> None:
    with memory_log() as real:
        log = OperatorLog(real, KEY)
        of_operators = [
            event("facts.set.v1", {}),
            event("facts.set.v2", {}),
            event("node.adopted.v1", {}),
            event("node.renamed.v1", {}),
            event("node.retired.v2", {}),
            event("transaction.requested.v1", {}),
            policy(1, ("node",)),
            node_keys("n1", 1, "node"),
        ]
        others = [
            event("node.reported.v1", {}),
            event("node.retired.v1", {}),
            event("claims.requested.v1", {}),
            b"no event",
            signed(event("node.heartbeat.v1", {}), "other", 1, cell=CELL),
        ]
        log.append([NewRecord(CELL, value) for value in (*of_operators, *others)])
        log.send([NewRecord(CELL, of_operators[0])]).wait()
        values = [record.value for record in records(real)[1:]]
        assert all(is_right(value, real.identity().log) for value in (*values[:8], values[-1]))
        assert values[8:-1] == others
        found = [signature(value).number for value in (*values[:8], values[-1])]
        assert found == sorted(set(found))
        assert (log.start(), log.end(), log.identity()) == (real.start(), real.end(), real.identity())
        assert log.read(0, 1, 1)[0].value == values[0]
