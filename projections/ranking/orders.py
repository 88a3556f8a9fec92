"""In which order candidates come. An order scores places; lower scores come first, ties at random.

An order is an object: its name, its parameters, and how it scores. Another one is a subclass of `Order`, in
whatever package; the query engine knows none by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.view.columns import Ints
from vacancy.projections.view.fleet import FleetView

Floats = NDArray[np.float64]


class Order(ABC):
    """Scores places for a request: float arrays, lower is better. Instances can be pickled, and may keep what
    they worked out of a view or of a request (`CompiledRequest.remember`), but answer the same without it."""

    name: str
    """What it is called in options and in claims, up to 64 characters."""

    uniform: ClassVar[bool] = False
    """Whether all places that match are as likely: then `trees` is not asked."""

    among: int = 1
    """A claim goes to one of so many that come first, drawn at random: who knows the best place meets there all others
    who know it."""

    @abstractmethod
    def trees(self, view: FleetView, request: CompiledRequest, roots: Ints) -> Floats:
        """A score for the tree of each of these roots (rows of the view), all of which seem to have room."""

    def providers(self, view: FleetView, request: CompiledRequest, rows: Ints) -> Floats:
        """A score for each provider that could serve a request of one group: its tree's, unless an order can
        tell the providers of a tree apart."""
        return self.trees(view, request, view.root[rows])

    def parts(self, view: FleetView, request: CompiledRequest, group: int, rows: Ints) -> Floats:
        """A score for each of these providers that could serve the request's so-manyth group, to be compared with others
        of the same tree: best fit. They may be of several trees."""
        free = np.zeros(len(rows))
        for name in request.spec.groups[group].resources:
            free += view.classes[name].arrays["free"][rows]
        return free


class Random(Order):
    """Uniformly at random over all that match: schedulers that race then rarely meet."""

    name = "random"
    uniform = True

    def trees(self, view: FleetView, request: CompiledRequest, roots: Ints) -> Floats:
        """All the same."""
        return np.zeros(len(roots))


class Pack(Order):
    """Leaves room where it is most use to others: first the trees that have least of what was not asked for (a
    request without GPUs shall not strand any), then those with least left of what was."""

    name = "pack"

    def trees(self, view: FleetView, request: CompiledRequest, roots: Ints) -> Floats:
        """See `Order`."""
        asked = _asked(request)
        # Unasked room outweighs: what was asked for can sum to at most one per class.
        unasked = _free_shares(view, roots, lambda name: name not in asked) * (len(asked) + 1) * _OUTWEIGH
        return unasked + _free_shares(view, roots, asked.__contains__)


class BestFit(Order):
    """The trees that have least free, of all classes together."""

    name = "best_fit"

    def trees(self, view: FleetView, request: CompiledRequest, roots: Ints) -> Floats:
        """See `Order`."""
        return _free_shares(view, roots, frozenset(view.classes).__contains__)


class Spread(Order):
    """The trees with most left of what was asked for, and there the providers with most left."""

    name = "spread"

    def trees(self, view: FleetView, request: CompiledRequest, roots: Ints) -> Floats:
        """See `Order`."""
        return -_free_shares(view, roots, _asked(request).__contains__)

    def parts(self, view: FleetView, request: CompiledRequest, group: int, rows: Ints) -> Floats:
        """See `Order`."""
        return -super().parts(view, request, group, rows)


class Around(Order):
    """Another order, in what is not said otherwise. What is around one that is uniform need not be."""

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


class Drawn(Around):
    """An order by which a claim goes to one of the best `among`."""

    def __init__(self, order: Order, among: int) -> None:
        super().__init__(order)
        self.name = f"{order.name}:{among}"[:64]
        self.among = among


RANDOM: Final = Random()
SIMPLE_ORDERS: Final[dict[str, Order]] = {
    order.name: order for order in (RANDOM, Pack(), Spread(), BestFit())
}
"""The orders that need no parameters, by name."""

_OUTWEIGH = 1e3


def _asked(request: CompiledRequest) -> frozenset[str]:
    return frozenset(name for group in request.spec.groups for name in group.resources)


def _free_shares(view: FleetView, roots: Ints, wanted: Callable[[str], bool]) -> Floats:
    """What is free in each root's tree, added up over classes, each as a share of the largest tree's capacity."""
    total = np.zeros(len(roots))
    size = view.size
    for name, columns in view.classes.items():
        if not wanted(name):
            continue
        free, capacity = columns.arrays["free"][:size], columns.arrays["capacity"][:size]
        if view.members:
            free = np.bincount(view.root[:size], weights=np.maximum(free, 0), minlength=size)
            capacity = np.bincount(view.root[:size], weights=capacity, minlength=size)
        largest = float(capacity.max(initial=0))
        if largest > 0:
            total += free[roots] / largest
    return total


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
