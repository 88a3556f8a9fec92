"""Explains which comparisons of an expression no provider can satisfy: of missing attributes, or of attributes with
another type.

Expressions are compiled without the fleet, because one node may report an attribute as text and another node as a number.
So a comparison that no provider can satisfy is not an error. It is reported if the request has no candidates.
"""

from __future__ import annotations

from collections.abc import Iterator

from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.conditions.predicate_ast import Compared, Every, OneOf, Some, Tree
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.model.attributes import version_key

_TEXTS_CHECKED = 10_000


def mismatches(request: CompiledRequest, view: FleetView) -> str:
    """The explanations for a request without candidates, separated by `; `, or an empty text."""
    explanations: dict[str, None] = {}
    for expression in request.expressions.values():
        for _, tree in expression.parts:
            explanations.update(dict.fromkeys(_explain(tree, view)))
    return "; ".join(explanations)


def _explain(tree: Tree, view: FleetView) -> Iterator[str]:
    if isinstance(tree, Every | Some):
        for part in tree.parts:
            yield from _explain(part, view)
    elif isinstance(tree, Compared | OneOf) and not (
        isinstance(tree, Compared) and tree.operator in ("has", "lacks")
    ):
        value = tree.values[0] if isinstance(tree, OneOf) else tree.value
        yield from _attribute(tree.name, value, tree.version, view)


def _attribute(name: str, value: object, version: bool, view: FleetView) -> Iterator[str]:
    column = view.attributes.columns.get(name)
    types = {} if column is None else column.types(view.size)
    wanted = "true or false" if isinstance(value, bool) else "numbers" if isinstance(value, int) else "text"
    if column is None or not types:
        yield f"no provider has an attribute {name}"
    elif wanted not in types:
        found, (_, row) = next(iter(types.items()))
        example = column.of(row)
        yield f"attribute {name} is {found} everywhere ({example!r} on {view.name(row)[1]}), and compared with {wanted}"
    elif version and not any(version_key(text) is not None for text in column.texts[:_TEXTS_CHECKED]):
        row = types[wanted][1]
        yield f"attribute {name} is nowhere a version ({column.of(row)!r} on {view.name(row)[1]})"
