"""Requests that depend on other consumers: members of server groups, and several copies at once."""

from __future__ import annotations

from collections.abc import Iterator

from vacancy.projections.query.affinity.constrained_search import find_constrained, rows_of
from vacancy.projections.query.affinity.gang_scheduler import find_gangs
from vacancy.projections.query.affinity.occupancy import OccupancyIndex, are_on, occupancy_of
from vacancy.projections.query.context import QueryContext
from vacancy.projections.query.model import Candidate
from vacancy.projections.view.columns import Bools
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.group_members import ReservedMembership
from vacancy.resources.model.request import RequestSpec
from vacancy.resources.model.server_group import group_cell, group_name
from vacancy.resources.state.tables import key


def search_with_affinity(context: QueryContext) -> list[Candidate]:
    """Up to `context.limit` candidates; for several copies, at most one a cell."""
    spec = context.request.spec
    if spec.memberships:
        home = group_cell(spec.memberships[0].group)
        if context.cell not in (None, home):
            return []
        context = context._replace(cell=home)
    if spec.copies == 1:
        return find_constrained(context, OccupancyIndex(context.view, spec))
    return find_gangs(context)


def hard_groups(view: FleetView, spec: RequestSpec) -> Iterator[tuple[str, Bools]]:
    """What each hard membership asks, for people, and by row of a root whether it holds there."""
    for one in spec.memberships:
        number = view.cells.get(group_cell(one.group).encode(), -1)
        here: Bools = view.cell[: view.size] == number
        where = "" if one.scope is None else f", by aggregates {one.scope}..."
        if one.rule.spreads:
            where += f", max skew {one.rule.max_per_node}"
        yield f"cell of group {one.group}", here
        if one.hard:
            to = "of" if one.rule.spreads else "to"
            yield f"{one.policy} {to} group {one.group}{where}", occupancy_of(view, one).allowed() & here


def memberships_of(
    view: FleetView, spec: RequestSpec, consumer: str, candidate: Candidate
) -> list[ReservedMembership]:
    """The memberships that a claim of this candidate gives its consumer, to be counted until the claim is judged."""
    if not spec.memberships:
        return []
    places = tuple(_place(view, one) for one in candidate.copies or (candidate,))
    return [
        ReservedMembership(key(candidate.cell, group_name(one.group)), consumer, places)
        for one in spec.memberships
    ]


def _place(view: FleetView, one: Candidate) -> tuple[bytes, ...]:
    """The keys of the providers that a copy is on."""
    return tuple(view.keys[row] for row in are_on(view, rows_of(view, one)))
