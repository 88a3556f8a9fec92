"""The plan of a request for a view: what must be served, by which providers, under which roots.

A request becomes pieces (see `assignment`): a group that one provider serves is one piece; a group that several may
serve is one piece for each of its classes. Pieces that ask for the same are of one kind, and share a filter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.conditions.filter import Filter
from vacancy.projections.query.conditions.left_out import check_names
from vacancy.projections.query.conditions.predicate_ast import Expression
from vacancy.projections.query.trees.assignment import Need, Piece
from vacancy.projections.view.columns import BitColumns, Bools, Ints, is_exact
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.sharing import SharingProviders
from vacancy.projections.view.sparse_rows import BitColumn
from vacancy.resources.classes.resource_class import Exactness
from vacancy.resources.model.request import Ask, RequestGroup, RequestSpec


class PieceKind:
    """Pieces that ask for the same, and the rows that can serve them."""

    def __init__(
        self,
        view: FleetView,
        group: RequestGroup,
        expressions: Mapping[str, Expression],
        number: int,
        *,
        heard_since_ms: int | None,
        cell: str | None,
    ) -> None:
        self._view = view
        self.part = group
        """What such a piece asks for."""
        self.group = number
        """The place in the request of the first group of this kind."""
        self.conditions = len(group.required) + len(group.any_traits) + len(group.member_of)
        spread = not group.same_provider
        self._inside = _any_of(view.aggregates, group.member_of) if spread else []
        outside = group.not_member_of if spread else ()
        self.outside = view.aggregates.known(outside)
        """Bits of the aggregates that exclude a tree if its root is a member, whichever provider serves."""
        self._may_share = not (spread and group.in_tree is not None)
        direct = group.model_copy(update={"member_of": ()}) if self._inside else group
        self.filter = Filter(view, direct, expressions, heard_since_ms=heard_since_ms, cell=cell)
        self.impossible = self.filter.impossible or any(not bits for bits in self._inside)

    def own(self, rows: Ints) -> Ints:
        """Of rows that the filter let through, those that can serve in their own trees. A group that several providers may
        serve is in an aggregate by its providers or by their root."""
        if not self._inside:
            return rows
        return rows[_in_all(self._inside, rows) | _in_all(self._inside, self._view.root[rows])]

    def sharing_rows(self, rows: Ints, sharing: SharingProviders) -> Ints:
        """Of rows that the filter let through, the sharing providers that can serve other trees: these are in an aggregate only by themselves."""
        if not self._may_share:
            return rows[:0]
        return sharing.among(rows[_in_all(self._inside, rows)] if self._inside else rows)


class QueryPlan:
    """A request against a view. `impossible` where no row can ever serve some part of it."""

    def __init__(
        self,
        view: FleetView,
        request: CompiledRequest,
        heard_since_ms: int | None = None,
        cell: str | None = None,
    ) -> None:
        spec = request.spec
        self._view = view
        self._expressions = request.expressions
        self._heard_since_ms = heard_since_ms
        self._cell = cell
        self.pieces: list[Piece] = []
        self.resources: list[dict[str, Ask]] = []
        """What each piece asks for."""
        self.kinds: list[PieceKind] = []
        self.counts: list[int] = []
        """How many pieces there are of each kind."""
        self.exclusive: list[bool] = []
        """Whether pieces of a kind must not share a provider."""
        self.collective_traits: list[tuple[tuple[int, ...], list[BitColumn]]] = []
        """Collective traits: pieces, and bits; one of the bits must be set on one of their providers."""
        self.impossible = False
        self._known: dict[str, int] = {}
        counted = _counted(view, spec)
        named: dict[str, int] = {}
        isolate = spec.group_policy == "isolate"
        for number, group in enumerate(spec.groups):
            first = len(self.pieces)
            named[group.name] = first
            marks = [at for at, names in enumerate(spec.same_subtree) if group.name in names]
            for part in _parts(group):
                exclusive = isolate and group.same_provider
                kind = self._kind(part, number, marks, exclusive=exclusive)
                asks = part.resources.items()
                needs = tuple(
                    need for name, ask in asks if name in counted for need in _needs(view, name, ask)
                )
                rest = tuple((name, ask) for name, ask in asks if name not in counted)
                self.resources.append(part.resources)
                exact_in_columns = frozenset(name for name, ask in rest if is_exact(view.classes, name, ask))
                particular = not all(_is_amount(view, name, ask) for name, ask in rest)
                self.pieces.append(Piece(number, kind, needs, rest, exclusive, exact_in_columns, particular))
            if len(self.pieces) - first > 1:
                self._add_collective_traits(group, tuple(range(first, len(self.pieces))))
        self.choosiest = sorted(range(len(self.kinds)), key=lambda kind: -self.kinds[kind].conditions)
        """The kinds, the one with most conditions besides amounts first: as a rule it leaves the fewest trees."""
        self.subtrees = [tuple(named[name] for name in dict.fromkeys(names)) for names in spec.same_subtree]
        self._root_has = view.traits.known(spec.root_required)
        outside = [bits for kind in self.kinds for bits in kind.outside]
        self._root_lacks = [*view.traits.known(spec.root_forbidden), *outside]
        self.impossible = (
            self.impossible
            or any(kind.impossible for kind in self.kinds)
            or len(self._root_has) < len(spec.root_required)
        )

    def roots(self, roots: Ints, accepting: Bools) -> Ints:
        """Those of these roots that are `accepting` (by row) and satisfy what is asked of the root itself."""
        roots = roots[accepting[roots]]
        for bits in self._root_has:
            roots = roots[bits[roots]]
        for bits in self._root_lacks:
            roots = roots[~bits[roots]]
        return roots

    def root_mask(self, accepting: Bools) -> Bools:
        """By row, whether it is a root that `roots` leaves."""
        view, size = self._view, self._view.size
        found: Bools = (view.root[:size] == np.arange(size)) & accepting[:size]
        for bits in self._root_has:
            found &= bits[:size]
        for bits in self._root_lacks:
            found &= ~bits[:size]
        return found

    def _kind(self, part: RequestGroup, number: int, marks: Sequence[int], *, exclusive: bool) -> int:
        signature = f"{part.model_dump_json(exclude={'name'})}{marks}"
        kind = self._known.setdefault(signature, len(self.kinds))
        if kind == len(self.kinds):
            since_ms, cell = self._heard_since_ms, self._cell
            self.kinds.append(
                PieceKind(self._view, part, self._expressions, number, heard_since_ms=since_ms, cell=cell)
            )
            self.counts.append(0)
            self.exclusive.append(exclusive)
        self.counts[kind] += 1
        return kind

    def _add_collective_traits(self, group: RequestGroup, pieces: tuple[int, ...]) -> None:
        for names in (*((name,) for name in group.required), *group.any_traits):
            bits = self._view.traits.known(names)
            self.impossible = self.impossible or not bits
            self.collective_traits.append((pieces, bits))


def plan_of(
    view: FleetView, request: CompiledRequest, heard_since_ms: int | None = None, cell: str | None = None
) -> QueryPlan:
    """The plan of a request, made once for as long as the view's arrays are the same. Raises `NamesLeftOut`."""
    check_names(view, request)
    if heard_since_ms is not None or any(group.in_tree is not None for group in request.spec.groups):
        return QueryPlan(view, request, heard_since_ms, cell)
    return view.derived.of_request(request.key, ("plan", cell), lambda: QueryPlan(view, request, cell=cell))


