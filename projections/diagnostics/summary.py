"""Why there is no valid host: what each constraint removes, and who missed by least.

A constraint removes a node from a group if no provider of its tree satisfies it. `alone` asks each constraint by
itself; in order, it is asked of the providers that satisfy all before it. What columns cannot say is asked of the
classes themselves, and at last of the query engine, so that what is left is what `find` finds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vacancy.projections.diagnostics.constraints import TOGETHER, GroupConstraints, RequestConstraints
from vacancy.projections.diagnostics.node_report import (
    TreeReport,
    exact_text,
    inexact_classes,
    refusal,
    report_node,
    share_missing,
)
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.engine import find
from vacancy.projections.ranking.orders import RANDOM
from vacancy.projections.view.columns import Bools, Floats
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.sharing import sharing_providers
from vacancy.resources.classes.resource_class import Shortfall

NEAREST = 5
ALONE_MAX = 5_000
"""Trial claims up to which a class's own check is asked of all providers that its terms let through."""


class RemovedCount(NamedTuple):
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
    constraints: tuple[RemovedCount, ...]
    nearest: tuple[TreeReport, ...]


def explain(
    view: FleetView, request: CompiledRequest, *, heard_since_ms: int | None = None, nearest: int = NEAREST
) -> Explanation:
    """What each constraint of a request removes, as of where the view stands.

    It asks as much as a query that finds nothing, and more: milliseconds for 100,000 nodes; where many nodes fit
    several groups, as long as finding all candidates takes.
    """
    return _Explaining(view, request, heard_since_ms).run(nearest)


class _Left(NamedTuple):
    """By row: who may serve a part in its own tree, and who may lend to others."""

    own: Bools
    lent: Bools


