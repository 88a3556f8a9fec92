"""Operators raise the version of a log's rules, and every partition follows."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.followed_log import FollowedLog, followed_log, wait_for
from vacancy.clients.admin.rules import RulesInForce, activate_classes, activate_rules, show_rules
from vacancy.clients.inspection.lookup import show_claim, show_request
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.resources.classes.quantity import Quantity
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.rules_versions import RULES_VERSION, RULES_VERSIONS
from vacancy.resources.model import events
from vacancy.resources.model.errors import OutcomeUnknown, UsageError
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord, Record
from vacancy.resources.model.request import RequestGroup, RequestSpec

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
    assert activate_rules(site.log, site.reader, 2) == (0, 1)
    assert versions(site) == [2, 2]
    end = site.log.end()
    assert activate_rules(site.log, site.reader, 2) == ()
    assert site.log.end() == end


def test_an_activation_that_was_cut_short_is_completed(site: FollowedLog) -> None:
    activate_in(site, 1, 2)
    assert versions(site) == [1, 2]
    assert activate_rules(site.log, site.reader, 2) == (0,)
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
        assert activate_classes(site.log, site.reader) == ("LICENCE",)
        assert activate_rules(site.log, site.reader, 2) == (0, 1)
        assert [(one.version, one.classes) for one in show_rules(site.reader).partitions] == [
            (2, ("LICENCE",))
        ] * 2


def test_a_store_that_does_not_follow_is_an_outcome_not_known(tmp_path: Path) -> None:
    with followed_log(tmp_path, follow=False, rules_version=1) as site:
        with pytest.raises(
            OutcomeUnknown, match="has the rules of partition 0, but the store has not read that far"
        ):
            activate_rules(site.log, site.reader, 2, timeout_s=0.05)
        assert versions(site) == [1, 1]


def test_requests_and_claims_of_both_versions_are_shown(site: FollowedLog) -> None:
    """Also a claim that is sent again after the activation: its verdict is the one that version 1 gave."""
    site.report("node-1")
    placed = []
    with site.scheduler() as scheduler:
        for version in (1, 2):
            if version == 2:
                activate_rules(site.log, site.reader, 2)
            placed.append(scheduler.place(PlacementRequest(SPEC, consumer=f"c{version}")))
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
