"""Operators raise the version of a log's rules, and every partition follows."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname

import pytest

from tests.support.logs.followed_log import FollowedLog, followed_log, wait_for
from tests.support.logs.rules_versions import LATER_BUILD, LATER_VERSION
from vacancy.clients.admin.rules import (
    RaiseOptions,
    RulesInForce,
    activate_classes,
    activate_rules,
    show_rules,
    withdraw_proposals,
)
from vacancy.clients.inspection.lookup import show_claim, show_request
from vacancy.clients.runtime.bootstrap import answer_entry
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store.store import Store
from vacancy.resources.classes.quantity import Quantity
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.rules_versions import RULES_VERSION, RULES_VERSIONS
from vacancy.resources.model import events
from vacancy.resources.model.errors import Halt, OutcomeUnknown, UsageError, VacancyError
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord, Record
from vacancy.resources.model.request import RequestGroup, RequestSpec
from vacancy.streams.worker.embedded_worker import EmbeddedWorker

SPEC = RequestSpec(groups=(RequestGroup(resources={"VCPU": 2}),))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FollowedLog]:
    with followed_log(tmp_path, rules_version=1) as site:
        yield site


def versions(site: FollowedLog) -> list[int]:
    return [one.version for one in show_rules(site.reader).partitions]


def activate_in(site: FollowedLog, partition: int, version: int) -> None:
    event = events.RulesActivated(id=uuid.uuid4().hex, source="/test", data=events.Rules(version=version))
    site.append(covering_cells(2)[partition], event)


def test_a_new_log_follows_the_newest_rules(tmp_path: Path) -> None:
    with followed_log(tmp_path) as site:
        found = show_rules(site.reader)
        assert found.partitions == (
            RulesInForce(0, 1, RULES_VERSION, ()),
            RulesInForce(1, 1, RULES_VERSION, ()),
        )
        assert [one.version for one in found.supported] == [one.version for one in RULES_VERSIONS]
        assert found.unread == ()


def test_every_partition_is_raised_and_the_second_time_nothing_is_sent(site: FollowedLog) -> None:
    assert versions(site) == [1, 1]
    assert activate_rules(site.log, site.reader, 2).raised == (0, 1)
    assert versions(site) == [2, 2]
    end = site.log.end()
    assert activate_rules(site.log, site.reader, 2).raised == ()
    assert site.log.end() == end


def test_an_activation_that_was_cut_short_is_completed(site: FollowedLog) -> None:
    activate_in(site, 1, 2)
    assert versions(site) == [1, 2]
    assert activate_rules(site.log, site.reader, 2).raised == (0,)
    assert versions(site) == [2, 2]


def test_a_version_that_this_build_does_not_support_is_refused(site: FollowedLog) -> None:
    end = site.log.end()
    for version in (0, RULES_VERSION + 1):
        with pytest.raises(UsageError, match=f"supports rules versions 1 to {RULES_VERSION}, not {version}"):
            activate_rules(site.log, site.reader, version)
    assert site.log.end() == end


def test_rules_are_never_lowered(site: FollowedLog) -> None:
    activate_in(site, 1, 2)
    end = site.log.end()
    with pytest.raises(
        UsageError, match="partition 1 follows rules version 2, and rules are never lowered to 1"
    ):
        activate_rules(site.log, site.reader, 1)
    assert site.log.end() == end


def test_classes_and_versions_are_raised_one_without_the_other(tmp_path: Path) -> None:
    with followed_log(tmp_path, registry=Registry([Quantity("LICENCE")]), rules_version=1) as site:
        assert activate_classes(site.log, site.reader, QUICK).classes == ("LICENCE",)
        assert activate_rules(site.log, site.reader, 2).raised == (0, 1)
        assert [(one.version, one.classes) for one in show_rules(site.reader).partitions] == [
            (2, ("LICENCE",))
        ] * 2


def test_a_store_that_does_not_follow_is_an_outcome_not_known(tmp_path: Path) -> None:
    with followed_log(tmp_path, follow=False, rules_version=1) as site:
        with pytest.raises(
            OutcomeUnknown,
            match="has the activation of rules in partition 0, but the store has not read that far",
        ):
            activate_rules(site.log, site.reader, 2, RaiseOptions(0.05))
        assert versions(site) == [1, 1]


# -- in three steps -------------------------------------------------------------------------------------------

QUICK = RaiseOptions(timeout_s=60.0, answers_s=0.3)
OF_ALL = RaiseOptions(timeout_s=60.0, answers_s=3.0)
"""Long enough for the answers of all stores, also where the first one says already that it lacks something."""


@contextmanager
def later_store(site: FollowedLog, path: Path, *, registry: Registry | None = None) -> Iterator[StoreReader]:
    """Another host's store of the same log, whose build supports `LATER_VERSION`, and its reader."""
    registry = registry or Registry()
    identity, partitions = site.log.identity(), site.log.partitions
    with Store(
        path, log=identity.log, partitions=partitions, registry=registry, versions=LATER_BUILD
    ) as store:
        worker = EmbeddedWorker(
            site.log, store, answer_entry=lambda p, answer: answer_entry(p, partitions, store.id, answer)
        )
        thread = threading.Thread(target=worker.run)
        while worker.step():
            pass
        thread.start()
        try:
            with StoreReader(path, registry, versions=LATER_BUILD) as reader:
                yield reader
        finally:
            worker.stop()
            thread.join()


