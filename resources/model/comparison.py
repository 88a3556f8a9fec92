"""Comparison: the relations that all languages of requests share, and one typed comparison of an attribute.

`Relation` is the common set of operators. Expressions (CEL), device attributes (JSON), predicates of claims and terms over
columns all use these names, their negations, and `compare`. Each adds at most a few operators of its own.

`Comparison` compares a named attribute with a constant; several together are a conjunction. Types are strict: a string
is compared with strings, an integer with integers (a boolean is not an integer), a boolean with booleans. With a value of
another type no comparison is true, not even `!=`. A comparison never raises an error.

In JSON: `{"vendor": "10de", "memory_mb": {">=": 40000, "<": 90000}, "model": {"in": ["A100", "H100"]}}`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple, cast, get_args

from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.names import AMOUNT_MAX

Value = str | int | bool
"""The values that an attribute can have."""

Relation = Literal["==", "!=", "<", "<=", ">", ">="]
"""The relations between two values of one type."""

RELATIONS: Final[tuple[Relation, ...]] = get_args(Relation)
ORDERED: Final = ("<", "<=", ">", ">=")
"""The relations that need an order. Booleans have none."""

NEGATED: Final[Mapping[str, Relation]] = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
"""Relation -> the relation that is true exactly where it is false."""

MIRRORED: Final[Mapping[str, Relation]] = {"==": "==", "!=": "!=", "<": ">", ">=": "<=", ">": "<", "<=": ">="}
"""Relation -> the same relation with exchanged sides."""

_FUNCTIONS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

Operator = Literal[Relation, "in"]
OPERATORS: Final[tuple[str, ...]] = get_args(Operator)

COMPARISONS_MAX: Final = 64
CHOICES_MAX: Final = 256
TEXT_MAX: Final = 1024


class Comparison(NamedTuple):
    """`name operator value`. For `in`, `value` is a tuple of the allowed values. `comparison` makes and checks it; an
    invalid comparison is never true."""

    name: str
    operator: Operator
    value: Value | tuple[Value, ...]

    def holds(self, value: Any) -> bool:
        """Whether it is true of an attribute with this value. It is never true of a missing attribute (None)."""
        relation, wanted = self.operator, self.value
        if relation == "in":
            choices = wanted if isinstance(wanted, tuple) else ()
            return any(type(value) is type(choice) and value == choice for choice in choices)
        if type(value) is not type(wanted) or not is_value(value):
            return False
        if relation not in RELATIONS or (relation in ORDERED and isinstance(value, bool)):
            return False
        return bool(compare(value, relation, wanted))


def compare(one: Any, relation: Relation, other: Any) -> Any:
    """The result of `one relation other`. NumPy arrays are compared element by element."""
    return _FUNCTIONS[relation](one, other)


def is_value(value: Any) -> bool:
    """Whether it can be the value of an attribute: a boolean, a string of at most 1,024 characters, or an integer that
    every JSON reader keeps exact."""
    if type(value) is str:
        return len(value) <= TEXT_MAX
    return type(value) is bool or (type(value) is int and -AMOUNT_MAX <= value <= AMOUNT_MAX)


def comparison(name: str, written: str, value: Any) -> Comparison:
    """Make a comparison. Raises `UsageError` if it is invalid. `value` is JSON; for `in`, a list."""
    where = f"attribute {name!r}"[:200]
    if written not in OPERATORS:
        raise UsageError(f"unknown operator {written!r}"[:200], where=where, do=f"use {' '.join(OPERATORS)}")
    if written == "in":
        if not isinstance(value, list | tuple) or not 1 <= len(value) <= CHOICES_MAX:
            raise UsageError(
                "`in` takes a list", where=where, do=f'write {{"in": ["A100", "H100"]}}, up to {CHOICES_MAX}'
            )
        choices = tuple(value)
        value = choices
    else:
        choices = (value,)
    if not all(map(is_value, choices)):
        raise UsageError(
            "a value is neither a string, nor a whole number of at most 53 bits, nor true or false",
            where=where,
            do="compare with one of these",
        )
    if written in ORDERED and isinstance(value, bool):
        raise UsageError(f"true and false have no order for {written}", where=where, do="use == or !=")
    return Comparison(name, cast(Operator, written), value)


def comparisons(where: Any) -> tuple[Comparison, ...]:
    """Parse `where` (JSON) to comparisons, sorted by name. All of them must be true. Raises `UsageError` if it is invalid.

    It maps an attribute to a value (`==`), or to an object of operators and values.
    """
    if not isinstance(where, Mapping) or not all(isinstance(name, str) for name in where):
        raise UsageError("attributes are asked for by an object", do='write {"vendor": "10de"}')
    made = []
    for name, wanted in sorted(where.items()):
        terms = wanted if isinstance(wanted, Mapping) else {"==": wanted}
        if not terms:
            raise UsageError("it has no condition", where=f"attribute {name!r}", do='write {">=": 40000}')
        made += [comparison(name, written, value) for written, value in sorted(terms.items())]
    if len(made) > COMPARISONS_MAX:
        raise UsageError(f"{len(made)} comparisons are too many", do=f"make at most {COMPARISONS_MAX}")
    return tuple(made)


def all_hold(conjunction: Iterable[Comparison], attributes: Mapping[str, Value]) -> bool:
    """Whether all comparisons are true of these attributes."""
    return all(one.holds(attributes.get(one.name)) for one in conjunction)
