"""The qualities that a request asks of a tree, without room: traits, attributes, aggregates, tree, and the classes that it
offers. Amounts that are free, other consumers, and whether the node takes claims do not count. With them an operator learns
whether a full or disabled node suits a changed request.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from vacancy.projections.diagnostics.constraints import (
    CollectiveConstraint,
    GroupConstraints,
    RequestConstraints,
    offers_classes,
)
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.conditions.filter import TAINT, Condition, Rows, any_text
from vacancy.projections.query.conditions.left_out import check_names
from vacancy.projections.query.plan import PieceKind
from vacancy.projections.view.columns import Bools
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.model.request import RequestGroup

_NO_QUALITIES: Final = frozenset({"group", "open", TAINT})
"""Kinds of conditions on other consumers, and on who may claim."""


class OffersClass(Condition):
    """The provider has an inventory of a class, whatever is free of it."""

    __slots__ = ("_offers", "resource_class")
    kind = "resources"

    def __init__(self, view: FleetView, resource_class: str) -> None:
        self.resource_class = resource_class
        self._offers = offers_classes(view, (resource_class,))

    @property
    def text(self) -> str:
        return f"{self.resource_class}: any"

    def holds(self, rows: Rows) -> Bools:
        return self._offers[rows]


class QualityConstraints(RequestConstraints):
    """The qualities of a request against a view, as constraints."""

    room = False

    def __init__(self, view: FleetView, request: CompiledRequest, heard_since_ms: int | None = None) -> None:
        check_names(view, request)
        self._view, self._request, self._spec = view, request, request.spec
        self._heard_since_ms = heard_since_ms
        self.parts: list[GroupConstraints] = []
        collective: list[CollectiveConstraint] = []
        for number, group in enumerate(request.spec.groups):
            first = len(self.parts)
            spread = not group.same_provider and len(group.resources) != 1
            names = [(name,) for name in group.resources] if spread else [tuple(group.resources)]
            self.parts += [self._quality(number, group, some, spread=spread) for some in names or [()]]
            if spread:
                parts = tuple(range(first, len(self.parts)))
                for traits in (*((name,) for name in group.required), *group.any_traits):
                    bits = view.traits.known(traits)
                    collective.append(CollectiveConstraint(any_text("trait", traits), parts, bits))
        self.collective_traits = tuple(collective)
        self.roots = tuple(self._root_traits())

    @property
    def text(self) -> str | None:
        """None: room for all groups at once is no quality."""
        return None

    def _quality(
        self, number: int, group: RequestGroup, names: tuple[str, ...], *, spread: bool
    ) -> GroupConstraints:
        """What is asked of the provider of these classes."""
        without: dict[str, object] = {"required": (), "any_traits": ()} if spread else {}
        bare = group.model_copy(update={"resources": {}, **without})
        kind = PieceKind(
            self._view,
            bare,
            self._request.expressions,
            number,
            heard_since_ms=self._heard_since_ms,
            cell=None,
        )
        part = self._part(kind, group.name)
        offers = (OffersClass(self._view, name) for name in names)
        qualities = (one for one in part.conditions if one.kind not in _NO_QUALITIES)
        return part._replace(conditions=(*offers, *qualities))

    def _root_traits(self) -> Iterator[Condition]:
        """The conditions on the root that are qualities."""
        yield from (one for one in self._root_conditions() if one.kind not in _NO_QUALITIES)
