"""The fragmentation of the devices of each tree, and how much a placement would increase it, computed with arrays.

The measure is that of Q. Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with
Fragmentation Gradient Descent", USENIX ATC 2023. For a typical request m, the free amount on node n that m cannot
use is a fragment. If m does not fit on n, everything free on n is a fragment. Otherwise the fragments are the free
amounts of those devices that have too little for any of m's groups. F_n is the weighted mean of the fragments over all
typical requests.

A placement is better the less it increases the sum of F_n. A request takes the same amount on every node, so the best
node is the one where the sum over m of

    weight(m) * amount of n that m can use

decreases least. This decrease is the loss that is computed here; it is not divided by the sum of weights. Weights and
amounts are whole numbers. So float64 sums are exact up to 2^53, and equal losses compare as equal.

All devices are in one flat array, in which the devices of a tree are contiguous; `reduceat` sums them. Losses are cached
for each kind of request, and computed again only for trees that changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import NamedTuple

import numpy as np

from vacancy.projections.query.conditions.filter import Filter
from vacancy.projections.ranking.workload import Needs, Workload, condition
from vacancy.projections.ranking.workload_tables import WorkloadTables
from vacancy.projections.view.columns import Bools, Floats, Ints
from vacancy.projections.view.fleet import FleetView

_DEVICES_AT_ONCE = 8192
"""The limit of devices in one chunk: temporary arrays have a row for each device."""

_KEPT_CELLS = 4_000_000
"""The limit of cached losses, over all kinds of requests (8 bytes each)."""

_SERVING_MAX = 256
"""The limit of cached masks of devices: requests may have any number of different conditions."""


class _Chunk(NamedTuple):
    """A chunk of trees with their devices. `nodes` are tree numbers, `devices` device numbers. `of[d]` is the place in
    `nodes` of the tree of the d-th device. `first` is the place in `devices` of each tree's first device."""

    nodes: Ints
    devices: Ints
    of: Ints
    first: Ints


class _Kept(NamedTuple):
    """Cached losses of one kind of request: by tree and, if it asks for exactly one device, by device. `tick` holds the
    tick of the index for which they were computed."""

    trees: Floats
    devices: Floats
    tick: list[int]


