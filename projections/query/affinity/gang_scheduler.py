"""Places for several copies at once, all or none.

Copy after copy is placed, and what it takes counts as taken. That finds places for all, if there are any, where each
copy takes from one provider and no node counts in several places. Of others combinations are tried where it fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from vacancy.projections.query.affinity.constrained_search import CopyRequest, find_constrained, only, rows_of
from vacancy.projections.query.affinity.gang_search import combine
from vacancy.projections.query.affinity.occupancy import GroupOccupancy, OccupancyIndex
from vacancy.projections.view.columns import Bools
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.reservations import Reservation
from vacancy.resources.classes.resource_class import Exactness
from vacancy.resources.model.request import RequestSpec
from vacancy.resources.model.server_group import SHARES, with_copy
from vacancy.resources.state.tables import key

if TYPE_CHECKING:
    from vacancy.projections.query.engine import Candidate, ServedGroup

TRIES_MAX = 64
"""First places that are tried for copies that must be together, before a cell is given up."""


def find_gang(asked: CopyRequest, cell: str) -> Candidate | None:
    """Places for all copies in one cell, or None. `effort` is told where nothing is known of a cell."""
    view, spec = asked.view, asked.spec
    leading = [crowd for crowd in OccupancyIndex(view, spec).all if crowd.leads]
    allowed = np.ones(view.size, dtype=np.bool_)
    if any(crowd.rule.scope is None for crowd in leading):
        allowed = _have_for_all(view, spec)
    copies, whole = _one_by_one(asked, cell, leading, allowed)
    if copies:
        return _as_one(copies, [(n, served) for n, copy in enumerate(copies) for served in copy.allocations])
    if whole is not None and not _is_exact(asked):
        with only(view, allowed[view.root[: view.size]]):
            given, whole = combine(asked, cell)
        if given:
            return _as_one(given.copies, given.served)
    asked.effort.gave_up += whole is False
    return None


def _is_exact(asked: CopyRequest) -> bool:
    """Whether it does not matter which copy is placed first, and where: each takes from one provider, and the places
    where they count are apart or one in the other."""
    (group, *others), crowds = asked.spec.groups, OccupancyIndex(asked.view, asked.spec)
    if others or not (group.same_provider or len(group.resources) < 2):
        return False
    judged = [crowd for crowd in crowds.all if crowd.leads or crowd.parts]
    scopes = {crowd.rule.scope for crowd in judged if crowd.parts} - {None}
    return len(scopes) < 2 and not any(crowd.overlaps() for crowd in judged)


def _one_by_one(
    asked: CopyRequest, cell: str, leading: Sequence[GroupOccupancy], allowed: Bools
) -> tuple[list[Candidate], bool | None]:
    """All copies, or none; and then whether all was tried, or None where there is no place for even one. Where they must
    be near each other the first says where: then others are tried."""
    view, spec = asked.view, asked.spec
    for tried in range(TRIES_MAX):
        crowds = OccupancyIndex(view, spec)
        copies: list[Candidate] = []
        with only(view, allowed[view.root[: view.size]]), _taking(view) as take:
            while len(copies) < spec.copies:
                found = find_constrained(asked, crowds, 1, cell, one_a_tree=True)
                if not found:
                    break
                copies += found
                take(found[0])
                crowds.add(crowds.roots(rows_of(view, found[0])))
        if len(copies) == spec.copies:
            return copies, True
        if not copies and not tried and not asked.effort.gave_up:
            return [], None
        if not copies or not leading:
            return [], True
        first = crowds.roots(rows_of(view, copies[0]))[0]
        allowed = allowed & ~np.logical_and.reduce([crowd.like(first) for crowd in leading])
    return [], False


@contextmanager
def _taking(view: FleetView) -> Iterator[Callable[[Candidate], None]]:
    """What copies take counts as taken for as long as this lasts."""
    taken: list[Reservation] = []

    def take(copy: Candidate) -> None:
        for served in copy.allocations:
            row = view.row_of[key(copy.cell, served.provider)]
            taken.extend(view.take(row, name, ask) for name, ask in served.resources.items())

    try:
        yield take
    finally:
        for one in taken:
            view.untake(one)


def _as_one(copies: Sequence[Candidate], served: Iterable[tuple[int, ServedGroup]]) -> Candidate:
    """All copies as one candidate. `served`: (number of the copy from 0, what is given to it), as it is to be
    claimed."""
    allocations = tuple(one._replace(group=with_copy(one.group, number + 1)) for number, one in served)
    borrowed = tuple(dict.fromkeys(id_ for copy in copies for id_ in copy.borrowed))
    return copies[0]._replace(allocations=allocations, borrowed=borrowed, copies=tuple(copies))


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
        return allowed  # what is lent is not in the tree
    for (name, column), amount in wanted.items():
        free = np.maximum(view.classes[name].arrays[column][:size], 0)
        allowed &= np.bincount(view.root[:size], weights=free, minlength=size) >= amount
    return allowed
