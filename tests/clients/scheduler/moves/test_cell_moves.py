"""Moves between cells: one call moves a consumer, both halves are seen while it runs, and anybody goes on with what is open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.logs.followed_log import FollowedLog, followed_log, wait_for
from vacancy.clients.admin import operator
from vacancy.clients.inspection.cell_moves import cell_moves
from vacancy.clients.scheduler.moves.cell_moves import CellMoves
from vacancy.clients.scheduler.moves.holdings import NothingHeld
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.clients.scheduler.store_query import StoreQuery
from vacancy.resources.model.errors import ClaimLost, NoValidHost, UsageError
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.request import RequestGroup, RequestSpec
from vacancy.resources.model.server_group import ServerGroupMembership
from vacancy.resources.state.tables import ALLOCATIONS, key

A, B, C = covering_cells(3)
VCPU_4 = "resources=VCPU:4"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FollowedLog]:
    """Three cells with a node each: `src`, `dst`, and `small` with room for 2. vm-1 holds 4 VCPU of `src`."""
    with followed_log(tmp_path, partitions=3) as found:
        found.report("src", cell=A)
        found.report("dst", cell=B)
        found.report("small", cell=C, VCPU={"total": 2})
        with found.scheduler() as scheduler:
            request = f"{VCPU_4}&in_tree=src"
            scheduler.place(PlacementRequest(request, "vm-1", project="p", user="u", consumer_type="T"))
        wait_for(found.reader, found.log.end())
        yield found


@pytest.fixture
def moves(site: FollowedLog) -> Iterator[CellMoves]:
    with StoreQuery(site.store, site.registry) as query:
        yield CellMoves(site.log, query, timeout_s=10.0)


def held(site: FollowedLog, consumer: str = "vm-1") -> list[str]:
    """The providers that a consumer has something of."""
    wait_for(site.reader, site.log.end())
    rows = [site.reader.get(ALLOCATIONS, key(cell, consumer)) for cell in (A, B, C)]
    return [part.provider for row in rows if row is not None for part in row.parts]


def test_one_call_moves_a_consumer_to_another_cell(site: FollowedLog, moves: CellMoves) -> None:
    done = moves.move("vm-1", VCPU_4)
    assert (done.status, done.source, done.destination, done.held_in) == ("finished", A, B, (B,))
    assert held(site) == ["dst"]
    row = site.reader.get(ALLOCATIONS, key(B, "vm-1"))
    assert row is not None
    assert (row.claim, row.project, row.user, row.consumer_type) == (done.id, "p", "u", "T")
    assert row.hold_until_ms == 0
    assert cell_moves(site.reader) == []
    assert [one.status for one in cell_moves(site.reader, ended=True)] == ["finished"]
    assert moves.move("vm-1", VCPU_4, to="src").status == "finished"
    assert held(site) == ["src"]


def test_while_it_waits_both_halves_are_held_and_it_is_listed(site: FollowedLog, moves: CellMoves) -> None:
    begun = moves.move("vm-1", VCPU_4, cell=B, waits=True)
    assert (begun.status, begun.held_in) == ("open", (A, B))
    assert begun.reason == f"the claim in {B} is not confirmed"
    assert held(site) == ["src", "dst"]
    assert cell_moves(site.reader, "vm-1") == [begun]
    assert moves.resume(begun.id) == begun
    with pytest.raises(UsageError, match=f"is being moved to cell {B} already"):
        moves.move("vm-1", VCPU_4, cell=B)
    operator.confirm(site.log, site.reader, "vm-1")
    (still,) = cell_moves(site.reader)
    assert still.reason == f"what it held in {A} is not released"
    assert [one.status for one in moves.resume_all()] == ["finished"]
    assert held(site) == ["dst"]


def test_a_half_that_is_resized_meanwhile_is_named(site: FollowedLog, moves: CellMoves) -> None:
    begun = moves.move("vm-1", VCPU_4, cell=B, waits=True)
    with site.scheduler() as scheduler:
        scheduler.resize("vm-1", {"VCPU": 3}, cell=B)
    (still,) = cell_moves(site.reader)
    assert still.reason == f"what it holds in {B} was resized or placed again meanwhile"
    with pytest.raises(UsageError, match="release one half with `vacancy release vm-1 --cell NAME`"):
        moves.move("vm-1", VCPU_4, cell=B)
    operator.release(site.log, site.reader, ["vm-1"], cell=B)
    assert moves.resume(begun.id).status == "undone"
    assert held(site) == ["src"]


def test_a_resized_half_that_is_not_confirmed_finishes_nothing(site: FollowedLog, moves: CellMoves) -> None:
    begun = moves.move("vm-1", VCPU_4, cell=B, waits=True)
    with site.scheduler() as scheduler:
        scheduler.resize("vm-1", {"VCPU": 3}, cell=B)
    operator.release(site.log, site.reader, ["vm-1"], cell=A)
    row = site.reader.get(ALLOCATIONS, key(B, "vm-1"))
    assert row is not None
    assert row.hold_until_ms, "a resize keeps the end of a hold"
    still = moves.resume(begun.id)
    assert (still.status, still.reason) == ("open", f"the claim in {B} is not confirmed")
    operator.confirm(site.log, site.reader, "vm-1")
    assert moves.resume(begun.id).status == "finished"
    assert held(site) == ["dst"]


def test_a_move_that_waits_can_be_undone(site: FollowedLog, moves: CellMoves) -> None:
    begun = moves.move("vm-1", VCPU_4, cell=B, waits=True)
    assert moves.resume(begun.id, undo=True).status == "undone"
    assert held(site) == ["src"]
    assert moves.resume(begun.id).status == "undone"


def test_a_confirmed_move_is_not_undone(site: FollowedLog, moves: CellMoves) -> None:
    begun = moves.move("vm-1", VCPU_4, cell=B, waits=True)
    operator.confirm(site.log, site.reader, "vm-1")
    assert moves.resume(begun.id, undo=True).status == "finished"
    assert held(site) == ["dst"]


@pytest.mark.parametrize(
    ("cell", "status", "left"), [(A, "finished", ["dst"]), (B, "undone", ["src"]), (None, "released", [])]
)
def test_each_half_can_be_released_alone(
    site: FollowedLog, moves: CellMoves, cell: str | None, status: str, left: list[str]
) -> None:
    begun = moves.move("vm-1", VCPU_4, cell=B, waits=True)
    operator.confirm(site.log, site.reader, "vm-1")
    operator.release(site.log, site.reader, ["vm-1"], cell=cell)
    assert moves.resume(begun.id).status == status
    assert held(site) == left


def test_a_source_that_is_released_before_the_confirmation_releases_the_claim(
    site: FollowedLog, moves: CellMoves
) -> None:
    begun = moves.move("vm-1", VCPU_4, cell=B, waits=True)
    operator.release(site.log, site.reader, ["vm-1"], cell=A)
    assert moves.resume(begun.id).status == "released"
    assert held(site) == []


def test_where_there_is_no_room_it_stays(site: FollowedLog, moves: CellMoves) -> None:
    with pytest.raises(NoValidHost, match=f"no valid host for vm-1 in another cell than {A}"):
        moves.move("vm-1", VCPU_4, cell=C)
    with pytest.raises(NoValidHost):
        moves.move("vm-1", VCPU_4, not_nodes=["dst"])
    assert held(site) == ["src"]
    assert cell_moves(site.reader, ended=True) == []


def test_a_claim_that_others_win_is_undone(
    site: FollowedLog, moves: CellMoves, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = moves._maker.make

    def taken_first(*given: object, **more: object) -> object:
        claim = make(*given, **more)  # type: ignore[arg-type]
        with site.scheduler() as scheduler:
            scheduler.place(PlacementRequest("resources=VCPU:5&in_tree=dst", "other"))
        return claim

    monkeypatch.setattr(moves._maker, "make", taken_first)
    with pytest.raises(ClaimLost, match=f"vm-1 stays in cell {A}: no room, on dst, VCPU: asked 4"):
        moves.move("vm-1", VCPU_4)
    assert held(site) == ["src"]
    assert [one.status for one in cell_moves(site.reader, ended=True)] == ["undone"]


def test_what_cannot_be_moved_says_why(site: FollowedLog, moves: CellMoves, tmp_path: Path) -> None:
    with pytest.raises(NothingHeld, match="consumer 'vm-9' holds nothing"):
        moves.move("vm-9", VCPU_4)
    with site.scheduler() as scheduler:
        spec = RequestSpec(
            groups=(RequestGroup(resources={"VCPU": 1}),),
            memberships=(ServerGroupMembership(group=f"{B}/web", policy="anti-affinity"),),
        )
        scheduler.place(PlacementRequest(spec, "web-1"))
    with pytest.raises(UsageError, match=r"web-1 is in server groups of cell .*: web"):
        moves.move("web-1", "resources=VCPU:1")
    with (
        followed_log(tmp_path / "old", rules_version=3) as old,
        StoreQuery(old.store, old.registry) as query,
        pytest.raises(UsageError, match="moves between cells need version 4"),
    ):
        CellMoves(old.log, query)
