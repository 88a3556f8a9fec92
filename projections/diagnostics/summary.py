"""Why there is no valid host: how many nodes each constraint removes, and the nearest misses.

A constraint removes a node from a group if no provider of its tree satisfies it. `alone` counts the nodes that each
constraint removes by itself; `in_order` counts those that it removes after the constraints before it. What columns do
not decide is tested by claims, and last by the query engine: the nodes that are left are those that `find` finds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vacancy.projections.diagnostics.constraints import (
    TOGETHER,
    CollectiveConstraint,
    GroupConstraints,
    RequestConstraints,
    offers_classes,
)
from vacancy.projections.diagnostics.node_report import (
    TreeReport,
    exact_text,
    inexact_classes,
    refusal,
    report_node,
    share_missing,
)
from vacancy.projections.diagnostics.qualities import QualityConstraints
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.engine import find
from vacancy.projections.ranking.orders import RANDOM
from vacancy.projections.view.columns import Bools, Floats
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.sharing import sharing_providers
from vacancy.resources.classes.resource_class import Shortfall

NEAREST = 5
ALONE_MAX = 5_000
"""Up to this number of trial claims, a class is tested on all providers that its terms let through."""


class RemovedCount(NamedTuple):
    """The number of nodes that fail one constraint `alone` (None: computing it would take too long), and that it
    removes `in_order`, after the constraints before it. `group` names the groups that ask for it."""

    group: str
    kind: str
    constraint: str
    alone: int | None
    in_order: int


class Explanation(NamedTuple):
    """How many of the `nodes` are `left`, and which constraints removed the others: `in_order` of all and `left` add up
    to `nodes`. `nearest` are the removed nodes that lack the fewest things, and of equal ones those that lack the
    smallest share, the nearest first. A class counts as one thing, however many of its terms fail. `alternatives` has the same
    of each alternative of the request.
    """

    nodes: int
    left: int
    constraints: tuple[RemovedCount, ...]
    nearest: tuple[TreeReport, ...]
    alternatives: tuple[Explanation, ...] = ()


def explain(
    view: FleetView,
    request: CompiledRequest,
    *,
    heard_since_ms: int | None = None,
    nearest: int = NEAREST,
    among: Bools | None = None,
) -> Explanation:
    """What each constraint of a request removes, as of where the view stands. What is only preferred removes nothing. `among`:
    by row, whether its tree may be a candidate; the others do not count (None: all count).

    It costs more than a query that finds nothing: milliseconds for 100,000 nodes. Where many nodes fit several groups,
    it takes as long as finding all candidates.
    """
    first, *others = [
        _Explaining(view, one, RequestConstraints(view, one, heard_since_ms), heard_since_ms, among).run(
            nearest
        )
        for one in request.alternatives
    ]
    return first._replace(alternatives=tuple(others))


def explain_qualities(
    view: FleetView, request: CompiledRequest, *, heard_since_ms: int | None = None, nearest: int = NEAREST
) -> tuple[list[int], Explanation]:
    """The roots (their rows, ascending) of the trees that have the qualities of a request, and what each of its constraints
    removes. What is free, and whether a node takes claims, does not count."""
    left: set[int] = set()
    explanations = []
    for one in request.alternatives:
        explaining = _Explaining(view, one, QualityConstraints(view, one, heard_since_ms))
        explanations.append(explaining.run(nearest))
        left.update(explaining.left)
    first, *others = explanations
    return sorted(left), first._replace(alternatives=tuple(others))


class _Left(NamedTuple):
    """By row: the providers that may serve a group in their own trees, and those that may serve other trees."""

    own: Bools
    shared: Bools


class _Explaining:
    """The work of one `explain`. `_alive`: by row, whether it is the root of a node that is not removed yet."""

    def __init__(
        self,
        view: FleetView,
        request: CompiledRequest,
        asked: RequestConstraints,
        heard_since_ms: int | None = None,
        among: Bools | None = None,
    ) -> None:
        self._view = view
        self._request = request
        self._since_ms = heard_since_ms
        self._asked = asked
        self._sharing = sharing_providers(view)
        self._root = view.root[: view.size]
        rows = np.fromiter(view.row_of.values(), dtype=np.int64, count=len(view.row_of))
        self._is_root = np.zeros(view.size, dtype=np.bool_)
        self._is_root[rows[self._root[rows] == rows]] = True
        if among is not None:
            self._is_root &= among
        self._among = among
        self._alive = self._is_root.copy()
        self._misses = np.zeros(view.size)
        self._constraints: list[RemovedCount] = []

    @property
    def left(self) -> list[int]:
        """The roots (their rows) of the nodes that are not removed yet."""
        return [int(row) for row in np.flatnonzero(self._alive)]

    def run(self, nearest: int) -> Explanation:
        """The explanation."""
        rows = slice(0, self._view.size)
        for condition in self._asked.roots:
            holds = condition.holds(rows)
            self._misses += condition.shortages(rows) + ~holds
            self._removed("", condition.kind, condition.text, self._lacking(holds), holds)
        left = [self._part(part) for part in self._asked.parts]
        for trait in self._asked.collective_traits:
            self._collective(trait, left)
        if self._asked.text is not None:
            able = np.zeros(self._view.size, dtype=np.bool_)
            able[self._asked.able(np.flatnonzero(self._alive).tolist())] = True
            self._misses += 2.0 * (self._alive & ~able)
            self._removed("", TOGETHER, self._asked.text, None, able)
        if self._asked.room and self._request.spec.copies > 1:
            able = np.full(self._view.size, self._has_room_for_all())
            self._removed("", "copies", f"{self._request.spec.copies} copies in one cell", None, able)
        near = [report_node(self._view, self._asked, row) for row in self._nearest(nearest)]
        nodes, alive = int(self._is_root.sum()), int(self._alive.sum())
        return Explanation(nodes, alive, tuple(self._constraints), tuple(near))

    def _collective(self, trait: CollectiveConstraint, left: list[_Left]) -> None:
        """Test a trait that one provider of several must have. A provider that has the trait and is short of its class is
        nearer than none that has the trait."""
        has = trait.holds(slice(0, self._view.size), self._view)
        able, known = np.zeros((2, self._view.size), dtype=np.bool_)
        for number in trait.parts:
            part, serving = self._asked.parts[number], left[number]
            able |= self._having(serving.own & has, serving.shared & has)
            offering = has & offers_classes(self._view, part.group.resources)
            known |= self._having(offering, offering if part.may_share else None)
        self._misses += 2.0 * ~known
        self._removed("", "trait", trait.text, int((self._is_root & ~known).sum()), able)

    def _has_room_for_all(self) -> bool:
        rng = np.random.default_rng(0)
        return bool(
            find(
                self._view,
                self._request,
                limit=1,
                order=RANDOM,
                rng=rng,
                heard_since_ms=self._since_ms,
                among=self._among,
            )
        )

    def _part(self, part: GroupConstraints) -> _Left:
        """Test each condition of one group. Returns the providers that satisfy all of them."""
        rows = slice(0, self._view.size)
        left = _Left(*np.ones((2, self._view.size), dtype=np.bool_))
        may_share = part.may_share and bool(self._sharing.rows)
        left.shared[:] = may_share
        missing: dict[str, Floats] = {}
        for condition in part.conditions:
            own = condition.holds(rows)
            shared = condition.holds_shared(rows) if may_share else own
            alone = self._lacking(own, shared if may_share else None)
            left.own[:] &= own
            left.shared[:] &= shared
            about = condition.resource_class or condition.text
            short = condition.shortages(rows)
            missing[about] = np.maximum(missing[about], short) if about in missing else short
            self._removed(part.groups, condition.kind, condition.text, alone, self._having(*left))
        for name in inexact_classes(self._view, part.group):
            self._exact(part, name, left, missing[name])
        if not missing:  # of qualities, a group may ask for nothing
            return left
        short = np.sum(list(missing.values()), axis=0)
        fails = np.sum([one > 0 for one in missing.values()], axis=0)
        # A missing share counts less than one: one constraint more is further away than any share.
        self._misses += self._least(fails + short / (len(missing) + 1), part)
        return left

    def _exact(self, part: GroupConstraints, name: str, left: _Left, missing: Floats) -> None:
        """Test an ask by claims on the rows that are left, in the trees that are left."""
        ask = part.group.resources[name]
        refused: dict[int, Shortfall | None] = {}

        def refusal_of(row: int) -> Shortfall | None:
            if row not in refused:
                refused[row] = refusal(self._view, row, name, ask)
            return refused[row]

        for row in np.flatnonzero((left.own & self._alive[self._root]) | left.shared).tolist():
            shortfall = refusal_of(row)
            if shortfall is not None:
                left.own[row] = left.shared[row] = False
                missing[row] = share_missing(shortfall)
        able = np.ones(self._view.size, dtype=np.bool_)
        for term in part.conditions:
            if term.resource_class == name:
                able &= term.holds(slice(0, self._view.size))
        alone = None
        if int(able.sum()) <= ALONE_MAX:
            able[[row for row in np.flatnonzero(able).tolist() if refusal_of(row) is not None]] = False
            alone = self._lacking(able, able if part.may_share else None)
        self._removed(part.groups, "exact", exact_text(name, ask), alone, self._having(*left))

    def _removed(self, names: str, kind: str, text: str, alone: int | None, roots: Bools) -> None:
        """Note that a constraint was tested, and left these roots."""
        before = int(self._alive.sum())
        self._alive &= roots
        self._constraints.append(RemovedCount(names, kind, text, alone, before - int(self._alive.sum())))

    def _lacking(self, own: Bools, shared: Bools | None = None) -> int:
        """The number of nodes without a provider that satisfies a condition."""
        return int((self._is_root & ~self._having(own, shared)).sum())

    def _having(self, own: Bools, shared: Bools | None = None) -> Bools:
        """By row of a root: whether any row of its tree is among `own`, or any of its sharing providers among
        `shared`."""
        found = np.zeros(len(own), dtype=np.bool_)
        found[self._root[own]] = True
        if shared is not None:
            for provider in self._sharing.rows:
                if shared[provider]:
                    found[self._sharing.served_trees(provider)] = True
        return found

    def _least(self, values: Floats, part: GroupConstraints) -> Floats:
        """By row of a root: the least value in its tree and of its sharing providers."""
        if not self._view.members and not self._sharing.rows:
            return values
        found = np.full(len(values), np.inf)
        np.minimum.at(found, self._root, values)
        for provider in self._sharing.rows if part.may_share else ():
            to = self._sharing.served_trees(provider)
            found[to] = np.minimum(found[to], values[provider])
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