def has_any(bits: Sequence[BitColumn], rows: Ints) -> Bools:
    """Where at least one of these bits is set."""
    found: Bools = np.logical_or.reduce([column[rows] for column in bits])
    return found


def _parts(group: RequestGroup) -> list[RequestGroup]:
    """The parts of a group: the group itself, or one for each class if several providers may serve it."""
    if group.same_provider or len(group.resources) < 2:
        return [group]
    collective: dict[str, Any] = {"required": (), "any_traits": ()}
    return [
        group.model_copy(update={"resources": {name: ask}, **collective})
        for name, ask in group.resources.items()
    ]


def _counted(view: FleetView, spec: RequestSpec) -> set[str]:
    """The classes for which columns decide, whatever else takes from the same provider."""
    asks = [(name, ask) for group in spec.groups for name, ask in group.resources.items()]
    return {
        name
        for name, ask in asks
        if name in view.classes and view.classes[name].resource_class.exactness(ask) is Exactness.EXACT
    }


def _needs(view: FleetView, name: str, ask: Any) -> list[Need]:
    """What an ask that is counted takes of columns."""
    deltas = view.classes[name].resource_class.column_deltas(ask) or {}
    return [((name, column), -delta) for column, delta in deltas.items()]


def _is_amount(view: FleetView, name: str, ask: Any) -> bool:
    return name in view.classes and view.classes[name].resource_class.is_amount(ask)


def _any_of(columns: BitColumns, choices: Sequence[Sequence[str]]) -> list[list[BitColumn]]:
    return [columns.known(names) for names in choices]


def _in_all(choices: Sequence[Sequence[BitColumn]], rows: Ints) -> Bools:
    found = np.ones(len(rows), dtype=np.bool_)
    for bits in choices:
        found &= has_any(bits, rows)
    return found
