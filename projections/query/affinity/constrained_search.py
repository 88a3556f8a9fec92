"""A place for one copy of a request, near other consumers or away from them.

Affinity needs no search of its own. Hard rules narrow the rows that accept; soft rules are an order around the order
asked for. So whatever else a request asks for is found by the same search as always.
"""

from __future__ import annotations

import numpy as np

from vacancy.projections.query.affinity.occupancy import OccupancyIndex
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.context import QueryContext
from vacancy.projections.query.model import Candidate
from vacancy.projections.query.order import Around, Order
from vacancy.projections.query.search import is_served_by_one, search_one
from vacancy.projections.view.columns import Bools, Floats, Ints
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.sharing import sharing_providers
from vacancy.resources.state.tables import key


def find_constrained(context: QueryContext, occupancy: OccupancyIndex) -> list[Candidate]:
    """Places for one copy that break no hard rule; those that satisfy the soft rules best come first."""
    view, one = context.view, context.request.copy
    allowed, misses = occupancy.allowed(), occupancy.misses()
    order: Order = _SoftPreferences(context.order, misses) if misses.any() else context.order
    rows = allowed[view.root[: view.size]]
    sharing = sharing_providers(view)
    if not sharing.rows or is_served_by_one(view, one.spec):
        accepting = context.accepting[: view.size] & rows
        return search_one(
            context._replace(request=one, order=order, accepting=accepting, accepting_roots=accepting)
        )
    # A sharing provider may serve wherever it is itself, unless a copy is on nothing else: then that is where the copy
    # is, and the place of trees that give it nothing does not matter.
    rows[sharing.array] = True
    rows |= not all(group.resources for group in one.spec.groups)
    accepting = context.accepting[: view.size] & rows
    return search_one(
        context._replace(request=one, order=order, accepting=accepting, accept=occupancy.accept)
    )


def rows_of(view: FleetView, copy: Candidate) -> list[int]:
    """The rows that give something to a copy."""
    rows = (view.row_of[key(copy.cell, served.provider)] for served in copy.allocations if served.resources)
    return list(dict.fromkeys(rows))


def narrowed(context: QueryContext, roots: Bools) -> QueryContext:
    """The context in which only the trees of these roots (by row) serve anything."""
    view = context.view
    return context._replace(accepting=context.accepting[: view.size] & roots[view.root[: view.size]])


class _SoftPreferences(Around):
    """Another order, among places that miss the soft rules by as much; those that miss them least come first."""

    def __init__(self, order: Order, misses: Floats) -> None:
        super().__init__(order)
        self._misses = misses

    def trees(self, view: FleetView, request: CompiledRequest, roots: Ints) -> Floats:
        """See `Order`."""
        return self._by_misses(roots, self.order.trees(view, request, roots))

    def providers(self, view: FleetView, request: CompiledRequest, rows: Ints) -> Floats:
        """See `Order`."""
        return self._by_misses(view.root[rows], self.order.providers(view, request, rows))

    def _by_misses(self, roots: Ints, scores: Floats) -> Floats:
        # An order gives infinity to what cannot serve the request. It stays infinite and must not stretch the scale.
        finite = scores[scores < np.inf]
        if not len(finite):
            return scores
        least = finite.min()
        found: Floats = self._misses[roots] * (finite.max() - least + 1) + (scores - least)
        return found
