"""A store is compared with its log, and claims are audited whose verdicts are long gone."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs import events_json
from tests.support.logs.events_json import LOG, Tape
from tests.support.logs.followed_log import FollowedLog, followed_log, wait_for
from tests.support.logs.tape_log import TapeLog
from vacancy.clients.inspection.lookup import NotFound, provider_cell, show_claim
from vacancy.clients.replay_tool import verify as module
from vacancy.clients.replay_tool.verify import Verification, verify
from vacancy.projections.store.store import Store
from vacancy.resources.fold.log_time import LEAP_MS_MAX
from vacancy.resources.model import events
from vacancy.resources.model.errors import StoreMismatch

SPAN_MS = 20


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FollowedLog]:
    monkeypatch.setattr(module, "_SPAN_MS", SPAN_MS)
    with followed_log(tmp_path) as site:
        site.report("node-1")
        yield site


def claim(site: FollowedLog, name: str, *, vcpus: int = 1, deadline_ms: int = 60_000) -> events.Claim:
    allocation = events.Allocation(provider="node-1", resources={"VCPU": vcpus})
    now = int(time.time() * 1000)
    return events.Claim(id=name, consumer=name, allocations=(allocation,), deadline_ms=now + deadline_ms)


def send(site: FollowedLog, *claims: events.Claim) -> None:
    data = events.ClaimsRequestedData(claims=claims)
    event = events.ClaimsRequested(id=uuid.uuid4().hex, source="/test", data=data)
    site.append(provider_cell(site.reader, "node-1"), event)


def cancel(site: FollowedLog, what: events.Claim) -> None:
    release = events.Release(consumer=what.consumer, claim=what.id, deadline_ms=what.deadline_ms)
    data = events.ConsumersReleasedData(releases=(release,))
    event = events.ConsumersReleased(id=uuid.uuid4().hex, source="/test", data=data)
    site.append(provider_cell(site.reader, "node-1"), event)


def pass_time(site: FollowedLog, ms: int) -> None:
    time.sleep(ms / 1000)
    site.append(provider_cell(site.reader, "node-1"), events.Tick(id=uuid.uuid4().hex, source="/test"))


def verified(site: FollowedLog) -> Verification:
    wait_for(site.reader, site.log.end())
    return verify(site.log, site.store, site.registry)


def test_claims_are_audited_when_their_verdicts_are_gone(site: FollowedLog) -> None:
    send(site, claim(site, "fits", deadline_ms=3000), claim(site, "does-not", vcpus=9, deadline_ms=3000))
    assert show_claim(site.reader, "fits").accepted
    pass_time(site, 3050)
    with pytest.raises(NotFound):
        show_claim(site.reader, "fits")
    found = verified(site)
    assert found.ok
    assert found.digest_rebuilt == found.digest_store
    assert (found.audit.accepted, found.audit.rejected, found.audit.unverifiable) == (1, 1, 0)


def test_cancelled_claims_have_the_verdict_they_had(site: FollowedLog) -> None:
    comes = claim(site, "comes")
    never, late = (claim(site, name, deadline_ms=200) for name in ("never", "late"))
    for one in (comes, never, late):
        cancel(site, one)
    pass_time(site, SPAN_MS + 5)
    send(site, comes)
    pass_time(site, 250)
    send(site, late)
    found = verified(site)
    assert found.audit.problems == []
    assert (found.audit.rejected, found.audit.late) == (1, 1)


def test_a_cancellation_that_still_waits_is_no_verdict_too_many(site: FollowedLog) -> None:
    cancel(site, claim(site, "may-yet-come"))
    assert verified(site).audit.problems == []


def verified_tape(tape: Tape, store: Path) -> Verification:
    with Store(store, log=LOG, partitions=1, registry=REGISTRY) as tables:
        tables.apply(0, tape.records[0])
    return verify(TapeLog(tape.records), store, REGISTRY)


def test_verdicts_are_seen_after_one_stamp_that_is_far_ahead(tmp_path: Path) -> None:
    """Commits are bounded by log time: all later stamps are below that one, and log time moves on with them."""
    tape = Tape()
    cell, now_ms = tape.cells[0], tape.now_ms
    tape.now_ms += 10**9
    tape.append(cell, events_json.event("tick.v1", {}))
    tape.now_ms = now_ms + LEAP_MS_MAX
    tape.append(cell, events_json.claims(events_json.claim("claim", "c", "n0", {"VCPU": 1}, tape.now_ms)))
    tape.now_ms += module._SPAN_MS + 1
    tape.append(cell, events_json.event("tick.v1", {}))
    found = verified_tape(tape, tmp_path)
    assert (found.audit.rejected, found.audit.unverifiable) == (1, 0)


def test_a_cancelled_claim_that_comes_and_expires_within_one_commit(tmp_path: Path) -> None:
    """The cancellation has a later deadline than the claim, whose verdict no commit shows."""
    tape = Tape()
    cell, now_ms = tape.cells[0], tape.now_ms
    tape.append(cell, events_json.released("consumer", "claim", now_ms + 400_000))
    tape.now_ms += module._SPAN_MS + 1
    tape.append(
        cell, events_json.claims(events_json.claim("claim", "another", "n0", {"VCPU": 1}, tape.now_ms))
    )
    tape.now_ms += 1
    tape.append(cell, events_json.event("tick.v1", {}))
    found = verified_tape(tape, tmp_path)
    assert found.audit.problems == []
    assert (found.audit.rejected, found.audit.unverifiable) == (1, 1)


def test_the_log_goes_on_while_it_is_verified(site: FollowedLog) -> None:
    send(site, claim(site, "first"))
    seen: list[tuple[int, int]] = []

    def meanwhile(done: int, total: int) -> None:
        seen.append((done, total))
        if done == total:
            send(site, claim(site, "second"))

    wait_for(site.reader, site.log.end())
    found = verify(site.log, site.store, site.registry, progress=meanwhile)
    assert found.ok
    assert found.audit.claims == 1
    assert seen[-1][0] == seen[-1][1] == sum(found.position.values())


def test_another_log_is_refused(site: FollowedLog, tmp_path: Path) -> None:
    with followed_log(tmp_path / "other") as other, pytest.raises(StoreMismatch, match="this is log"):
        verify(other.log, site.store, site.registry)
