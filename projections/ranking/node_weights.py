"""Weighers: expressions that give each node a number, evaluated as vectors over all nodes that match.

The results of each weigher are scaled to the range 0 to 1 over the matching nodes, multiplied by its multiplier, and
subtracted from the score of the order, which is also scaled to 0 to 1. So a weigher with multiplier 1 has as much
influence as the order itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.conditions.left_out import check_source, check_tree
from vacancy.projections.query.conditions.predicate_ast import Attribute, Column, Tree, amounts, test
from vacancy.projections.query.order import Around, Order
from vacancy.projections.view.columns import Floats, Ints
from vacancy.projections.view.fleet import FleetView


class Number(NamedTuple):
    """A constant."""

    value: float


class Binary(NamedTuple):
    """Two measures combined by an operator: `+`, `-`, `*` or `/`."""

    operator: str
    left: Measure
    right: Measure


class If(NamedTuple):
    """One measure if a condition is true of the root provider, else another."""

    condition: Tree
    then: Measure
    otherwise: Measure


Measure = Number | Column | Attribute | Binary | If


class Weigher(NamedTuple):
    """A measure and its multiplier. Larger values are better; with a negative multiplier, smaller values are better."""

    text: str
    multiplier: float
    measure: Measure


def weights(view: FleetView, roots: Ints, weigher: Weigher) -> Floats:
    """The weight of the tree of each of these roots, from 0 to the multiplier.

    Columns are summed over the tree; attributes are those of the root. A missing value, or one that is divided by 0,
    gets the weight of the smallest value.
    """
    with np.errstate(all="ignore"):
        return weigher.multiplier * normalised(_measured(weigher.measure, view, roots))


def normalised(values: Floats) -> Floats:
    """From 0, the least, to 1, the most; all 0 where all are alike. What is no number is 0."""
    known = np.isfinite(values)
    if not known.any():
        return np.zeros(len(values))
    least, most = values[known].min(), values[known].max()
    if most <= least:
        return np.zeros(len(values))
    with np.errstate(all="ignore"):
        if not np.isfinite(most - least):  # of two large numbers: of their halves it is
            values, least, most = values / 2, least / 2, most / 2
        return np.where(known, (values - least) / (most - least), 0.0)


class Weighed(Around):
    """An order and weighers together."""

    def __init__(self, order: Order, weighers: Sequence[Weigher]) -> None:
        super().__init__(order)
        self.weighers = tuple(weighers)
        self.name = f"{order.name}+weighers"[:64]

    def trees(self, view: FleetView, request: CompiledRequest, roots: Ints) -> Floats:
        """See `Order`."""
        return self._less(view, roots, self.order.trees(view, request, roots))

    def providers(self, view: FleetView, request: CompiledRequest, rows: Ints) -> Floats:
        """See `Order`."""
        return self._less(view, view.root[rows], self.order.providers(view, request, rows))

    def _less(self, view: FleetView, roots: Ints, scores: Floats) -> Floats:
        total = normalised(scores)
        for weigher in self.weighers:
            total -= weights(view, roots, weigher)
        return total


def _measured(measure: Measure, view: FleetView, roots: Ints) -> Floats:
    if isinstance(measure, Number):
        return np.full(len(roots), measure.value)
    if isinstance(measure, Column | Attribute):
        check_source(view, measure)
    if isinstance(measure, Column):
        return _summed(measure, view, roots)
    if isinstance(measure, Attribute):
        values, known = amounts(measure, view, roots)
        return np.where(True if known is None else known, values.astype(np.float64), np.nan)
    if isinstance(measure, If):
        check_tree(view, measure.condition)
        holds = test(measure.condition, view)(roots)
        return np.where(
            holds, _measured(measure.then, view, roots), _measured(measure.otherwise, view, roots)
        )
    left, right = _measured(measure.left, view, roots), _measured(measure.right, view, roots)
    made: Floats = _OPERATIONS[measure.operator](left, right)
    return made


def _summed(column: Column, view: FleetView, roots: Ints) -> Floats:
    """The sum of a column over the tree of each of these roots."""
    columns = view.classes.get(column.resource_class)
    if columns is None:
        return np.zeros(len(roots))
    values = columns.arrays[column.column]
    if not view.members:
        own: Floats = values[roots].astype(np.float64)
        return own
    size = view.size
    sums: Any = np.bincount(view.root[:size], weights=values[:size].astype(np.float64), minlength=size)
    of_roots: Floats = sums[roots]
    return of_roots


_OPERATIONS: Final[dict[str, Any]] = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}
