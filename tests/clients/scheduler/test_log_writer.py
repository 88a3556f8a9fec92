"""What a scheduler writes of its requests: in few records, each where its requests live, and after the answer."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from threading import enumerate as running_threads
from typing import Any

import pytest
from msgspec import Raw

from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.clients.scheduler import log_writer as module
from vacancy.clients.scheduler.log_writer import LogWriter, RequestRecords, claim_batches
from vacancy.resources.model.encoding.event_encoding import (
    AllocationWire,
    ClaimWire,
    ClosedRequestWire,
    MembershipWire,
    PredicateWire,
)
from vacancy.resources.model.errors import LogUnavailable
from vacancy.resources.model.partitioner import covering_cells, partition_for
from vacancy.resources.model.record import NewRecord
from vacancy.streams.clocks.log_clock import LogClock
from vacancy.streams.log import SEND_S, Log, Receipt

SPEC = Raw(b'{"groups": []}')


@pytest.mark.parametrize(
    ("predicates", "memberships", "asks", "sizes"),
    [
        (0, 0, 1, [64, 64, 12]),
        (16, 2, 32, [64, 64, 12]),
        (100, 0, 1, [10] * 14),
        (1, 16, 1, [8] * 17 + [4]),
        (1, 1, 200, [10] * 14),
        (1024, 1, 1, [1] * 140),
        (5000, 1, 1, [1] * 140),  # a claim that is over a limit by itself takes no other with it
    ],
)
def test_claims_share_a_record_within_its_limits(
    predicates: int, memberships: int, asks: int, sizes: list[int]
) -> None:
    claims = [
        ClaimWire(
            f"{number}",
            "c",
            1,
            [AllocationWire("n", {f"CUSTOM_{n}": 1 for n in range(asks)})],
            predicates=[PredicateWire("n", "trait", "T")] * predicates,
            memberships=[MembershipWire("b/g", "affinity")] * memberships,
        )
        for number in range(140)
    ]
    batches = list(claim_batches(claims))
    assert [len(batch) for batch in batches] == sizes
    assert [claim for batch in batches for claim in batch] == claims
    assert list(claim_batches([])) == []


def test_requests_that_come_together_share_a_record_and_homes_share_the_requests() -> None:
    records = RequestRecords("s", 4, recording=True)
    homes, seen = Counter[int](), set[str]()
    for _ in range(64):
        ids = [records.received(None, SPEC)[0] for _ in range(16)]
        (entry,) = records.take(60.0)
        assert [one["id"] for one in json.loads(entry.value)["data"]["requests"]] == ids
        (home,) = {partition_for(id_, 4) for id_ in ids}
        assert entry.key == covering_cells(4)[home]
        homes[home] += len(ids)
        seen.update(ids)
    assert len(seen) == 64 * 16
    assert len(homes) == 4
    assert min(homes.values()) > 128, "far less than the quarter that is 256"


def test_a_request_goes_to_the_partition_that_is_preferred() -> None:
    records = RequestRecords("s", 4, recording=True)
    preferred = 0
    for number in range(200):
        near = number * 7 % 3 + 1
        id_, home = records.received(None, SPEC, near=near)
        assert home == partition_for(id_, 4)
        preferred += home == near
        (entry,) = records.take(60.0)
        assert entry.key == covering_cells(4)[home]
    # Ids are random: in about 1 of 100 times none of `PREFERRED_AT_ONCE` new ids belongs to the partition.
    assert preferred > 180


def test_of_many_partitions_the_preferred_one_is_not_looked_for_long() -> None:
    records = RequestRecords("s", 1000, recording=True)
    for _ in range(500):
        id_, home = records.received(None, SPEC, near=999)
        assert home == partition_for(id_, 1000)
        records.take(60.0)
    assert all(len(ids) <= records._ids.AT_ONCE_MAX for ids in records._ids._waiting)


def test_requests_with_ids_of_their_own_go_to_their_homes() -> None:
    records = RequestRecords("s", 3, recording=True)
    for n in range(30):
        id_, home = records.received(f"instance-{n}", SPEC)
        assert (id_, home) == (f"instance-{n}", partition_for(id_, 3))
    entries = records.take(60.0)
    assert len(entries) == 3
    for entry in entries:
        for one in json.loads(entry.value)["data"]["requests"]:
            assert covering_cells(3)[partition_for(one["id"], 3)] == entry.key


def test_records_are_due_when_there_are_some_to_take(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    records = RequestRecords("s", 4, recording=True)

    def take(waits_s: float) -> int:
        due = records.is_due(waits_s)
        taken = records.take(waits_s)
        assert due == bool(taken)
        return len(taken)

    assert take(0.0) == 0
    id_, home = records.received(None, SPEC)
    assert take(1.0) == 1
    records.closed(home, ClosedRequestWire(id_, "placed"))
    assert take(1.0) == 0, "an outcome waits for others"
    now += 1.0
    assert take(1.0) == 1
    for number in range(64):
        records.closed(home, ClosedRequestWire(f"r{number}", "placed"))
    assert take(1.0) == 1, "outcomes that fill a record do not wait"


def test_nothing_is_gathered_where_requests_are_not_recorded() -> None:
    records = RequestRecords("s", 8, recording=False)
    ids = {records.received(None, SPEC)[0] for _ in range(100)}
    records.closed(0, closed("r"))
    assert len(ids) == 100
    assert not records
    assert records.take(0.0) == []


def closed(id_: str) -> ClosedRequestWire:
    return ClosedRequestWire(id_, "placed", Raw(b"{}"))


def events_in(log: Log) -> list[tuple[str, list[str]]]:
    """(type, ids of requests or claims) of each record, without the log's openings."""
    found: list[tuple[str, list[str]]] = []
    for partition in range(log.partitions):
        for record in log.read(partition, 1, 1000):
            event: dict[str, Any] = json.loads(record.value)
            (many,) = event["data"].values()
            found.append((event["type"].split(".")[1], [one["id"] for one in many]))
    return found


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return new_log(f"sqlite://{tmp_path}/log.db", 1, installed_registry())