def test_a_later_version_is_not_activated_while_a_store_lacks_it(tmp_path: Path) -> None:
    with followed_log(tmp_path) as site, later_store(site, tmp_path / "later") as later:
        found = activate_rules(site.log, later, LATER_VERSION, OF_ALL)
        assert (found.outcome, found.raised) == ("lacking", ())
        with pytest.raises(VacancyError, match=f"not activated: {gethostname()} cannot follow") as refused:
            found.check()
        assert refused.value.exit_code == 1
        assert "--despite-missing" in refused.value.do
        answers = {(p, one.store): one for p, one in found.answers()}
        missing = {key: one.missing for key, one in answers.items()}
        here, there = site.reader.manifest.store, later.manifest.store
        lacks = (f"rules version {LATER_VERSION}",)
        assert missing == {(0, here): lacks, (1, here): lacks, (0, there): (), (1, there): ()}
        assert {one.host for one in answers.values()} == {gethostname()}
        later.catch_up()
        assert show_rules(later).proposals == found.proposals
        assert [one.version for one in show_rules(later).partitions] == [RULES_VERSION] * 2
        end = site.log.end()
        again = activate_rules(site.log, later, LATER_VERSION, QUICK)
        assert (again.outcome, site.log.end()) == ("lacking", end)  # the same proposal and answers
        withdrawn = withdraw_proposals(site.log, later)
        assert [one.id for one in withdrawn] == [found.proposals[0].id] * 2
        assert show_rules(later).proposals == ()
        assert withdraw_proposals(site.log, later) == ()
        with pytest.raises(UsageError, match="no proposal nothing is open"):
            withdraw_proposals(site.log, later, "nothing")


def test_it_is_activated_all_the_same_where_the_operator_wants_that(tmp_path: Path) -> None:
    """The store that lacks it stops at the activation, and only there."""
    with followed_log(tmp_path) as site, later_store(site, tmp_path / "later") as later:
        options = RaiseOptions(answers_s=0.3, despite_missing=True)
        found = activate_rules(site.log, later, LATER_VERSION, options)
        found.check()
        assert (found.outcome, found.raised) == ("activated", (0, 1))
        assert [one.version for one in show_rules(later).partitions] == [LATER_VERSION] * 2
        until = time.monotonic() + 90
        while len(site.worker.errors) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        assert {type(error) for error in site.worker.errors.values()} == {Halt}


