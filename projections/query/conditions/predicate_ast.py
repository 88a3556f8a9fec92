"""Conditions of a request's expression, as a small typed tree, and where in the fleet they hold.

The tree is in negation normal form: what negates stands in the leaves. A leaf holds of a row only if all that it
names is there and of its type; so neither `x == 1` nor `x != 1` holds of a row that has no `x`. The compiler
(`clients/request_language/expressions/cel_compiler.py`) makes the tree; this module turns it into masks over columns.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from vacancy.projections.view.attribute_columns import (
    ABSENT,
    FALSE,
    FIRST_TEXT,
    NUMBER,
    TRUE,
    AttributeColumn,
    Value,
)
from vacancy.projections.view.columns import Bools, Ints
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.sparse_rows import IntColumn
from vacancy.resources.model.attributes import Operator, holds
from vacancy.resources.model.comparison import Relation, compare

Rows = Ints | slice
Test = Callable[[Rows], Bools]


class Compared(NamedTuple):
    """An attribute and a constant (None for `has` and `lacks`); as versions, if it is set."""

    name: str
    operator: Operator
    value: Value | None = None
    version: bool = False


class OneOf(NamedTuple):
    """An attribute that is (with `negate`: is not) one of several constants, which are of one type."""

    name: str
    values: tuple[Value, ...]
    negate: bool = False
    version: bool = False


class Member(NamedTuple):
    """A trait or an aggregate that is, or is not, the provider's."""

    kind: Literal["trait", "aggregate"]
    name: str
    negate: bool = False


class Column(NamedTuple):
    """A column of a resource class; 0 on a provider that has none of the class."""

    resource_class: str
    column: str


class Attribute(NamedTuple):
    """An attribute that is a number."""

    name: str


Source = Column | Attribute


class Amounts(NamedTuple):
    """Multiples of columns and attributes, summed and compared with a number."""

    terms: tuple[tuple[int, Source], ...]
    operator: Relation
    number: int


class Always(NamedTuple):
    """A constant."""

    value: bool


class Every(NamedTuple):
    """All parts hold."""

    parts: tuple[Tree, ...]


class Some(NamedTuple):
    """At least one part holds."""

    parts: tuple[Tree, ...]


Tree = Compared | OneOf | Member | Amounts | Always | Every | Some


class Expression(NamedTuple):
    """A condition as the conjunction it is, each part with the text that it came from."""

    text: str
    parts: tuple[tuple[str, Tree], ...]


_NO_CODE: Final = -1

MULTIPLE_MAX: Final = 2**20
TERMS_MAX: Final = 8
_EXACT_TIMES: Final = 1000
"""Amounts are below 2^53: up to this number of them are summed as int64, more as floats."""


def test(tree: Tree, view: FleetView) -> Test:
    """Evaluates where a tree holds: for rows, or for a range of them. It is good for as long as the view's columns are
    the same ones (`FleetView.derived`)."""
    if isinstance(tree, Every):
        return _all([test(part, view) for part in tree.parts])
    if isinstance(tree, Some):
        return _any([test(part, view) for part in tree.parts])
    if isinstance(tree, Always):
        return _constant(view, tree.value)
    if isinstance(tree, Member):
        return _member(tree, view)
    if isinstance(tree, Amounts):
        return _amounts(tree, view)
    column = view.attributes.columns.get(tree.name)
    if column is None:
        return _constant(view, isinstance(tree, Compared) and tree.operator == "lacks")
    return _one_of(tree, column) if isinstance(tree, OneOf) else _compared(tree, column)


def _all(tests: list[Test]) -> Test:
    return lambda rows: reduce(np.logical_and, [one(rows) for one in tests])


def _any(tests: list[Test]) -> Test:
    return lambda rows: reduce(np.logical_or, [one(rows) for one in tests])


def _constant(view: FleetView, value: bool) -> Test:
    return lambda rows: np.full_like(view.open[rows], value)


def _member(tree: Member, view: FleetView) -> Test:
    arrays = (view.traits if tree.kind == "trait" else view.aggregates).arrays
    if tree.name not in arrays:
        return _constant(view, tree.negate)
    if tree.negate:
        return lambda rows: ~arrays[tree.name][rows]
    return lambda rows: arrays[tree.name][rows]


