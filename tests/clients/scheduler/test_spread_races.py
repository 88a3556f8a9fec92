"""Groups that are spread over zones, from end to end: racing schedulers, stale tables, members that go and come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.logs.followed_log import FollowedLog, followed_log, wait_for
from vacancy.clients.demo.race_plan import Arrival, deal
from vacancy.clients.demo.race_trial import Trial, TrialOptions, run_trial
from vacancy.clients.demo.synthetic_fleet import node_reports
from vacancy.clients.inspection.group_report import show_group
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model import events
from vacancy.resources.model.errors import NoValidHost, UsageError
from vacancy.resources.model.partitioner import cell_for
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.request import RequestGroup, RequestSpec, RequestSpecV2
from vacancy.resources.model.server_group import ServerGroupMembershipV2

PARTITIONS = 2
NODES = [f"node-{n}" for n in range(12)]
CELLS = [cell_for(node, PARTITIONS) for node in NODES]
CELL = max(set(CELLS), key=CELLS.count)
ZONES = ("zone-a", "zone-b", "zone-c")
ZONE_OF = {
    node: ZONES[at % 3] for at, node in enumerate(n for n, c in zip(NODES, CELLS, strict=True) if c == CELL)
}


def even(name: str = "web", **more: Any) -> ServerGroupMembershipV2:
    return ServerGroupMembershipV2(group=f"{CELL}/{name}", policy="spread", scope="zone-", **more)


def spec(*memberships: ServerGroupMembershipV2, vcpus: int = 1, **more: Any) -> RequestSpecV2:
    return RequestSpecV2(groups=(RequestGroup(resources={"VCPU": vcpus}),), memberships=memberships, **more)


def in_zone(node: str, zone: str, revision: int = 1, status: Any = "enabled") -> events.Event:
    facts = events.OperatorSettings(aggregates=(zone,), status=status)
    data = events.OperatorSettingsData(provider=node, revision=revision, facts=facts)
    return events.OperatorSettingsSet(id=f"{node}-{revision}", source="/test", data=data)


# -- races --------------------------------------------------------------------------------------------------------


def test_racing_schedulers_do_not_break_the_spread(tmp_path: Path) -> None:
    """Two processes, each with a store of its own and eight claims in flight. Each record of the log is judged by itself, so
    the auditor would see any claim after which a zone has two members more than another."""
    requests = [*[spec(even()) for _ in range(24)], *[spec(even("pairs"), copies=2) for _ in range(6)]]
    url = f"sqlite://{tmp_path}/log.db"
    new_log(url, PARTITIONS, installed_registry()).close()

    def report(trial: Trial) -> None:
        providers = [(events.ProviderReport(id=node, inventories={"VCPU": {"total": 8}}),) for node in NODES]
        trial.append(list(node_reports(providers, trial.log.partitions)))
        trial.append([NewRecord(CELL, events.encode(in_zone(node, zone))) for node, zone in ZONE_OF.items()])

    options = TrialOptions(log=url, directory=tmp_path / "trial", partitions=PARTITIONS, hosts=2, in_flight=8)
    result = run_trial(options, report, deal([Arrival(one) for one in requests], 2))
    assert result.audit.problems == []
    assert result.rebuilt_equal
    with StoreReader(tmp_path / "trial" / "store-1", installed_registry(), with_view=False) as reader:
        reader.catch_up()
        shown = [show_group(reader, f"{CELL}/{name}") for name in ("web", "pairs")]
    assert result.race.accepted == 30
    for one in shown:
        assert one.domains is not None
        assert max(one.domains.values()) - min(one.domains.values()) <= 1


# -- one site -----------------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FollowedLog]:
    """A node in each of three zones."""
    with followed_log(tmp_path, rules_version=RULES_VERSIONS.newest.version) as site:
        for node, zone in zip(("a", "b", "c"), ZONES, strict=True):
            site.report(node, cell=CELL, VCPU={"total": 16})
            site.append(CELL, in_zone(node, zone))
        yield site


def placed(site: FollowedLog, scheduler: Scheduler, *, count: int, **more: Any) -> list[str]:
    found = [scheduler.place(spec(even(**more))).root for _ in range(count)]
    wait_for(site.reader, site.log.end())
    return found


@pytest.mark.timeout(240)
def test_schedulers_that_do_not_see_each_other_cannot_break_it(site: FollowedLog) -> None:
    """Eight placements at once by two schedulers whose tables are of the same moment."""
    with site.scheduler() as one, Scheduler(site.log, site.store, site.registry, seed=2) as other:
        todo = [iter(two.place_many([spec(even()) for _ in range(4)], in_flight=4)) for two in (one, other)]
        outcomes = [next(some) for _ in range(4) for some in todo]
        assert Counter(two.status for two in outcomes) == {"placed": 8}
    wait_for(site.reader, site.log.end())
    shown = show_group(site.reader, f"{CELL}/web")
    assert shown.max_skew == 1
    assert shown.max_per_node is None
    assert shown.domains is not None
    assert sorted(shown.domains.values()) == [2, 3, 3]


@pytest.mark.timeout(240)
def test_after_members_left_new_ones_come_where_there_are_the_fewest(site: FollowedLog) -> None:
    """kubernetes#98215: scaling in leaves zones uneven, because nothing moves; scaling out evens them out again."""
    with site.scheduler() as scheduler:
        for number in range(6):
            scheduler.place(PlacementRequest(spec(even()), consumer=f"web-{number}"))
        wait_for(site.reader, site.log.end())
        members = show_group(site.reader, f"{CELL}/web").members
        scheduler.release([member.consumer for member in members if member.roots == [["c"]]])
        wait_for(site.reader, site.log.end())
        assert show_group(site.reader, f"{CELL}/web").domains == {"zone-a": 2, "zone-b": 2, "zone-c": 0}
        assert {one.root for one in scheduler.candidates(spec(even())).candidates} == {"c"}
        assert placed(site, scheduler, count=2) == ["c", "c"]
        assert {one.root for one in scheduler.candidates(spec(even())).candidates} == {"a", "b", "c"}


