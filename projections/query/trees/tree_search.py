"""The trees that can serve a request, one after the other: drawn at random or found by columns, then tried exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from vacancy.projections.query.context import QueryContext
from vacancy.projections.query.order import best, needed_by_others
from vacancy.projections.query.plan import QueryPlan
from vacancy.projections.query.trees.assignment import (
    Assignment,
    CollectiveTrait,
    TreeProblem,
    claimable,
    order_of,
)
from vacancy.projections.query.trees.assignment_search import assignments, match
from vacancy.projections.query.trees.prefilter import KindRows, Prefilter, rows_a_tree
from vacancy.projections.view.columns import Ints
from vacancy.projections.view.sharing import sharing_providers

_DRAWS = (3, 24)
"""Rows drawn at random, for each candidate wanted, before the whole fleet is scanned: first few, then more."""

_CHUNK = 64
"""Trees whose rows are looked at together."""

Pairs = list[tuple[int, int]]
"""(piece, row) of an assignment, in the order in which they are to be claimed."""


class TreeSearch:
    """The search of one query over trees."""

    def __init__(self, context: QueryContext, plan: QueryPlan) -> None:
        view = context.view
        self._context = context
        self._view = view
        self._request = context.request
        self._plan = plan
        self._order = context.order
        self._rng = context.rng
        self._budget = context.budget
        self._sharing = sharing_providers(view)
        self._prefilter = Prefilter(view, plan, context.accepting, context.accepting_roots)
        self._sharing_rows = [frozenset(rows.tolist()) for rows in self._prefilter.sharing]
        self._served = 0
        self._orders: dict[tuple[int, ...], Sequence[int]] = {}
        self._idle: set[tuple[tuple[int, ...], ...]] = set()

    def assignments(self) -> Iterator[tuple[int, Pairs]]:
        """(root's row, an assignment), the trees in order. Where there are fewer trees than the context's `limit`, other
        assignments of the same trees follow, a tree at a time, unless `one_a_tree`."""
        limit, one_a_tree = self._context.limit, self._context.one_a_tree
        again: list[tuple[int, TreeProblem, Iterator[Assignment]]] = []
        seen: set[tuple[tuple[int, int], ...]] = set()
        accept = None if self._context.accept is None else self._accepts
        for root, tree in chain.from_iterable(map(self._trees, self._roots(limit))):
            if self._budget.spent:
                self._budget.gave_up += 1
                return
            assignment = match(self._view, tree, self._budget, accept)
            if assignment is None:
                continue
            self._served += 1
            if self._is_new(assignment, seen):
                yield root, self._pairs(tree, assignment)
            if not one_a_tree and len(again) < limit:
                again.append((root, tree, assignments(self._view, tree, self._budget, accept)))
        while again:
            left = []
            for root, tree, more in again:
                assignment = next((assignment for assignment in more if self._is_new(assignment, seen)), None)
                if assignment is not None:
                    yield root, self._pairs(tree, assignment)
                    left.append((root, tree, more))
            again = left

    def able(self, roots: Ints) -> list[int]:
        """Those of these roots whose trees can serve the request, also where sharing providers serve all of it."""
        roots = self._plan.roots(roots, self._context.accepting_roots)
        trees = chain.from_iterable(self._trees(chunk, idle=True) for chunk in _chunks(roots))
        return [root for root, tree in trees if match(self._view, tree, self._budget) is not None]

    def _accepts(self, assignment: Assignment) -> bool:
        """Whether the rows that give something in an assignment may do so together."""
        giving = [
            row for piece, row in zip(self._plan.pieces, assignment, strict=True) if piece.needs or piece.asks
        ]
        return self._context.accept is None or self._context.accept(giving)

    def _is_new(self, assignment: Assignment, seen: set[tuple[tuple[int, int], ...]]) -> bool:
        """Whether an assignment was not found before. Those that differ only in which of equal groups is served by whom count
        as one, and so do those of trees that serve nothing themselves."""
        mark = tuple(
            sorted((piece.kind, row) for piece, row in zip(self._plan.pieces, assignment, strict=True))
        )
        if mark in seen:
            return False
        seen.add(mark)
        return True

    def _pairs(self, tree: TreeProblem, assignment: Assignment) -> Pairs:
        order = claimable(self._view, tree, assignment)
        return [(piece, assignment[piece]) for piece in (range(len(assignment)) if order is None else order)]

    # -- roots --------------------------------------------------------------------------------------------------

    def _roots(self, limit: int) -> Iterator[Ints]:
        """Rows of roots, in the order in which they are tried, some at a time."""
        view, rng = self._view, self._rng
        if not self._order.uniform:
            roots = self._prefilter.everywhere(np.zeros(0, dtype=np.int64))
            if len(roots):
                values = self._order.trees(view, self._request, roots)
                first = best(values, min(len(roots), 8 * limit), rng)
                yield roots[first]
                if len(first) < len(roots):
                    left = np.setdiff1d(np.arange(len(roots)), first)
                    yield from _chunks(roots[left[best(values[left], len(left), rng)]])
            return
        # As for single providers: roots drawn at random and kept if they match are a uniform draw of those that do.
        tried: dict[int, None] = {}
        for draws in _DRAWS:
            if tried and self._served * draws < limit * _DRAWS[0]:
                break  # too few match for that to be enough
            drawn_from = draws * limit * self._plan.kinds[0].filter.one_in * rows_a_tree(view)
            rows = rng.integers(0, view.size, min(drawn_from, view.size))
            drawn = [r for r in dict.fromkeys(rows[view.root[rows] == rows].tolist()) if r not in tried]
            tried.update(dict.fromkeys(drawn))
            yield from _chunks(
                self._plan.roots(np.array(drawn, dtype=np.int64), self._context.accepting_roots)
            )
        left = self._prefilter.everywhere(np.fromiter(tried, dtype=np.int64, count=len(tried)))
        yield from _chunks(left[rng.permutation(len(left))])

    # -- one tree -----------------------------------------------------------------------------------------------

    def _trees(self, roots: Ints, *, idle: bool = False) -> Iterator[tuple[int, TreeProblem]]:
        """The problem of each of these trees, in their order, without trees in which no provider serves some part. With
        `idle` all trees that serve nothing themselves, not only the first of those that are alike."""
        plan, prefilter = self._plan, self._prefilter
        if not len(roots):
            return
        roots, own, _, known = prefilter.among(roots)
        if not len(roots):
            return
        inside = [self._ranked(number, one) for number, one in enumerate(own)]
        starts = [one.starts.tolist() for one in own]
        collective_traits = [
            CollectiveTrait(pieces, rows)
            for (pieces, _), rows in zip(plan.collective_traits, known, strict=True)
        ]
        for place, root in enumerate(roots.tolist()):
            options = [rows[at[place] : at[place + 1]] for rows, at in zip(inside, starts, strict=True)]
            if prefilter.has_sharing:
                outside = self._outside(root)
                if not idle and self._is_idle(options, outside):
                    continue
                options = [
                    own + self._preferred(number, sharing)
                    for number, (own, sharing) in enumerate(zip(options, outside, strict=True))
                ]
            tree = TreeProblem(plan.pieces, options, collective_traits, plan.subtrees, self._above(options))
            yield root, tree._replace(order=self._order_of(tree))

    def _order_of(self, tree: TreeProblem) -> Sequence[int]:
        """The order in which pieces are tried, computed once for trees of the same form."""
        form = tuple(map(len, tree.rows))
        found = self._orders.get(form)
        if found is None:
            found = self._orders[form] = order_of(tree)
        return found

    def _outside(self, root: int) -> list[list[int]]:
        """By kind, the sharing providers that can serve this tree."""
        providers = self._sharing.serving(root)
        return [[row for row in providers if row in rows] for rows in self._sharing_rows]

    def _is_idle(self, inside: list[list[int]], outside: list[list[int]]) -> bool:
        """Whether a tree serves nothing itself, and another one like it was tried."""
        if any(inside):
            return False
        key = tuple(map(tuple, outside))
        if key in self._idle:
            return True
        self._idle.add(key)
        return False

    def _ranked(self, kind: int, serving: KindRows) -> list[int]:
        """The providers of some trees, tree by tree, in the order in which a group takes them."""
        rows, places, starts = serving
        if np.diff(starts).max() < 2:
            only: list[int] = rows.tolist()
            return only
        drawn = self._rng.permutation(len(rows))
        rows, places = rows[drawn], places[drawn]
        scores = self._order.parts(self._view, self._request, self._plan.kinds[kind].group, rows)
        if self._order.uniform:
            ranked: list[int] = rows[np.lexsort((scores, places))].tolist()
        else:
            others = needed_by_others(self._view, self._request, rows)
            ranked = rows[np.lexsort((scores, others, places))].tolist()
        return ranked

    def _preferred(self, kind: int, rows: list[int]) -> list[int]:
        """The same of one tree."""
        if len(rows) < 2:
            return rows
        count = len(rows)
        places: Ints = np.zeros(count, dtype=np.int64)
        return self._ranked(kind, KindRows(np.array(rows, dtype=np.int64), places, np.array([0, count])))

    def _above(self, options: list[list[int]]) -> dict[int, frozenset[int]]:
        """For each row the rows above it, itself included; empty where nothing must be in one subtree."""
        if not self._plan.subtrees:
            return {}
        rows = {row for serving in options for row in serving}
        return {row: frozenset(self._view.path(row)) for row in rows}


def _chunks(roots: Ints) -> Iterator[Ints]:
    for at in range(0, len(roots), _CHUNK):
        yield roots[at : at + _CHUNK]
