"""Server groups, copies and usage from end to end: real logs and stores, schedulers that race, the command line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.auditor.test_auditor import Story, a_spec, provider
from tests.support.logs.followed_log import FollowedLog, followed_log, wait_for
from vacancy.clients.demo.race_plan import Arrival, deal
from vacancy.clients.demo.race_trial import Trial, TrialOptions, run_trial
from vacancy.clients.demo.synthetic_fleet import node_reports
from vacancy.clients.inspection.group_report import read_membership, show_group
from vacancy.clients.inspection.lookup import NotFound
from vacancy.clients.inspection.usage import usage
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import NoValidHost, UsageError
from vacancy.resources.model.events import ProviderReport
from vacancy.resources.model.partitioner import cell_for
from vacancy.resources.model.request import RequestGroup, RequestSpec
from vacancy.resources.model.server_group import ServerGroupMembership
from vacancy.resources.state.tables import ALLOCATIONS, GROUPS, split_key

PARTITIONS = 2
NODES = [(ProviderReport(id=f"node-{n}", inventories={"VCPU": {"total": 8}}),) for n in range(8)]
CELLS = [cell_for(node[0].id, PARTITIONS) for node in NODES]
CELL = max(set(CELLS), key=CELLS.count)
HERE = CELLS.count(CELL)


def spec(*memberships: ServerGroupMembership, vcpus: int = 1, **more: Any) -> RequestSpec:
    return RequestSpec(groups=(RequestGroup(resources={"VCPU": vcpus}),), memberships=memberships, **more)


def near(name: str, **more: Any) -> ServerGroupMembership:
    return ServerGroupMembership(group=f"{CELL}/{name}", policy="affinity", **more)


def apart(name: str, **more: Any) -> ServerGroupMembership:
    return ServerGroupMembership(group=f"{CELL}/{name}", policy="anti-affinity", **more)


# -- races --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_flight", [1, 8])
def test_racing_schedulers_break_no_hard_rule(tmp_path: Path, in_flight: int) -> None:
    """Two processes, each with a store of its own, want more of each group than there is room for."""
    requests = [
        *[spec(apart("web")) for _ in range(HERE + 4)],
        *[spec(near("db")) for _ in range(10)],
        *[spec(apart("pairs", max_per_node=2)) for _ in range(2 * HERE + 2)],
        *[spec(near("gang"), copies=2) for _ in range(2)],
        *[spec(apart("ring"), copies=2) for _ in range(HERE)],
        *[spec(apart("wish", hard=False)) for _ in range(4)],
    ]

    def report(trial: Trial) -> None:
        trial.append(list(node_reports(NODES, trial.log.partitions)))

    options = TrialOptions(directory=tmp_path, partitions=PARTITIONS, hosts=2, in_flight=in_flight)
    result = run_trial(options, report, deal([Arrival(one) for one in requests], 2))
    assert result.audit.problems == []
    assert result.rebuilt_equal
    assert result.race.accepted > HERE
    with StoreReader(tmp_path / "store-1", installed_registry(), with_view=False) as reader:
        reader.catch_up()
        groups = {split_key(k)[1]: row for _, k, row in reader.scan(GROUPS)}
        held = {split_key(k)[1]: row for _, k, row in reader.scan(ALLOCATIONS)}
    copies = {
        name: [place for member in row.members for place in member.places] for name, row in groups.items()
    }
    assert max(Counter(copies["web"]).values()) == 1
    assert len(copies["web"]) == HERE
    assert len(set(copies["db"])) == 1
    assert max(Counter(copies["pairs"]).values()) <= 2
    assert len(set(copies["gang"])) == 1
    assert max(Counter(copies["ring"]).values()) == 1
    for name, row in groups.items():
        assert {member.consumer for member in row.members} == {
            c for c, one in held.items() if name in one.groups
        }


# -- one scheduler --------------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FollowedLog]:
    with followed_log(tmp_path) as site:
        for node in range(3):
            site.report(f"n{node}", cell=CELL)
        yield site


@pytest.mark.timeout(240)
def test_what_is_placed_beside_others_is_shown(site: FollowedLog) -> None:
    with site.scheduler() as scheduler:
        web = [scheduler.place(spec(apart("web"))) for _ in range(3)]
        assert len({one.root for one in web}) == 3
        with pytest.raises(NoValidHost):
            scheduler.place(spec(apart("web")))
        with pytest.raises(UsageError, match=f"server group {CELL}/web has another rule"):
            scheduler.place(spec(near("web")))
        shown = show_group(site.reader, f"{CELL}/web")
        assert [member.consumer for member in shown.members] == [one.consumer for one in web]
        assert shown.nodes == {"n0": 1, "n1": 1, "n2": 1}
        scheduler.release(web)
        wait_for(site.reader, site.log.end())
        with pytest.raises(NotFound, match="has no members"):
            show_group(site.reader, f"{CELL}/web")
        assert scheduler.place(spec(near("web"))).root in {"n0", "n1", "n2"}


@pytest.mark.timeout(240)
def test_many_at_once_count_those_under_way(site: FollowedLog) -> None:
    with site.scheduler() as scheduler:
        done = list(scheduler.place_many([spec(near("db")) for _ in range(10)], in_flight=10))
        assert Counter(one.status for one in done) == {"placed": 8, "no_valid_host": 2}
        assert len({one.root for one in done if one.status == "placed"}) == 1
        assert sum(one.lost_claims for one in done) == 0


@pytest.mark.timeout(240)
def test_copies_are_placed_and_given_back_together(site: FollowedLog) -> None:
    with site.scheduler() as scheduler:
        one = scheduler.place(
            PlacementRequest(spec(copies=3, copies_on="distinct", vcpus=5), consumer="ring")
        )
        assert {served.provider for served in one.allocations} == {"n0", "n1", "n2"}
        assert [served.group for served in one.allocations] == ["#1", "#2", "#3"]
        with pytest.raises(NoValidHost):
            scheduler.place(spec(copies=2, vcpus=4))
        scheduler.release(["ring"])
        wait_for(site.reader, site.log.end())
        assert len(scheduler.place(spec(copies=6, vcpus=4)).allocations) == 6


def test_usage_is_reported_apart(site: FollowedLog) -> None:
    with site.scheduler() as scheduler:
        for number, (project, user, kind) in enumerate(
            (("a", "ada", "INSTANCE"), ("a", "bob", "VOLUME"), ("b", "ada", "INSTANCE"))
        ):
            scheduler.place(
                PlacementRequest(spec(vcpus=number + 1), project=project, user=user, consumer_type=kind)
            )
    wait_for(site.reader, site.log.end())

    def told(**what: Any) -> dict[str, tuple[int, dict[str, int]]]:
        return {one.name: (one.consumers, one.usages) for one in usage(site.reader, **what).usages}

    assert told() == {"": (3, {"VCPU": 6})}
    assert told(project="a") == {"": (2, {"VCPU": 3})}
    assert told(project="a", user="ada") == {"": (1, {"VCPU": 1})}
    assert told(project="nobody") == {"": (0, {})}
    assert told(by="project") == {"a": (2, {"VCPU": 3}), "b": (1, {"VCPU": 3})}
    assert told(by="user", consumer_type="INSTANCE") == {"ada": (2, {"VCPU": 4})}
    assert told(by="type") == {"INSTANCE": (2, {"VCPU": 4}), "VOLUME": (1, {"VCPU": 2})}
    with pytest.raises(UsageError, match="choose one of project, user, type"):
        usage(site.reader, by="node")


# -- the auditor ----------------------------------------------------------------------------------------------------


def test_the_auditor_judges_no_valid_host_beside_others() -> None:
    story = Story()
    story.node("n")
    story.node("m", provider("m"))
    group = f"{story.cell}/web"
    web = {"group": group, "policy": "anti-affinity"}
    story.claim("a", 1, memberships=[web])
    story.no_valid_host(
        "right", {**a_spec(1), "memberships": [{"group": group, "policy": "affinity"}]}, as_of=1
    )
    story.no_valid_host("wrong", {**a_spec(1), "memberships": [web]})
    assert [problem.split()[2] for problem in story.audit().problems] == ["wrong"]
    story = Story()
    story.node("n")
    story.claim("a", 1, memberships=[web])
    story.no_valid_host("right", {**a_spec(1), "memberships": [web]})
    story.no_valid_host("copies", {**a_spec(1), "copies": 2})
    report = story.audit()
    assert (report.problems, report.no_valid_host, report.unverifiable) == ([], 2, 1)


def test_the_auditor_sees_a_broken_group() -> None:
    story = Story()
    story.node("n")
    web = {"group": f"{story.cell}/web", "policy": "anti-affinity"}
    story.claim("a", 1, memberships=[web])
    story.claim("b", 1, memberships=[web])
    assert story.audit().problems == [
        (
            f"0:3 claim b in {story.cell} was accepted, but 1 of group {story.cell}/web are on node n, 1 more asked,"
            " 1 allowed"
        )
    ]


# -- what people write ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "group", "most", "scope"),
    [
        ("c/web", "c/web", 1, None),
        ("c/web:3", "c/web", 3, None),
        ("c/web:3:rack-", "c/web", 3, "rack-"),
        ("c/web::rack-", "c/web", 1, "rack-"),
        ("eu/west:1/web:2", "eu/west:1/web", 2, None),
    ],
)
def test_a_membership_in_words(text: str, group: str, most: int, scope: str | None) -> None:
    found = read_membership(text, "anti-affinity", "--x")
    assert (found.group, found.max_per_node, found.scope) == (group, most, scope)


@pytest.mark.parametrize(
    "text", ["", "web", "c/", "/web", "c/web:x", "c/web:0", "c/web:-1", "c/w b", "c/web:1:r k"]
)
def test_what_is_no_membership_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(UsageError, match="--x"):
        read_membership(text, "anti-affinity", "--x")
