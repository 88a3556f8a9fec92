"""The base class of orders: an order scores places for a request; lower scores come first, ties at random.

The engine works with any subclass and knows none by name; `vacancy.projections.ranking` has those that come with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import chain
from typing import ClassVar

import numpy as np

from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.view.columns import Floats, Ints
from vacancy.projections.view.fleet import FleetView


class Order(ABC):
    """Scores places for a request: float arrays, lower is better. Instances can be pickled, and may keep what
    they worked out of a view or of a request (`CompiledRequest.remember`), but answer the same without it."""

    name: str
    """What it is called in options and in claims, up to 64 characters."""

    uniform: ClassVar[bool] = False
    """Whether all places that match are as likely: then `trees` is not asked."""

    among: int = 1
    """A claim goes to one of this many best places, drawn at random: schedulers that all claim the best place meet there."""

    @abstractmethod
    def trees(self, view: FleetView, request: CompiledRequest, roots: Ints) -> Floats:
        """A score for the tree of each of these roots (rows of the view); all of them seem to fit."""

    def providers(self, view: FleetView, request: CompiledRequest, rows: Ints) -> Floats:
        """A score for each provider that could serve a request of one group: its tree's, unless an order can
        distinguish the providers of a tree."""
        return self.trees(view, request, view.root[rows])

    def parts(self, view: FleetView, request: CompiledRequest, group: int, rows: Ints) -> Floats:
        """A score for each of these providers that could serve the request's group of this number, to be compared with others
        of the same tree: best fit. They may be of several trees."""
        free = np.zeros(len(rows))
        for name in request.spec.groups[group].resources:
            free += view.classes[name].arrays["free"][rows]
        return free


class Around(Order):
    """An order that wraps another one and changes parts of it. A wrapper of a uniform order need not be uniform."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.name = order.name
        self.among = order.among

    def trees(self, view: FleetView, request: CompiledRequest, roots: Ints) -> Floats:
        """See `Order`."""
        return self.order.trees(view, request, roots)

    def providers(self, view: FleetView, request: CompiledRequest, rows: Ints) -> Floats:
        """See `Order`."""
        return self.order.providers(view, request, rows)

    def parts(self, view: FleetView, request: CompiledRequest, group: int, rows: Ints) -> Floats:
        """See `Order`."""
        return self.order.parts(view, request, group, rows)


def needed_by_others(view: FleetView, request: CompiledRequest, rows: Ints) -> Floats:
    """How much each of these providers (each given once) has, with those below it, that the request does not ask for and
    others may need: the fewer, the better it serves this request. As Nova, which uses NUMA cells without PCI devices
    first.

    A class whose units differ from each other, such as a list of devices, counts by what is free of it, from 0 to 1. Any
    other class counts 1 where some is free: where all providers have it, that distinguishes none. A root counts without
    its descendants.
    """
    total = np.zeros(len(rows))
    asked = {name for group in request.spec.groups for name in group.resources}
    others = [columns for name, columns in view.classes.items() if name not in asked]
    if not others or len(rows) < 2:
        return total
    trees = map(view.tree, np.unique(view.root[rows]).tolist())
    members = np.fromiter(chain.from_iterable(trees), dtype=np.int64)
    order = np.argsort(rows)
    for columns in others:
        free = columns.arrays["free"][members]
        has = free > 0
        if has.any():
            below = _summed_below(view, rows, order, members[has], free[has])
            is_amount = not columns.resource_class.index_columns
            total += below > 0 if is_amount else below / max(1.0, below.max())
    return total


def _summed_below(view: FleetView, rows: Ints, order: Ints, at: Ints, amounts: Ints) -> Floats:
    """For each of `rows` (sorted by `order`) the sum of the amounts at it and below it; for roots only at it."""
    found, ascending = np.zeros(len(rows)), rows[order]
    for _ in range(len(view.keys)):
        places = np.minimum(ascending.searchsorted(at), len(rows) - 1)
        here = ascending[places] == at
        np.add.at(found, order[places[here]], amounts[here])
        above = view.parent[at]
        goes_on = (above != at) & (above != view.root[at])
        at, amounts = above[goes_on], amounts[goes_on]
        if not len(at):
            break
    return found


def best(values: Floats, limit: int, rng: np.random.Generator) -> Ints:
    """The indices of the `limit` lowest values, lowest first, ties at random."""
    if limit < len(values):
        edge = np.partition(values, limit - 1)[limit - 1]
        sure = np.flatnonzero(values < edge)
        tied = np.flatnonzero(values == edge)
        chosen = np.concatenate([sure, rng.choice(tied, limit - len(sure), replace=False)])
    else:
        chosen = np.arange(len(values))
    shuffled = chosen[rng.permutation(len(chosen))]
    ordered: Ints = shuffled[np.argsort(values[shuffled], kind="stable")]
    return ordered
