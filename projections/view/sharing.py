"""Sharing providers, and the trees that they serve.

A provider with the trait MISC_SHARES_VIA_AGGREGATE serves every tree of its cell that has a provider
in one of its aggregates, as in OpenStack Placement. An example is a storage pool and the nodes that are connected to it.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from vacancy.projections.view.admission import SHARES as SHARES
from vacancy.projections.view.columns import Bools, Ints
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.sparse_rows import rows_with

_UNIONS_MAX = 16


class SharingProviders:
    """The sharing providers of a view and the trees that they serve. A provider may also serve its own tree."""

    def __init__(self, view: FleetView) -> None:
        self._view = view
        self._bits = next(iter(view.traits.known((SHARES,))), None)
        rows = () if self._bits is None else rows_with(self._bits, view.size).tolist()
        self.rows: frozenset[int] = frozenset(row for row in rows if view.aggregates.of(row))
        self.array: Ints = np.array(sorted(self.rows), dtype=np.int64)
        self._by_aggregate: dict[tuple[int, str], list[int]] = defaultdict(list)
        self._served_trees: dict[int, Ints] = {}
        self._unions: dict[bytes, Bools] = {}
        for row in sorted(self.rows):
            for name in view.aggregates.of(row):
                self._by_aggregate[int(view.cell[row]), name].append(row)

    def among(self, rows: Ints) -> Ints:
        """The rows among these that are sharing providers."""
        if not self.rows or self._bits is None:
            return rows[:0]
        marked = rows[self._bits[rows]]
        return np.array([row for row in marked.tolist() if row in self.rows], dtype=np.int64)

    def serving(self, root: int) -> list[int]:
        """The rows of the sharing providers in other trees that serve the tree of this root, ascending."""
        view = self._view
        if not self.rows:
            return []
        cell = int(view.cell[root])
        found = {
            provider
            for member in view.tree(root)
            for name in view.aggregates.of(member)
            for provider in self._by_aggregate.get((cell, name), ())
        }
        return sorted(provider for provider in found if view.root[provider] != root)

    def served_trees(self, provider: int) -> Ints:
        """The roots of the trees that a sharing provider serves, ascending."""
        known = self._served_trees.get(provider)
        if known is None:
            view, size = self._view, self._view.size
            arrays = (view.aggregates.arrays[name] for name in view.aggregates.of(provider))
            members = np.concatenate([rows_with(bits, size) for bits in arrays])
            members = members[view.cell[members] == view.cell[provider]]
            known = self._served_trees[provider] = np.unique(view.root[members])
        return known

    def served_by(self, providers: Ints) -> Bools:
        """A mask by row: whether it is the root of a tree that any of these providers serves. Do not write to it."""
        known = self._unions.get(name := providers.tobytes())
        if known is None or len(known) < self._view.size:
            if len(self._unions) >= _UNIONS_MAX:
                self._unions.clear()
            known = np.zeros(self._view.size, dtype=np.bool_)
            for provider in providers.tolist():
                known[self.served_trees(provider)] = True
            self._unions[name] = known
        return known


def sharing_providers(view: FleetView) -> SharingProviders:
    """The sharing providers of a view, computed once as long as traits, aggregates and trees stay the same."""
    return view.derived.of_all(SharingProviders, lambda: SharingProviders(view))
