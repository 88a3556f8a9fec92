"""The query engine: a request and a view in, candidates out.

Columns say most: they reduce the fleet to the few rows that can serve each part of a request. What columns cannot
say (which provider of a tree serves which group, exact devices) is tried on those few by the classes themselves.
Nothing here knows any class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from vacancy.projections.query.affinity.engine import find_with_affinity
from vacancy.projections.query.budget import SearchBudget
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.filter import Filter, filter_of
from vacancy.projections.query.plan import QueryPlan, is_plain, plan_of
from vacancy.projections.query.tree_search import PlacementLimits, TreeSearch
from vacancy.projections.ranking.orders import Order, best
from vacancy.projections.view.columns import Ints, is_exact
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.classes.resource_class import Granted
from vacancy.resources.model.request import Ask, RequestSpec

_SAMPLE = 24
"""Rows looked at, for each candidate wanted, before the whole fleet is."""


class ServedGroup(NamedTuple):
    """What one provider would give to one group: class -> ask (nothing, where only its traits are asked for)."""

    provider: str
    resources: dict[str, Ask]
    group: str


class Candidate(NamedTuple):
    """A place for a request: a tree, and what each of its providers would give. `borrowed` are those among them
    that are of other trees, and lend to this one (sharing providers). Of several copies it is all of them, the root is
    that of the first, and `copies` are they one by one."""

    cell: str
    root: str
    allocations: tuple[ServedGroup, ...]
    borrowed: tuple[str, ...] = ()
    copies: tuple[Candidate, ...] = ()

    @property
    def mappings(self) -> dict[str, tuple[str, ...]]:
        """Group -> the providers that serve it."""
        found: dict[str, dict[str, None]] = {}
        for served in self.allocations:
            found.setdefault(served.group, {})[served.provider] = None
        return {group: tuple(providers) for group, providers in found.items()}


def find(
    view: FleetView,
    request: CompiledRequest,
    *,
    limit: int,
    order: Order,
    rng: np.random.Generator,
    heard_since_ms: int | None = None,
    cell: str | None = None,
    one_a_tree: bool = False,
    effort: SearchBudget | None = None,
    limits: PlacementLimits | None = None,
) -> list[Candidate]:
    """Up to `limit` candidates, of one `cell` if one is named. At random means uniformly over all that match.

    Where a request takes trees to serve, each tree comes once before any comes again, and not again at all with
    `one_a_tree`. `effort` bounds what is tried, and tells afterwards whether that was too little. Of a request for
    several copies a candidate is a place for all of them, and its root that of the first. `limits` are what relations
    leave of it.
    """
    spec = request.spec
    if request.has_affinity:
        effort = effort or SearchBudget()

        def search(
            one: CompiledRequest,
            most: int,
            by: Order,
            where: str | None,
            within: PlacementLimits | None,
            one_each: bool,
        ) -> list[Candidate]:
            return find(
                view,
                one,
                limit=most,
                order=by,
                rng=rng,
                heard_since_ms=heard_since_ms,
                cell=where,
                one_a_tree=one_each,
                effort=effort,
                limits=within,
            )

        return find_with_affinity(
            view,
            request,
            search,
            limit=limit,
            order=order,
            rng=rng,
            cell=cell,
            one_a_tree=one_a_tree,
            effort=effort,
        )
    if view.size == 0:
        return []
    if is_plain(view, spec):
        only = filter_of(view, request, heard_since_ms, cell)
        if only.impossible:
            return []
        rows = _one_group(view, request, only, limit, order, rng)
        return list(_single(view, spec, (row for some in rows for row in some.tolist()), limit))
    shape = plan_of(view, request, heard_since_ms, cell)
    if shape.impossible:
        return []
    trees = TreeSearch(view, request, shape, order, rng, effort or SearchBudget(), limits)
    found = []
    for root, way in trees.assignments(limit, one_a_tree=one_a_tree):
        found.append(_candidate(view, spec, shape, root, way))
        if len(found) == limit:
            break
    return found


def _one_group(
    view: FleetView,
    request: CompiledRequest,
    only: Filter,
    limit: int,
    order: Order,
    rng: np.random.Generator,
) -> Iterator[Ints]:
    """Rows that match, in order: as many as are wanted, then, where a class's exact check may have refused them,
    all others."""
    exact = all(is_exact(view.classes, name, ask) for name, ask in request.spec.groups[0].resources.items())
    wanted = limit if exact else 8 * limit
    if order.uniform:
        # Rows drawn at random and kept if they match are a uniform draw of those that match; it is the fast
        # way when many do. Where the draw yields too few, all rows are looked at.
        drawn = rng.integers(0, view.size, min(_SAMPLE * wanted * only.one_in, view.size))
        found = only.among(drawn)
        tried: Ints = found[:0]
        if len(found) >= wanted:
            distinct = list(dict.fromkeys(found.tolist()))[:wanted]
            if len(distinct) == wanted:
                tried = np.asarray(distinct)
                yield tried
                if exact:
                    return
        rows = only.everywhere()
        if len(tried):
            rows = np.setdiff1d(rows, tried)
        yield rng.choice(rows, min(limit if exact else len(rows), len(rows)), replace=False)
        return
    rows = only.everywhere()
    values = order.providers(view, request, rows)
    first = best(values, wanted, rng)
    yield rows[first]
    if not exact and len(first) < len(rows):
        left = np.setdiff1d(np.arange(len(rows)), first)
        yield rows[left[best(values[left], len(left), rng)]]


def _single(view: FleetView, spec: RequestSpec, rows: Iterable[int], limit: int) -> Iterator[Candidate]:
    """Make candidates of rows that serve all of a request, and that the classes themselves agree with."""
    (group,) = spec.groups
    asks = tuple(
        (name, ask) for name, ask in group.resources.items() if not is_exact(view.classes, name, ask)
    )
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
    """Whether the records of one provider grant these asks, of a class each."""
    return all(
        (record := view.record(row, name)) is not None
        and isinstance(view.classes[name].resource_class.claim(record, ask), Granted)
        for name, ask in asks
    )


def _candidate(
    view: FleetView, spec: RequestSpec, shape: QueryPlan, root: int, way: list[tuple[int, int]]
) -> Candidate:
    """A candidate of the (piece, row) pairs of one tree: what one provider gives to one group is one allocation."""
    given: dict[tuple[int, int], dict[str, Ask]] = {}
    for number, row in way:
        slot = shape.pieces[number].group, row
        given[slot] = {**given[slot], **shape.resources[number]} if slot in given else shape.resources[number]
    cell, name = view.name(root)
    allocations = tuple(
        ServedGroup(view.name(row)[1], resources, spec.groups[group].name)
        for (group, row), resources in given.items()
    )
    borrowed = dict.fromkeys(view.name(row)[1] for _, row in way if view.root[row] != root)
    return Candidate(cell, name, allocations, tuple(borrowed))
