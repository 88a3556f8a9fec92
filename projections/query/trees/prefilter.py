"""Which trees have a provider for each part of a request, by columns only, and which providers these are.

Asked of all trees it keeps a truth for each row, and turns to the few as soon as few are left. Asked of a few it
works on their rows only: nothing is as long as the fleet.
"""

from __future__ import annotations

from itertools import chain
from typing import NamedTuple

import numpy as np

from vacancy.projections.query.plan import QueryPlan, has_any
from vacancy.projections.view.columns import Bools, Ints
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.sharing import sharing_providers
from vacancy.projections.view.sparse_rows import rows_with

_FEW = 256
"""With fewer trees than one in this many rows, the rows of the trees are gathered; else all rows are scanned, which is fast."""

_RARE = 16
"""A trait that at most one provider in this many has is looked at first."""


class KindRows(NamedTuple):
    """The providers of some trees that can serve a kind. `rows` come tree by tree; those of the tree at place n in the list of trees
    are from `starts[n]` to `starts[n + 1]`, and `places` has n for each row."""

    rows: Ints
    places: Ints
    starts: Ints


class PrefilterResult(NamedTuple):
    """Trees that have a provider for each part: their roots, the providers by kind, and which trees take part with a
    provider of their own. `known`: for each collective trait all rows that have it."""

    roots: Ints
    own: list[KindRows]
    takes_part: Bools
    known: list[frozenset[int]]


class Prefilter:
    """Which trees and providers can serve, for one query. `sharing` are, by kind, the rows of sharing providers that can serve other
    trees. `accepting` and `accepting_roots`: see `QueryContext`."""

    def __init__(self, view: FleetView, plan: QueryPlan, accepting: Bools, accepting_roots: Bools) -> None:
        self._accepting = accepting
        self._accepting_roots = accepting_roots
        self._view = view
        self._plan = plan
        self._sharing = sharing_providers(view)
        none: Ints = np.zeros(0, dtype=np.int64)
        self._nobody = KindRows(none, none, np.zeros(1, dtype=np.int64))
        self.sharing = [none] * len(plan.kinds)
        if len(self._sharing.array):
            self.sharing = [
                kind.sharing_rows(kind.filter.among(self._sharing.array, accepting), self._sharing)
                for kind in plan.kinds
            ]
        self.has_sharing = any(map(len, self.sharing))
        self._passing: dict[int, float] = {}

    @property
    def _order(self) -> list[int]:
        """The kinds, the one that has left the fewest trees so far first."""
        choosiest = self._plan.choosiest
        return sorted(choosiest, key=lambda number: self._passing.get(number, 1.0))

    # -- few ----------------------------------------------------------------------------------------------------

    def among(self, roots: Ints) -> PrefilterResult:
        """Those of these trees (each given once) that can serve, in their order."""
        plan, count = self._plan, len(roots)
        rows = self._rows_of(roots)
        place_of = _scratch(self._view)
        place_of[roots] = np.arange(count)
        alive = np.ones(count, dtype=np.bool_)
        takes_part = np.zeros(count, dtype=np.bool_)
        own = [self._nobody] * len(plan.kinds)
        left = count
        for number in self._order:
            if not left:
                break
            kind = plan.kinds[number]
            serving = kind.own(kind.filter.among(rows, self._accepting))
            places = place_of[self._view.root[serving]]
            counts = np.bincount(places, minlength=count)
            own[number] = KindRows(serving, places, _starts(counts))
            has = counts > 0
            takes_part |= has
            alive &= self._add_sharing(counts >= self._least(number), self.sharing[number], roots)
            before, left = left, int(np.count_nonzero(alive))
            self._passing[number] = left / before
        known = []
        for pieces, bits in plan.collective_traits if left else ():
            has = np.zeros(count, dtype=np.bool_)
            for number in {plan.pieces[piece].kind for piece in pieces}:
                one, sharing = own[number], self.sharing[number]
                has[one.places[has_any(bits, one.rows)]] = True
                self._add_sharing(has, sharing[has_any(bits, sharing)], roots)
            alive &= has
            having = rows[has_any(bits, rows)].tolist()
            providers = self._sharing.array
            having += providers[has_any(bits, providers)].tolist()
            known.append(frozenset(having))
        return _result(roots, own, takes_part, known, alive)

    def _rows_of(self, roots: Ints) -> Ints:
        """All rows of these trees, tree by tree."""
        view = self._view
        if not view.members:
            return roots
        trees = list(map(view.tree, roots.tolist()))
        rows = np.fromiter(chain.from_iterable(trees), dtype=np.int64)
        if len(rows) == len(roots):
            return rows
        # What moved to another tree may still be named by the one it left.
        inside = view.root[rows] == np.repeat(roots, list(map(len, trees)))
        return rows if inside.all() else rows[inside]

    def _least(self, number: int) -> int:
        """How many providers of its own a tree needs for a kind that no sharing provider serves."""
        plan = self._plan
        return plan.counts[number] if plan.exclusive[number] and not len(self.sharing[number]) else 1

    def _add_sharing(self, has: Bools, sharing: Ints, roots: Ints | slice) -> Bools:
        if len(sharing):
            has |= self._sharing.served_by(sharing)[roots]
        return has

    # -- all ----------------------------------------------------------------------------------------------------

    def everywhere(self, without: Ints) -> Ints:
        """The roots of all such trees but these, ascending. Of trees that serve nothing themselves and have the same sharing
        providers, only one."""
        view, size, plan = self._view, self._view.size, self._plan
        alive = plan.root_mask(self._accepting_roots)
        alive[without] = False
        self._only_rare_traits(alive)
        takes_part = np.zeros(size, dtype=np.bool_)
        own: dict[int, Ints] = {}
        every = slice(0, size)
        for number in self._order:
            if int(np.count_nonzero(alive)) * _FEW < size:
                result = self.among(np.flatnonzero(alive))
                return self._distinct(result.roots, result.takes_part)
            kind = plan.kinds[number]
            own[number] = kind.own(kind.filter.everywhere(self._accepting))
            at = view.root[own[number]]
            has = np.zeros(size, dtype=np.bool_)
            has[at] = True
            takes_part |= has
            least = self._least(number)
            if least > 1:
                has = np.bincount(at, minlength=size) >= least
            alive &= self._add_sharing(has, self.sharing[number], every)
        for pieces, bits in plan.collective_traits:
            has = np.zeros(size, dtype=np.bool_)
            for number in {plan.pieces[piece].kind for piece in pieces}:
                rows, sharing = own[number], self.sharing[number]
                has[view.root[rows[has_any(bits, rows)]]] = True
                self._add_sharing(has, sharing[has_any(bits, sharing)], every)
            alive &= has
        roots = np.flatnonzero(alive)
        return self._distinct(roots, takes_part[roots])

    def _only_rare_traits(self, alive: Bools) -> None:
        """Exclude trees without a rare collective trait, where no sharing provider has it either."""
        view, size = self._view, self._view.size
        for _, bits in self._plan.collective_traits:
            if len(bits) > 1:
                continue
            having = rows_with(bits[0], size)
            if len(having) * _RARE > size:
                continue
            has = np.zeros(size, dtype=np.bool_)
            has[view.root[having]] = True
            alive &= self._add_sharing(has, self._sharing.among(having), slice(0, size))

    def _distinct(self, roots: Ints, takes_part: Bools) -> Ints:
        """Of trees that serve nothing themselves and have the same sharing providers, one is enough."""
        idle = roots[~takes_part]
        if len(idle) < 2:
            return roots
        providers = {provider for rows in self.sharing for provider in rows.tolist()}
        marks = np.zeros(self._view.size, dtype=np.uint64)
        random = np.random.default_rng(0)
        for provider in sorted(providers):
            marks[self._sharing.served_trees(provider)] ^= random.integers(1, 2**63, dtype=np.uint64)
        _, first = np.unique(marks[idle], return_index=True)
        return np.sort(np.concatenate([roots[takes_part], idle[first]]))


