"""In which order candidates come: at random, packed, or spread. Lower scores come first, ties at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vacancy.projections.columns import Ints
from vacancy.projections.view import View

Order = Literal["random", "pack", "spread"]
ORDERS: tuple[str, ...] = get_args(Order)

Floats = NDArray[np.float64]


def scores(view: View, order: Order, roots: Ints, asked: frozenset[str]) -> Floats | None:
    """A score for each root's tree, or None where the order is random.

    `pack` leaves room where it is most use to others: first the trees that have least of what was not asked
    for (a request without GPUs shall not strand any), then those with least left of what was. `spread` takes
    the trees with most left of what was asked for. Amounts are compared as shares of the largest in the fleet.
    """
    if order == "random":
        return None
    own = _sum(view, roots, asked.__contains__)
    if order == "spread":
        return -own
    # Unasked room outweighs: what was asked for can sum to at most one per class.
    return _sum(view, roots, lambda name: name not in asked) * (len(asked) + 1) * _OUTWEIGH + own


_OUTWEIGH = 1e3


def _sum(view: View, roots: Ints, wanted: Callable[[str], bool]) -> Floats:
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
