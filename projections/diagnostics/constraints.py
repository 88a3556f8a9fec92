"""The constraints of a request by name, group by group: for explanations of why nothing matches.

The kinds, collective traits and root conditions of a `QueryPlan` are conditions here that can be tested one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from vacancy.projections.query.affinity.engine import hard_groups
from vacancy.projections.query.budget import QUERY_STEPS_MAX, SearchBudget
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.conditions.filter import (
    Condition,
    HasAnyOf,
    HasTrait,
    LacksTrait,
    Never,
    Rows,
    TakesClaims,
    any_text,
    taint_conditions,
)
from vacancy.projections.query.context import QueryContext
from vacancy.projections.query.engine import tolerated
from vacancy.projections.query.plan import PieceKind, QueryPlan, plan_of
from vacancy.projections.query.trees.tree_search import TreeSearch
from vacancy.projections.ranking.orders import RANDOM
from vacancy.projections.view.columns import Bools
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.sharing import sharing_providers
from vacancy.projections.view.sparse_rows import BitColumn
from vacancy.resources.model.request import RequestGroup

TOGETHER = "together"
"""The kind of failure of a tree that cannot serve all groups at once, while no provider fails by itself."""

_STEPS_A_TREE = 200


class GroupConstraints(NamedTuple):
    """What one provider serves: a group, or one class of a group that several providers may serve. `groups` are the
    names of the groups that ask for the same. `may_share`: whether sharing providers of other trees may serve it."""

    groups: str
    group: RequestGroup
    conditions: tuple[Condition, ...]
    may_share: bool


class CollectiveConstraint(NamedTuple):
    """A trait that one of the providers of these parts (by number) must have."""

    text: str
    parts: tuple[int, ...]
    bits: Sequence[BitColumn]

    def holds(self, rows: Rows, view: FleetView) -> Bools:
        """For each row, whether it holds."""
        found = np.zeros_like(view.open[rows])
        for bits in self.bits:
            found |= bits[rows]
        return found


def offers_classes(view: FleetView, names: Iterable[str]) -> Bools:
    """By row, whether a provider offers something of each of these classes, whatever is free of it."""
    found = np.ones(view.size, dtype=np.bool_)
    for name in names:
        mine = np.zeros(view.size, dtype=np.bool_)
        if (columns := view.classes.get(name)) is not None:
            rows = columns.rows[columns.rows < view.size]
            mine[rows] = columns.arrays["capacity"][rows] > 0
        found &= mine
    return found


class InTreeOf(HasAnyOf):
    """The provider or the root of its tree is in an aggregate: for groups that several providers may serve."""

    __slots__ = ("_view",)

    def __init__(self, view: FleetView, names: tuple[str, ...], bits: Sequence[BitColumn]) -> None:
        super().__init__("aggregate", names, bits)
        self._view = view

    def holds(self, rows: Rows) -> Bools:
        return self.holds_shared(rows) | super().holds(self._view.root[rows])

    def holds_shared(self, rows: Rows) -> Bools:
        """For sharing providers: only their own aggregates count, for they are in other trees."""
        return super().holds(rows)


class AffinityConstraint(Condition):
    """Where the rules of a server group allow one more member: `roots` has it by row of a root."""

    __slots__ = ("_roots", "_text")
    kind = "group"

    def __init__(self, text: str, roots: Bools) -> None:
        self._text = text
        self._roots = roots

    @property
    def text(self) -> str:
        return self._text

    def holds(self, rows: Rows) -> Bools:
        return self._roots[rows]


class RequestConstraints:
    """A request against a view, as constraints. `roots`: conditions on the root of a tree. `room`: whether room counts, for
    what is asked and for all copies of it."""

    room = True

    def __init__(self, view: FleetView, request: CompiledRequest, heard_since_ms: int | None = None) -> None:
        spec = request.spec
        self._view = view
        self._request = request
        self._spec = spec
        self._plan: QueryPlan = plan_of(view, request, heard_since_ms)
        names: list[dict[str, None]] = [{} for _ in self._plan.kinds]
        for piece in self._plan.pieces:
            names[piece.kind][spec.groups[piece.group].name] = None
        self.parts = [
            self._part(kind, ", ".join(some)) for kind, some in zip(self._plan.kinds, names, strict=True)
        ]
        self.roots = tuple(self._root_conditions())
        self.collective_traits = tuple(self._collective_traits())

    @property
    def text(self) -> str | None:
        """What is asked of a tree as a whole; None if one provider serves the whole request."""
        if len(self._plan.pieces) == 1 and not self._plan.subtrees:
            return None
        words = ["all groups served together"]
        if self._spec.group_policy == "isolate":
            words.append("each from a provider of its own")
        words += [f"{' and '.join(names)} in one subtree" for names in self._spec.same_subtree]
        return ", ".join(words)

    def able(self, roots: Sequence[int]) -> list[int]:
        """Those of these roots (their rows) whose trees can serve the request, as the query engine finds it."""
        if self._plan.impossible or not len(roots):
            return []
        budget = SearchBudget(QUERY_STEPS_MAX + _STEPS_A_TREE * len(roots))
        view = self._view
        rng = np.random.default_rng(0)
        accepting = tolerated(view, self._request, view.open)
        context = QueryContext(
            view,
            self._request,
            len(roots),
            RANDOM,
            rng,
            budget,
            accepting=accepting,
            accepting_roots=accepting,
        )
        return TreeSearch(context, self._plan).able(np.asarray(roots, dtype=np.int64))

    def _part(self, kind: PieceKind, names: str) -> GroupConstraints:
        group = self._spec.groups[kind.group]
        taints = taint_conditions(self._view, self._request.tolerated)
        found = [TakesClaims(self._view), *taints, *kind.filter.conditions]
        if not group.same_provider:
            for some in group.member_of:
                bits = self._view.aggregates.known(some)
                text = any_text("aggregate", some)
                found.append(
                    InTreeOf(self._view, some, bits) if bits else Never(self._view, "aggregate", text)
                )
        may_share = group.same_provider or group.in_tree is None
        return GroupConstraints(names, kind.part, tuple(found), may_share)

    def _root_conditions(self) -> Iterator[Condition]:
        view, spec = self._view, self._spec
        for text, roots in hard_groups(view, spec):
            yield AffinityConstraint(text, roots)
        if sharing_providers(view).rows:
            # Sharing providers may serve all of it; else the groups test it.
            yield TakesClaims(view)
            yield from taint_conditions(view, self._request.tolerated)
        for name in spec.root_required:
            bits = view.traits.known((name,))
            text = any_text("root_trait", (name,))
            yield HasTrait("root_trait", (name,), bits[0]) if bits else Never(view, "root_trait", text)
        for name in spec.root_forbidden:
            for bits_of in view.traits.known((name,)):
                yield LacksTrait("root_forbidden_trait", (name,), bits_of)
        refused = {n: None for g in spec.groups if not g.same_provider for n in g.not_member_of}
        for name in refused:
            for bits_of in view.aggregates.known((name,)):
                yield LacksTrait("root_forbidden_aggregate", (name,), bits_of)

    def _collective_traits(self) -> Iterator[CollectiveConstraint]:
        """The traits that the providers of a group must have together."""
        for number, group in enumerate(self._spec.groups):
            pieces = [piece for piece in self._plan.pieces if piece.group == number]
            if len(pieces) > 1:
                parts = tuple(dict.fromkeys(piece.kind for piece in pieces))
                for names in (*((name,) for name in group.required), *group.any_traits):
                    yield CollectiveConstraint(
                        any_text("trait", names), parts, self._view.traits.known(names)
                    )