def rows_a_tree(view: FleetView) -> int:
    """How many rows a tree has, about; counted again when trees change."""
    return _counted(view)[0]


def _scratch(view: FleetView) -> Ints:
    """A scratch number for each row: only what was just written to it is defined."""
    return _counted(view)[1]


def _counted(view: FleetView) -> tuple[int, Ints]:
    return view.derived.of_all(_counted, lambda: _count(view))


def _count(view: FleetView) -> tuple[int, Ints]:
    trees = int(np.count_nonzero(view.root[: view.size] == np.arange(view.size)))
    return view.size // max(1, trees), np.empty(len(view.root), dtype=np.int64)


def _starts(counts: Ints) -> Ints:
    starts = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts


def _result(
    roots: Ints, own: list[KindRows], takes_part: Bools, known: list[frozenset[int]], alive: Bools
) -> PrefilterResult:
    """The result for the trees that are left."""
    if alive.all():
        return PrefilterResult(roots, own, takes_part, known)
    roots, takes_part = roots[alive], takes_part[alive]
    if not len(roots):
        return PrefilterResult(roots, own, takes_part, known)
    place_of = np.cumsum(alive) - 1
    kept = []
    for one in own:
        inside = alive[one.places]
        places = place_of[one.places[inside]]
        kept.append(KindRows(one.rows[inside], places, _starts(np.bincount(places, minlength=len(roots)))))
    return PrefilterResult(roots, kept, takes_part, known)
