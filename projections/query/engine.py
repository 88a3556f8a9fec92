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
from vacancy.projections.query.search import is_served_by_one, search_one
from vacancy.projections.view.columns import Bools
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.state.tables import key


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
    among: Bools | None = None,
) -> list[Candidate]:
    """Up to `limit` candidates, of one `cell` if one is named. At random means uniformly over all that match.

    Where a request needs several providers, each tree comes once before any comes again, and not again at all with
    `one_a_tree`. `budget` bounds the search, and shows afterwards whether it was too little. A candidate for several
    copies is a place for all of them. Of a request with alternatives, candidates of the first come first. `avoid`: roots of trees in which nothing may be found. `heard_since_ms` leaves out
    nodes without a report or heartbeat since then (log time). `among`: by row, whether its tree may be a candidate; sharing
    providers of other trees still serve it. Taints that the request does not tolerate repel it; those that only order
    candidates put them last. Raises `UsageError` where an expression was not compiled, and
    `NamesLeftOut` where the request asks for what the view left out.
    """
    accepting = _without(view, avoid) if avoid else view.open
    if view.taints.of_row:
        accepting = tolerated(view, request, accepting)
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
    if view.taints.of_row and (spared := tolerated(view, request, accepting, soft=True)) is not accepting:
        return _search_preferred(context, spared, among)
    return _search(context, among)


def _search(context: QueryContext, among: Bools | None) -> list[Candidate]:
    request = context.request
    if request.choices:
        return _search_choices(context, among)
    if among is not None:
        context = _within(context, among)
    return search_with_affinity(context) if request.has_affinity else search_one(context)


def tolerated(view: FleetView, request: CompiledRequest, accepting: Bools, *, soft: bool = False) -> Bools:
    """By row, whether it is `accepting` and no taint repels the request there; `accepting` itself where no taint repels it
    anywhere. `soft`: taints that only order candidates count, and no others."""
    kept = view.taints.kept(request.tolerated, view.root[: view.size], view.layout, soft=soft)
    return accepting if kept is None else accepting[: view.size] & kept


def _search_preferred(context: QueryContext, spared: Bools, among: Bools | None) -> list[Candidate]:
    """Up to `limit` candidates, those first that use only `spared` rows: without taints that order candidates. Each search has
    half of the budget that is left."""
    budget, limit = context.budget, context.limit
    by_cell = context.request.spec.copies > 1
    found: list[Candidate] = []
    for number, accepting in enumerate((spared, context.accepting)):
        part = SearchBudget(max(1, budget.left // (2 - number)), budget.tree_steps)
        steps = part.left
        here = context._replace(
            accepting=accepting,
            accepting_roots=accepting,
            limit=limit + len(found),
            budget=part,
        )
        seen = {_place(one, context.one_a_tree, by_cell) for one in found}
        more = _search(here, among)
        found += [one for one in more if _place(one, context.one_a_tree, by_cell) not in seen][
            : limit - len(found)
        ]
        budget.left -= steps - part.left
        budget.gave_up += part.gave_up
        if len(found) == limit:
            break
    return found


def _place(candidate: Candidate, one_a_tree: bool, by_cell: bool) -> str:
    """What two candidates must not have in common."""
    if by_cell:
        return candidate.cell
    return repr((candidate.cell, candidate.root, None if one_a_tree else candidate.allocations))


def _search_choices(context: QueryContext, among: Bools | None) -> list[Candidate]:
    """Up to `limit` candidates, those of the first choice first. A tree, or of several copies a cell, is a candidate by the
    first of its choices only. Each choice has an equal part of the budget that is left."""
    choices, budget = context.request.choices, context.budget
    found: list[Candidate] = []
    by_cell = context.request.spec.copies > 1
    for number, choice in enumerate(choices):
        seen = {one.cell if by_cell else (one.cell, one.root) for one in found}
        part = SearchBudget(max(1, budget.left // (len(choices) - number)), budget.tree_steps)
        steps = part.left
        here = context._replace(request=choice, limit=context.limit - len(found), budget=part)
        if among is not None:
            here = _within(here, among)
        if by_cell:
            here = here._replace(limit=here.limit + len(seen))
        elif found:
            here = _outside(here, found)
        more = search_with_affinity(here) if choice.has_affinity else search_one(here)
        new = [one for one in more if (one.cell if by_cell else (one.cell, one.root)) not in seen]
        found += [one._replace(choice=number) for one in new][: context.limit - len(found)]
        budget.left -= steps - part.left
        budget.gave_up += part.gave_up
        if len(found) == context.limit:
            break
    return found


def _outside(context: QueryContext, found: Collection[Candidate]) -> QueryContext:
    """The context without the trees of these candidates."""
    view = context.view
    kept = np.ones(view.size, dtype=np.bool_)
    kept[[view.row_of[key(one.cell, one.root)] for one in found]] = False
    return _within(context, kept[view.root[: view.size]])


def _within(context: QueryContext, kept: Bools) -> QueryContext:
    """The context with only the trees whose rows are `kept`. Sharing providers of other trees may serve them."""
    view = context.view
    roots = context.accepting_roots[: view.size] & kept
    if is_served_by_one(view, context.request.spec):
        return context._replace(accepting=context.accepting[: view.size] & kept, accepting_roots=roots)
    return context._replace(accepting_roots=roots)


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