@pytest.mark.timeout(240)
def test_a_full_zone_holds_the_others_up_and_a_closed_one_does_not(site: FollowedLog) -> None:
    with site.scheduler() as scheduler:
        scheduler.place(PlacementRequest(spec(even("big"), vcpus=16, copies=1), consumer="x"))
        wait_for(site.reader, site.log.end())
        full = next(iter(show_group(site.reader, f"{CELL}/big").nodes))
        assert sorted(placed(site, scheduler, count=2)) == sorted({"a", "b", "c"} - {full})
        with pytest.raises(NoValidHost) as raised:
            scheduler.place(spec(even()))
        assert f"spread of group {CELL}/web, by aggregates zone-..., max skew 1" in str(
            raised.value.explanation
        )
        site.append(CELL, in_zone(full, f"zone-{full}", 2, "disabled"))
        assert sorted(placed(site, scheduler, count=2)) == sorted({"a", "b", "c"} - {full})


@pytest.mark.timeout(240)
def test_copies_are_spread_together(site: FollowedLog) -> None:
    with site.scheduler() as scheduler:
        one = scheduler.place(spec(even(), copies=7))
        assert sorted(Counter(served.provider for served in one.allocations).values()) == [2, 2, 3]
        one = scheduler.place(spec(even("wide", max_skew=3), copies=7))
        counts = Counter(served.provider for served in one.allocations)
        assert max(counts.values()) - min(counts[node] for node in "abc") <= 3


@pytest.mark.timeout(240)
def test_a_move_keeps_the_spread(site: FollowedLog) -> None:
    with site.scheduler() as scheduler:
        for number in range(3):
            scheduler.place(PlacementRequest(spec(even()), consumer=f"web-{number}"))
        wait_for(site.reader, site.log.end())
        here = {m.consumer: m.roots[0][0] for m in show_group(site.reader, f"{CELL}/web").members}
        with pytest.raises(NoValidHost):
            scheduler.move("web-0")
        scheduler.release(["web-1"])
        wait_for(site.reader, site.log.end())
        assert scheduler.move("web-0").root == here["web-1"]
        scheduler.resize("web-0", {"VCPU": 2})


@pytest.mark.timeout(240)
def test_soft_groups_prefer_the_fewest(site: FollowedLog) -> None:
    with site.scheduler() as scheduler:
        assert sorted(placed(site, scheduler, count=3, hard=False)) == ["a", "b", "c"]
        scheduler.place(spec(even(hard=False), vcpus=15))
        wait_for(site.reader, site.log.end())
        assert placed(site, scheduler, count=8, hard=False)


def test_a_request_of_the_older_form_cannot_name_one() -> None:
    with pytest.raises(ValueError, match="use RequestSpecV2"):
        RequestSpec(groups=(RequestGroup(resources={"VCPU": 1}),), memberships=(even(),))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("recorded", [True, False])
def test_older_rules_do_not_have_it(tmp_path: Path, recorded: bool) -> None:
    with followed_log(tmp_path, rules_version=3) as site:
        site.report("a", cell=CELL)
        with (
            Scheduler(site.log, site.store, site.registry, seed=1, record_requests=recorded) as scheduler,
            pytest.raises(UsageError, match="spread server groups need version 4"),
        ):
            scheduler.place(spec(even()))
        assert site.log.end() == site.reader.position


@pytest.mark.timeout(240)
def test_gangs_and_alternatives_keep_the_spread(site: FollowedLog) -> None:
    with site.scheduler() as scheduler:
        gang = scheduler.place_gang(
            [PlacementRequest(spec(even(), vcpus=size), consumer=f"m{size}") for size in (9, 1, 2, 3)]
        )
        assert sorted(Counter(one.root for one in gang).values()) == [1, 1, 2]
        several = RequestSpecV2(
            groups=(RequestGroup(resources={"VCPU": 99}),),
            alternatives=(RequestSpec(groups=(RequestGroup(resources={"VCPU": 1}),)),),
            memberships=(even(),),
        )
        for _ in range(2):
            assert scheduler.place(several).root in ("a", "b", "c")
    wait_for(site.reader, site.log.end())
    assert show_group(site.reader, f"{CELL}/web").domains == dict.fromkeys(ZONES, 2)
