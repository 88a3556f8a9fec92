"""The parts of a request with their constraints by name: for those who ask why, and not only who.

What the engine knows as kinds, covers and roots of a `QueryPlan` is here conditions that can be asked one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from vacancy.projections.query.affinity.engine import hard_groups
from vacancy.projections.query.budget import QUERY_STEPS_MAX, SearchBudget
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.context import QueryContext
from vacancy.projections.query.filter import (
    Condition,
    HasAnyOf,
    HasTrait,
    LacksTrait,
    Never,
    Rows,
    TakesClaims,
    any_text,
)
from vacancy.projections.query.plan import PieceKind, QueryPlan, plan_of
from vacancy.projections.query.tree_search import TreeSearch
from vacancy.projections.ranking.orders import RANDOM
from vacancy.projections.view.columns import BitColumns, Bools
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.sharing import sharing_providers
from vacancy.resources.model.request import RequestGroup

TOGETHER = "together"
"""The kind of what no provider fails by itself: its tree cannot serve all parts at once."""

_STEPS_A_TREE = 200


class GroupConstraints(NamedTuple):
    """What one provider serves: a group, or one class of a group that several may serve. `groups` are the names of
    those that ask for the same. `lends`: whether sharing providers of other trees may serve it."""

    groups: str
    group: RequestGroup
    conditions: tuple[Condition, ...]
    lends: bool


class CollectiveConstraint(NamedTuple):
    """A trait that one of the providers of these parts (by number) must have."""

    text: str
    parts: tuple[int, ...]
    bits: Sequence[Bools]

    def holds(self, rows: Rows, view: FleetView) -> Bools:
        """Where it holds, one truth a row."""
        found = np.zeros_like(view.open[rows])
        for bits in self.bits:
            found |= bits[rows]
        return found


class InTreeOf(HasAnyOf):
    """In an aggregate by itself or by the root of its tree: for groups that several providers may serve."""

    __slots__ = ("_view",)

    def __init__(self, view: FleetView, names: tuple[str, ...], bits: Sequence[Bools]) -> None:
        super().__init__("aggregate", names, bits)
        self._view = view

    def holds(self, rows: Rows) -> Bools:
        return self.lent(rows) | super().holds(self._view.root[rows])

    def lent(self, rows: Rows) -> Bools:
        """Where it holds of a provider that lends: that is in another tree, whose root says nothing of it."""
        return super().holds(rows)


class AffinityConstraint(Condition):
    """Where a server group lets one more member be: `roots` says it by row of a root."""

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
    """A request against a view, as constraints. `roots`: conditions on the root of a tree."""

    def __init__(self, view: FleetView, request: CompiledRequest, heard_since_ms: int | None = None) -> None:
        spec = request.spec
        self._view = view
        self._request = request
        self._spec = spec
        self._shape: QueryPlan = plan_of(view, request, heard_since_ms)
        names: list[dict[str, None]] = [{} for _ in self._shape.kinds]
        for piece in self._shape.pieces:
            names[piece.kind][spec.groups[piece.group].name] = None
        self.parts = [
            self._part(kind, ", ".join(some)) for kind, some in zip(self._shape.kinds, names, strict=True)
        ]
        self.roots = tuple(self._root_conditions())
        self.covers = tuple(self._covers())

    @property
    def text(self) -> str | None:
        """What is asked of a tree as a whole, if the parts do not say all."""
        if len(self._shape.pieces) == 1 and not self._shape.subtrees:
            return None
        words = ["all groups served together"]
        if self._spec.group_policy == "isolate":
            words.append("each from a provider of its own")
        words += [f"{' and '.join(names)} in one subtree" for names in self._spec.same_subtree]
        return ", ".join(words)

    def able(self, roots: Sequence[int]) -> list[int]:
        """Those of these roots (their rows) whose trees can serve the request, by the engine's own trial."""
        if self._shape.impossible or not len(roots):
            return []
        budget = SearchBudget(QUERY_STEPS_MAX + _STEPS_A_TREE * len(roots))
        view = self._view
        rng = np.random.default_rng(0)
        context = QueryContext(
            view,
            self._request,
            len(roots),
            RANDOM,
            rng,
            budget,
            accepting=view.open,
            accepting_roots=view.open,
        )
        return TreeSearch(context, self._shape).able(np.asarray(roots, dtype=np.int64))

    def _part(self, kind: PieceKind, names: str) -> GroupConstraints:
        group = self._spec.groups[kind.group]
        found = [TakesClaims(self._view), *kind.filter.conditions]
        if not group.same_provider:
            for some in group.member_of:
                bits = _known(self._view.aggregates, some)
                told = any_text("aggregate", some)
                found.append(
                    InTreeOf(self._view, some, bits) if bits else Never(self._view, "aggregate", told)
                )
        lends = group.same_provider or group.in_tree is None
        return GroupConstraints(names, kind.part, tuple(found), lends)

    def _root_conditions(self) -> Iterator[Condition]:
        view, spec = self._view, self._spec
        for text, roots in hard_groups(view, spec):
            yield AffinityConstraint(text, roots)
        if sharing_providers(view).rows:
            yield TakesClaims(view)  # others may serve all of it; else the parts say so
        for name in spec.root_required:
            bits = _known(view.traits, (name,))
            text = any_text("root_trait", (name,))
            yield HasTrait("root_trait", (name,), bits[0]) if bits else Never(view, "root_trait", text)
        for name in spec.root_forbidden:
            for bits_of in _known(view.traits, (name,)):
                yield LacksTrait("root_forbidden_trait", (name,), bits_of)
        refused = {n: None for g in spec.groups if not g.same_provider for n in g.not_member_of}
        for name in refused:
            for bits_of in _known(view.aggregates, (name,)):
                yield LacksTrait("root_forbidden_aggregate", (name,), bits_of)

    def _covers(self) -> Iterator[CollectiveConstraint]:
        """The traits that a group's providers must have between them, as the shape has them."""
        for number, group in enumerate(self._spec.groups):
            pieces = [piece for piece in self._shape.pieces if piece.group == number]
            if len(pieces) > 1:
                parts = tuple(dict.fromkeys(piece.kind for piece in pieces))
                for names in (*((name,) for name in group.required), *group.any_traits):
                    yield CollectiveConstraint(
                        any_text("trait", names), parts, _known(self._view.traits, names)
                    )


def _known(columns: BitColumns, names: Sequence[str]) -> list[Bools]:
    return [bits for name in names if (bits := columns.arrays.get(name)) is not None]
