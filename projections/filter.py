"""Which rows satisfy one group of a request: terms over columns, bits for traits and aggregates.

`among` asks it of a few rows, `everywhere` of all. Both answer the same; which is faster depends on how many
match.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vacancy.projections.columns import Bools, Ints
from vacancy.projections.view import View
from vacancy.resources.request import RequestGroup
from vacancy.resources.resource_class import Term

COMPILED_MAX = 1024

SPARSE = 8
"""Below one row in so many, gathering the few is cheaper than comparing whole columns."""


def compiled(view: View, group: RequestGroup, heard_since_ms: int | None = None) -> Filter:
    """The filter of a group, made once for as long as the view's arrays are the same and the group is."""
    if heard_since_ms is not None or group.in_tree is not None:
        return Filter(view, group, heard_since_ms=heard_since_ms)
    found = view.compiled.get(id(group))
    if found is None:
        if len(view.compiled) >= COMPILED_MAX:
            view.compiled.clear()
        # The group is kept with its filter, so that no other can come to have its id.
        found = view.compiled[id(group)] = (group, Filter(view, group))
    made: Filter = found[1]
    return made


class Filter:
    """One group's conditions against a view, compiled. `impossible` where no row can ever satisfy them."""

    def __init__(self, view: View, group: RequestGroup, *, heard_since_ms: int | None = None) -> None:
        self._view = view
        self.impossible = False
        self._all: list[Bools] = []
        self._none: list[Bools] = []
        self._any: list[list[Bools]] = []
        self._terms: list[tuple[Ints, Term]] = []
        self._roots: Ints | None = None
        self._heard_since_ms = heard_since_ms
        for name in group.required:
            self._require(view.traits.arrays.get(name))
        for wanted in group.any_traits:
            self._require_any([view.traits.arrays.get(name) for name in wanted])
        for wanted in group.member_of:
            self._require_any([view.aggregates.arrays.get(name) for name in wanted])
        self._none += [found for n in group.forbidden if (found := view.traits.arrays.get(n)) is not None]
        self._none += [
            found for n in group.not_member_of if (found := view.aggregates.arrays.get(n)) is not None
        ]
        for name, ask in group.resources.items():
            columns = view.classes.get(name)
            if columns is None:
                self.impossible = True
                continue
            self._terms += [(columns.arrays[t.column], t) for t in columns.resource_class.query(ask)]
        if group.in_tree is not None:
            self._within(group.in_tree)

    def among(self, rows: Ints) -> Ints:
        """Those of `rows` that match, in their order."""
        rows = rows[self._view.open[rows]]
        for bits in self._all:
            rows = rows[bits[rows]]
        return self._finish(rows, self._terms)

    def everywhere(self) -> Ints:
        """All rows that match, ascending."""
        size = self._view.size
        if self._roots is not None:
            trees = [row for root in self._roots.tolist() for row in self._view.tree(root)]
            return self.among(np.asarray(trees, dtype=np.int64))
        mask = self._view.open[:size].copy()
        for bits in self._all:
            mask &= bits[:size]
        for done, (column, term) in enumerate(self._terms):
            if int(np.count_nonzero(mask)) * SPARSE < size:
                return self._finish(np.flatnonzero(mask), self._terms[done:])
            mask &= _holds(column[:size], term)
        return self._finish(np.flatnonzero(mask), [])

    def _finish(self, rows: Ints, terms: list[tuple[Ints, Term]]) -> Ints:
        """Those of `rows` that satisfy these terms, and all that is rarely asked for."""
        for column, term in terms:
            if not len(rows):
                break
            rows = rows[_holds(column[rows], term)]
        if self._roots is not None:
            rows = rows[np.isin(self._view.root[rows], self._roots)]
        if self._heard_since_ms is not None:
            rows = rows[self._view.heard_ms[self._view.root[rows]] >= self._heard_since_ms]
        for bits in self._none:
            rows = rows[~bits[rows]]
        for choices in self._any:
            rows = rows[np.logical_or.reduce([bits[rows] for bits in choices])]
        return rows

    def _require(self, bits: Bools | None) -> None:
        if bits is None:
            self.impossible = True
        else:
            self._all.append(bits)

    def _require_any(self, choices: list[Bools | None]) -> None:
        known = [bits for bits in choices if bits is not None]
        if len(known) == 1:
            self._all.append(known[0])
        elif known:
            self._any.append(known)
        else:
            self.impossible = True

    def _within(self, provider: str) -> None:
        """In the provider's tree: in each cell that knows it, for a node may have moved from one to another."""
        suffix = b"\0" + provider.encode()
        known = [
            row for cell in self._view.cells if (row := self._view.row_of.get(cell + suffix)) is not None
        ]
        self._roots = np.unique(self._view.root[known])
        self.impossible = self.impossible or not known


def _holds(values: Any, term: Term) -> Any:
    """Where a term holds."""
    _, operator, number = term
    if operator == ">=":
        return values >= number
    if operator == "<=":
        return values <= number
    if operator == "divides":
        holds = values == 1
        others = np.flatnonzero(~holds)  # few, as a rule, and division is slow
        holds[others] = number % np.maximum(values[others], 1) == 0
        return holds
    if operator == "==":
        return values == number
    if operator == "!=":
        return values != number
    return (values & number) == number
