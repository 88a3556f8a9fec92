"""Typical requests as lookup tables for the measure of fragmentation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vacancy.projections.ranking.workload import Workload, needs_of
from vacancy.projections.view.columns import Floats, Ints

_CELLS_MAX = 1_000_000
"""The limit of numbers in the table of weights."""


class Level(NamedTuple):
    """A minimum amount of the device class. `shared` is whether a device counts as often as the amount fits on it.
    `conditions` restrict which devices may serve (see `Needs.device_groups`)."""

    amount: int
    shared: bool
    conditions: tuple[str, ...]


class _Shape(NamedTuple):
    """What the requests of one bucket have in common: everything except their amounts of other classes."""

    devices: tuple[int, ...]
    shared: bool
    device_groups: tuple[str, ...]
    host_groups: tuple[str, ...]


class WorkloadTables:
    """Buckets of typical requests that need the same devices and differ only in their amounts of other classes.

    `levels` are all minimum amounts that the requests ask of a device. `steps[bucket]` are pairs (level, number of devices
    that must reach it); all buckets have the same number of pairs, because the last pair is repeated. `last[bucket]` is
    the level of the smallest amount: a device below it cannot be used. `classes` are the other requested classes.
    """

    def __init__(self, settings: Workload) -> None:
        every = [(needs_of(one.request, settings.device), one.weight) for one in settings.typical]
        self.total_weight = sum(weight for _, weight in every)
        needs = [(need, weight) for need, weight in every if need.devices]
        self.classes = sorted({name for need, _ in needs for name, _ in need.host})
        shapes: dict[_Shape, int] = {}
        numbers = [
            shapes.setdefault(
                _Shape(need.devices, need.shared, need.device_groups, need.host_groups), len(shapes)
            )
            for need, _ in needs
        ]
        self.host_groups = [shape.host_groups for shape in shapes]
        self._number_levels(shapes)
        hosts = [dict(need.host) for need, _ in needs]
        asked = np.array([[host.get(name, 0) for name in self.classes] for host in hosts], np.int64)
        self._weigh(asked.reshape(len(needs), -1), numbers, [weight for _, weight in needs])

    def _number_levels(self, shapes: dict[_Shape, int]) -> None:
        levels: dict[Level, int] = {}
        wanted = []
        for devices, shared, conditions, _ in shapes:
            # A number of devices must have the largest amount, a number the next or more, and so on.
            least = {amount: at + 1 for at, amount in enumerate(devices)}
            wanted.append(
                [
                    (levels.setdefault(Level(amount, shared, conditions), len(levels)), many)
                    for amount, many in least.items()
                ]
            )
        most = max(map(len, wanted))
        self.levels = list(levels)
        self.steps: Ints = np.array([steps + steps[-1:] * (most - len(steps)) for steps in wanted], np.int64)
        self.last = self.steps[:, -1, 0]
        self.amounts = np.array([level.amount for level in self.levels], np.int64)
        self.shared = np.array([level.shared for level in self.levels], np.bool_)

    def _weigh(self, asked: Ints, numbers: list[int], weights: list[int]) -> None:
        """Build the table of weights. Its axes are, for each class, the number of distinct amounts that a tree reaches, and then
        the buckets."""
        buckets = len(self.steps)
        # With two other classes or fewer all amounts are distinguished; with more, the nearest count as one.
        most = max(2, int((_CELLS_MAX / buckets) ** (1 / max(1, asked.shape[1]))) - 1)
        self._amounts = [_distinct(asked[:, at], most) for at in range(asked.shape[1])]
        table = np.zeros((*(len(amounts) + 1 for amounts in self._amounts), buckets))
        for wanted, bucket, weight in zip(asked.tolist(), numbers, weights, strict=True):
            rank = [
                int(np.searchsorted(amounts, amount)) + 1
                for amounts, amount in zip(self._amounts, wanted, strict=True)
            ]
            table[(*rank, bucket)] += weight
        for axis in range(asked.shape[1]):
            np.cumsum(table, axis=axis, out=table)
        self._shape = table.shape[:-1]
        self._table = table.reshape(-1, buckets)

    def fitting(self, host: Ints) -> Floats:
        """By tree and bucket, the weight of the requests whose amounts of other classes the tree has. `host` has a row for
        each tree: its free amount of each of `classes`."""
        cells = np.zeros(len(host), np.int64)
        for at, amounts in enumerate(self._amounts):
            cells = cells * self._shape[at] + np.searchsorted(amounts, host[:, at], side="right")
        found: Floats = self._table[cells]
        return found


def _distinct(amounts: Ints, most: int) -> Ints:
    """The distinct amounts, or a limited number of them, evenly, with the largest: an amount between two counts as the next."""
    found = np.unique(amounts)
    if len(found) > most:
        found = found[np.linspace(0, len(found) - 1, most).astype(np.int64)]
    return found