class _Explaining:
    """The work of one `explain`. `alive`: by row, whether it is the root of a node that is not removed yet."""

    def __init__(self, view: FleetView, request: CompiledRequest, heard_since_ms: int | None) -> None:
        self._view = view
        self._request = request
        self._since_ms = heard_since_ms
        self._asked = RequestConstraints(view, request, heard_since_ms)
        self._lending = sharing_providers(view)
        self._root = view.root[: view.size]
        rows = np.fromiter(view.row_of.values(), dtype=np.int64, count=len(view.row_of))
        self._is_root = np.zeros(view.size, dtype=np.bool_)
        self._is_root[rows[self._root[rows] == rows]] = True
        self._alive = self._is_root.copy()
        self._misses = np.zeros(view.size)
        self._constraints: list[RemovedCount] = []

    def run(self, nearest: int) -> Explanation:
        """The answer."""
        rows = slice(0, self._view.size)
        for condition in self._asked.roots:
            holds = condition.holds(rows)
            self._misses += condition.shortages(rows) + ~holds
            self._removed("", condition.kind, condition.text, self._lacking(holds), holds)
        left = [self._part(part) for part in self._asked.parts]
        for cover in self._asked.covers:
            has = cover.holds(rows, self._view)
            able = np.zeros(self._view.size, dtype=np.bool_)
            for number in cover.parts:
                able |= self._having(left[number].own & has, left[number].lent & has)
            self._misses += 2.0 * ~able
            self._removed("", "trait", cover.text, None, able)
        if self._asked.text is not None:
            able = np.zeros(self._view.size, dtype=np.bool_)
            able[self._asked.able(np.flatnonzero(self._alive).tolist())] = True
            self._misses += 2.0 * (self._alive & ~able)
            self._removed("", TOGETHER, self._asked.text, None, able)
        if self._request.spec.copies > 1:
            able = np.full(self._view.size, self._has_room_for_all())
            self._removed("", "copies", f"{self._request.spec.copies} copies in one cell", None, able)
        near = [report_node(self._view, self._asked, row) for row in self._nearest(nearest)]
        nodes, alive = int(self._is_root.sum()), int(self._alive.sum())
        return Explanation(nodes, alive, tuple(self._constraints), tuple(near))

    def _has_room_for_all(self) -> bool:
        rng = np.random.default_rng(0)
        return bool(
            find(self._view, self._request, limit=1, order=RANDOM, rng=rng, heard_since_ms=self._since_ms)
        )

    def _part(self, part: GroupConstraints) -> _Left:
        """Ask each condition of one part. Returns who satisfies them all."""
        rows = slice(0, self._view.size)
        left = _Left(*np.ones((2, self._view.size), dtype=np.bool_))
        lends = part.lends and bool(self._lending.rows)
        left.lent[:] = lends
        missing: dict[str, Floats] = {}
        for condition in part.conditions:
            own = condition.holds(rows)
            lent = condition.lent(rows) if lends else own
            alone = self._lacking(own, lent if lends else None)
            left.own[:] &= own
            left.lent[:] &= lent
            about = condition.resource_class or condition.text
            short = condition.shortages(rows)
            missing[about] = np.maximum(missing[about], short) if about in missing else short
            self._removed(part.groups, condition.kind, condition.text, alone, self._having(*left))
        for name in inexact_classes(self._view, part.group):
            self._exact(part, name, left, missing[name])
        short = np.sum(list(missing.values()), axis=0)
        fails = np.sum([one > 0 for one in missing.values()], axis=0)
        # Less than one for how much is missing: one constraint more is further away than any amount.
        self._misses += self._least(fails + short / (len(missing) + 1), part)
        return left

    def _exact(self, part: GroupConstraints, name: str, left: _Left, missing: Floats) -> None:
        """What the class itself refuses of the rows that are left, in the trees that are."""
        ask = part.group.resources[name]
        refused: dict[int, Shortfall | None] = {}

        def refusal_of(row: int) -> Shortfall | None:
            if row not in refused:
                refused[row] = refusal(self._view, row, name, ask)
            return refused[row]

        for row in np.flatnonzero((left.own & self._alive[self._root]) | left.lent).tolist():
            shortfall = refusal_of(row)
            if shortfall is not None:
                left.own[row] = left.lent[row] = False
                missing[row] = share_missing(shortfall)
        able = np.ones(self._view.size, dtype=np.bool_)
        for term in part.conditions:
            if term.resource_class == name:
                able &= term.holds(slice(0, self._view.size))
        alone = None
        if int(able.sum()) <= ALONE_MAX:
            able[[row for row in np.flatnonzero(able).tolist() if refusal_of(row) is not None]] = False
            alone = self._lacking(able, able if part.lends else None)
        self._removed(part.groups, "exact", exact_text(name, ask), alone, self._having(*left))

    def _removed(self, names: str, kind: str, text: str, alone: int | None, roots: Bools) -> None:
        """A constraint was asked, and left these roots."""
        before = int(self._alive.sum())
        self._alive &= roots
        self._constraints.append(RemovedCount(names, kind, text, alone, before - int(self._alive.sum())))

    def _lacking(self, own: Bools, lent: Bools | None = None) -> int:
        """How many nodes have no provider where it holds."""
        return int((self._is_root & ~self._having(own, lent)).sum())

    def _having(self, own: Bools, lent: Bools | None = None) -> Bools:
        """By row of a root: whether any of its tree's rows is among `own`, or any that lends to it among `lent`."""
        found = np.zeros(len(own), dtype=np.bool_)
        found[self._root[own]] = True
        if lent is not None:
            for lender in self._lending.rows:
                if lent[lender]:
                    found[self._lending.borrowers(lender)] = True
        return found

    def _least(self, values: Floats, part: GroupConstraints) -> Floats:
        """By row of a root: the least value in its tree, and of those that lend to it."""
        if not self._view.members and not self._lending.rows:
            return values
        found = np.full(len(values), np.inf)
        np.minimum.at(found, self._root, values)
        for lender in self._lending.rows if part.lends else ():
            to = self._lending.borrowers(lender)
            found[to] = np.minimum(found[to], values[lender])
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
