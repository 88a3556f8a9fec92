"""Places for several copies at once, all or none.

Copies are placed one after the other, and what a copy takes counts as taken for the next. That finds places for all, if
there are any, where each copy takes from one provider and no node counts in several places. Elsewhere, where it
fails, combinations are tried.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from vacancy.projections.query.affinity.constrained_search import find_constrained, narrowed, rows_of
from vacancy.projections.query.affinity.gang_search import combine
from vacancy.projections.query.affinity.occupancy import GroupOccupancy, OccupancyIndex
from vacancy.projections.query.context import QueryContext
from vacancy.projections.query.model import Candidate, ServedGroup
from vacancy.projections.view.columns import Bools
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.reserved_view import ReservedView
from vacancy.resources.classes.resource_class import Exactness
from vacancy.resources.model.request import RequestSpec
from vacancy.resources.model.server_group import SHARES, with_copy
from vacancy.resources.state.tables import key

TRIES_MAX = 64
"""First places that are tried for copies that must be together, before a cell is given up."""


def find_gangs(context: QueryContext) -> list[Candidate]:
    """Up to `context.limit` places for all copies, at most one a cell, the cells in random order. Cells of which nothing
    is known because the budget ended are counted in `budget.gave_up`."""
    view = context.view
    cells = list(view.cells) if context.cell is None else [context.cell.encode()]
    reserved = ReservedView(view)
    found: list[Candidate] = []
    for number in context.rng.permutation(len(cells)).tolist():
        gang = _find_gang(context._replace(cell=cells[number].decode()), reserved)
        if gang is not None:
            found.append(gang)
            if len(found) == context.limit:
                break
    return found


def _find_gang(context: QueryContext, reserved: ReservedView) -> Candidate | None:
    """Places for all copies in one cell, or None."""
    view, spec = context.view, context.request.spec
    leading = [one for one in OccupancyIndex(view, spec).all if one.leads]
    allowed = np.ones(view.size, dtype=np.bool_)
    if any(one.rule.scope is None for one in leading):
        allowed = _have_for_all(view, spec)
    copies, complete = _one_by_one(context, reserved, leading, allowed)
    if copies:
        return _as_one(copies, [(n, served) for n, copy in enumerate(copies) for served in copy.allocations])
    if complete is not None and not _is_exact(view, spec):
        combined, complete = combine(narrowed(context, allowed))
        if combined:
            return _as_one(combined.copies, combined.served)
    context.budget.gave_up += complete is False
    return None


def _is_exact(view: FleetView, spec: RequestSpec) -> bool:
    """Whether it does not matter which copy is placed first, and where: each takes from one provider, and the places
    where they count are disjoint or nested."""
    (group, *others), occupancy = spec.groups, OccupancyIndex(view, spec)
    if others or not (group.same_provider or len(group.resources) < 2):
        return False
    judged = [one for one in occupancy.all if one.leads or one.parts]
    scopes = {one.rule.scope for one in judged if one.parts} - {None}
    return len(scopes) < 2 and not any(one.overlaps() for one in judged)


def _one_by_one(
    context: QueryContext, reserved: ReservedView, leading: Sequence[GroupOccupancy], allowed: Bools
) -> tuple[list[Candidate], bool | None]:
    """All copies, or none; and then whether everything was tried, or None where there is no place for even one copy.
    Where copies must be near each other, the first copy decides the place of all: then other first places are tried."""
    view, spec = context.view, context.request.spec
    for tried in range(TRIES_MAX):
        occupancy = OccupancyIndex(view, spec)
        first_copy = narrowed(context._replace(limit=1, one_a_tree=True), allowed)
        next_copy = first_copy._replace(view=reserved)
        copies: list[Candidate] = []
        try:
            while len(copies) < spec.copies:
                found = find_constrained(next_copy if copies else first_copy, occupancy)
                if not found:
                    break
                copies += found
                _reserve(reserved, found[0])
                occupancy.add(occupancy.roots(rows_of(view, found[0])))
        finally:
            reserved.unreserve_all()
        if len(copies) == spec.copies:
            return copies, True
        if not copies and not tried and not context.budget.gave_up:
            return [], None
        if not copies or not leading:
            return [], True
        first = occupancy.roots(rows_of(view, copies[0]))[0]
        allowed = allowed & ~np.logical_and.reduce([one.like(first) for one in leading])
    return [], False


def _reserve(reserved: ReservedView, copy: Candidate) -> None:
    """Count what a copy takes as taken."""
    for served in copy.allocations:
        row = reserved.row_of[key(copy.cell, served.provider)]
        for name, ask in served.resources.items():
            reserved.reserve(row, name, ask)


def _as_one(copies: Sequence[Candidate], served: Iterable[tuple[int, ServedGroup]]) -> Candidate:
    """All copies as one candidate. `served`: (number of the copy from 0, what is given to it), as it is to be
    claimed."""
    allocations = tuple(one._replace(group=with_copy(one.group, number + 1)) for number, one in served)
    from_sharing = tuple(dict.fromkeys(id_ for copy in copies for id_ in copy.from_sharing))
    return copies[0]._replace(allocations=allocations, from_sharing=from_sharing, copies=tuple(copies))


def _have_for_all(view: FleetView, spec: RequestSpec) -> Bools:
    """The roots whose trees have, in sum, what all copies ask for of the classes that are counted."""
    wanted: Counter[tuple[str, str]] = Counter()
    for group in spec.groups:
        for name, ask in group.resources.items():
            of = view.classes[name].resource_class if name in view.classes else None
            if of is not None and of.exactness(ask) is Exactness.EXACT:
                for column, delta in (of.column_deltas(ask) or {}).items():
                    wanted[name, column] -= delta * spec.copies
    size = view.size
    allowed = np.ones(size, dtype=np.bool_)
    if SHARES in view.traits.arrays:
        return allowed  # sharing providers are not in the tree
    for (name, column), amount in wanted.items():
        free = np.maximum(view.classes[name].arrays[column][:size], 0)
        allowed &= np.bincount(view.root[:size], weights=free, minlength=size) >= amount
    return allowed
