"""Why there is no valid host: what each constraint removes, and who missed by least.

A constraint removes a node from a group if no provider of its tree satisfies it. `alone` asks each constraint by
itself; in order, it is asked of the providers that satisfy all before it. What columns cannot say is asked of the
classes themselves, and at last of the query engine, so that what is left is what `find` finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from vacancy.projections.candidates import find
from vacancy.projections.columns import Bools
from vacancy.projections.conditions import Floats
from vacancy.projections.filter import Filter, compiled
from vacancy.projections.orders import Random
from vacancy.projections.tried import (
    TOGETHER,
    Tree,
    exact_text,
    inexact_classes,
    refusal,
    share_missing,
    together_text,
    tried,
)
from vacancy.projections.view import View
from vacancy.resources.request import RequestGroup, RequestSpec
from vacancy.resources.resource_class import Shortfall
from vacancy.resources.tables import key

NEAREST = 5
ALONE_MAX = 5_000
"""Trial claims up to which a class's own check is asked of all providers that its terms let through."""


class Removed(NamedTuple):
    """What one constraint does to the nodes: how many fail it `alone` (None: finding out would take too long), and
    how many it removes `in_order`, after those above it. `group` names the groups that ask for it."""

    group: str
    kind: str
    constraint: str
    alone: int | None
    in_order: int


class Explanation(NamedTuple):
    """Of so many `nodes`, how many are `left`, and how each constraint removed the others: the numbers in order and
    `left` add up to `nodes`. `nearest` are the nodes that lack the fewest things (a class counts once, whatever of it
    is short), then those that lack least of them, the nearest first.
    """

    nodes: int
    left: int
    constraints: tuple[Removed, ...]
    nearest: tuple[Tree, ...]


def explain(
    view: View, spec: RequestSpec, *, heard_since_ms: int | None = None, nearest: int = NEAREST
) -> Explanation:
    """What each constraint of a request removes, as of where the view stands.

    It asks as much as a query that finds nothing, and more: milliseconds for 100,000 nodes; where many nodes fit
    several groups, as long as finding all candidates takes.
    """
    return _Explaining(view, spec, heard_since_ms).run(nearest)


class _Explaining:
    """The work of one `explain`. `alive`: by row, whether it is the root of a node that is not removed yet."""

    def __init__(self, view: View, spec: RequestSpec, heard_since_ms: int | None) -> None:
        self._view = view
        self._spec = spec
        self._since_ms = heard_since_ms
        self._root = view.root[: view.size]
        rows = np.fromiter(view.row_of.values(), dtype=np.int64, count=len(view.row_of))
        self._is_root = np.zeros(view.size, dtype=np.bool_)
        self._is_root[rows[self._root[rows] == rows]] = True
        self._alive = self._is_root.copy()
        self._misses = np.zeros(view.size)
        self._constraints: list[Removed] = []

    def run(self, nearest: int) -> Explanation:
        """The answer."""
        for names, group in _distinct(self._spec):
            self._group(names, group)
        if len(self._spec.groups) > 1:
            self._together()
        near = [tried(self._view, self._spec, row, self._since_ms) for row in self._nearest(nearest)]
        nodes, left = int(self._is_root.sum()), int(self._alive.sum())
        return Explanation(nodes, left, tuple(self._constraints), tuple(near))

    def _group(self, names: str, group: RequestGroup) -> None:
        made = compiled(self._view, group, self._since_ms)
        rows = slice(0, self._view.size)
        left = np.ones(self._view.size, dtype=np.bool_)
        missing: dict[str, Floats] = {}
        for condition in made.conditions:
            holds = condition.holds(rows)
            left &= holds
            about = condition.resource_class or condition.text
            short = condition.shortages(rows)
            missing[about] = np.maximum(missing[about], short) if about in missing else short
            self._removed(names, condition.kind, condition.text, self._lacking(holds), left)
        for name in inexact_classes(self._view, group):
            self._exact(names, group, name, made, left, missing[name])
        short = np.sum(list(missing.values()), axis=0)
        fails = np.sum([one > 0 for one in missing.values()], axis=0)
        # Less than one for how much is missing: one constraint more is further away than any amount.
        self._misses += self._least(fails + short / (len(missing) + 1))

    def _exact(
        self, names: str, group: RequestGroup, name: str, made: Filter, left: Bools, missing: Floats
    ) -> None:
        """What the class itself refuses of the rows that are left, in the trees that are."""
        ask = group.resources[name]
        refused: dict[int, Shortfall | None] = {}

        def refusal_of(row: int) -> Shortfall | None:
            if row not in refused:
                refused[row] = refusal(self._view, row, name, ask)
            return refused[row]

        for row in np.flatnonzero(left & self._alive[self._root]).tolist():
            shortfall = refusal_of(row)
            if shortfall is not None:
                left[row] = False
                missing[row] = share_missing(shortfall)
        able = np.ones(len(left), dtype=np.bool_)
        for term in made.conditions:
            if term.resource_class == name:
                able &= term.holds(slice(0, len(left)))
        alone = None
        if int(able.sum()) <= ALONE_MAX:
            able[[row for row in np.flatnonzero(able).tolist() if refusal_of(row) is not None]] = False
            alone = self._lacking(able)
        self._removed(names, "exact", exact_text(name, ask), alone, left)

    def _together(self) -> None:
        """What only the groups together ask for, in the engine's own words."""
        able = np.zeros(len(self._alive), dtype=np.bool_)
        if self._alive.any():
            found = find(
                self._view,
                self._spec,
                limit=len(able),
                order=Random(),
                rng=np.random.default_rng(0),
                heard_since_ms=self._since_ms,
                one_a_tree=True,
            )
            able[[self._view.row_of[key(one.cell, one.root)] for one in found]] = True
        self._misses += self._alive & ~able
        self._removed("", TOGETHER, together_text(self._spec), None, able)

    def _removed(self, names: str, kind: str, text: str, alone: int | None, left: Bools) -> None:
        before = int(self._alive.sum())
        self._alive &= self._having(left)
        self._constraints.append(Removed(names, kind, text, alone, before - int(self._alive.sum())))

    def _lacking(self, holds: Bools) -> int:
        """How many nodes have no provider where it holds."""
        return int((self._is_root & ~self._having(holds)).sum())

    def _having(self, holds: Bools) -> Bools:
        """By row of a root: whether any of its tree's rows holds."""
        found = np.zeros(len(holds), dtype=np.bool_)
        found[self._root[holds]] = True
        return found

    def _least(self, values: Floats) -> Floats:
        """By row of a root: the least value in its tree."""
        if not self._view.members:
            return values
        found = np.full(len(values), np.inf)
        np.minimum.at(found, self._root, values)
        return found

    def _nearest(self, count: int) -> list[int]:
        rows = np.flatnonzero(self._is_root & ~self._alive)
        if not len(rows):
            return []
        misses = self._misses[rows]
        if count < len(rows):
            some = np.argpartition(misses, count)[:count]
            rows, misses = rows[some], misses[some]
        nearest: list[int] = rows[np.lexsort((rows, misses))].tolist()
        return nearest


def _distinct(spec: RequestSpec) -> Iterator[tuple[str, RequestGroup]]:
    """Groups that ask for the same are one; with all their names."""
    alike: dict[str, list[RequestGroup]] = {}
    for group in spec.groups:
        alike.setdefault(group.model_copy(update={"name": ""}).model_dump_json(), []).append(group)
    for groups in alike.values():
        yield ", ".join(group.name for group in groups), groups[0]
