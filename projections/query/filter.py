"""Which rows satisfy one group of a request: terms over columns, bits for traits and aggregates.

`among` asks it of a few rows, `everywhere` of all. Both answer the same; which is faster depends on how many
match.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from vacancy.projections.query.compiled_request import CompiledRequest, expression_of
from vacancy.projections.query.conditions import (
    FEW,
    SPARSE,
    ComparesColumn,
    Condition,
    ExpressionHolds,
    HasAnyOf,
    HasTrait,
    HeardSince,
    InCell,
    IndexedAttribute,
    InTree,
    LacksTrait,
    Never,
    TakesClaims,
    any_text,
)
from vacancy.projections.query.predicate_ast import Expression
from vacancy.projections.view.columns import BitColumns, Ints
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.model.request import RequestGroup


def filter_of(
    view: FleetView, request: CompiledRequest, heard_since_ms: int | None = None, cell: str | None = None
) -> Filter:
    """The filter of a request of one group, made once for as long as the view's arrays are the same."""
    (group,) = request.spec.groups
    if heard_since_ms is not None or group.in_tree is not None:
        return Filter(view, group, request.expressions, heard_since_ms=heard_since_ms, cell=cell)
    return view.derived.of_request(
        request.key, cell, lambda: Filter(view, group, request.expressions, cell=cell)
    )


class Filter:
    """One group's conditions against a view, compiled. `impossible` where no row can ever satisfy them.

    `conditions` are in the order in which they are applied: bits, then columns, then what is rarely asked for.
    """

    def __init__(
        self,
        view: FleetView,
        group: RequestGroup,
        expressions: Mapping[str, Expression] | None = None,
        *,
        heard_since_ms: int | None = None,
        cell: str | None = None,
    ) -> None:
        self._view = view
        self._within: InTree | None = None
        self.impossible = False
        self.one_in = 1 if cell is None else len(view.cells)
        """Of so many rows one can match, where cells are alike."""
        bits: list[Condition] = [TakesClaims(view)]
        few: list[Condition] = []
        compares: list[ComparesColumn] = []
        if cell is not None:
            number = view.cells.get(cell.encode())
            text = f"in cell {cell}"
            bits.append(self._never("cell", text) if number is None else InCell(view, number, text))
        for name in group.required:
            self._has("trait", (name,), view.traits, bits, few)
        for names in group.any_traits:
            self._has("trait", names, view.traits, bits, few)
        for names in group.member_of:
            self._has("aggregate", names, view.aggregates, bits, few)
        if group.where:
            expression = expression_of(expressions or {}, group.where)
            bits += [ExpressionHolds(text, tree, view) for text, tree in expression.parts]
        for name, ask in group.resources.items():
            columns = view.classes.get(name)
            if columns is None:
                bits.append(self._never("resources", f"{name}: any", name))
                continue
            arrays = columns.arrays
            terms = columns.resource_class.query(ask)
            index = columns.resource_class.index_columns
            if index and (known := [(t, arrays[t.column]) for t in terms if t.column in index]):
                bits.append(IndexedAttribute(name, known))
            compares += [ComparesColumn(name, t, arrays[t.column]) for t in terms if t.column not in index]
        # What is free says most: where a whole column was compared and few rows are left, the rest are asked of those.
        compares.sort(key=lambda one: one.term.column != "free")
        bits += compares
        if group.in_tree is not None:
            few.append(self._in_tree(group.in_tree))
        if heard_since_ms is not None:
            few.append(HeardSince(view, heard_since_ms))
        few += self._without("forbidden_trait", group.forbidden, view.traits)
        few += self._without("forbidden_aggregate", group.not_member_of, view.aggregates)
        self.conditions: tuple[Condition, ...] = (*bits, *few)

    def among(self, rows: Ints) -> Ints:
        """Those of `rows` that match, in their order."""
        return _left(rows, self.conditions)

    def everywhere(self) -> Ints:
        """All rows that match, ascending."""
        if self._within is not None:
            trees = [row for root in self._within.roots.tolist() for row in self._view.tree(root)]
            return self.among(np.asarray(trees, dtype=np.int64))
        size = self._view.size
        rows = slice(0, size)
        mask = self.conditions[0].holds(rows).copy()
        for done, condition in enumerate(self.conditions[1:], 1):
            if condition.cost and (condition.cost == FEW or int(np.count_nonzero(mask)) * SPARSE < size):
                return _left(np.flatnonzero(mask), self.conditions[done:])
            mask &= condition.holds(rows)
        return np.flatnonzero(mask)

    def _has(
        self,
        kind: str,
        names: tuple[str, ...],
        columns: BitColumns,
        bits: list[Condition],
        few: list[Condition],
    ) -> None:
        """At least one of these names, which is cheap to ask where only one of them is known at all."""
        known = [found for name in names if (found := columns.arrays.get(name)) is not None]
        if not known:
            bits.append(self._never(kind, any_text(kind, names)))
        elif len(known) == 1:
            bits.append(HasTrait(kind, names, known[0]))
        else:
            few.append(HasAnyOf(kind, names, known))

    def _without(self, kind: str, names: tuple[str, ...], columns: BitColumns) -> list[LacksTrait]:
        return [LacksTrait(kind, (name,), columns.arrays[name]) for name in names if name in columns.arrays]

    def _never(self, kind: str, text: str, resource_class: str = "") -> Never:
        self.impossible = True
        return Never(self._view, kind, text, resource_class)

    def _in_tree(self, provider: str) -> Condition:
        """In the provider's tree: in each cell that knows it, for a node may have moved from one to another."""
        suffix = b"\0" + provider.encode()
        view = self._view
        known = [row for cell in view.cells if (row := view.row_of.get(cell + suffix)) is not None]
        if not known:
            return self._never("in_tree", any_text("in_tree", (provider,)))
        self._within = InTree(view, provider, np.unique(view.root[known]))
        return self._within


def _left(rows: Ints, conditions: Iterable[Condition]) -> Ints:
    """Those of `rows` that satisfy these, in their order."""
    for condition in conditions:
        if not len(rows):
            break
        rows = rows[condition.holds(rows)]
    return rows