def _compared(tree: Compared, column: AttributeColumn) -> Test:
    operator, value = tree.operator, tree.value
    if operator == "has":
        return lambda rows: column.codes[rows] != ABSENT
    if operator == "lacks":
        return lambda rows: column.codes[rows] == ABSENT
    if tree.version or (isinstance(value, str) and operator not in ("==", "!=")):
        key = tree[1:]

        def matches(text: str) -> bool:
            return holds(text, operator, value, version=tree.version)

        return lambda rows: column.table(key, matches)[column.codes[rows]]
    if isinstance(value, str):
        return _text(column, value, equal=operator == "==")
    if isinstance(value, bool):
        code = TRUE if value is (operator == "==") else FALSE
        return lambda rows: column.codes[rows] == code
    return lambda rows: _number(column, lambda: compare(_numbers(column)[rows], operator, value), rows)


def _text(column: AttributeColumn, value: str, *, equal: bool) -> Test:
    def found(rows: Rows) -> Bools:
        codes, code = column.codes[rows], column.code(value)
        if equal:
            same: Bools = codes == (code if code != ABSENT else _NO_CODE)
            return same
        other: Bools = (codes >= FIRST_TEXT) & (codes != code)
        return other

    return found


def _one_of(tree: OneOf, column: AttributeColumn) -> Test:
    values = frozenset(tree.values)
    first = tree.values[0]
    if isinstance(first, str):
        key = tree[1:]

        def matches(text: str) -> bool:
            if not tree.version:
                return (text in values) is not tree.negate
            if tree.negate:
                return all(holds(text, "!=", one, version=True) for one in tree.values)
            return any(holds(text, "==", one, version=True) for one in tree.values)

        return lambda rows: column.table(key, matches)[column.codes[rows]]
    if isinstance(first, bool):
        codes = [TRUE if one else FALSE for one in (True, False) if (one in values) is not tree.negate]
        return lambda rows: np.isin(column.codes[rows], codes)
    wanted = np.array(sorted(values), dtype=np.int64)
    return lambda rows: _number(
        column, lambda: np.isin(_numbers(column)[rows], wanted, invert=tree.negate), rows
    )


def _number(column: AttributeColumn, compare: Callable[[], Bools], rows: Rows) -> Bools:
    """Where there is a number and it compares."""
    there: Bools = column.codes[rows] == NUMBER
    return there if column.numbers is None else there & compare()


def _numbers(column: AttributeColumn) -> IntColumn:
    assert column.numbers is not None  # noqa: S101 - `_number` asks before
    return column.numbers


def _amounts(tree: Amounts, view: FleetView) -> Test:
    relation = tree.operator
    if len(tree.terms) == 1 and tree.terms[0][0] == 1 and isinstance(tree.terms[0][1], Column):
        only = tree.terms[0][1]
        return lambda rows: compare(amounts(only, view, rows)[0], relation, tree.number)

    factor: Any = int if sum(abs(multiple) for multiple, _ in tree.terms) <= _EXACT_TIMES else float

    def found(rows: Rows) -> Bools:
        there: Bools | None = None
        total: Any = None
        for multiple, source in tree.terms:
            values, known = amounts(source, view, rows)
            part = values if multiple == 1 else values * factor(multiple)
            total = part if total is None else total + part
            if known is not None:
                there = known if there is None else there & known
        held: Bools = compare(total, relation, tree.number)
        return held if there is None else held & there

    return found


def amounts(source: Source, view: FleetView, rows: Rows) -> tuple[Ints, Bools | None]:
    """A source's numbers, and where there are some (None: everywhere)."""
    if isinstance(source, Column):
        columns = view.classes.get(source.resource_class)
        if columns is None:
            return np.zeros_like(view.heard_ms[rows]), None
        return columns.arrays[source.column][rows], None
    column = view.attributes.columns.get(source.name)
    if column is None or column.numbers is None:
        return np.zeros_like(view.heard_ms[rows]), np.zeros_like(view.open[rows])
    return column.numbers[rows], column.codes[rows] == NUMBER
