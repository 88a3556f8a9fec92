"""Claims whose outcome is not known: found out by id, by consumer, by deadline; and a log that goes silent."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.logs.events_json import claim, claims
from tests.support.logs.followed_log import FollowedLog, followed_log, wait_for
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.placement import Outcome, PlacementRequest
from vacancy.clients.scheduler.settlement import OpenClaim, settle
from vacancy.resources.model.errors import ClaimLost, LogUnavailable
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.request import RequestGroup, RequestSpec
from vacancy.streams.log import Log, Receipt

THREE = RequestSpec(groups=(RequestGroup(resources={"VCPU": 3}),))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FollowedLog]:
    with followed_log(tmp_path) as made:
        made.report("node-1")
        yield made


def sent(site: FollowedLog, consumer: str, deadline_ms: int) -> Outcome:
    """What a scheduler knows of a claim that it may have sent."""
    return Outcome(
        "unknown", "r", consumer, cell=cell_of(site), claim=f"claim-{consumer}", deadline_ms=deadline_ms
    )


def cell_of(site: FollowedLog) -> str:
    site.reader.catch_up()
    ((cell),) = (one.decode() for one in site.reader.view.cells)
    return cell


def arrive(site: FollowedLog, outcome: Outcome, amount: int = 3) -> None:
    """The claim of that outcome lands in the log."""
    wire = claim(outcome.claim, outcome.consumer, "node-1", {"VCPU": amount}, outcome.deadline_ms)
    (landed,) = site.log.append([NewRecord(outcome.cell, claims(wire))])
    wait_for(site.reader, {landed.partition: landed.offset + 1})


def soon_ms(seconds: float) -> int:
    return int((time.time() + seconds) * 1000)


def test_an_accepted_claim_is_placed(site: FollowedLog) -> None:
    with site.scheduler() as scheduler:
        placed = scheduler.place(PlacementRequest(THREE, consumer="i-1"))
        for known in (placed, "i-1"):
            found = scheduler.settle(known, timeout_s=0.0)
            assert (found.status, found.claim, found.cell) == ("placed", placed.claim, placed.cell)


def test_a_rejected_claim_is_void_at_once(site: FollowedLog) -> None:
    outcome = sent(site, "i-1", soon_ms(60))
    arrive(site, outcome, amount=9)
    with site.scheduler() as scheduler:
        found = scheduler.settle(outcome, timeout_s=0.0)
    assert found.status == "void"
    assert "no room" in found.reason
    assert "asked 9, available 8" in found.reason


def test_what_was_given_back_is_void(site: FollowedLog) -> None:
    with site.scheduler() as scheduler:
        placed = scheduler.place(PlacementRequest(THREE, consumer="i-1"))
        scheduler.release([placed])
        wait_for(site.reader, site.log.end())
        found = scheduler.settle(placed, timeout_s=0.0)
    assert (found.status, found.reason) == ("void", "it was released since")


def test_a_claim_that_never_came_is_open_until_its_deadline_and_never_accepted_after(
    site: FollowedLog,
) -> None:
    """Nothing else happens on this log: log time passes because it is asked for."""
    outcome = sent(site, "i-1", soon_ms(0.7))
    with site.scheduler() as scheduler:
        open_yet = scheduler.settle(outcome, timeout_s=0.0)
        assert (open_yet.status, list(open_yet.waiting_for or ())) == ("unknown", [landing(site, outcome)])
        found = scheduler.settle(outcome, timeout_s=20.0)
        assert (found.status, "deadline" in found.reason) == ("void", True)
        arrive(site, outcome)
        assert scheduler.allocations("i-1") == []
        assert scheduler.settle(outcome, timeout_s=0.0).status == "void"


def landing(site: FollowedLog, outcome: Outcome) -> int:
    (landed,) = site.log.append([NewRecord(outcome.cell, b"not read")])
    return landed.partition


def test_who_knows_the_consumer_only_waits_for_the_latest_deadline(site: FollowedLog) -> None:
    with Scheduler(site.log, site.store, site.registry, deadline_s=0.7) as again:
        started = time.monotonic()
        assert again.settle("i-1", timeout_s=0.0).status == "unknown"
        assert again.settle("i-1", timeout_s=20.0).status == "void"
        assert time.monotonic() - started > 0.6
    arrives = sent(site, "i-2", soon_ms(60))
    with Scheduler(site.log, site.store, site.registry, deadline_s=60.0) as again:
        arrive(site, arrives)
        assert again.settle("i-2", timeout_s=0.0).claim == arrives.claim


def test_another_claim_of_the_same_consumer_is_not_taken_for_it(site: FollowedLog) -> None:
    with site.scheduler() as scheduler:
        placed = scheduler.place(PlacementRequest(THREE, consumer="i-1"))
        other = replace(placed, claim="another")
        found = scheduler.settle(other, timeout_s=0.0)
    assert found.status == "unknown"
    asked = OpenClaim("i-1", 0, "another", placed.cell)
    assert settle(site.reader, asked).status == "void"


class Silent:
    """A log that does not answer while it is `silent`."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.partitions, self.clock = log.partitions, log.clock
        self.read, self.end, self.name = log.read, log.end, log.name
        self.silent = True

    def send(self, entries: Sequence[NewRecord], timeout_s: float = 10.0) -> Receipt:
        if self.silent:
            raise LogUnavailable("The log does not answer", where="here", do="wait")
        return self._log.send(entries)


def test_what_cannot_be_sent_is_lost_and_nothing_is_left_of_it(site: FollowedLog) -> None:
    log = Silent(site.log)
    with Scheduler(log, site.store, site.registry, seed=1) as scheduler:  # type: ignore[arg-type]
        before = site.log.end()
        with pytest.raises(ClaimLost, match="no claim was sent: The log does not answer"):
            scheduler.place(PlacementRequest(THREE, consumer="i-1", id="first"))
        outcomes = list(scheduler.place_many([THREE] * 4))
        assert {outcome.status for outcome in outcomes} == {"lost"}
        assert scheduler.settle(outcomes[0], timeout_s=0.0).status == "void"  # it has no claim
        assert site.log.end() == before
        log.silent = False
        assert [outcome.status for outcome in scheduler.place_many([THREE] * 3)] == [
            "placed",
            "placed",
            "no_valid_host",
        ]
