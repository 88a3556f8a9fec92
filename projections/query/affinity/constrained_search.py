"""A place for one copy of a request, beside others or apart from them.

A search of its own is nothing that relations need: they close, for the time of a search, the nodes where nobody may
go, and wishes are an order. So whatever a request asks for otherwise is found as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from vacancy.projections.query.affinity.occupancy import OccupancyIndex
from vacancy.projections.query.budget import SearchBudget
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.plan import is_plain
from vacancy.projections.query.tree_search import PlacementLimits
from vacancy.projections.ranking.orders import Around, Floats, Order
from vacancy.projections.view.columns import Bools, Ints
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.sharing import sharing_providers
from vacancy.resources.model.request import RequestSpec
from vacancy.resources.state.tables import key

if TYPE_CHECKING:
    from vacancy.projections.query.engine import Candidate

Search = Callable[[int, Order, "str | None", "PlacementLimits | None", bool], "list[Candidate]"]
"""(limit, order, cell, limits, one a tree) -> candidates for one copy among the nodes that are open."""


class CopyRequest(NamedTuple):
    """A request with relations, and how places for one copy of it are found, whoever else is where. `one` is that
    copy. `standing` says what takes new claims, whatever is closed later."""

    view: FleetView
    spec: RequestSpec
    one: CompiledRequest
    search: Search
    order: Order
    effort: SearchBudget
    standing: Bools


def find_constrained(
    asked: CopyRequest, crowds: OccupancyIndex, limit: int, cell: str | None, *, one_a_tree: bool
) -> list[Candidate]:
    """Places for one copy that break no hard rule, those first that are as one wishes."""
    view, order = asked.view, asked.order
    allowed, wishes = crowds.allowed(), crowds.misses()
    if wishes.any():
        order = _SoftPreferences(order, wishes)
    lenders = sharing_providers(view)
    rows = allowed[view.root[: view.size]]
    limits = None
    if lenders.rows and not is_plain(view, asked.one.spec):
        # Who lends may do so wherever it is itself, unless a copy is on nothing else: then that is where the copy is, and
        # it does not matter where those are of whom it takes nothing.
        rows[lenders.array] = True
        rows |= not all(group.resources for group in asked.one.spec.groups)
        limits = PlacementLimits(asked.standing, crowds.accept)
    with only(view, rows):
        return asked.search(limit, order, cell, limits, one_a_tree)


def rows_of(view: FleetView, copy: Candidate) -> list[int]:
    """The rows that give something to a copy."""
    rows = (view.row_of[key(copy.cell, served.provider)] for served in copy.allocations if served.resources)
    return list(dict.fromkeys(rows))


@contextmanager
def only(view: FleetView, rows: Bools) -> Iterator[None]:
    """For the time of a search, only these rows are open, of those that are."""
    whole = view.open
    view.open = whole.copy()
    view.open[: view.size] &= rows
    try:
        yield
    finally:
        view.open = whole


class _SoftPreferences(Around):
    """Another order, among places that are equally as one wishes; those first that are most so."""

    def __init__(self, order: Order, misses: Floats) -> None:
        super().__init__(order)
        self._misses = misses

    def trees(self, view: FleetView, request: CompiledRequest, roots: Ints) -> Floats:
        """See `Order`."""
        return self._wished(roots, self.order.trees(view, request, roots))

    def providers(self, view: FleetView, request: CompiledRequest, rows: Ints) -> Floats:
        """See `Order`."""
        return self._wished(view.root[rows], self.order.providers(view, request, rows))

    def _wished(self, roots: Ints, scores: Floats) -> Floats:
        if not len(scores):
            return scores
        least = scores.min()
        found: Floats = self._misses[roots] * (scores.max() - least + 1) + (scores - least)
        return found
