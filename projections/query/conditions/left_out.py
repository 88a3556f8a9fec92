"""Refuses requests that ask for names that the view left out: their answers could be wrong."""

from __future__ import annotations

from collections.abc import Iterator

from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.conditions.predicate_ast import (
    Amounts,
    Attribute,
    Compared,
    Every,
    Member,
    OneOf,
    Some,
    Source,
    Tree,
)
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.model.errors import NamesLeftOut

Named = tuple[str, str]
"""(kind, name); a kind is class, trait or attribute."""


def check_names(view: FleetView, request: CompiledRequest) -> None:
    """Raise `NamesLeftOut` if the view left out names, and the request asks for one that may be among them."""
    if view.left_out:
        for kind, name in dict.fromkeys(_of_request(request)):
            _check(view, kind, name)


def check_tree(view: FleetView, tree: Tree) -> None:
    """The same for an expression."""
    if view.left_out:
        for kind, name in _of_tree(tree):
            _check(view, kind, name)


def check_source(view: FleetView, source: Source) -> None:
    """The same for a column or an attribute."""
    if view.left_out:
        kind, name = _of_source(source)
        _check(view, kind, name)


def _check(view: FleetView, kind: str, name: str) -> None:
    if view.may_be_left_out(kind, name):
        memory = view.memory
        raise NamesLeftOut(
            f"no answer about {kind} {name}: {memory.left_out:,} names that few providers have were left out of memory,"
            f" because a bound of {memory.bytes_max // 2**20:,} MiB was reached",
            do="raise view_memory_mb, or remove names that nobody needs; `vacancy status` shows examples",
        )


def _of_request(request: CompiledRequest) -> Iterator[Named]:
    spec = request.spec
    for group in spec.groups:
        yield from (("class", name) for name in group.resources)
        for names in (group.required, group.forbidden, *group.any_traits):
            yield from (("trait", name) for name in names)
    for names in (spec.root_required, spec.root_forbidden):
        yield from (("trait", name) for name in names)
    for expression in request.expressions.values():
        for _, tree in expression.parts:
            yield from _of_tree(tree)


def _of_tree(tree: Tree) -> Iterator[Named]:
    if isinstance(tree, Every | Some):
        for part in tree.parts:
            yield from _of_tree(part)
    elif isinstance(tree, Compared | OneOf):
        yield "attribute", tree.name
    elif isinstance(tree, Member) and tree.kind == "trait":
        yield "trait", tree.name
    elif isinstance(tree, Amounts):
        yield from (_of_source(source) for _, source in tree.terms)


def _of_source(source: Source) -> Named:
    return ("attribute", source.name) if isinstance(source, Attribute) else ("class", source.resource_class)
