"""A scheduler is killed between its claim and the verdict: the claim is decided once, and the next scheduler settles it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from tests.faults.site_on_disk import Site, catch_up_with, claims_in, spawn, wait_for
from tests.support.logs.events_json import claim, claims, provider, reported
from vacancy.clients.inspection.lookup import show_claim, show_request
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.runtime.child_process import watch_parent
from vacancy.clients.scheduler import log_writer
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.placement import Outcome, PlacementRequest
from vacancy.resources.model.errors import ConsumerExists
from vacancy.resources.model.request import RequestGroup, RequestSpec

CELL = "auto-0"
THREE = RequestSpec(groups=(RequestGroup(resources={"VCPU": 3}),))
ONE = RequestSpec(groups=(RequestGroup(resources={"VCPU": 1}),))


def request(consumer: str, spec: RequestSpec = THREE) -> PlacementRequest:
    return PlacementRequest(spec, consumer=consumer, id=f"request-{consumer}")


def place_one(site: Site, consumer: str, timeout_s: float, said: Connection) -> None:
    """Claim for a consumer, tell what is known after a while, and live on."""
    watch_parent(lambda: said.close())
    with site.log() as log, Scheduler(log, site.store, installed_registry()) as scheduler:
        said.send(list(scheduler.place_many([request(consumer)], timeout_s=timeout_s)))
        time.sleep(600)


def place_and_die(site: Site, consumer: str, said: Connection) -> None:
    """Place, answer, and be gone before the outcome of the request is written."""
    log_writer.BACKGROUND_WAIT_S = 600.0  # type: ignore[misc]  # on a slow machine it would be written before
    with site.log() as log, Scheduler(log, site.store, installed_registry()) as scheduler:
        said.send(scheduler.place(request(consumer)))
        os._exit(9)


def settle(site: Site, consumer: str, said: Connection) -> None:
    """What became of a consumer that an earlier scheduler claimed for, once the store has read what it sent; where
    nothing did, it is placed."""
    with site.log() as log, Scheduler(log, site.store, installed_registry()) as scheduler:
        said.send(None)
        catch_up_with(scheduler.reader, log.end())
        held = scheduler.allocations(consumer)
        if held:
            ((_, row),) = held
            said.send((row.claim, show_claim(scheduler.reader, row.claim).accepted))
        else:
            said.send(scheduler.place(request(consumer, ONE), timeout_s=60.0))


@contextmanager
def running(target: Callable[..., None], *words: Any) -> Iterator[Connection]:
    """Run a process and kill it at the end; yields the connection for its messages."""
    ours, theirs = spawn.Pipe(duplex=False)
    process = spawn.Process(target=target, args=(*words, theirs))
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()


def heard(said: Connection) -> Any:
    assert said.poll(90)
    return said.recv()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site of one node with 4 VCPUs, and no worker."""
    made = Site.made(tmp_path)
    made.append(CELL, reported("node-1", [provider("node-1", VCPU=4)]))
    made.fold()
    return made


def die_after_claiming(site: Site, consumer: str) -> dict[str, Any]:
    """Let a scheduler claim and kill it before there is a verdict; returns its claim."""
    with running(place_one, site, consumer, 600.0):
        return wait_for(lambda: next((c for c in claims_of(site) if c["consumer"] == consumer), None)) or {}


def claims_of(site: Site) -> list[dict[str, Any]]:
    return [claim for _, claim in claims_in(site.records())]


def test_the_next_scheduler_finds_the_claim_and_does_not_claim_again(site: Site) -> None:
    sent = die_after_claiming(site, "i-1")
    assert site.verdicts() == {}
    with running(settle, site, "i-1") as said:
        assert heard(said) is None  # it is there before the worker is
        with site.with_worker():
            assert heard(said) == (sent["id"], True)
            site.settle()
    assert claims_of(site) == [sent]
    ((_, row),) = site.allocations()["i-1"]
    assert [part.grant for part in row.parts] == [3]
    with site.reader() as reader:
        left_open = show_request(reader, "request-i-1")  # nobody closed it, and it says what was asked
    assert (left_open.outcome, left_open.spec["groups"][0]["resources"]) == ("", {"VCPU": 3})
    assert site.check_whole().accepted == 1


