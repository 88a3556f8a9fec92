"""The search for one copy of a request, without regard to other consumers.

Columns reduce the fleet to the few rows that can serve each part of a request. What columns cannot decide (which
provider of a tree serves which group, particular devices) is tried on those few by the resource classes themselves.
Nothing here knows any class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from vacancy.projections.query.conditions.filter import SPARSE, Filter, filter_of
from vacancy.projections.query.context import QueryContext
from vacancy.projections.query.model import Candidate, ServedGroup
from vacancy.projections.query.order import best, needed_by_others
from vacancy.projections.query.plan import QueryPlan, plan_of
from vacancy.projections.query.trees.tree_search import TreeSearch
from vacancy.projections.view.columns import Floats, Ints
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.sharing import SHARES, sharing_providers
from vacancy.resources.classes.resource_class import Granted
from vacancy.resources.model.request import Ask, RequestSpec

_DRAW_RATIO = 4
_DRAWS = (24, 24 * _DRAW_RATIO, 24 * _DRAW_RATIO**2)
"""Rows drawn at random, for each candidate wanted, before the whole fleet is searched: first few, then more."""


def search_one(context: QueryContext) -> list[Candidate]:
    """Up to `context.limit` candidates for one copy of the request; its server groups are not looked at.

    Where a request needs several providers, each tree comes once before any comes again.
    """
    view, request = context.view, context.request
    if view.size == 0:
        return []
    if is_served_by_one(view, request.spec):
        matching = filter_of(view, request, context.heard_since_ms, context.cell)
        if matching.impossible:
            return []
        rows = (row for chunk in _matching_rows(context, matching) for row in chunk.tolist())
        return list(_candidates(view, request.spec, matching.needs_claim, rows, context.limit))
    plan = plan_of(view, request, context.heard_since_ms, context.cell)
    if plan.impossible:
        return []
    found = []
    for root, assignment in TreeSearch(context, plan).assignments():
        found.append(_candidate(view, request.spec, plan, root, assignment))
        if len(found) == context.limit:
            break
    return found


def is_served_by_one(view: FleetView, spec: RequestSpec) -> bool:
    """Whether each provider serves either the whole request or nothing of it."""
    if len(spec.groups) > 1 or spec.root_required or spec.root_forbidden:
        return False
    if spec.groups[0].same_provider:
        return True
    return not view.members and (SHARES not in view.traits.arrays or not sharing_providers(view).rows)


def _matching_rows(context: QueryContext, matching: Filter) -> Iterator[Ints]:
    """Rows that match, in order: as many as are wanted, then, where a class's own check may have refused them, all
    others."""
    view, request, limit, rng = context.view, context.request, context.limit, context.rng
    accepting = context.accepting
    exact = not matching.needs_claim
    wanted = limit if exact else 8 * limit
    if context.order.uniform:
        tried = _drawn(context, matching, wanted)
        if tried:
            yield np.asarray(tried)
            if exact:
                return
        rows = matching.everywhere(accepting)
        if tried:
            rows = np.setdiff1d(rows, tried)
        if len(rows):
            yield rng.choice(rows, min(limit if exact else len(rows), len(rows)), replace=False)
        return
    rows = matching.everywhere(accepting)
    values = context.order.providers(view, request, rows)
    first = best(values, wanted, rng)
    if view.members:
        first = _sparing(context, rows, values, first)
    yield rows[first]
    if not exact and len(first) < len(rows):
        left = np.setdiff1d(np.arange(len(rows)), first)
        yield rows[left[best(values[left], len(left), rng)]]


def _sparing(context: QueryContext, rows: Ints, values: Floats, chosen: Ints) -> Ints:
    """As many of `rows` as are `chosen` (indices), of the same trees and with the same values: of providers that are equal
    to the order, those that others need least."""
    roots = context.view.root[rows]
    among = np.flatnonzero(np.isin(roots, roots[chosen]))
    place = np.full(len(rows), len(chosen))
    place[chosen] = np.arange(len(chosen))
    others = needed_by_others(context.view, context.request, rows[among])
    ranked: Ints = among[np.lexsort((place[among], others, values[among]))][: len(chosen)]
    return ranked


def _drawn(context: QueryContext, matching: Filter, wanted: int) -> list[int]:
    """`wanted` distinct rows that match, or none where too few were drawn.

    Rows drawn at random and kept if they match are a uniform draw of those that match. That is the fast assignment when many
    match, and in a large fleet it is much faster than a scan of all rows.
    """
    size = context.view.size
    kept: dict[int, None] = {}
    drawn = 0
    for draws in _DRAWS:
        count = min(draws * wanted * matching.one_in, size) - drawn
        expected = _DRAW_RATIO * (
            len(kept) + (draws == _DRAWS[1])
        )  # of the small first draw: one more than it had
        if drawn and (count * SPARSE > size or expected < wanted):
            break  # the fleet is small, or so few match that this draw would not be enough either
        rows = context.rng.integers(0, size, count)
        drawn += count
        kept.update(dict.fromkeys(matching.among(rows, context.accepting).tolist()))
        if len(kept) >= wanted:
            return list(kept)[:wanted]
    return []


def _candidates(
    view: FleetView, spec: RequestSpec, asks: Sequence[tuple[str, Ask]], rows: Iterable[int], limit: int
) -> Iterator[Candidate]:
    """Candidates of rows that serve the whole request, if the resource classes themselves grant these asks."""
    (group,) = spec.groups
    made = 0
    for row in rows:
        if asks and not _grants(view, row, asks):
            continue
        cell, root = view.name(int(view.root[row]))
        yield Candidate(cell, root, (ServedGroup(view.name(row)[1], group.resources, group.name),))
        made += 1
        if made == limit:
            return


def _grants(view: FleetView, row: int, asks: Sequence[tuple[str, Ask]]) -> bool:
    """Whether the records of one provider grant these asks, each of another class."""
    return all(
        (record := view.record(row, name)) is not None
        and isinstance(view.classes[name].resource_class.claim(record, ask), Granted)
        for name, ask in asks
    )


def _candidate(
    view: FleetView, spec: RequestSpec, plan: QueryPlan, root: int, assignment: list[tuple[int, int]]
) -> Candidate:
    """A candidate of the (piece, row) pairs of one tree: what one provider gives to one group is one allocation."""
    given: dict[tuple[int, int], dict[str, Ask]] = {}
    for number, row in assignment:
        slot = plan.pieces[number].group, row
        given[slot] = {**given[slot], **plan.resources[number]} if slot in given else plan.resources[number]
    cell, name = view.name(root)
    allocations = tuple(
        ServedGroup(view.name(row)[1], resources, spec.groups[group].name)
        for (group, row), resources in given.items()
    )
    from_sharing = dict.fromkeys(view.name(row)[1] for _, row in assignment if view.root[row] != root)
    return Candidate(cell, name, allocations, tuple(from_sharing))
