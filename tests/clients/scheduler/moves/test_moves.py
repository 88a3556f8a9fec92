"""Moves, resizes, evacuations and updates of consumers, as their users see them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support.logs.followed_log import FollowedLog, followed_log
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.clients.scheduler.quotas import Quotas
from vacancy.resources.model import events
from vacancy.resources.model.errors import LogUnavailable, NoValidHost, OverQuota, UsageError
from vacancy.resources.model.events import QuotaScope
from vacancy.resources.model.record import Record
from vacancy.resources.model.request import RequestGroup, RequestSpec

CORES: dict[str, Any] = {"cores": [[0], [1], [2], [3]]}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FollowedLog]:
    with followed_log(tmp_path) as site:
        yield site


def pinned(cpus: int, **resources: Any) -> RequestSpec:
    """Pinned CPUs of one NUMA cell, and amounts of the node."""
    cell = RequestGroup(name="numa0", resources={"NUMA_CELL": {"pinned": cpus}})
    node = (RequestGroup(same_provider=False, resources=resources),) if resources else ()
    return RequestSpec(groups=(*node, cell))


def report(site: FollowedLog, root: str, cell: str = "c1", **inventories: Any) -> None:
    """The first report of a node with one NUMA cell of 4 cores, 8 VCPU and 4,096 MiB."""
    providers = (
        events.ProviderReport(
            id=root, inventories=inventories or {"VCPU": {"total": 8}, "MEMORY_MB": {"total": 4096}}
        ),
        events.ProviderReport(id=f"{root}:numa0", parent=root, inventories={"NUMA_CELL": CORES}),
    )
    data = events.NodeReportedData(root=root, incarnation=uuid4().hex[:16], sequence=1, providers=providers)
    site.append(cell, events.NodeReported(id=uuid4().hex, source="/test", data=data))


def disable(site: FollowedLog, node: str, cell: str = "c1") -> None:
    data = events.OperatorSettingsData(
        provider=node, revision=1, facts=events.OperatorSettings(status="draining")
    )
    site.append(cell, events.OperatorSettingsSet(id=uuid4().hex, source="/test", data=data))


def holds(scheduler: Scheduler, consumer: str) -> dict[tuple[str, str], Any]:
    """(provider, class) -> grant of what a consumer holds."""
    ((_, row),) = scheduler.allocations(consumer)
    return {(part.provider, part.resource_class): part.grant for part in row.parts}


def release(scheduler: Scheduler, consumer: str) -> None:
    """Release a consumer, and wait until the tables show it."""
    scheduler.release([consumer])
    while scheduler.allocations(consumer):
        pass


def cpus(scheduler: Scheduler, consumer: str) -> dict[str, list[int]]:
    """NUMA cell -> the CPUs that are granted."""
    return {
        provider: grant["cpus"]
        for (provider, name), grant in holds(scheduler, consumer).items()
        if name == "NUMA_CELL"
    }


def test_a_resize_on_the_same_host_counts_what_is_held_as_free(site: FollowedLog) -> None:
    site.report("host1", cell="c1", VCPU={"total": 2})
    with site.scheduler() as scheduler:
        scheduler.place(PlacementRequest("resources=VCPU:1", consumer="vm-1"))
        done = scheduler.resize("vm-1", {"VCPU": 2})
        assert (done.status, done.root) == ("placed", "host1")
        assert holds(scheduler, "vm-1") == {("host1", "VCPU"): 2}
        row = scheduler.reader.view.class_row(0, "VCPU")
        assert row is not None
        assert row.record.used == 2, "never 3"
        with pytest.raises(NoValidHost, match="on host1"):
            scheduler.resize("vm-1", {"VCPU": 3})
        assert holds(scheduler, "vm-1") == {("host1", "VCPU"): 2}


def test_a_resize_of_memory_keeps_the_pinned_cpus(site: FollowedLog) -> None:
    report(site, "n")
    with site.scheduler() as scheduler:
        scheduler.place(PlacementRequest(pinned(2), consumer="a"))
        scheduler.place(PlacementRequest(pinned(2, MEMORY_MB=1024), consumer="b"))
        before = cpus(scheduler, "b")
        release(scheduler, "a")
        scheduler.resize("b", {"MEMORY_MB": 2048})
        assert cpus(scheduler, "b") == before
        assert holds(scheduler, "b")["n", "MEMORY_MB"] == 2048
        scheduler.place(PlacementRequest(pinned(2), consumer="c"))
        assert (before, cpus(scheduler, "c")) == ({"n:numa0": [2, 3]}, {"n:numa0": [0, 1]})


def two_numa_cells(root: str) -> tuple[events.ProviderReport, ...]:
    """A node with two NUMA cells of two cores each, and four ports of a network card at each of them."""
    return (
        events.ProviderReport(
            id=root,
            inventories={"VCPU": {"total": 8}, "MEMORY_MB": {"total": 4096}},
            traits=("HW_CPU_X86_AVX2",),
        ),
        *(
            events.ProviderReport(
                id=f"{root}:{number}",
                parent=root,
                inventories={
                    "NUMA_CELL": {"cores": [[2 * number], [2 * number + 1]]},
                    "CUSTOM_NIC": {"total": 4},
                },
            )
            for number in range(2)
        ),
    )


def on_second_numa_cell(site: FollowedLog, scheduler: Scheduler) -> dict[tuple[str, str], Any]:
    """`vm-1` holds the CPUs of one NUMA cell of node `n`; those of the other cell, and a second node, are free."""
    for root in ("n", "m"):
        data = events.NodeReportedData(
            root=root, incarnation=uuid4().hex[:16], sequence=1, providers=two_numa_cells(root)
        )
        site.append("c1", events.NodeReported(id=uuid4().hex, source="/test", data=data))
        if root == "n":
            scheduler.place(PlacementRequest(pinned(2), consumer="other"))
            scheduler.place(PlacementRequest(pinned(2, VCPU=1), consumer="vm-1"))
    release(scheduler, "other")
    return holds(scheduler, "vm-1")


def test_a_resize_that_adds_a_class_changes_nothing_else(site: FollowedLog) -> None:
    """The guest runs on its CPUs: memory that it did not ask for before does not send it to another NUMA cell."""
    with site.scheduler() as scheduler:
        before = on_second_numa_cell(site, scheduler)
        for amount in range(1, 5):
            scheduler.resize("vm-1", {"MEMORY_MB": amount})
            assert holds(scheduler, "vm-1") == before | {("n", "MEMORY_MB"): amount}
            scheduler.resize("vm-1", {"MEMORY_MB": None})
            assert holds(scheduler, "vm-1") == before


def test_an_interface_is_added_where_the_consumer_is(site: FollowedLog) -> None:
    """As Nova attaches an interface with bandwidth: the request has one group more, and all others stay."""
    nic = RequestGroup(name="nic", resources={"CUSTOM_NIC": 1})
    spec = pinned(2, VCPU=1)
    more = spec.model_copy(update={"groups": (*spec.groups, nic)})
    near = more.model_copy(update={"same_subtree": (("numa0", "nic"),)})
    with site.scheduler() as scheduler:
        before = on_second_numa_cell(site, scheduler)
        (cell,) = {provider for provider, name in before if name == "NUMA_CELL"}
        for _ in range(4):
            scheduler.replace(PlacementRequest(near, consumer="vm-1"))
            assert holds(scheduler, "vm-1") == before | {(cell, "CUSTOM_NIC"): 1}
            scheduler.replace(PlacementRequest(spec, consumer="vm-1"))
            assert holds(scheduler, "vm-1") == before
        missing = nic.model_copy(update={"required": ("HW_CPU_X86_AVX2",)})
        elsewhere = spec.model_copy(update={"groups": (*spec.groups, missing)})
        with pytest.raises(NoValidHost):
            scheduler.replace(PlacementRequest(elsewhere, consumer="vm-1"))


def test_a_group_that_grows_beyond_its_provider_moves_by_itself(site: FollowedLog) -> None:
    """One of two groups needs another NUMA cell; what the other one asks for as before stays."""
    cells = tuple(
        RequestGroup(name=name, resources={"NUMA_CELL": {"pinned": 1}, "CUSTOM_NIC": 1})
        for name in ("a", "b")
    )
    with site.scheduler() as scheduler:
        data = events.NodeReportedData(
            root="n", incarnation=uuid4().hex[:16], sequence=1, providers=two_numa_cells("n")
        )
        site.append("c1", events.NodeReported(id=uuid4().hex, source="/test", data=data))
        scheduler.place(PlacementRequest("resources=CUSTOM_NIC:4&in_tree=n:0", consumer="full"))
        scheduler.place(PlacementRequest(RequestSpec(groups=cells), consumer="vm-1"))
        release(scheduler, "full")
        before = holds(scheduler, "vm-1")
        (there,) = {provider for provider, _ in before}
        scheduler.resize("vm-1", groups={"a": {"NUMA_CELL": {"pinned": 2}}})
        ((_, row),) = scheduler.allocations("vm-1")
        where = {part.group: part.provider for part in row.parts}
        assert where == {"a": {"n:0": "n:1", "n:1": "n:0"}[there], "b": there}
        with pytest.raises(NoValidHost):
            scheduler.resize("vm-1", groups={"a": {"NUMA_CELL": {"pinned": 3}}})


def test_a_resize_over_quota_is_refused(site: FollowedLog) -> None:
    site.report("h", cell="c1", VCPU={"total": 8})
    with site.scheduler() as scheduler:
        scheduler.place(PlacementRequest("resources=VCPU:2", consumer="vm-1", project="p"))
        Quotas(site.log, site.reader).set_limit(QuotaScope(project="p", unit="VCPU"), 3)
        scheduler.resize("vm-1", {"VCPU": 3})
        assert holds(scheduler, "vm-1") == {("h", "VCPU"): 3}
        with pytest.raises(OverQuota, match="used 3, asked 1, limit 3"):
            scheduler.resize("vm-1", {"VCPU": 4})
        with pytest.raises(OverQuota, match="used 3, asked 1, limit 3"):
            scheduler.replace(PlacementRequest("resources=VCPU:4", consumer="vm-1", project="p"))
        assert holds(scheduler, "vm-1") == {("h", "VCPU"): 3}


def test_a_migration_holds_both_places_and_ends_with_one(site: FollowedLog) -> None:
    report(site, "src")
    report(site, "dst")
    with site.scheduler() as scheduler:
        scheduler.place(PlacementRequest(pinned(2, VCPU=1), consumer="vm-1", project="p"))
        source = holds(scheduler, "vm-1")
        (src,) = {provider for provider, name in source if name == "VCPU"}
        dst = {"src": "dst", "dst": "src"}[src]
        other = scheduler.place(
            PlacementRequest(
                RequestSpec(
                    groups=(RequestGroup(name="x", resources={"NUMA_CELL": {"pinned": 2}}, in_tree=dst),)
                ),
                consumer="other",
            )
        )
        assert other.root == dst
        assert scheduler.move("vm-1", keep=True).root == dst
        both = holds(scheduler, "vm-1")
        assert both.items() >= source.items()
        assert both[f"{dst}:numa0", "NUMA_CELL"]["cpus"] == [2, 3]
        with pytest.raises(UsageError, match=f"holds places on {src} and {dst} at once"):
            scheduler.resize("vm-1", {"VCPU": 2})
        release(scheduler, "other")
        ended = scheduler.move("vm-1", to=dst)
        assert (ended.root, ended.grants[0].grant["cpus"]) == (dst, [2, 3])
        assert holds(scheduler, "vm-1") == {
            slot: grant for slot, grant in both.items() if slot[0].startswith(dst)
        }
        ((_, row),) = scheduler.allocations("vm-1")
        assert row.project == "p"
        again = scheduler.move("vm-1", to=dst)
        assert again.claim == ended.claim, "it is there already: nothing was sent"


def test_a_migration_from_a_drained_node_is_undone(site: FollowedLog) -> None:
    report(site, "src")
    with site.scheduler() as scheduler:
        scheduler.place(PlacementRequest(pinned(2, VCPU=1), consumer="vm-1"))
        source = holds(scheduler, "vm-1")
        disable(site, "src")
        report(site, "dst")
        scheduler.move("vm-1", to="dst", keep=True)
        assert len(holds(scheduler, "vm-1")) == 4
        assert scheduler.move("vm-1", to="src").root == "src"
        assert holds(scheduler, "vm-1") == source


def test_a_guest_shrinks_on_a_disabled_node_and_keeps_its_device(site: FollowedLog) -> None:
    site.report("h", cell="c1", VCPU={"total": 4}, PCI_DEVICE={"devices": {"01:00.0": {}, "02:00.0": {}}})
    with site.scheduler() as scheduler:
        scheduler.place(PlacementRequest("resources=PCI_DEVICE:1", consumer="x"))
        scheduler.place(PlacementRequest("resources=VCPU:4,PCI_DEVICE:1", consumer="y"))
        before = holds(scheduler, "y")
        release(scheduler, "x")
        disable(site, "h")
        scheduler.resize("y", {"VCPU": 2})
        assert holds(scheduler, "y") == before | {("h", "VCPU"): 2}
        with pytest.raises(NoValidHost, match="provider disabled"):
            scheduler.resize("y", {"VCPU": 3})
        scheduler.resize("y", {"VCPU": None})
        assert holds(scheduler, "y") == {("h", "PCI_DEVICE"): before["h", "PCI_DEVICE"]}


def test_a_change_of_the_project_keeps_the_device(site: FollowedLog) -> None:
    site.report("h", cell="c1", PCI_DEVICE={"devices": {"01:00.0": {}, "02:00.0": {}}})
    with site.scheduler() as scheduler:
        request = "resources=PCI_DEVICE:1"
        scheduler.place(PlacementRequest(request, consumer="x"))
        scheduler.place(PlacementRequest(request, consumer="vm-1"))
        before = holds(scheduler, "vm-1")
        release(scheduler, "x")
        assert scheduler.update("vm-1", project="p2", consumer_type="MIGRATION") == ["c1"]
        ((_, row),) = scheduler.allocations("vm-1")
        assert (row.project, row.user, row.consumer_type) == ("p2", "-", "MIGRATION")
        assert holds(scheduler, "vm-1") == before
        scheduler.replace(PlacementRequest(request, consumer="vm-1", project="p3"))
        ((_, row),) = scheduler.allocations("vm-1")
        assert (row.project, holds(scheduler, "vm-1")) == ("p3", before)


def test_a_member_of_a_group_stays_in_it_unless_it_leaves(site: FollowedLog) -> None:
    for node in ("n1", "n2", "n3"):
        site.report(node, cell="c1", VCPU={"total": 8})
    apart = {"group": "c1/web", "policy": "anti-affinity"}
    spec = RequestSpec.model_validate({"groups": ({"resources": {"VCPU": 1}},), "memberships": (apart,)})
    with site.scheduler() as scheduler:
        nodes = {name: scheduler.place(PlacementRequest(spec, consumer=name)).root for name in ("w1", "w2")}
        scheduler.resize("w2", {"VCPU": 2})
        third = scheduler.place(PlacementRequest(spec, consumer="w3")).root
        assert sorted((*nodes.values(), third)) == ["n1", "n2", "n3"]
        with pytest.raises(NoValidHost):
            scheduler.move("w2")
        scheduler.replace(PlacementRequest("resources=VCPU:2", consumer="w2"), leaves=["c1/web"])
        ((_, row),) = scheduler.allocations("w2")
        assert row.groups == ()
        assert scheduler.move("w2", to=third).root == third


def test_a_node_is_evacuated(site: FollowedLog) -> None:
    site.report("h1", cell="c1", VCPU={"total": 8})
    with site.scheduler() as scheduler:
        for number in range(3):
            scheduler.place(PlacementRequest("resources=VCPU:2", consumer=f"vm-{number}"))
        disable(site, "h1")
        site.report("h2", cell="c1", VCPU={"total": 4})
        site.report("far", cell="c2", VCPU={"total": 64})
        planned = list(scheduler.evacuate("h1", dry_run=True))
        assert [one.to for one in planned] == ["h2", "h2", ""]
        assert isinstance(planned[2].error, NoValidHost)
        assert next(iter(scheduler.evacuate("h1", dry_run=True))).to == "h2", "a plan reserves nothing"
        done = list(scheduler.evacuate("h1"))
        assert [(one.consumer, one.to) for one in done] == [("vm-0", "h2"), ("vm-1", "h2"), ("vm-2", "")]
        assert holds(scheduler, "vm-1") == {("h2", "VCPU"): 2}
        assert holds(scheduler, "vm-2") == {("h1", "VCPU"): 2}


def test_rules_before_version_4_move_and_resize_what_they_can(tmp_path: Path) -> None:
    with followed_log(tmp_path, rules_version=3) as site, site.scheduler() as scheduler:
        report(site, "n")
        scheduler.place(PlacementRequest(pinned(2), consumer="a"))
        scheduler.place(PlacementRequest(pinned(2, MEMORY_MB=1024), consumer="b"))
        scheduler.place(PlacementRequest("resources=VCPU:1", consumer="c"))
        scheduler.resize("b", {"MEMORY_MB": 2048})
        before = cpus(scheduler, "b")
        release(scheduler, "a")
        with pytest.raises(UsageError, match="rules version 4 keeps them"):
            scheduler.resize("b", {"MEMORY_MB": 1024})
        assert cpus(scheduler, "b") == before
        with pytest.raises(UsageError, match="need version 4"):
            scheduler.update("c", project="p")
        report(site, "n2")
        assert scheduler.move("c").root == "n2"
        assert scheduler.move("b").root == "n2"


def test_a_place_where_the_consumer_is_is_listed_once(site: FollowedLog) -> None:
    report(site, "n1")
    report(site, "n2")
    together = RequestGroup(same_provider=False, resources={"VCPU": 1, "MEMORY_MB": 1})
    with site.scheduler() as scheduler:
        spec = RequestSpec(groups=(together,))
        there = scheduler.place(PlacementRequest(spec, consumer="c")).root
        found = scheduler.candidates(spec, consumer="c").candidates
        assert [one.root for one in found] == [there, *({"n1", "n2"} - {there})]


def test_a_request_with_a_group_that_asks_for_no_resources_is_resized(site: FollowedLog) -> None:
    report(site, "n")
    marked = RequestGroup(name="other", forbidden=("CUSTOM_BAD",))
    with site.scheduler() as scheduler:
        spec = RequestSpec(groups=(RequestGroup(resources={"VCPU": 1}), marked))
        scheduler.place(PlacementRequest(spec, consumer="c"))
        assert scheduler.resize("c", {"VCPU": 2}).root == "n"
        assert holds(scheduler, "c") == {("n", "VCPU"): 2}


def test_a_sharing_provider_does_not_get_the_aggregates_of_the_tree(site: FollowedLog) -> None:
    site.report("n", cell="c1", VCPU={"total": 4})
    shares = events.ProviderReport(
        id="pool", inventories={"DISK_GB": {"total": 9}}, traits=("MISC_SHARES_VIA_AGGREGATE",)
    )
    data = events.NodeReportedData(root="pool", incarnation="1" * 16, sequence=1, providers=(shares,))
    site.append("c1", events.NodeReported(id="e", source="/test", data=data))
    for provider, aggregates in (("n", ("fast", "pools")), ("pool", ("pools",))):
        facts = events.OperatorSettings(aggregates=aggregates)
        settings = events.OperatorSettingsData(provider=provider, revision=1, facts=facts)
        site.append("c1", events.OperatorSettingsSet(id=f"e-{provider}", source="/test", data=settings))
    for of, found in (("pools", True), ("fast", False)):
        group = RequestGroup(same_provider=False, resources={"VCPU": 1}, member_of=((of,),))
        with site.scheduler() as scheduler:
            scheduler.place(PlacementRequest(RequestSpec(groups=(group,)), consumer=of))
            if found:
                scheduler.resize(of, {"DISK_GB": 1})
                assert holds(scheduler, of) == {("n", "VCPU"): 1, ("pool", "DISK_GB"): 1}
                continue
            with pytest.raises(NoValidHost):
                scheduler.resize(of, {"DISK_GB": 1})


def test_a_log_that_does_not_answer_has_not_lost_the_request(
    site: FollowedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A soak found it: after the broker was killed, a move said that the log no longer had the claim."""
    report(site, "n1")
    report(site, "n2")
    with site.scheduler() as scheduler:
        scheduler.place(PlacementRequest("resources=VCPU:1", consumer="vm"))
        before = holds(scheduler, "vm")

        def unavailable(*_: Any, **__: Any) -> list[Record]:
            raise LogUnavailable("no broker answers")

        def silent(*_: Any, **__: Any) -> list[Record]:
            return []

        for read, text in ((unavailable, "no broker answers"), (silent, "did not answer within 5 s")):
            with monkeypatch.context() as broken:
                broken.setattr(site.log, "read", read)
                with pytest.raises(LogUnavailable, match=text):
                    scheduler.move("vm")
        assert holds(scheduler, "vm") == before
        assert scheduler.move("vm").status == "placed"
