"""Why a node is not a candidate: its state, and the events behind it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support.logs.followed_log import FollowedLog, followed_log, wait_for
from vacancy.clients.admin import operator
from vacancy.clients.inspection.provenance import EventLookup, place_text, taking_text
from vacancy.clients.inspection.why_not import Lack, why_not
from vacancy.clients.runtime.bootstrap import new_log, open_store, tick_entry
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.placement import Outcome, PlacementRequest
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model import events
from vacancy.resources.model.errors import ClaimLost, ConsumerExists, NoValidHost, UsageError
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.request import RequestGroup, RequestSpec
from vacancy.streams.log import Log, open_log
from vacancy.streams.worker.embedded_worker import EmbeddedWorker


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FollowedLog]:
    with followed_log(tmp_path) as site:
        yield site


CELLS = covering_cells(2)
SPEC = RequestSpec(groups=(RequestGroup(resources={"VCPU": 6}),))


def lacks_of(site: FollowedLog, node: str, spec: RequestSpec = SPEC, **more: object) -> list[Lack]:
    told = why_not(site.reader, spec, node, log=site.log, **more)  # type: ignore[arg-type]
    assert not told.fits
    return [lack for group in told.groups for lack in group.providers[0].lacks] + told.whole


def test_the_consumer_that_took_the_last_is_found_after_it_is_gone(site: FollowedLog) -> None:
    """It is found in the log, and while it holds something in the tables too."""
    site.report("n1", cell=CELLS[0])
    with site.scheduler() as scheduler:
        scheduler.place(PlacementRequest("resources=VCPU:1", consumer="c0"))
        first = scheduler.place(PlacementRequest(SPEC, consumer="c1"))
        offset = lacks_of(site, "n1")[0].event
        assert offset is not None
        taken = offset.offset
        assert (offset.consumer, offset.type) == ("c1", "vacancy.claims.requested.v2")
        told = why_not(site.reader, SPEC, "n1").groups[0].providers[0].lacks[0].event
        assert told is not None
        assert (told.offset, told.time_ms, told.consumer) == (taken, None, "c1")
        scheduler.release([first])
        wait_for(site.reader, site.log.end())
        assert why_not(site.reader, SPEC, "n1").fits
        spec = RequestSpec(groups=(RequestGroup(resources={"VCPU": 8}),))
        again = lacks_of(site, "n1", spec)[0].event
        assert again is not None
        assert (again.offset, again.consumer) == (taken, "c1")
        assert taking_text(again).startswith(f"last taken by c1 at {again.partition}:{taken}, 20")
        gone = why_not(site.reader, spec, "n1").groups[0].providers[0].lacks[0].event
        assert gone is not None
        assert (gone.consumer, place_text(gone)) == (None, f"{gone.partition}:{taken}")
        assert taking_text(gone) == f"last taken at {gone.partition}:{taken}"


def test_another_log_is_not_asked(site: FollowedLog, tmp_path: Path) -> None:
    site.report("n1", cell=CELLS[0])
    with site.scheduler() as scheduler:
        scheduler.place(PlacementRequest(SPEC, consumer="c1"))
    wait_for(site.reader, site.log.end())
    with followed_log(tmp_path / "other") as other, open_log(other.log.url) as wrong:
        found = EventLookup(site.reader, wrong).taking(CELLS[0], 3, "n1", "VCPU")
        assert found.time_ms is None


def test_what_is_too_small_was_taken_by_nobody(site: FollowedLog) -> None:
    site.report("n1", cell=CELLS[0])
    spec = RequestSpec(groups=(RequestGroup(resources={"VCPU": 9}),))
    assert [(one.constraint, one.event) for one in lacks_of(site, "n1", spec)] == [
        ("VCPU: free >= 9", None),
        ("VCPU: max_unit >= 9", None),
    ]


UNHELD: dict[str, Any] = {
    "VCPU": {"total": 8},
    "PGPU": {"devices": {"a": {"model": "A100"}, "b": {"model": "A100"}}},
    "NUMA_CELL": {"cores": [[0], [1], [2], [3]], "memory_mb": 4096, "hugepages": {"1048576": 2}},
}


@pytest.mark.parametrize(
    ("name", "small", "large"),
    [
        ("VCPU", 7, 9),
        ("PGPU", 1, {"count": 1, "where": {"model": "H200"}}),
        ("PGPU", 2, {"count": 3}),
        ("NUMA_CELL", {"pinned": 4}, {"pinned": 6}),
        ("NUMA_CELL", {"pinned": 3}, {"pinned": 2, "threads": "require"}),
        ("NUMA_CELL", {"pinned": 1}, {"pinned": 1, "memory_mb": 3072, "page_kib": 1_048_576}),
        ("NUMA_CELL", {"pinned": 1}, {"pinned": 1, "memory_mb": 512, "page_kib": 2048}),
    ],
)
def test_what_no_release_would_help_names_no_consumer(
    site: FollowedLog, name: str, small: Any, large: Any
) -> None:
    """A node without such a GPU is not short of it because of who took another one last (nomad-device-nvidia#60)."""
    site.report("n1", cell=CELLS[0], **UNHELD)
    with site.scheduler() as scheduler:
        held = RequestSpec(groups=(RequestGroup(resources={name: small}),))
        scheduler.place(PlacementRequest(held, consumer="c1"))
    wait_for(site.reader, site.log.end())
    lacks = lacks_of(site, "n1", RequestSpec(groups=(RequestGroup(resources={name: large}),)))
    assert [(one.resource_class, one.event) for one in lacks] == [(name, None)] * len(lacks)
    assert "would not fit if nothing were held" in {one.why for one in lacks}
    again = lacks_of(site, "n1", RequestSpec(groups=(RequestGroup(resources={name: UNHELD_ALL[name]}),)))
    assert [one.event.consumer for one in again if one.event is not None] == ["c1"]


UNHELD_ALL: dict[str, Any] = {"VCPU": 8, "PGPU": 2, "NUMA_CELL": {"pinned": 4}}


def test_the_members_of_a_server_group_are_named(site: FollowedLog) -> None:
    """kubernetes#100400: which consumer it is."""
    for node in ("n1", "n2"):
        site.report(node, cell="c1", VCPU={"total": 8})

    def asked(policy: str, tree: str | None = None) -> RequestSpec:
        rule = {"group": f"c1/{policy}", "policy": policy}
        group = {"resources": {"VCPU": 1}, "in_tree": tree}
        return RequestSpec.model_validate({"groups": (group,), "memberships": (rule,)})

    with site.scheduler() as scheduler:
        for policy in ("affinity", "anti-affinity"):
            scheduler.place(PlacementRequest(asked(policy, "n1"), consumer=policy))
        wait_for(site.reader, site.log.end())
        (apart,) = lacks_of(site, "n1", asked("anti-affinity"))
        assert (apart.kind, apart.why) == ("group", "its members here: anti-affinity")
        (near,) = lacks_of(site, "n2", asked("affinity"))
        assert (near.kind, near.why) == ("group", "its members are on n1")
        other = asked("affinity").memberships[0].model_copy(update={"group": "c1/anti-affinity"})
        with pytest.raises(
            UsageError, match="has another rule: hard anti-affinity, at most 1 together, not hard affinity"
        ):
            scheduler.place(asked("affinity").model_copy(update={"memberships": (other,)}))


def test_the_last_taker_is_named_whatever_the_column_is_called(site: FollowedLog) -> None:
    """Of shares of GPUs the column is `largest`; of devices with attributes the class itself refuses."""
    gpus = {"devices": {"gpu0": {"total": 1000}, "gpu1": {"total": 1000, "model": "A100"}}}
    cards = {"devices": {"0000:01:00.0": {"vendor": "10de"}, "0000:02:00.0": {"vendor": "8086"}}}
    site.report("n1", cell=CELLS[0], GPU_SHARE=gpus, PCI_DEVICE=cards)
    one_card: dict[str, Any] = {"count": 1, "where": {"vendor": "10de"}}
    with site.scheduler() as scheduler:
        for consumer, ask in (("c1", 700), ("c2", 800)):
            spec = RequestSpec(groups=(RequestGroup(resources={"GPU_SHARE": ask}),))
            scheduler.place(PlacementRequest(spec, consumer=consumer))
        spec = RequestSpec(groups=(RequestGroup(resources={"PCI_DEVICE": one_card}),))
        scheduler.place(PlacementRequest(spec, consumer="c3"))
    share = RequestSpec(groups=(RequestGroup(resources={"GPU_SHARE": 500}),))
    cards_of_nvidia = RequestSpec(groups=(RequestGroup(resources={"PCI_DEVICE": one_card}),))
    for asked, constraint, consumer in (
        (share, "GPU_SHARE: largest >= 500", "c2"),
        (cards_of_nvidia, f"PCI_DEVICE: {json.dumps(one_card)} fits", "c3"),
    ):
        (lack,) = lacks_of(site, "n1", asked)
        assert (lack.constraint, lack.event and lack.event.consumer) == (constraint, consumer)


def test_a_node_in_two_cells_is_reported_where(site: FollowedLog) -> None:
    for cell in CELLS:
        site.report("n1", cell=cell)
    (lack,) = lacks_of(site, "n1")
    assert lack.why == (
        f"its node is live in cells {' and '.join(sorted(CELLS))}: retire it in the cell that it left"
    )


def test_a_node_with_a_gap_is_incomplete(site: FollowedLog) -> None:
    site.report("n1", cell=CELLS[0])
    node = site.reader
    row = why_not(node, SPEC, "n1").node
    assert row is not None
    data = events.NodeChangedData(root="n1", incarnation=row.incarnation, sequence=row.sequence + 2)
    site.append(CELLS[0], events.NodeChanged(id=uuid4().hex, source="/test", data=data))
    (lack,) = lacks_of(site, "n1")
    assert lack.why == "a report of its node is missing: its next full report makes it complete"


def test_a_part_is_closed_by_itself_and_by_its_node(site: FollowedLog) -> None:
    site.report("n1", cell=CELLS[0], gpus=1)
    spec = RequestSpec(groups=(RequestGroup(resources={"CUSTOM_GPU": 1}),))
    operator.set_operator_settings(site.log, site.reader, "n1:gpu0", operator.disable("hot"))
    (lack,) = lacks_of(site, "n1", spec)
    assert lack.why == "n1:gpu0 is disabled by an operator (hot), revision 1"
    assert lack.event is not None
    assert lack.event.source == operator.SOURCE
    operator.set_operator_settings(site.log, site.reader, "n1:gpu0", operator.enable())
    operator.set_operator_settings(site.log, site.reader, "n1", operator.drain())
    (lack,) = lacks_of(site, "n1", spec)
    assert lack.why == "n1 is draining by an operator, revision 1"


def test_the_error_explains_itself_when_it_is_asked(site: FollowedLog) -> None:
    site.report("n1", cell=CELLS[0])
    spec = RequestSpec(groups=(RequestGroup(resources={"VCPU": 9}),))
    with site.scheduler() as scheduler:
        with pytest.raises(NoValidHost) as raised:
            scheduler.place(spec)
        told = raised.value.explanation
        assert (told.nodes, told.left, [one.root for one in told.nearest]) == (1, 0, ["n1"])
        assert raised.value.explanation is told
        assert scheduler.explain(spec) == told
        assert scheduler.explain(SPEC).left == 1


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[tuple[EmbeddedWorker, Log, Path]]:
    """A node of 8 VCPU in one cell, and a worker that continues when the test allows it."""
    registry = Registry()
    with (
        new_log(f"memory://{uuid4()}", 1, registry) as log,
        open_store(tmp_path / "store", log, registry) as store,
    ):
        worker = EmbeddedWorker(log, store, tick_entry=lambda p: tick_entry(p, 1), poll_s=0.0005)
        data = events.NodeReportedData(
            root="n1",
            incarnation="0" * 16,
            sequence=1,
            providers=(events.ProviderReport(id="n1", inventories={"VCPU": {"total": 8}}),),
        )
        node = events.NodeReported(id="r1", source="/test", data=data)
        log.append([NewRecord(covering_cells(1)[0], events.encode(node))])
        while worker.step():
            pass
        yield worker, log, tmp_path / "store"


def finish(worker: EmbeddedWorker, log: Log, records: int) -> None:
    """Fold once the log has that number of records."""
    for _ in range(5000):
        if log.end()[0] >= records:
            break
        time.sleep(0.002)
    while worker.step():
        pass


def test_a_lost_claim_names_who_took_the_last(alone: tuple[EmbeddedWorker, Log, Path]) -> None:
    """Another takes it first in the log, while this scheduler has not read so far."""
    worker, log, store = alone
    with Scheduler(log, store, Registry(), record_requests=False, attempts=1) as scheduler:
        bid = events.Claim(
            id="claim-1",
            consumer="swift-1",
            allocations=(events.Allocation(provider="n1", resources={"VCPU": 8}),),
            deadline_ms=int(time.time() * 1000) + 60_000,
        )
        data = events.ClaimsRequestedData(claims=(bid,))
        event = events.ClaimsRequested(id="e1", source="/test", data=data)
        (landed,) = log.append([NewRecord(covering_cells(1)[0], events.encode(event))])
        folding = threading.Thread(target=finish, args=(worker, log, landed.offset + 2))
        folding.start()
        with pytest.raises(ClaimLost, match="no room, on n1, VCPU: asked 6, available 0") as raised:
            scheduler.place(PlacementRequest(SPEC, consumer="late-1"))
        folding.join()
    assert f"last taken by swift-1 at 0:{landed.offset}, 20" in str(raised.value)


def test_a_request_that_is_invalid_costs_no_outcome_of_others(site: FollowedLog) -> None:
    site.report("n1", cell=CELLS[0])
    small = RequestSpec(groups=(RequestGroup(resources={"VCPU": 1}),))
    wrong = RequestSpec(groups=(RequestGroup(resources={"VCPUS": 1}),))
    with site.scheduler() as scheduler:
        outcomes: list[Outcome] = []
        with pytest.raises(UsageError, match="unknown resource class"):
            outcomes.extend(scheduler.place_many([small, small, wrong, small]))
        assert [one.status for one in outcomes] == ["placed", "placed"]


def test_a_consumer_that_holds_something_already_is_named_with_the_time_since_when(site: FollowedLog) -> None:
    site.report("n1", cell=CELLS[0])
    small = RequestSpec(groups=(RequestGroup(resources={"VCPU": 1}),))
    with site.scheduler() as scheduler:
        scheduler.place(PlacementRequest(small, consumer="c1"))
        with pytest.raises(ConsumerExists, match=r"consumer exists, taken at \d:\d+, 20"):
            scheduler.place(PlacementRequest(small, consumer="c1"))
