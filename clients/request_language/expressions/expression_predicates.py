"""Converts an expression to the predicates of a claim on the chosen provider.

A conjunction becomes the predicates of all its parts. A disjunction becomes the predicates of its first branch that is
true for the provider. So the predicates imply the expression, and the fold never evaluates an expression. Comparisons of
free amounts do not become predicates: free amounts change with every claim, and the fold checks that the claim fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from vacancy.projections.query.conditions.predicate_ast import (
    Always,
    Amounts,
    Attribute,
    Compared,
    Every,
    Expression,
    Member,
    OneOf,
    Some,
    Tree,
    test,
)
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.model.attributes import holds
from vacancy.resources.model.encoding.event_encoding import (
    AnyPredicateWire,
    AttributePredicateWire,
    PredicateWire,
)


def expressed(expression: Expression, view: FleetView, row: int, provider: str) -> list[AnyPredicateWire]:
    """The predicates that must be true of `provider` when the claim is judged. `row` is its row of the view."""
    has = view.attributes.of(row)
    at = np.array([row])

    def true(tree: Tree) -> bool:
        return bool(test(tree, view)(at)[0])

    return [one for _, tree in expression.parts for one in _flat(tree, provider, has, true)]


def most(expression: Expression) -> int:
    """The largest number of predicates that an expression can become."""
    return sum(_most(tree) for _, tree in expression.parts)


def _most(tree: Tree) -> int:
    if isinstance(tree, Every | Some):
        return sum(map(_most, tree.parts))
    if isinstance(tree, OneOf) and tree.negate:
        return len(tree.values)
    return len(tree.terms) if isinstance(tree, Amounts) else 1


def _flat(
    tree: Tree, provider: str, has: dict[str, Any], true: Callable[[Tree], bool]
) -> Iterator[AnyPredicateWire]:
    if isinstance(tree, Every):
        for part in tree.parts:
            yield from _flat(part, provider, has, true)
    elif isinstance(tree, Some):
        yield from _flat(_branch(tree, true), provider, has, true)
    elif isinstance(tree, Compared):
        yield AttributePredicateWire(provider, tree.name, tree.operator, tree.value, tree.version)
    elif isinstance(tree, OneOf):
        if tree.negate:
            yield from (
                AttributePredicateWire(provider, tree.name, "!=", value, tree.version)
                for value in tree.values
            )
        else:
            yield AttributePredicateWire(
                provider, tree.name, "==", _chosen(tree, has.get(tree.name)), tree.version
            )
    elif isinstance(tree, Member):
        yield PredicateWire(provider, tree.kind, tree.name, tree.negate)
    elif isinstance(tree, Amounts):
        for name in (source.name for _, source in tree.terms if isinstance(source, Attribute)):
            yield (
                AttributePredicateWire(provider, name, "==", has[name])
                if name in has
                else AttributePredicateWire(provider, name, "has")
            )


def _branch(tree: Some, true: Callable[[Tree], bool]) -> Tree:
    """The first branch that is true. If none is, because claims without a verdict changed free amounts since the provider was
    found, the first branch that is true without its amounts."""
    for part in (*tree.parts, *map(_without_amounts, tree.parts)):
        if true(part):
            return part
    return tree.parts[0]


def _without_amounts(tree: Tree) -> Tree:
    if isinstance(tree, Every | Some):
        return tree._replace(parts=tuple(map(_without_amounts, tree.parts)))
    return Always(True) if isinstance(tree, Amounts) else tree


def _chosen(tree: OneOf, found: Any) -> Any:
    """The constant of the list that the attribute is equal to."""
    return next((v for v in tree.values if holds(found, "==", v, version=tree.version)), tree.values[0])
