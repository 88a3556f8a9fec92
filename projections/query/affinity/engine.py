"""Requests that look at others: server groups, and several copies at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from vacancy.projections.query.affinity.constrained_search import CopyRequest, find_constrained, only, rows_of
from vacancy.projections.query.affinity.gang_scheduler import find_gang
from vacancy.projections.query.affinity.occupancy import OccupancyIndex, are_on, occupancy_of
from vacancy.projections.query.budget import SearchBudget
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.tree_search import PlacementLimits
from vacancy.projections.ranking.orders import Order
from vacancy.projections.view.columns import Bools
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.group_members import ReservedMembership
from vacancy.resources.model.request import RequestSpec
from vacancy.resources.model.server_group import group_cell, group_name
from vacancy.resources.state.tables import key

if TYPE_CHECKING:
    from vacancy.projections.query.engine import Candidate

SearchFor = Callable[
    [CompiledRequest, int, Order, "str | None", "PlacementLimits | None", bool], "list[Candidate]"
]
"""(spec, limit, order, cell, limits, one a tree) -> candidates among the nodes that are open."""


def find_with_affinity(
    view: FleetView,
    request: CompiledRequest,
    search: SearchFor,
    *,
    limit: int,
    order: Order,
    rng: np.random.Generator,
    cell: str | None,
    one_a_tree: bool,
    effort: SearchBudget,
) -> list[Candidate]:
    """Up to `limit` candidates; for several copies, one a cell at most."""
    spec = request.spec
    if spec.memberships:
        home = group_cell(spec.memberships[0].group)
        if cell not in (None, home):
            return []
        cell = home
    one = request.copy

    def search_one(
        limit: int, order: Order, cell: str | None, limits: PlacementLimits | None, one_a_tree: bool
    ) -> list[Candidate]:
        return search(one, limit, order, cell, limits, one_a_tree)

    asked = CopyRequest(view, spec, one, search_one, order, effort, view.open)
    if spec.copies == 1:
        return find_constrained(asked, OccupancyIndex(view, spec), limit, cell, one_a_tree=one_a_tree)
    cells = list(view.cells) if cell is None else [cell.encode()]
    found = []
    for number in rng.permutation(len(cells)).tolist():
        gang = find_gang(asked, cells[number].decode())
        if gang is not None:
            found.append(gang)
            if len(found) == limit:
                break
    return found


def hard_groups(view: FleetView, spec: RequestSpec) -> Iterator[tuple[str, Bools]]:
    """What each hard membership asks, for people, and by row of a root whether it holds there."""
    for one in spec.memberships:
        number = view.cells.get(group_cell(one.group).encode(), -1)
        here: Bools = view.cell[: view.size] == number
        where = "" if one.scope is None else f", by aggregates {one.scope}..."
        yield f"cell of group {one.group}", here
        if one.hard:
            yield f"{one.policy} to group {one.group}{where}", occupancy_of(view, one).allowed() & here


def joining(
    view: FleetView, spec: RequestSpec, consumer: str, candidate: Candidate
) -> list[ReservedMembership]:
    """What a claim of this candidate makes its consumer a member of, for the time it is under way."""
    if not spec.memberships:
        return []
    places = tuple(_place(view, one) for one in candidate.copies or (candidate,))
    return [
        ReservedMembership(key(candidate.cell, group_name(one.group)), consumer, places)
        for one in spec.memberships
    ]


@contextmanager
def closed(view: FleetView, roots: Iterable[str]) -> Iterator[None]:
    """For the time of a search, nothing is found in these trees."""
    rows = [
        row
        for id_ in roots
        for cell in view.cells
        if (row := view.row_of.get(cell + b"\0" + id_.encode())) is not None
    ]
    allowed = np.ones(view.size, dtype=np.bool_)
    allowed[rows] = False
    with only(view, allowed[view.root[: view.size]]):
        yield


def _place(view: FleetView, one: Candidate) -> tuple[bytes, ...]:
    """The keys of the providers that a copy is on."""
    return tuple(view.keys[row] for row in are_on(view, rows_of(view, one)))