class FragmentationIndex:
    """The devices of one view, their fragmentation, and the cached losses of requests."""

    def __init__(self, view: FleetView, settings: Workload) -> None:
        self._view = view
        self._device = settings.device
        self._tables = WorkloadTables(settings)
        self._layout = self._version = -1
        self._tick = 0
        self._shared: set[Needs] = set()
        """Needs whose losses are shared with another index: copy before writing."""

    def derive(self, view: FleetView) -> FragmentationIndex:
        """A copy of this index for a view that differs in a few columns. This index does not change."""
        self._refresh()
        made = copy(self)
        made._view, made._version = view, -1
        if self._layout == view.layout:
            made._seen, made._shared = list(self._seen), set(self._kept)
            made._kept = dict(self._kept)
            for name in ("_free", "_host", "_moved_at", "_counts_at", "_amounts_at", "_usable"):
                setattr(made, name, getattr(self, name).copy())
        return made

    # -- queries ----------------------------------------------------------------------------------------

    def measure(self, roots: Ints) -> Floats:
        """F_n of each of these trees: the free amount on its devices that a typical request cannot use, on average."""
        self._refresh()
        found = np.zeros(len(roots))
        if len(self._nodes):
            free = np.add.reduceat(self._free, self._first).astype(np.float64)
            fragments = free - self._usable / self._tables.total_weight
            nodes = self._node_of[roots]
            found[nodes >= 0] = fragments[nodes[nodes >= 0]]
        return found

    def tree_losses(self, needs: Needs, roots: Ints) -> Floats:
        """The smallest loss with which the request can be placed on each of these trees (rows of roots)."""
        kept = self._losses(needs)
        nodes = self._node_of[roots]
        return np.where(nodes < 0, 0.0, kept.trees[nodes]) if len(self._nodes) else np.zeros(len(roots))

    def device_losses(self, needs: Needs, rows: Ints) -> Floats:
        """For a request that asks for one device: the loss if it takes each of these devices (rows of the view)."""
        kept = self._losses(needs)
        places = self._place_of[rows]
        return np.where(places < 0, 0.0, kept.devices[places]) if len(self._nodes) else np.zeros(len(rows))

    # -- updates -------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """Apply the changes of the view since the last refresh."""
        view, size = self._view, self._view.size
        if self._version == view.version:
            return
        self._version = view.version
        columns = view.classes.get(self._device)
        capacity = columns.arrays["capacity"][:size] if columns is not None else np.zeros(size, np.int64)
        if self._layout != view.layout or not np.array_equal(capacity > 0, self._is_device):
            self._rebuild(capacity > 0)
            return
        moved = []
        for at, name in enumerate((self._device, *self._tables.classes)):
            now = self._offered(name)
            rows = np.flatnonzero(now != self._seen[at])
            if not len(rows):
                continue
            if at:
                trees = self._node_of[view.root[rows]]
                inside = trees >= 0
                np.add.at(self._host[:, at - 1], trees[inside], (now[rows] - self._seen[at][rows])[inside])
                moved.append(trees[inside])
            else:
                places = self._place_of[rows]
                self._free[places] = now[rows]
                moved.append(self._of[places])
            self._seen[at] = now
        if moved:
            nodes = np.unique(np.concatenate(moved))
            if len(nodes):
                self._tick += 1
                self._moved_at[nodes] = self._tick
                self._evaluate(nodes)

    def _offered(self, name: str) -> Ints:
        """By row, the free amount of a class; 0 where the provider takes no new claims."""
        view, size = self._view, self._view.size
        columns = view.classes.get(name)
        if columns is None:
            return np.zeros(size, np.int64)
        found: Ints = np.maximum(columns.arrays["free"][:size], 0) * view.open[:size]
        return found

    def _rebuild(self, is_device: Bools) -> None:
        """Compute the data of all trees again."""
        view, size, tables = self._view, self._view.size, self._tables
        self._layout, self._is_device = view.layout, is_device
        self._kept: dict[Needs, _Kept] = {}
        self._shared.clear()
        self._serving: dict[tuple[str, ...], Bools] = {}
        rows = np.flatnonzero(is_device)
        rows = rows[np.argsort(view.root[rows], kind="stable")]
        self._nodes, self._first, self._of = (
            np.asarray(found, np.int64)
            for found in np.unique(view.root[rows], return_index=True, return_inverse=True)
        )
        self._devices = rows
        self._counts = np.diff(np.append(self._first, len(rows)))
        self._place_of = np.full(size, -1, np.int64)
        self._place_of[rows] = np.arange(len(rows))
        self._node_of = np.full(size, -1, np.int64)
        self._node_of[self._nodes] = np.arange(len(self._nodes))
        self._seen = [self._offered(name) for name in (self._device, *tables.classes)]
        self._free = self._seen[0][rows]
        self._host = np.zeros((len(self._nodes), len(tables.classes)), np.int64)
        for at, offered in enumerate(self._seen[1:]):
            sums = np.bincount(view.root[:size], weights=offered, minlength=size)
            self._host[:, at] = sums[self._nodes].astype(np.int64)
        self._level_fits = np.stack([self._may_serve(level.conditions) for level in tables.levels], axis=1)
        self._kind_of: Ints = np.unique(self._level_fits, axis=0, return_inverse=True)[1].reshape(-1)
        self._allowed = self._allowed_hosts()
        self._tick += 1
        self._moved_at = np.full(len(self._nodes), self._tick)
        self._counts_at = np.zeros((len(self._nodes), len(tables.levels)), np.int64)
        self._amounts_at = np.zeros((len(self._nodes), len(tables.levels)), np.int64)
        self._usable = np.zeros(len(self._nodes))
        self._evaluate(np.arange(len(self._nodes)))

    def _may_serve(self, conditions: tuple[str, ...]) -> Bools:
        """A mask by device: whether it satisfies at least one of these conditions, whatever amount it has free."""
        found = self._serving.get(conditions)
        if found is None:
            found = np.zeros(len(self._devices), np.bool_)
            for text in conditions:
                found |= self._satisfies(text, self._devices)
            if len(self._serving) >= _SERVING_MAX:
                self._serving.clear()
            self._serving[conditions] = found
        return found

    def _satisfies(self, text: str, rows: Ints) -> Bools:
        holds = np.ones(len(rows), np.bool_)
        for one in Filter(self._view, condition(text)).conditions:
            holds &= one.holds(rows)
        return holds

    def _allowed_hosts(self) -> Bools | None:
        """A mask by tree and bucket of typical requests. It is about the groups that ask for no device: whether the tree has,
        for each of them, a provider that satisfies its conditions. None if no request has such conditions."""
        view, groups = self._view, self._tables.host_groups
        if not any(groups):
            return None
        rows = np.arange(view.size)
        allowed = np.ones((len(self._nodes), len(groups)), np.bool_)
        for number, conditions in enumerate(groups):
            for text in conditions:
                satisfying = np.bincount(view.root[rows[self._satisfies(text, rows)]], minlength=view.size)
                allowed[:, number] &= satisfying[self._nodes] > 0
        return allowed

    # -- the measure ------------------------------------------------------------------------------------------

    def _chunks(self, nodes: Ints) -> Iterator[_Chunk]:
        """Split these trees into chunks with a limited number of devices."""
        ends = np.cumsum(self._counts[nodes])
        at = 0
        while at < len(nodes):
            before = int(ends[at - 1]) if at else 0
            end = max(at + 1, int(np.searchsorted(ends, before + _DEVICES_AT_ONCE, side="right")))
            trees, counts = nodes[at:end], self._counts[nodes[at:end]]
            first = ends[at:end] - counts - before
            devices = np.repeat(self._first[trees] - first, counts) + np.arange(int(counts.sum()))
            yield _Chunk(trees, devices, np.repeat(np.arange(len(trees)), counts), first)
            at = end

    def _evaluate(self, nodes: Ints) -> None:
        """Compute again the amount of each of these trees that typical requests can use."""
        for chunk in self._chunks(nodes):
            counts, amounts = self._usable_of_trees(chunk, self._free[chunk.devices])
            self._counts_at[chunk.nodes], self._amounts_at[chunk.nodes] = counts, amounts
            fitting = self._fitting(chunk.nodes, self._host[chunk.nodes])
            self._usable[chunk.nodes] = self._usable_weight(fitting, counts, amounts)

    def _usable_of_trees(self, chunk: _Chunk, free: Ints) -> tuple[Ints, Ints]:
        """By tree and level: the number of groups that its devices can serve, and the usable amount of these devices."""
        counts, amounts = self._usable_of_devices(chunk.devices, free)
        return np.add.reduceat(counts, chunk.first, axis=0), np.add.reduceat(amounts, chunk.first, axis=0)

    def _usable_of_devices(self, devices: Ints, free: Ints) -> tuple[Ints, Ints]:
        """As `_usable_of_trees`, by device, if `free` is the free amount of each."""
        tables = self._tables
        column = free[:, np.newaxis]
        counts = ((column >= tables.amounts) & self._level_fits[devices]).astype(np.int64)
        amounts = counts * column
        if tables.shared.any():
            counts *= np.where(tables.shared, column // tables.amounts, 1)
        return counts, amounts

    def _fitting(self, nodes: Ints, host: Ints) -> Floats:
        """By tree and bucket: the weight of the requests whose needs other than devices the tree can satisfy, if `host` is
        its free amount of each other class."""
        fitting = self._tables.fitting(host)
        return fitting if self._allowed is None else fitting * self._allowed[nodes]

    def _usable_weight(self, fitting: Floats, counts: Ints, amounts: Ints) -> Floats:
        """The usable amount, multiplied by the weights. `fitting`, `counts` and `amounts` have the same number of rows."""
        tables = self._tables
        usable = fitting * amounts[:, tables.last]
        for step in range(tables.steps.shape[1]):
            usable *= counts[:, tables.steps[:, step, 0]] >= tables.steps[:, step, 1]
        found: Floats = usable.sum(axis=1)
        return found

    # -- losses -----------------------------------------------------------------------------------------------

    def _losses(self, needs: Needs) -> _Kept:
        """The losses of a kind of request, computed again for trees that changed."""
        self._refresh()
        kept = self._kept.pop(needs, None)
        if kept is None:
            size = len(self._nodes) + len(self._devices)
            while self._kept and (len(self._kept) + 1) * size > _KEPT_CELLS:
                del self._kept[next(iter(self._kept))]  # the least recently used entry
            kept = _Kept(np.zeros(len(self._nodes)), np.zeros(len(self._devices)), [-1])
        if needs in self._shared:
            self._shared.remove(needs)
            kept = _Kept(kept.trees.copy(), kept.devices.copy(), list(kept.tick))
        self._kept[needs] = kept
        if kept.tick[0] < self._tick:
            nodes = np.flatnonzero(self._moved_at > kept.tick[0])
            may_serve = self._may_serve(needs.device_groups) if needs.devices else None
            for chunk in self._chunks(nodes):
                self._compute_losses(needs, chunk, may_serve, kept)
            kept.tick[0] = self._tick
        return kept

    def _compute_losses(self, needs: Needs, chunk: _Chunk, may_serve: Bools | None, kept: _Kept) -> None:
        asked = dict(needs.host)
        host = self._host[chunk.nodes] - np.array(
            [asked.get(name, 0) for name in self._tables.classes], np.int64
        )
        fitting = self._fitting(chunk.nodes, host)
        before = self._usable[chunk.nodes]
        if may_serve is None:
            then = self._usable_weight(fitting, self._counts_at[chunk.nodes], self._amounts_at[chunk.nodes])
            kept.trees[chunk.nodes] = before - then
        elif len(needs.devices) == 1:
            losses = self._losses_of_devices(needs.devices[0], chunk, fitting, may_serve[chunk.devices])
            kept.devices[chunk.devices] = losses
            kept.trees[chunk.nodes] = np.minimum.reduceat(losses, chunk.first)
        else:
            left, served = _taken(needs, chunk, self._free[chunk.devices], may_serve[chunk.devices])
            losses = before - self._usable_weight(fitting, *self._usable_of_trees(chunk, left))
            kept.trees[chunk.nodes] = np.where(served, losses, np.inf)

    def _losses_of_devices(self, amount: int, chunk: _Chunk, fitting: Floats, may_serve: Bools) -> Floats:
        """The loss for each device if that amount is taken from it; infinite where this is impossible."""
        free = self._free[chunk.devices]
        losses = np.full(len(free), np.inf)
        able = np.flatnonzero((free >= amount) & may_serve)
        if not len(able):
            return losses
        # Neighbouring devices of one tree with the same level fits and free amount have equal losses: compute one of them.
        differs = np.ones(len(able), np.bool_)
        for values in (chunk.of, free, self._kind_of[chunk.devices]):
            differs[1:] &= values[able[1:]] == values[able[:-1]]
        np.logical_not(differs[1:], out=differs[1:])
        one = able[differs]
        tree, devices = chunk.of[one], chunk.devices[one]
        nodes = chunk.nodes[tree]
        counts, amounts = self._usable_of_devices(devices, free[one])
        counts_left, amounts_left = self._usable_of_devices(devices, free[one] - amount)
        counts_left += self._counts_at[nodes] - counts
        amounts_left += self._amounts_at[nodes] - amounts
        found = self._usable[nodes] - self._usable_weight(fitting[tree], counts_left, amounts_left)
        losses[able] = found[np.cumsum(differs) - 1]
        return losses


def _taken(needs: Needs, chunk: _Chunk, free: Ints, may_serve: Bools) -> tuple[Ints, Bools]:
    """Place several device asks in each tree, the largest first, by best fit. Returns the free amount that is left on each
    device, and a mask by tree: whether it can serve all asks."""
    left = free.copy()
    usable = may_serve.copy()
    served = np.ones(len(chunk.nodes), np.bool_)
    for amount in needs.devices:
        fits = usable & (left >= amount)
        room = np.where(fits, left, _BEYOND)
        least = np.minimum.reduceat(room, chunk.first)
        served &= least < _BEYOND
        chosen = np.flatnonzero(fits & (left == least[chunk.of]))
        chosen = chosen[np.unique(chunk.of[chosen], return_index=True)[1]]
        left[chosen] -= amount
        if not needs.shared:
            usable[chosen] = False
    return left, served


_BEYOND = np.iinfo(np.int64).max