def test_the_activation_waits_for_workers_that_run_and_names_those_that_do_not(tmp_path: Path) -> None:
    with followed_log(tmp_path, registry=Registry([Quantity("LICENCE")])) as site:
        here = site.reader.manifest.store
        silent = RaiseOptions(3.0, answers_s=0.1, followers=lambda: {here: True, "b": True, "c": False})
        found = activate_classes(site.log, site.reader, silent)
        assert (found.outcome, found.unanswered) == ("unanswered", {"b": True, "c": False})
        with pytest.raises(OutcomeUnknown, match="store b has a running worker and has not answered yet"):
            found.check()
        stopped = RaiseOptions(answers_s=0.1, followers=lambda: {here: True, "c": False})
        found = activate_classes(site.log, site.reader, stopped)
        assert (found.outcome, found.classes, found.raised) == ("activated", ("LICENCE",), (0, 1))
        assert found.unanswered == {"c": False}
        assert show_rules(site.reader).proposals == ()
        assert activate_classes(site.log, site.reader).outcome == "unchanged"


def test_proposed_only_is_proposed_once_and_activated_later(tmp_path: Path) -> None:
    with followed_log(tmp_path, registry=Registry([Quantity("LICENCE")])) as site:
        only = RaiseOptions(propose_only=True)
        first, second = (activate_classes(site.log, site.reader, only) for _ in range(2))
        assert (first.outcome, second.outcome) == ("proposed", "proposed")
        assert [one.id for one in first.proposals] == [one.id for one in second.proposals]
        assert len({one.id for one in first.proposals}) == 1
        assert activate_classes(site.log, site.reader, QUICK).raised == (0, 1)


def test_without_a_worker_that_answers_the_proposal_stays_open(tmp_path: Path) -> None:
    registry = Registry([Quantity("LICENCE")])
    with followed_log(tmp_path, registry=registry, answers=False) as site:
        found = activate_classes(site.log, site.reader, RaiseOptions(3.0, answers_s=0.1))
        assert found.outcome == "unanswered"
        with pytest.raises(
            OutcomeUnknown, match=r"no store has answered in partitions \[0, 1\] yet"
        ) as unknown:
            found.check()
        assert "check that `vacancy worker` runs" in unknown.value.do
        assert len(show_rules(site.reader).proposals) == 2


def test_from_the_first_rules_it_is_one_step_without_proposals(site: FollowedLog) -> None:
    with pytest.raises(UsageError, match="they are raised in one step"):
        activate_rules(site.log, site.reader, RULES_VERSION, RaiseOptions(propose_only=True))
    found = activate_rules(site.log, site.reader, RULES_VERSION)
    assert (found.outcome, found.raised, found.one_step) == ("activated", (0, 1), (0, 1))
    assert found.proposals == ()


def test_two_operators_at_once_both_succeed(tmp_path: Path) -> None:
    with followed_log(tmp_path, registry=Registry([Quantity("LICENCE")])) as site:
        with StoreReader(site.store, site.registry) as other, ThreadPoolExecutor(2) as pool:
            done = [pool.submit(activate_classes, site.log, reader, QUICK) for reader in (site.reader, other)]
            assert {one.result().outcome for one in done} == {"activated"}
        assert [one.classes for one in show_rules(site.reader).partitions] == [("LICENCE",)] * 2


def test_requests_and_claims_of_both_versions_are_shown(site: FollowedLog) -> None:
    """Also a claim that is sent again after the activation: its verdict is the one that version 1 gave."""
    site.report("node-1")
    placed = []
    with site.scheduler() as scheduler:
        for version in (1, 2):
            if version == 2:
                activate_rules(site.log, site.reader, 2)
            placed.append(scheduler.place(PlacementRequest(SPEC, consumer=f"c{version}")))
    wait_for(site.reader, site.log.end())  # the outcome of a request comes after its claim
    for one in placed:
        request = show_request(site.reader, one.request)
        assert request.spec == {"groups": [{"resources": {"VCPU": 2}}]}
        assert request.outcome == "placed"
    claims = [record for record in _records(site) if b"claims.requested" in record.value]
    assert len(claims) == 2
    before = [show_claim(site.reader, one.claim) for one in placed]
    for record in claims:
        (at,) = site.log.append([NewRecord(record.key.decode(), record.value)])
        wait_for(site.reader, {at.partition: at.offset + 1})
    assert [show_claim(site.reader, one.claim) for one in placed] == before


def _records(site: FollowedLog) -> list[Record]:
    return [r for p, end in site.log.end().items() for r in site.log.read(p, 0, end)]
