"""The query engine: a compiled request and a view in, candidates out. A query writes nothing to the view."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from vacancy.projections.query.affinity.engine import search_with_affinity
from vacancy.projections.query.budget import SearchBudget
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.context import QueryContext
from vacancy.projections.query.model import Candidate
from vacancy.projections.query.order import Order
from vacancy.projections.query.search import search_one
from vacancy.projections.view.columns import Bools
from vacancy.projections.view.fleet import FleetView


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
    budget: SearchBudget | None = None,
    avoid: Collection[str] = (),
) -> list[Candidate]:
    """Up to `limit` candidates, of one `cell` if one is named. At random means uniformly over all that match.

    Where a request needs several providers, each tree comes once before any comes again, and not again at all with
    `one_a_tree`. `budget` bounds the search, and shows afterwards whether it was too little. A candidate for several
    copies is a place for all of them. `avoid`: roots of trees in which nothing may be found. `heard_since_ms` leaves out
    nodes without a report or heartbeat since then (log time). Raises `UsageError` where an expression was not compiled, and
    `NamesLeftOut` where the request asks for what the view left out.
    """
    accepting = _without(view, avoid) if avoid else view.open
    context = QueryContext(
        view,
        request,
        limit,
        order,
        rng,
        budget or SearchBudget(),
        accepting,
        accepting,
        None,
        cell,
        heard_since_ms,
        one_a_tree,
    )
    return search_with_affinity(context) if request.has_affinity else search_one(context)


def _without(view: FleetView, roots: Collection[str]) -> Bools:
    """By row, whether it accepts claims, but for the trees of these roots."""
    known = [
        row
        for id_ in roots
        for cell in view.cells
        if (row := view.row_of.get(cell + b"\0" + id_.encode())) is not None
    ]
    kept = np.ones(view.size, dtype=np.bool_)
    kept[known] = False
    found: Bools = view.open[: view.size] & kept[view.root[: view.size]]
    return found
