"""Attributes: named values of a provider, for example `hypervisor_version` or `numa_cells`.

A value is text, a whole number, or true or false. Its type is part of the value; values are never converted from one type
to another. A comparison may read a text as a version (see `version_key`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Final, Literal

from pydantic import Field, GetCoreSchemaHandler, StringConstraints

from vacancy.resources.model.comparison import Comparison, Relation
from vacancy.resources.model.names import AMOUNT_MAX

ATTRIBUTES_MAX: Final = 256
"""The limit of attributes of one provider."""

TEXT_MAX: Final = 255
NAME_PATTERN: Final = r"^[a-z][a-z0-9_.-]{0,63}$"

AttributeName = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]


class _OneError:
    """Reports one error for a value, instead of one for each type that it could have."""

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: GetCoreSchemaHandler) -> Any:
        return {
            **handler(source),
            "custom_error_type": "attribute_value",
            "custom_error_message": f"Input should be text of up to {TEXT_MAX} characters, a whole number of up to"
            " 53 bits, true or false",
        }


AttributeValue = Annotated[
    bool
    | Annotated[int, Field(ge=-AMOUNT_MAX, le=AMOUNT_MAX)]
    | Annotated[str, StringConstraints(max_length=TEXT_MAX)],
    _OneError,
]
Attributes = Annotated[dict[AttributeName, AttributeValue], Field(max_length=ATTRIBUTES_MAX)]

Pairs = tuple[tuple[str, str | int | bool], ...]
"""Attributes in the form that rows store: (name, value), sorted by name."""

Operator = Literal[Relation, "has", "lacks"]

VERSION_NUMBERS_MAX: Final = 8
VERSION_DIGITS_MAX: Final = 9
_VERSION: Final = re.compile(
    rf"([0-9]{{1,{VERSION_DIGITS_MAX}}}(?:\.[0-9]{{1,{VERSION_DIGITS_MAX}}}){{0,{VERSION_NUMBERS_MAX - 1}}})"
    r"(?:[-+~_ ].*)?",
    re.ASCII | re.DOTALL,
)


def pairs(attributes: Mapping[str, str | int | bool]) -> Pairs:
    """Attributes in the form that rows store."""
    return tuple(sorted(attributes.items())) if attributes else ()


def same_types(one: Pairs, other: Pairs) -> bool:
    """Whether equal attributes also have equal types. In Python, 1 equals true."""
    return not one or all(type(a[1]) is type(b[1]) for a, b in zip(one, other, strict=False))


def type_name(value: str | int | bool) -> str:
    """The name of a value's type, for messages."""
    if isinstance(value, bool):
        return "true or false"
    return "a number" if isinstance(value, int) else "text"


@lru_cache(maxsize=16384)
def version_key(text: str) -> tuple[int, ...] | None:
    """The sort key of a version, or None if the text is not a version.

    A version is 1 to 8 numbers of up to 9 digits, separated by dots. Text after `-`, `+`, `~`, `_` or a space is ignored:
    `6.1.0-21-amd64` is 6.1.0. Numbers are compared one by one from the left. Missing numbers are 0, so 8.2 equals 8.2.0.
    """
    found = _VERSION.fullmatch(text)
    if found is None:
        return None
    numbers = [int(part) for part in found[1].split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def holds(
    found: str | int | bool | None,
    operator: Operator,
    value: str | int | bool | None,
    *,
    version: bool = False,
) -> bool:
    """Whether `found operator value` is true of an attribute's value `found` (None: the attribute is missing).

    With a value of another type no comparison is true, not even `!=` (see `Comparison`).
    """
    if operator == "has" or operator == "lacks":
        return (found is not None) == (operator == "has")
    if not version:
        return value is not None and Comparison("", operator, value).holds(found)
    if not isinstance(found, str) or not isinstance(value, str):
        return False
    one, other = version_key(found), version_key(value)
    if one is None or other is None:
        return False
    sign = (one > other) - (one < other)
    return Comparison("", operator, 0).holds(sign)
