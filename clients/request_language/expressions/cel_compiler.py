"""Compiles expressions of requests: from text in a subset of CEL to a tree that is evaluated on columns.

docs/expressions.md describes the language. An expression outside this subset, or one that compares values of different
types, raises a `UsageError` that names the position.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, cast

from vacancy.clients.request_language.expressions.cel_parser import DOCS, CelNode, CelSource, parse
from vacancy.projections.query.conditions.predicate_ast import (
    MULTIPLE_MAX,
    TERMS_MAX,
    Always,
    Amounts,
    Attribute,
    Column,
    Compared,
    Every,
    Expression,
    Member,
    OneOf,
    Some,
    Tree,
)
from vacancy.projections.query.conditions.predicate_ast import Source as Quantity
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.attributes import NAME_PATTERN, TEXT_MAX, version_key
from vacancy.resources.model.comparison import MIRRORED, NEGATED, RELATIONS, Relation
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.names import AMOUNT_MAX, ID_PATTERN, check_trait

_NAME: Final = re.compile(NAME_PATTERN)
_ID: Final = re.compile(ID_PATTERN)
_KNOWN_MAX: Final = 4096
"""The limit of compiled expressions that a process keeps. The least recently used ones are dropped."""

_ROOTS: Final = ("attributes", "traits", "aggregates")
_TYPES: Final = {"text": "text", "bool": "true or false", "version": "a version", "number": "a number"}


@lru_cache(maxsize=_KNOWN_MAX)
def compile_condition(text: str, registry: Registry, where: str = "where") -> Expression:
    """Compile a condition. Raises `UsageError`."""
    source, node = parse(text, where)
    maker = ConditionCompiler(source, registry)
    return Expression(
        text, tuple((text[one.start : one.end], maker.condition(one)) for one in _conjuncts(node))
    )


def _conjuncts(node: CelNode) -> Iterator[CelNode]:
    if node.kind != "&&":
        yield node
        return
    for part in node.parts:
        yield from _conjuncts(part)


class ConditionCompiler:
    """Compiles the nodes of one expression to conditions."""

    def __init__(self, source: CelSource, registry: Registry) -> None:
        self._source = source
        self._registry = registry

    def condition(self, node: CelNode, *, negate: bool = False) -> Tree:
        """The condition of a node. With `negate`, its negation, which is pushed down to the leaves."""
        kind = node.kind
        if kind in ("&&", "||"):
            parts = tuple(self.condition(part, negate=negate) for part in node.parts)
            return Every(parts) if (kind == "&&") is not negate else Some(parts)
        if kind == "!":
            return self.condition(node.parts[0], negate=not negate)
        if kind == "bool":
            return Always(bool(node.value) is not negate)
        if kind in RELATIONS:
            return self._relation(node, NEGATED[kind] if negate else kind)
        if kind == "in":
            return self._in(node, negate)
        if kind == "call" and node.value == "has":
            return self._has(node, negate)
        if _is_attribute(node):
            return Compared(self.attribute(node), "==", not negate)
        raise self._refuse_condition(node)

    def _refuse_condition(self, node: CelNode) -> UsageError:
        if node.kind == "call":
            return self._unknown_call(node)
        if node.kind == "name":
            return self._unknown_name(node)
        return self._source.refuse("this is not a condition", node, do="compare it with something")

    # -- comparisons --------------------------------------------------------------------------------------

    def _relation(self, node: CelNode, operator: str) -> Tree:
        left, right = node.parts
        if _is_constant(left) and not _is_constant(right):
            left, right, operator = right, left, MIRRORED[operator]
        one, other = self._type(left), self._type(right)
        relation = cast(Relation, operator)
        if one == "attribute" and other in ("text", "bool"):
            if operator not in ("==", "!="):
                do = 'write version("8.2") for a version' if other == "text" else "use == or !="
                raise self._source.refuse(f"{_TYPES[other]} has no order", node, do=do)
            return Compared(self.attribute(left), relation, self._constant(right))
        if (
            "version" in (one, other)
            and one in ("attribute", "version")
            and other in ("attribute", "version")
        ):
            return self._version(node, left, right, relation)
        if {one, other} <= {"attribute", "number"} and "number" in (one, other):
            return self._amounts(node, left, right, relation)
        if one == other == "attribute":
            raise self._source.refuse(
                "two attributes are compared, and their types are unknown",
                node,
                do="compare one with a constant",
            )
        if one == other:
            raise self._source.refuse("two constants are compared", node, do="compare an attribute with one")
        raise self._source.refuse(
            f"{_TYPES.get(one, 'an attribute')} is compared with {_TYPES.get(other, 'an attribute')}",
            node,
            do="compare what is of one type",
        )

    def _version(self, node: CelNode, left: CelNode, right: CelNode, operator: Relation) -> Tree:
        sides = [_argument(side) if side.kind == "call" else side for side in (left, right)]
        attributes = [side for side in sides if side.kind == "field"]
        if len(attributes) != 1:
            what = "two attributes" if attributes else "two constants"
            raise self._source.refuse(f"{what} are compared", node, do="compare an attribute with a constant")
        if sides[1].kind == "field":
            sides, operator = sides[::-1], MIRRORED[operator]
        constant = sides[1]
        if constant.kind != "text" or version_key(constant.value) is None:
            raise self._bad_version(constant)
        return Compared(self.attribute(sides[0]), operator, self._constant(constant), version=True)

    def _bad_version(self, node: CelNode) -> UsageError:
        return self._source.refuse(
            "this is not a version",
            node,
            do='write numbers with dots between, as version("8.2") or version("6.1.0-21")',
        )

    def _amounts(self, node: CelNode, left: CelNode, right: CelNode, operator: Relation) -> Tree:
        totals: dict[Quantity | None, int] = {}
        self._add(left, 1, totals)
        self._add(right, -1, totals)
        number = -totals.pop(None, 0)
        terms = tuple((multiple, what) for what, multiple in totals.items() if multiple and what is not None)
        if not terms:
            raise self._source.refuse(
                "nothing of a provider is compared", node, do="name a column or an attribute"
            )
        if len(terms) == 1 and terms[0][0] < 0:
            terms, number = ((-terms[0][0], terms[0][1]),), -number
            operator = MIRRORED[operator]
        only = terms[0][1]
        if len(terms) == 1 and terms[0][0] == 1 and isinstance(only, Attribute) and abs(number) <= AMOUNT_MAX:
            return Compared(only.name, operator, number)
        if len(terms) > TERMS_MAX or any(abs(multiple) > MULTIPLE_MAX for multiple, _ in terms):
            raise self._source.refuse(
                f"up to {TERMS_MAX} amounts are added up, each up to {MULTIPLE_MAX} times",
                node,
                do="use fewer",
            )
        if abs(number) > AMOUNT_MAX:
            raise self._source.refuse(
                "this number is larger than any amount", node, do=f"use {AMOUNT_MAX} at most"
            )
        return Amounts(terms, operator, number)

    def _add(self, node: CelNode, times: int, into: dict[Quantity | None, int]) -> None:
        """Add `times` the sum of a node to `into`: source -> multiple, None -> the constant."""
        if abs(times) > AMOUNT_MAX:
            raise self._source.refuse("this number is larger than any amount", node)
        if node.kind == "number":
            into[None] = into.get(None, 0) + times * int(node.value)
        elif node.kind == "field":
            what: Quantity = Attribute(self.attribute(node)) if _is_attribute(node) else self.column(node)
            into[what] = into.get(what, 0) + times
        elif node.kind in ("+", "-"):
            *first, last = node.parts
            for part in first:
                self._add(part, times, into)
            self._add(last, times if node.kind == "+" else -times, into)
        elif node.kind == "*" and any(part.kind == "number" for part in node.parts):
            number, other = sorted(node.parts, key=lambda part: part.kind != "number")
            self._add(other, times * int(number.value), into)
        else:
            raise self._source.refuse(
                "amounts are only added, subtracted and multiplied by a number", node, do=DOCS
            )

    def _in(self, node: CelNode, negate: bool) -> Tree:
        left, right = node.parts
        if right.kind == "name" and right.value in ("traits", "aggregates"):
            return self._member(left, right, negate)
        if right.kind != "list":
            raise self._source.refuse(
                "`in` takes a list, traits or aggregates", right, do='write attributes.x in ["a", "b"]'
            )
        if not right.parts:
            return Always(negate)
        types = {self._type(part) for part in right.parts}
        if len(types) > 1:
            raise self._source.refuse("the list mixes types", right, do="write one list a type")
        type_ = types.pop()
        if not all(map(_is_constant, right.parts)):
            raise self._source.refuse("the list has more than constants", right)
        if not _is_attribute(left):
            relation = "!=" if negate else "=="
            parts = tuple(self._relation(node._replace(parts=(left, part)), relation) for part in right.parts)
            return Every(parts) if negate else Some(parts)
        constants = [_argument(part) if type_ == "version" else part for part in right.parts]
        values = tuple(dict.fromkeys(self._constant(part) for part in constants))
        if type_ == "version":
            for part in constants:
                if part.kind != "text" or version_key(part.value) is None:
                    raise self._bad_version(part)
        return OneOf(self.attribute(left), values, negate, version=type_ == "version")

    def _member(self, name: CelNode, of: CelNode, negate: bool) -> Tree:
        if name.kind != "text":
            raise self._source.refuse("a name is a text", name, do=f'write "NAME" in {of.value}')
        if of.value == "aggregates":
            if not _ID.fullmatch(name.value):
                raise self._source.refuse("this can name no aggregate", name)
            return Member("aggregate", name.value, negate)
        try:
            return Member("trait", check_trait(name.value), negate)
        except UsageError as error:
            raise self._source.refuse(error.what, name, do=error.do) from None

    def _has(self, node: CelNode, negate: bool) -> Tree:
        if len(node.parts) != 1 or not _is_attribute(node.parts[0]):
            raise self._source.refuse("has() takes one attribute", node, do="write has(attributes.x)")
        return Compared(self.attribute(node.parts[0]), "lacks" if negate else "has")

    # -- names and constants ------------------------------------------------------------------------------

    def _type(self, node: CelNode) -> str:
        """`attribute`, `text`, `bool`, `version` or `number`."""
        if node.kind in ("text", "bool", "number"):
            return node.kind
        if node.kind == "field":
            if _is_attribute(node):
                return "attribute"
            self.column(node)
            return "number"
        if node.kind in ("+", "-", "*", "/", "%"):
            return "number"
        if node.kind == "call":
            if node.value != "version" or len(node.parts) != 1:
                raise self._unknown_call(node)
            if node.parts[0].kind not in ("text", "field"):
                raise self._bad_version(node.parts[0])
            return "version"
        if node.kind == "name":
            raise self._unknown_name(node)
        raise self._source.refuse("this cannot be compared", node)

    def _constant(self, node: CelNode) -> Any:
        value = node.value if node.kind != "-" else -node.parts[0].value
        if isinstance(value, str) and len(value) > TEXT_MAX:
            raise self._source.refuse(f"no attribute is longer than {TEXT_MAX} characters", node)
        if isinstance(value, int) and abs(value) > AMOUNT_MAX:
            raise self._source.refuse(
                "this number is larger than any amount", node, do=f"use {AMOUNT_MAX} at most"
            )
        return value

    def attribute(self, node: CelNode) -> str:
        """The attribute name of a node `attributes.NAME`. Raises `UsageError` for another node."""
        if not _is_attribute(node):
            raise self._source.refuse("this is not an attribute", node, do="write attributes.NAME")
        if not _NAME.fullmatch(str(node.value)):
            raise self._source.refuse(
                "this can name no attribute",
                node,
                do="names are of a to z, 0 to 9 and _ . - and start with a letter",
            )
        return str(node.value)

    def column(self, node: CelNode) -> Column:
        """The column of a node `CLASS.COLUMN`, for example `VCPU.free`. Raises `UsageError` for another node."""
        of = node.parts[0]
        if of.kind != "name":
            raise self._source.refuse("this cannot be compared", node)
        if of.value in _ROOTS:
            raise self._source.refuse(f"{of.value} have no fields", node, do=f'write "NAME" in {of.value}')
        try:
            resource_class = self._registry.check(of.value)
        except UsageError as error:
            raise self._source.refuse(error.what, of, do=error.do) from None
        if node.value not in resource_class.columns:
            raise self._source.refuse(
                f"{of.value} has no column {node.value}",
                node,
                do=f"it has {', '.join(resource_class.columns)}",
            )
        return Column(of.value, node.value)

    def _unknown_call(self, node: CelNode) -> UsageError:
        return self._source.refuse(
            f"there is no function {node.value}(…) here",
            node,
            do="there are has(attributes.x) and version(…)",
        )

    def _unknown_name(self, node: CelNode) -> UsageError:
        hint = f"write attributes.{node.value}, or CLASS.free" if node.value not in _ROOTS else DOCS
        return self._source.refuse(f"{node.value} is not a value", node, do=hint)


def _is_constant(node: CelNode) -> bool:
    if node.kind == "-" and len(node.parts) == 1:
        return node.parts[0].kind == "number"
    if node.kind == "call":
        return len(node.parts) == 1 and node.parts[0].kind == "text"
    return node.kind in ("text", "bool", "number")


def _is_attribute(node: CelNode) -> bool:
    return node.kind == "field" and node.parts[0].kind == "name" and node.parts[0].value == "attributes"


def _argument(call: CelNode) -> CelNode:
    return call.parts[0]
