"""Compiles weighers of requests: from text in the same subset of CEL as conditions to measures of nodes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final

from vacancy.clients.request_language.expressions.cel_compiler import ConditionCompiler
from vacancy.clients.request_language.expressions.cel_parser import DOCS, CelNode, CelSource, parse
from vacancy.projections.query.conditions.predicate_ast import Attribute
from vacancy.projections.query.order import Order
from vacancy.projections.ranking.node_weights import Binary, If, Measure, Number, Weighed, Weigher
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import UsageError

WEIGHERS_MAX: Final = 16
_MULTIPLIED: Final = re.compile(r"\s*([+-]?[0-9]+(?:\.[0-9]+)?)\s*:(.*)", re.DOTALL)
_MULTIPLIER_MAX: Final = 1e6


def weighed(order: Order, texts: Sequence[str], registry: Registry) -> Order:
    """An order with weighers, `MULTIPLIER:EXPRESSION` or `EXPRESSION` each. Raises `UsageError`."""
    if len(texts) > WEIGHERS_MAX:
        raise UsageError(f"{len(texts)} weighers are too many", do=f"give {WEIGHERS_MAX} at most")
    return Weighed(order, [compile_weigher(text, registry) for text in texts]) if texts else order


def compile_weigher(text: str, registry: Registry, where: str = "--weigh") -> Weigher:
    """Compile a weigher. Raises `UsageError`."""
    found = _MULTIPLIED.fullmatch(text)
    multiplier, expression = (float(found[1]), found[2]) if found else (1.0, text)
    if not math.isfinite(multiplier) or abs(multiplier) > _MULTIPLIER_MAX:
        raise UsageError(
            "a multiplier is too large", where=f"{where} {text[:80]}", do=f"use {_MULTIPLIER_MAX:g} at most"
        )
    source, node = parse(expression, where, fractions=True)
    return Weigher(text, multiplier, _Measures(source, registry).measure(node))


class _Measures:
    """Compiles the nodes of one expression to measures."""

    def __init__(self, source: CelSource, registry: Registry) -> None:
        self._source = source
        self._conditions = ConditionCompiler(source, registry)

    def measure(self, node: CelNode) -> Measure:
        """The measure of a node. Raises `UsageError`."""
        if node.kind in ("number", "fraction"):
            return Number(self._number(node))
        if node.kind == "field":
            if node.parts[0].kind == "name" and node.parts[0].value == "attributes":
                return Attribute(self._conditions.attribute(node))
            return self._conditions.column(node)
        if node.kind == "-" and len(node.parts) == 1:
            return Binary("-", Number(0.0), self.measure(node.parts[0]))
        if node.kind in ("+", "-", "*", "/"):
            left, right = map(self.measure, node.parts)
            return Binary(node.kind, left, right)
        if node.kind == "if":
            condition, then, otherwise = node.parts
            return If(self._conditions.condition(condition), self.measure(then), self.measure(otherwise))
        raise self._source.refuse(
            "this is not a number",
            node,
            do=f"write CONDITION ? 1 : 0 for a condition; {DOCS}",
        )

    def _number(self, node: CelNode) -> float:
        try:
            value = float(node.value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise self._source.refuse("this number is too large", node)
        return value
