"""The trees that can serve a request, one after the other: drawn or looked for by columns, then tried exactly."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np

from vacancy.projections.columns import Bools, Ints
from vacancy.projections.effort import Effort
from vacancy.projections.lending import lending
from vacancy.projections.matching import Cover, Tree, Way, claimable, match, ways
from vacancy.projections.orders import Order, best
from vacancy.projections.shape import Found, Shape, has_any
from vacancy.projections.view import View
from vacancy.resources.request import RequestSpec

_DRAWS = (3, 24)
"""Rows drawn at random, for each candidate wanted, before the whole fleet is looked at: first few, then more."""

_CHUNK = 64
"""Trees whose rows are looked at together."""

_FEW = 256
"""With fewer trees than one for so many rows, their rows are gathered; else all rows are looked at, which is quick."""

_RARE = 16
"""A trait that at most one provider in so many has is worth being looked at first."""

Pairs = list[tuple[int, int]]
"""(piece, row) of a way, in the order in which they are to be claimed."""


class Trees:
    """What one query knows of the trees that may serve its request."""

    def __init__(
        self,
        view: View,
        spec: RequestSpec,
        shape: Shape,
        order: Order,
        rng: np.random.Generator,
        effort: Effort,
    ) -> None:
        self._view = view
        self._spec = spec
        self._shape = shape
        self._order = order
        self._rng = rng
        self._effort = effort
        self._lending = lending(view)
        self._idle: set[tuple[tuple[int, ...], ...]] = set()

    def ways(self, limit: int, *, one_a_tree: bool) -> Iterator[tuple[int, Pairs]]:
        """(root's row, a way to serve the request), the trees in order. Where there are fewer than `limit`, other
        ways of the same trees follow, a tree at a time, unless `one_a_tree`."""
        again: list[tuple[int, Tree, Iterator[Way]]] = []
        seen: set[tuple[tuple[int, int], ...]] = set()
        for root, tree in chain.from_iterable(map(self._trees, self._roots(limit))):
            if self._effort.spent:
                self._effort.gave_up += 1
                return
            way = match(self._view, tree, self._effort)
            if way is None:
                continue
            if self._is_new(way, seen):
                yield root, self._pairs(tree, way)
            if not one_a_tree and len(again) < limit:
                again.append((root, tree, ways(self._view, tree, self._effort)))
        while again:
            left = []
            for root, tree, more in again:
                way = next((way for way in more if self._is_new(way, seen)), None)
                if way is not None:
                    yield root, self._pairs(tree, way)
                    left.append((root, tree, more))
            again = left

    def able(self, roots: Ints) -> list[int]:
        """Those of these roots whose trees can serve the request, also where others serve all of it."""
        roots = self._shape.roots(roots)
        trees = chain.from_iterable(self._trees(some, idle=True) for some in _chunks(roots))
        return [root for root, tree in trees if match(self._view, tree, self._effort) is not None]

    def _is_new(self, way: Way, seen: set[tuple[tuple[int, int], ...]]) -> bool:
        """Ways that differ only in which of equal groups is served by whom are one, and so are those of trees
        that have no part in them."""
        mark = tuple(sorted((piece.kind, row) for piece, row in zip(self._shape.pieces, way, strict=True)))
        if mark in seen:
            return False
        seen.add(mark)
        return True

    def _pairs(self, tree: Tree, way: Way) -> Pairs:
        order = claimable(self._view, tree, way)
        return [(piece, way[piece]) for piece in (range(len(way)) if order is None else order)]

    # -- roots --------------------------------------------------------------------------------------------------

    def _roots(self, limit: int) -> Iterator[Ints]:
        """Rows of roots, in the order in which they are tried, some at a time."""
        view, rng = self._view, self._rng
        if not self._order.uniform:
            roots = self._possible()
            if len(roots):
                values = self._order.trees(view, self._spec, roots)
                first = best(values, min(len(roots), 8 * limit), rng)
                yield roots[first]
                if len(first) < len(roots):
                    left = np.setdiff1d(np.arange(len(roots)), first)
                    yield from _chunks(roots[left[best(values[left], len(left), rng)]])
            return
        # As for single providers: roots drawn at random and kept if they match are a uniform draw of those that do.
        tried: dict[int, None] = {}
        for draws in _DRAWS:
            drawn_from = draws * limit * self._shape.kinds[0].filter.one_in
            rows = rng.integers(0, view.size, min(drawn_from, view.size))
            drawn = [r for r in dict.fromkeys(rows[view.root[rows] == rows].tolist()) if r not in tried]
            tried.update(dict.fromkeys(drawn))
            yield self._shape.roots(np.array(drawn, dtype=np.int64))
        left = np.setdiff1d(self._possible(), np.fromiter(tried, dtype=np.int64, count=len(tried)))
        yield from _chunks(left[rng.permutation(len(left))])

    def _possible(self) -> Ints:
        """The roots whose trees have somebody for each part of the request, ascending."""
        view, size = self._view, self._view.size
        roots = self._shape.roots(np.flatnonzero(view.root[:size] == np.arange(size)))
        roots, found, takes_part = self._narrow(roots, None)
        return self._distinct(roots, takes_part, found)

    def _narrow(self, roots: Ints, rows: Ints | None) -> tuple[Ints, list[Found], Bools]:
        """Those of these roots whose trees have somebody for each part of the request, in their order; who it is,
        by kind, among these rows (None: any); and who of them takes part with a provider of its own tree."""
        view, size, shape = self._view, self._view.size, self._shape
        takes_part = np.zeros(size, dtype=np.bool_)
        none = roots[:0]
        found = [Found(none, none)] * len(shape.kinds)
        if rows is None:
            roots = self._with_rare_traits(roots)
        for number in shape.choosiest:
            kind = shape.kinds[number]
            if not len(roots):
                return roots, found, takes_part
            if rows is not None:
                some = kind.filter.among(rows)
            elif len(roots) * _FEW < size:
                some = kind.filter.among(self._rows_of(roots))
            else:
                some = kind.filter.everywhere()
            one = kind.split(some, self._lending)
            found[number] = one
            at = view.root[one.own]
            mask = np.zeros(size, dtype=np.bool_)
            mask[at] = True
            takes_part |= mask
            if shape.alone[number] and shape.counts[number] > 1 and not len(one.lent):
                mask = np.bincount(at, minlength=size) >= shape.counts[number]
            roots = roots[self._lend(mask, one.lent)[roots]]
        for pieces, bits in shape.covers:
            mask = np.zeros(size, dtype=np.bool_)
            for kind_number in {shape.pieces[piece].kind for piece in pieces}:
                one = found[kind_number]
                mask[view.root[one.own[has_any(bits, one.own)]]] = True
                self._lend(mask, one.lent[has_any(bits, one.lent)])
            roots = roots[mask[roots]]
        return roots, found, takes_part

    def _with_rare_traits(self, roots: Ints) -> Ints:
        """Those of these roots whose trees, or who lends to them, have the collective traits that few have."""
        view, size = self._view, self._view.size
        for _, bits in self._shape.covers:
            if len(bits) > 1 or int(np.count_nonzero(bits[0][:size])) * _RARE > size:
                continue
            having = np.flatnonzero(bits[0][:size])
            mask = np.zeros(size, dtype=np.bool_)
            mask[view.root[having]] = True
            roots = roots[self._lend(mask, self._lending.among(having))[roots]]
        return roots

    def _lend(self, mask: Bools, lent: Ints) -> Bools:
        if len(lent):
            mask[self._lending.borrowers_of_any(lent)] = True
        return mask

    def _distinct(self, roots: Ints, takes_part: Bools, found: list[Found]) -> Ints:
        """Of trees that have no part in serving the request, and the same lenders, one is enough."""
        lenders = {lender for one in found for lender in one.lent.tolist()}
        idle = roots[~takes_part[roots]]
        if len(idle) < 2:
            return roots
        marks = np.zeros(self._view.size, dtype=np.uint64)
        random = np.random.default_rng(0)
        for lender in sorted(lenders):
            marks[self._lending.borrowers(lender)] ^= random.integers(1, 2**63, dtype=np.uint64)
        _, first = np.unique(marks[idle], return_index=True)
        return np.sort(np.concatenate([roots[takes_part[roots]], idle[first]]))

    # -- one tree -----------------------------------------------------------------------------------------------

    def _rows_of(self, roots: Ints) -> Ints:
        """All rows of these trees, and those that lend to them."""
        view = self._view
        rows = np.fromiter(chain.from_iterable(map(view.tree, roots.tolist())), dtype=np.int64)
        lenders = self._lending.array
        return np.concatenate([rows, lenders]) if len(lenders) else rows

    def _trees(self, roots: Ints, *, idle: bool = False) -> Iterator[tuple[int, Tree]]:
        """What is asked of each of these trees, in their order: those left out where nobody serves some part. With
        `idle` not only the first of those that have no part in it."""
        view, shape = self._view, self._shape
        if not len(roots):
            return
        rows = self._rows_of(roots)
        roots, found, _ = self._narrow(roots, rows)
        if not len(roots):
            return
        own = [set(one.own.tolist()) for one in found]
        lent = [set(one.lent.tolist()) for one in found]
        covers = [
            Cover(pieces, frozenset(rows[has_any(bits, rows)].tolist())) for pieces, bits in shape.covers
        ]
        for root in roots.tolist():
            members = view.tree(root)
            lenders = self._lending.to(root)
            options = []
            for number in range(len(found)):
                inside = [row for row in members if row in own[number]]
                outside = [row for row in lenders if row in lent[number]]
                if not inside and not outside:
                    break
                options.append((inside, outside))
            if len(options) == len(found) and (idle or not self._is_idle(options)):
                preferred = [
                    self._preferred(number, inside) + self._preferred(number, outside)
                    for number, (inside, outside) in enumerate(options)
                ]
                yield root, Tree(shape.pieces, preferred, covers, shape.subtrees, self._above(preferred))

    def _is_idle(self, options: list[tuple[list[int], list[int]]]) -> bool:
        """Whether a tree has no part in serving the request, and another one like it was tried."""
        if any(inside for inside, _ in options):
            return False
        key = tuple(tuple(outside) for _, outside in options)
        if key in self._idle:
            return True
        self._idle.add(key)
        return False

    def _preferred(self, kind: int, rows: list[int]) -> list[int]:
        """The providers of one tree in the order in which a group takes them."""
        if len(rows) < 2:
            return rows
        shuffled = np.array(rows, dtype=np.int64)[self._rng.permutation(len(rows))]
        scores = self._order.parts(self._view, self._spec, self._shape.kinds[kind].group, shuffled)
        ranked: list[int] = shuffled[np.argsort(scores, kind="stable")].tolist()
        return ranked

    def _above(self, options: list[list[int]]) -> dict[int, frozenset[int]]:
        """For each row those above it, itself among them; only asked where something must be in one subtree."""
        if not self._shape.subtrees:
            return {}
        parent = self._view.parent
        found = {}
        for row in {row for some in options for row in some}:
            path = [row]
            while (above := int(parent[path[-1]])) != path[-1]:
                path.append(above)
            found[row] = frozenset(path)
        return found


def _chunks(roots: Ints) -> Iterator[Ints]:
    for at in range(0, len(roots), _CHUNK):
        yield roots[at : at + _CHUNK]