def test_a_scheduler_that_dies_after_its_answer_leaves_the_placement_and_an_open_request(site: Site) -> None:
    with site.with_worker():
        with running(place_and_die, site, "i-1") as said:
            outcome = heard(said)
            with pytest.raises(EOFError):
                said.recv()  # it is gone
        site.settle()
    ((_, row),) = site.allocations()["i-1"]
    assert (outcome.status, row.claim) == ("placed", outcome.claim)
    with site.reader() as reader:
        assert show_request(reader, "request-i-1").outcome == ""
    with site.log() as log, Scheduler(log, site.store, installed_registry()) as scheduler:
        assert scheduler.settle("i-1").claim == outcome.claim
    assert site.check_whole().accepted == 1


def test_a_second_claim_for_the_same_consumer_is_rejected(site: Site) -> None:
    die_after_claiming(site, "i-1")
    with site.with_worker(), site.log() as log, Scheduler(log, site.store, installed_registry()) as scheduler:
        site.settle()
        with pytest.raises(ConsumerExists, match="consumer exists"):
            scheduler.place(request("i-1", ONE))
    ((_, row),) = site.allocations()["i-1"]
    assert [part.grant for part in row.parts] == [3]
    report = site.check_whole()
    assert (report.accepted, report.rejected) == (1, 1)


def test_a_consumer_whose_claim_was_rejected_is_placed_again(site: Site) -> None:
    first, second = die_after_claiming(site, "i-1"), die_after_claiming(site, "i-2")
    with site.with_worker(), running(settle, site, "i-2") as said:
        heard(said)
        outcome = heard(said)
        assert (outcome.status, outcome.root) == ("placed", "node-1")
        site.settle()
    verdicts = site.verdicts()
    assert verdicts[first["id"]].accepted
    lost = verdicts[second["id"]]
    assert (lost.accepted, lost.reason, lost.asked, lost.available) == (False, "no_room", 3, 1)
    assert lost.taken == verdicts[first["id"]].offset
    ((_, row),) = site.allocations()["i-2"]
    assert row.claim == outcome.claim
    assert [part.grant for part in row.parts] == [1]
    report = site.check_whole()
    assert (report.accepted, report.rejected) == (2, 1)


def test_a_claim_of_unknown_outcome_can_be_cancelled(site: Site) -> None:
    with running(place_one, site, "i-1", 3.0) as said:
        (outcome,) = heard(said)
    assert (outcome.status, outcome.claim) == ("unknown", claims_of(site)[0]["id"])
    with site.log() as log, Scheduler(log, site.store, installed_registry()) as scheduler:
        scheduler.release([outcome])
    with site.with_worker():
        site.settle()
    assert site.verdicts()[outcome.claim].accepted
    assert site.allocations() == {}
    assert site.check_whole().released == 1


def test_a_claim_that_arrives_after_its_cancellation_is_never_granted(site: Site) -> None:
    """The claim's record was in flight when its scheduler was killed, and arrives after the release."""
    with site.with_worker():
        now_ms = int(time.time() * 1000)
        soon, late = (
            Outcome(
                "unknown",
                "r",
                consumer,
                cell=CELL,
                root="node-1",
                claim=f"claim-{consumer}",
                deadline_ms=until,
            )
            for consumer, until in (("soon", now_ms + 300_000), ("late", now_ms + 2_000))
        )
        with site.log() as log, Scheduler(log, site.store, installed_registry()) as scheduler:
            scheduler.release([soon, late])
        site.settle()
        assert {verdict.reason for verdict in site.verdicts().values()} == {"cancelled"}
        # Log time goes on by itself, and takes away the cancellation that nothing can come for any more.
        wait_for(lambda: site.verdicts().keys() == {soon.claim})
        for one in (soon, late):
            sent = claim(one.claim, one.consumer, "node-1", {"VCPU": 1}, one.deadline_ms)
            site.append(CELL, claims(sent))
        site.settle()
    verdict = site.verdicts()[soon.claim]
    assert (verdict.accepted, verdict.reason) == (False, "cancelled")
    assert verdict.offset >= 0  # it is on the claim now, not on what did not come
    assert late.claim not in site.verdicts()
    assert site.allocations() == {}
    report = site.check_whole()
    assert (report.rejected, report.late) == (1, 1)
