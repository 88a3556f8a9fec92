"""The orders that need no settings: at random, pack, best fit and spread; and `Drawn`, which draws among the best."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.order import Around, Order
from vacancy.projections.view.columns import Floats, Ints
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.sparse_rows import SparseRows


class Random(Order):
    """Uniformly at random over all matching candidates, so that concurrent schedulers rarely choose the same one."""

    name = "random"
    uniform = True

    def trees(self, view: FleetView, request: CompiledRequest, roots: Ints) -> Floats:
        """All the same."""
        return np.zeros(len(roots))


class Pack(Order):
    """Keeps free capacity usable for other requests. First come the trees with the least free of classes that the request
    does not ask for, so that a request without GPUs does not strand any. Among equals come first the trees with the least
    free of the classes that it asks for."""

    name = "pack"

    def trees(self, view: FleetView, request: CompiledRequest, roots: Ints) -> Floats:
        """See `Order`."""
        asked = _asked(request)
        # The other classes outweigh: the sum over the requested classes is at most 1 for each of them.
        unasked = _free_shares(view, roots, lambda name: name not in asked) * (len(asked) + 1) * _OUTWEIGH
        return unasked + _free_shares(view, roots, asked.__contains__)


class BestFit(Order):
    """Prefers the trees with the least free, over all classes."""

    name = "best_fit"

    def trees(self, view: FleetView, request: CompiledRequest, roots: Ints) -> Floats:
        """See `Order`."""
        return _free_shares(view, roots, frozenset(view.classes).__contains__)


class Spread(Order):
    """Prefers the trees with the most free of the requested classes, and in a tree the providers with the most free."""

    name = "spread"

    def trees(self, view: FleetView, request: CompiledRequest, roots: Ints) -> Floats:
        """See `Order`."""
        return -_free_shares(view, roots, _asked(request).__contains__)

    def parts(self, view: FleetView, request: CompiledRequest, group: int, rows: Ints) -> Floats:
        """See `Order`."""
        return -super().parts(view, request, group, rows)


class Drawn(Around):
    """An order that draws at random among its best `among` candidates."""

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
    """The free amounts in each root's tree, summed over classes, each as a share of the largest tree's capacity."""
    total = np.zeros(len(roots))
    size = view.size
    place_of: Ints | None = None
    is_repeated = False
    for name, columns in view.classes.items():
        if not wanted(name):
            continue
        if columns.sparse is not None:
            if place_of is None:
                place_of = np.full(size, -1, dtype=np.int64)
                place_of[roots] = np.arange(len(roots))
                is_repeated = bool((place_of[roots] != np.arange(len(roots))).any())
            if not is_repeated:
                _add_rare(total, place_of, view, columns.sparse)
                continue
        free, capacity = columns.arrays["free"][:size], columns.arrays["capacity"][:size]
        if view.members:
            free = np.bincount(view.root[:size], weights=np.maximum(free, 0), minlength=size)
            capacity = np.bincount(view.root[:size], weights=capacity, minlength=size)
        largest = float(capacity.max(initial=0))
        if largest > 0:
            total += free[roots] / largest
    return total


def _add_rare(total: Floats, place_of: Ints, view: FleetView, columns: SparseRows) -> None:
    """Add the shares of a class that few rows have; `place_of` has the place in `total` of each root, -1 of other rows."""
    free, capacity, roots = columns["free"].there, columns["capacity"].there, view.root[columns.rows]
    if view.members:
        roots, of = np.unique(roots, return_inverse=True)
        free = np.bincount(of, weights=np.maximum(free, 0), minlength=len(roots))
        capacity = np.bincount(of, weights=capacity, minlength=len(roots))
    largest = float(capacity.max(initial=0))
    if largest > 0:
        places = place_of[roots]
        asked = places >= 0
        total[places[asked]] += free[asked] / largest
