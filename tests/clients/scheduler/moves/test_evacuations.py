"""Evacuations: what is planned with `dry_run` is what happens, for groups, NUMA cells, quotas and taints too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.scheduler.moves.test_moves import disable, holds, pinned, report
from tests.support.logs.followed_log import FollowedLog, followed_log
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.clients.scheduler.quotas import Quotas
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.errors import NoValidHost
from vacancy.resources.model.events import QuotaScope
from vacancy.resources.model.request import RequestSpec


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FollowedLog]:
    with followed_log(tmp_path, rules_version=RULES_VERSIONS.newest.version) as site:
        yield site


def member(policy: str, **more: Any) -> RequestSpec:
    """One VCPU, in the server group `c1/web`."""
    membership = {"group": "c1/web", "policy": policy, **more}
    return RequestSpec.model_validate({"groups": ({"resources": {"VCPU": 1}},), "memberships": (membership,)})


def planned_and_done(scheduler: Scheduler, node: str) -> tuple[list[str], list[str]]:
    """Where each consumer would go by a dry run, and where it went."""
    plan = [(one.consumer, one.to) for one in scheduler.evacuate(node, dry_run=True)]
    done = [(one.consumer, one.to) for one in scheduler.evacuate(node)]
    assert [name for name, _ in plan] == [name for name, _ in done]
    return [to for _, to in plan], [to for _, to in done]


def test_a_plan_gives_places_of_a_server_group_once(site: FollowedLog) -> None:
    site.report("h1", cell="c1", VCPU={"total": 8})
    pairs = member("anti-affinity", max_per_node=2)
    with site.scheduler() as scheduler:
        for name in ("w1", "w2"):
            scheduler.place(PlacementRequest(pairs, consumer=name))
        site.report("h2", cell="c1", VCPU={"total": 8})
        scheduler.place(PlacementRequest(pairs, consumer="w3"))
        disable(site, "h1")
        plan, done = planned_and_done(scheduler, "h1")
        assert plan == done == ["h2", ""]


def test_a_plan_gives_cpus_devices_and_room_once(site: FollowedLog) -> None:
    report(site, "h1")
    with site.scheduler() as scheduler:
        for name in ("a", "b"):
            scheduler.place(PlacementRequest(pinned(2, VCPU=1), consumer=name))
        report(site, "h2")
        scheduler.place(PlacementRequest(pinned(1), consumer="other"))
        disable(site, "h1")
        others = holds(scheduler, "other")
        plan, done = planned_and_done(scheduler, "h1")
        assert plan == done == ["h2", ""]
        assert holds(scheduler, "other") == others


def test_members_that_belong_together_are_moved_together_or_stay(site: FollowedLog) -> None:
    """The group is on one node: the first member cannot leave it for another node while the others are there."""
    site.report("h1", cell="c1", VCPU={"total": 8})
    with site.scheduler() as scheduler:
        for name in ("w1", "w2"):
            scheduler.place(PlacementRequest(member("affinity"), consumer=name))
        site.report("h2", cell="c1", VCPU={"total": 8})
        disable(site, "h1")
        moved = list(scheduler.evacuate("h1", dry_run=True))
        assert [one.to for one in moved] == ["", ""]
        for one in moved:
            assert isinstance(one.error, NoValidHost)
            removed = [each.constraint for each in one.error.explanation.constraints if each.in_order]
            assert removed == ["affinity to group c1/web"]


def test_a_quota_that_is_used_up_does_not_keep_a_consumer_from_moving(site: FollowedLog) -> None:
    site.report("h1", cell="c1", VCPU={"total": 8})
    with site.scheduler() as scheduler:
        for name in ("a", "b"):
            scheduler.place(PlacementRequest("resources=VCPU:2", consumer=name, project="p"))
        Quotas(site.log, site.reader).set_limit(QuotaScope(project="p", unit="VCPU"), 4)
        site.report("h2", cell="c1", VCPU={"total": 8})
        disable(site, "h1")
        plan, done = planned_and_done(scheduler, "h1")
        assert plan == done == ["h2", "h2"]


def test_copies_on_other_nodes_stay_where_they_are(site: FollowedLog) -> None:
    nodes = [f"h{number}" for number in range(6)]
    for node in nodes:
        site.report(node, cell="c1", VCPU={"total": 8}, PCI_DEVICE={"devices": {"1": {}, "2": {}}})
    copies = RequestSpec.model_validate(
        {"groups": ({"resources": {"VCPU": 2, "PCI_DEVICE": 1}},), "copies": 3, "copies_on": "distinct"}
    )
    with site.scheduler() as scheduler:
        placed = scheduler.place(PlacementRequest(copies, consumer="a"))
        before = {part.group: part.provider for part in placed.allocations}
        for left in before.values():
            where = {part.group: part.provider for part in scheduler.move("a", not_nodes=[left]).allocations}
            moved = [group for group, node in where.items() if before[group] != node]
            assert [before[group] for group in moved] == [left]
            assert len(set(where.values())) == 3
            before = where
