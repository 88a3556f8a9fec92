"""Which asks for devices are valid, and which devices satisfy them, by docs/devices.md."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from vacancy.clients.auditor.classes.quantity import TOTAL_MAX
from vacancy.clients.auditor.event_schema import INTEGER_MAX

_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": operator.eq,
}
_CONDITIONS_MAX, _CHOICES_MAX, _MATCH_MAX = 64, 256, 8


def is_amount(value: Any) -> bool:
    """Whether a value may be the capacity of a device, or a number of devices."""
    return type(value) is int and 1 <= value <= TOTAL_MAX


def is_attribute(value: Any) -> bool:
    """Whether a value may be that of an attribute."""
    if type(value) is str:
        return len(value) <= 1024
    return type(value) is bool or (type(value) is int and -INTEGER_MAX <= value <= INTEGER_MAX)


def is_match(names: Any) -> bool:
    """Whether `match` of an ask is valid."""
    return (
        isinstance(names, list)
        and len(names) <= _MATCH_MAX
        and all(isinstance(name, str) and 0 < len(name) <= 128 for name in names)
    )


def is_where(where: Any) -> bool:
    """Whether `where` of an ask is valid."""
    if not isinstance(where, dict):
        return False
    conditions = [one if isinstance(one, dict) else {"==": one} for one in where.values()]
    return (
        sum(map(len, conditions)) <= _CONDITIONS_MAX
        and all(conditions)
        and all(_is_condition(*one) for condition in conditions for one in condition.items())
    )


def _is_condition(comparison: str, wanted: Any) -> bool:
    if comparison == "in":
        return (
            isinstance(wanted, list) and 1 <= len(wanted) <= _CHOICES_MAX and all(map(is_attribute, wanted))
        )
    is_ordered = comparison in ("<", "<=", ">", ">=")
    return comparison in _COMPARE and is_attribute(wanted) and not (is_ordered and type(wanted) is bool)


def satisfies(attributes: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    """Whether attributes satisfy all conditions of `where`. A value of another type satisfies none."""
    for name, condition in where.items():
        for comparison, wanted in (condition if isinstance(condition, dict) else {"==": condition}).items():
            if comparison not in _COMPARE:
                return False
            choices = wanted if isinstance(wanted, list) else [wanted]
            compare, value = _COMPARE[comparison], attributes.get(name)
            if not any(type(value) is type(choice) and compare(value, choice) for choice in choices):
                return False
    return True


def domains(attributes: Mapping[str, Mapping[str, Any]], fields: Mapping[str, Any]) -> Iterable[list[str]]:
    """The devices (name -> attributes) that satisfy an ask, apart by the values of what it has in `match`: only those of one
    list are granted together."""
    found: dict[Any, list[str]] = {}
    match = fields.get("match", [])
    for name, has in attributes.items():
        if has.keys() >= set(match) and satisfies(has, fields.get("where", {})):
            found.setdefault(tuple((type(has[one]), has[one]) for one in match), []).append(name)
    return found.values()
