"""Questions about a store are answered from its tables, and what is not there is said so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.support.logs.followed_log import FollowedLog, followed_log, wait_for
from vacancy.clients.admin import operator
from vacancy.clients.inspection import lookup
from vacancy.clients.inspection.status import dead_letters, status
from vacancy.clients.replay_tool.set_aside import set_aside
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.clients.scheduler.store_query import StoreQuery
from vacancy.resources.model import events
from vacancy.resources.model.errors import NoValidHost, StoreError, UsageError
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.request import RequestGroup, RequestSpec
from vacancy.streams.clocks.clock import wall_ms
from vacancy.streams.log_url import parse_log_url
from vacancy.streams.memory_log import MemoryLog

SPEC = RequestSpec(groups=(RequestGroup(resources={"VCPU": 2}),))
GPU = RequestSpec(
    groups=(RequestGroup(resources={"VCPU": 2}), RequestGroup(name="gpu", resources={"CUSTOM_GPU": 1}))
)
ODD = {"total": 10, "reserved": 2, "step_size": 2, "allocation_ratio_milli": 1500}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FollowedLog]:
    with followed_log(tmp_path) as site:
        site.report("node-1", gpus=2)
        yield site


def test_a_provider_is_shown_with_all_below_it_and_all_who_hold_it(site: FollowedLog) -> None:
    with site.scheduler() as scheduler:
        outcome = scheduler.place(PlacementRequest(GPU, consumer="c"))
    tree = lookup.show_provider(site.reader, "node-1")
    assert [one.id for one in tree.providers] == ["node-1", "node-1:gpu0", "node-1:gpu1"]
    assert tree.node is not None
    assert (tree.node.state, tree.node.sequence) == ("open", 1)
    (vcpu,) = tree.providers[0].inventories
    assert (vcpu.capacity, vcpu.used, vcpu.free, vcpu.limits["max_unit"]) == (8, 2, 6, 8)
    given = {(a.provider, name) for a in outcome.allocations for name in a.resources}
    assert {(one.provider, one.resource_class) for one in tree.holdings} == given
    assert all(one.claim == outcome.claim for one in tree.holdings)
    (gpu,) = lookup.show_provider(site.reader, "node-1:gpu0").providers
    assert (gpu.parent, gpu.inventories[0].capacity) == ("node-1", 1)
    json.dumps(asdict(tree))


def test_capacity_is_what_can_be_given_out(site: FollowedLog) -> None:
    site.report("node-2", MEMORY_MB=ODD)
    operator.set_operator_settings(
        site.log, site.reader, "node-2", operator.override("MEMORY_MB", {"allocation_ratio_milli": 2000})
    )
    (node,) = lookup.show_provider(site.reader, "node-2").providers
    (memory,) = node.inventories
    assert (memory.capacity, memory.limits["step_size"], memory.record["ratio_milli"]) == (16, 2, 1500)
    assert node.facts is not None
    assert node.facts["overrides"] == {"MEMORY_MB": {"allocation_ratio_milli": 2000}}
    assert node.generation == memory.changed


def test_what_is_not_there_is_said_with_what_may_be_meant(site: FollowedLog) -> None:
    with pytest.raises(lookup.NotFound, match="did you mean node-1"):
        lookup.show_provider(site.reader, "node-11")
    with pytest.raises(lookup.NotFound, match="see `vacancy show nodes`"):
        lookup.show_provider(site.reader, "something else")
    with pytest.raises(lookup.NotFound, match="in cell elsewhere"):
        lookup.show_provider(site.reader, "node-1", cell="elsewhere")
    for ask in (lookup.show_consumer, lookup.show_claim, lookup.show_request):
        with pytest.raises(lookup.NotFound, match="'none'"):
            ask(site.reader, "none")


def test_a_root_in_two_cells_is_reported_and_must_be_named(site: FollowedLog) -> None:
    first, second = covering_cells(2)
    home = lookup.provider_cell(site.reader, "node-1")
    other = second if home == first else first
    site.report("node-1", cell=other)
    with pytest.raises(UsageError, match="choose one with --cell"):
        lookup.show_provider(site.reader, "node-1")
    tree = lookup.show_provider(site.reader, "node-1", cell=other)
    assert tree.node is not None
    assert (tree.node.state, len(tree.providers)) == ("in two cells", 1)
    assert status(site.reader).clashes == {"node-1": sorted([first, second])}
    assert status(site.reader).node_states == {"in two cells": 2}


def test_nodes_that_take_no_claims_are_reported_with_why(site: FollowedLog) -> None:
    cell = lookup.provider_cell(site.reader, "node-1")
    incarnation = next(lookup.nodes(site.reader)).incarnation
    beat = events.NodeData(root="node-1", incarnation=incarnation, sequence=3)
    site.append(cell, events.NodeHeartbeat(id="gap", source="/test", data=beat))
    assert [node.state for node in lookup.nodes(site.reader)] == ["incomplete"]
    end = events.NodeData(root="node-1", incarnation=incarnation, sequence=4)
    site.append(cell, events.NodeRetired(id="end", source="/test", data=end))
    assert [node.state for node in lookup.nodes(site.reader)] == ["retired"]


def test_claims_and_requests_are_shown_with_how_they_ended(site: FollowedLog) -> None:
    with site.scheduler() as scheduler:
        outcome = scheduler.place(PlacementRequest(SPEC, consumer="c", id="r-1", project="p"))
        verdict = lookup.show_claim(site.reader, outcome.claim)
        assert (verdict.accepted, verdict.consumer, verdict.cell) == (True, "c", outcome.cell)
        (held,) = lookup.show_consumer(site.reader, "c")
        assert (held.claim, held.request, held.project, held.generation) == (outcome.claim, "r-1", "p", 1)
        with pytest.raises(NoValidHost):
            scheduler.place(
                PlacementRequest(RequestSpec(groups=(RequestGroup(resources={"VCPU": 7}),)), id="r-2")
            )
    wait_for(site.reader, site.log.end())
    request = lookup.show_request(site.reader, "r-1")
    assert (request.outcome, request.claim) == ("placed", outcome.claim)
    assert request.spec["groups"][0]["resources"] == {"VCPU": 2}
    refused = lookup.show_request(site.reader, "r-2")
    assert (refused.outcome, refused.claim) == ("no_valid_host", None)
    assert sum(one.requests_open for one in status(site.reader).partitions) == 0


def test_a_claim_on_a_cell_without_nodes_is_found(site: FollowedLog) -> None:
    allocation = events.Allocation(provider="nowhere", resources={"VCPU": 1})
    now = max(site.reader.log_time_ms(p) for p in (0, 1))
    claim = events.Claim(id="k", consumer="c", allocations=(allocation,), deadline_ms=now + 60_000)
    data = events.ClaimsRequestedData(claims=(claim,))
    site.append("empty", events.ClaimsRequested(id="e", source="/test", data=data))
    verdict = lookup.show_claim(site.reader, "k")
    assert (verdict.cell, verdict.accepted, verdict.reason) == ("empty", False, "provider_unknown")


def test_dead_letters_are_kept_by_partition_and_offset(site: FollowedLog) -> None:
    first, second = covering_cells(2)
    for cell in (second, first, first):
        (landed,) = site.log.append([NewRecord(cell, b"no event")])
    site.append(first, events.Tick(id="t", source="/test"))
    site.append(second, events.Tick(id="t", source="/test"))
    found = dead_letters(site.reader)
    assert [one.partition for one in found] == [0, 0, 1]
    assert found[1].offset == found[0].offset + 1 == landed.offset
    assert found[0].value == "no event"
    assert dead_letters(site.reader, partition=0, limit=1) == [found[1]]
    assert [one.dead_letters for one in status(site.reader).partitions] == [2, 1]


def test_status_tells_how_far_behind_the_log_each_partition_is(tmp_path: Path) -> None:
    with followed_log(tmp_path, follow=False) as site:
        site.log.append([NewRecord(covering_cells(2)[1], b"not yet read")] * 3)
        found = status(site.reader, site.log.end())
        assert [(one.position, one.end, one.lag) for one in found.partitions] == [(1, 1, 0), (1, 4, 3)]
        assert [one.lag for one in status(site.reader).partitions] == [None, None]
        assert found.log == site.log.identity().log


def test_status_shows_how_far_log_time_is_ahead_of_this_host(tmp_path: Path) -> None:
    with followed_log(tmp_path, partitions=1) as site:
        assert [one.ahead_s for one in status(site.reader).partitions] == [0]
        wrong = MemoryLog(parse_log_url(site.log.url), lambda: wall_ms() + 7_200_000)
        (landed,) = wrong.append([NewRecord(covering_cells(1)[0], b"")])
        wait_for(site.reader, {0: landed.offset + 1})
        (one,) = status(site.reader).partitions
        assert 3_500 < one.ahead_s <= 3_600  # one record moves log time by an hour


def test_candidates_need_no_log(site: FollowedLog) -> None:
    with StoreQuery(site.store, site.registry, order="pack", seed=1) as query:
        ((found,), as_of, as_of_ms, gave_up) = query.candidates(SPEC)
        assert (as_of, as_of_ms, gave_up) == (site.reader.position, site.reader.newest_ms, 0)
        assert found.root == "node-1"
        assert query.candidates(SPEC, max_staleness_s=60).candidates == [found]
        assert query.candidates(SPEC, order="pack:3").candidates == [found]
        assert query.candidates("resources=VCPU:2").candidates == [found]
        assert query.explain("resources=VCPU:99").left == 0
        assert not query.why_not("resources=VCPU:99", "node-1").fits
        for unknown in ("best", "best:4"):
            with pytest.raises(UsageError, match="unknown order 'best'"):
                query.candidates(SPEC, order=unknown)
        for wrong in ("pack:", "pack:0", "pack:-1", "pack:many", "pack:1001", "pack:2:3"):
            with pytest.raises(UsageError, match="number of best nodes to choose from"):
                query.candidates(SPEC, order=wrong)


def test_a_store_is_set_aside_only_when_nobody_writes_it(tmp_path: Path) -> None:
    assert set_aside(tmp_path / "none") is None
    with followed_log(tmp_path) as site:
        site.report("node-1")
    first = set_aside(tmp_path / "store")
    assert first is not None
    assert (first / "store.json").exists()
    assert not (tmp_path / "store").exists()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "p00000").mkdir()
    second = set_aside(tmp_path / "store")
    assert second not in (None, first)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "other").touch()
    with pytest.raises(StoreError, match="no store"):
        set_aside(tmp_path / "files")
