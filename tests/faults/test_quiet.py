"""Log time advances without other events: holds end and deadlines pass."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from queue import SimpleQueue

import pytest

from tests.faults.site_on_disk import Site, claims_in, wait_for
from tests.support.logs.events_json import provider, reported
from vacancy.clients.admin.operator import confirm
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.placement import Outcome, PlacementRequest
from vacancy.resources.model.record import Record
from vacancy.resources.model.request import RequestGroup, RequestSpec

CELL = "auto-0"
ONE = RequestSpec(groups=(RequestGroup(resources={"VCPU": 1}),))
TICK = "vacancy.tick.v1"
HOLD_MS = 5_000
"""Of two holds, of which one is confirmed before it ends: also on a slow machine."""


def site_of(home: Path, *roots: str) -> Site:
    """A site of nodes with one VCPU each, and no worker."""
    site = Site.made(home)
    site.append(CELL, *(reported(root, [provider(root, VCPU=1)]) for root in roots))
    site.fold()
    return site


def types(records: list[Record]) -> list[str]:
    return [json.loads(record.value)["type"] for record in records]


@contextmanager
def placing(site: Site, seed: int, deadline_s: float) -> Iterator[SimpleQueue[Outcome]]:
    """A thread with a scheduler that places one request; the result is in the queue."""
    outcomes: SimpleQueue[Outcome] = SimpleQueue()

    def place() -> None:
        with (
            site.log() as log,
            Scheduler(
                log, site.store, installed_registry(), seed=seed, deadline_s=deadline_s, attempts=2
            ) as scheduler,
        ):
            for outcome in scheduler.place_many([ONE], timeout_s=60.0):
                outcomes.put(outcome)

    thread = threading.Thread(target=place)
    thread.start()
    try:
        yield outcomes
    finally:
        thread.join()


def test_a_hold_ends_without_other_events(tmp_path: Path) -> None:
    site = site_of(tmp_path, "node-1", "node-2")
    with (
        site.with_worker(),
        site.log() as log,
        Scheduler(log, site.store, installed_registry(), record_requests=False) as scheduler,
    ):
        started = time.time()
        kept = scheduler.place(PlacementRequest(ONE, consumer="kept", hold_ms=HOLD_MS))
        scheduler.place(PlacementRequest(ONE, consumer="gone", hold_ms=HOLD_MS))
        assert confirm(log, scheduler.reader, "kept") == [CELL]
        before = log.end()[0]
        wait_for(lambda: not scheduler.allocations("gone"))
        assert time.time() - started >= HOLD_MS / 1000
        assert set(types(log.read(0, before, 100))) == {TICK}
        assert scheduler.allocations("kept")
        (free,) = scheduler.candidates(ONE).candidates
        assert free.root != kept.root
    assert site.allocations().keys() == {"kept"}
    site.check_whole()


def test_a_deadline_that_passes_while_the_worker_is_down(tmp_path: Path) -> None:
    """Two schedulers claim the last VCPU. When their worker comes back, another host's worker has moved log time
    past the deadlines: both verdicts come and go within one commit, and still each knows its outcome."""
    site = site_of(tmp_path, "node-1")
    with placing(site, 1, 3.0) as one, placing(site, 2, 3.0) as other:
        sent = wait_for(lambda: found if len(found := list(claims_in(site.records()))) == 2 else None) or []
        deadline_ms = max(claim["deadline_ms"] for _, claim in sent)
        with site.worker(tmp_path / "elsewhere") as worker:
            worker.wait_ready()
            wait_for(lambda: site.records()[0][-1].timestamp_ms > deadline_ms)
        assert types(site.records()[0])[-1] == TICK
        assert one.empty()
        assert other.empty()
        with site.with_worker():
            outcomes = sorted((one.get(timeout=90), other.get(timeout=90)), key=lambda o: o.status)
            site.settle()
    lost, placed = outcomes
    assert (lost.status, lost.lost_claims) == ("no_valid_host", 1)  # it looked again, and the node was full
    assert (placed.status, placed.claim) == ("placed", sent[0][1]["id"])
    assert site.verdicts() == {}
    assert [row.claim for _, row in site.allocations()[placed.consumer]] == [placed.claim]
    report = site.check_whole()
    assert (report.claims, report.accepted, report.rejected, report.unverifiable) == (2, 1, 1, 2)


def test_after_a_claim_past_its_deadline_another_is_made(tmp_path: Path) -> None:
    site = site_of(tmp_path, "node-1", "node-2", "node-3")
    with (
        site.with_worker(),
        site.log() as log,
        Scheduler(log, site.store, installed_registry(), seed=1, deadline_s=2.0, attempts=2) as scheduler,
        closing(sqlite3.connect(site.file, isolation_level=None, check_same_thread=False)) as busy,
    ):
        before = scheduler.place(ONE)  # from now on it knows the log's clock
        busy.execute("BEGIN IMMEDIATE")  # another writer, who takes its time
        ends = threading.Timer(5.0, busy.execute, ("ROLLBACK",))
        ends.start()
        (outcome,) = scheduler.place_many([ONE], timeout_s=60.0)
        ends.join()
        site.settle()
    assert (outcome.status, outcome.lost_claims) == ("placed", 1)
    assert [row.claim for _, row in site.allocations()[outcome.consumer]] == [outcome.claim]
    assert site.allocations().keys() == {before.consumer, outcome.consumer}
    report = site.check_whole()
    late = 1 + before.lost_claims
    assert (report.claims, report.late, report.accepted) == (2 + late, late, 2)


@pytest.mark.parametrize("waits", [True, False])
def test_without_a_deadline_no_ticks_are_sent(tmp_path: Path, waits: bool) -> None:
    site = site_of(tmp_path, "node-1")
    with site.with_worker(), site.log() as log:
        if waits:
            with Scheduler(log, site.store, installed_registry(), deadline_s=0.5) as scheduler:
                scheduler.place(ONE)
            wait_for(lambda: not site.verdicts())
        site.settle()
        before = log.end()
        time.sleep(2.0)
        assert log.end() == before