def test_an_outcome_is_sent_with_a_later_claim(log: Log) -> None:
    with log:
        writer = LogWriter(log, "s", record_requests=True)
        writer.closed(0, closed("r-1"))
        time.sleep(0.11)  # it waits for others for 0.1 s
        writer.send({"auto-0": [ClaimWire("c", "c", 1, [AllocationWire("n", {"VCPU": 1})])]})
        assert events_in(log) == [("requests", ["r-1"]), ("claims", ["c"])]
        writer.close()


def test_an_outcome_that_no_claim_takes_along_is_sent_in_the_background(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKGROUND_WAIT_S", 2.0)  # long enough to see that it waits
    with log:
        writer = LogWriter(log, "s", record_requests=True)
        writer.closed(0, closed("r-1"))
        writer.send_later()
        assert events_in(log) == []
        until = time.monotonic() + 90
        while not events_in(log):
            assert time.monotonic() < until
            time.sleep(0.01)
        while any(thread.name == "vacancy-log-writer" for thread in running_threads()):
            assert time.monotonic() < until, "nothing is left to send, and the thread goes on"
            time.sleep(0.01)
        writer.closed(0, closed("r-2"))
        writer.send_later()
        writer.close()
        assert events_in(log) == [("requests", ["r-1"]), ("requests", ["r-2"])]


class AwayLog(Log):
    """A log that does not answer."""

    url = name = "away"
    partitions = 1
    clock = LogClock("away")

    def send(self, entries: Sequence[NewRecord], timeout_s: float = SEND_S) -> Receipt:
        raise LogUnavailable("it is away", where=self.name, do="wait")

    def read(self, partition: int, offset: int, limit: int, timeout_s: float = 0.0) -> Any:
        raise NotImplementedError

    def start(self) -> dict[int, int]:
        raise NotImplementedError

    def end(self) -> dict[int, int]:
        raise NotImplementedError

    def close(self) -> None:
        pass


def test_a_failure_in_the_background_is_logged_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    writer = LogWriter(AwayLog(), "s", record_requests=True)
    writer.closed(0, closed("r-1"))
    with caplog.at_level(logging.WARNING):
        writer.send_later()
        until = time.monotonic() + 90
        while not caplog.records:
            assert time.monotonic() < until
            time.sleep(0.01)
        writer.close(timeout_s=0.1)
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "outcomes of requests are not in the log yet",
        "the log has not confirmed all outcomes of requests; the outcomes are valid",
    ]
