"""Amounts of devices in words: `PCI_DEVICE:2[vendor=10de,memory_mb>=40000,model=A100|H100]`.

What stands in brackets becomes the `where` of an ask; the class itself says what an ask with attributes looks like.
"""

from __future__ import annotations

import re
from typing import Any, Final

from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.request import Ask

_AMOUNT: Final = re.compile(r"([0-9]{1,16})\s*(?:\[([^\[\]]*)\])?")
_CONDITION: Final = re.compile(r"""([^\s=!<>|"]+)\s*(==|!=|<=|>=|=|<|>)\s*(.+)""")
_INTEGER: Final = re.compile(r"-?[0-9]{1,16}")
_DO: Final = (
    'write CLASS:AMOUNT[attribute=value,attribute>=number,attribute=this|that]; "10" in quotes is text'
)


def split_resources(text: str) -> list[str]:
    """The items of a list with commas between; those in brackets belong to their item."""
    return [""] if not text else [item.strip() for item in re.split(r",(?![^\[\]]*\])", text)]


def parse_amount(name: str, text: str, registry: Registry, where: str) -> Ask:
    """An amount, or one with attributes. Raises `UsageError`."""
    match = _AMOUNT.fullmatch(text)
    if match is None or int(match[1]) < 1:
        raise UsageError(f"'{name}:{text}' is no amount", where=where, do="write a whole number from 1 on")
    amount = int(match[1])
    if match[2] is None:
        return amount
    try:
        ask: Ask = registry.check(name).narrowed(amount, _conditions(match[2], where))
    except UsageError as error:
        raise UsageError(error.what, where=where, do=error.do) from None
    return ask


def _conditions(text: str, where: str) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    for part in text.split(","):
        match = _CONDITION.fullmatch(part.strip())
        if match is None:
            raise UsageError(f"{part.strip()!r} compares nothing", where=where, do=_DO)
        value: Any
        name, operator, said = match[1], match[2], [value.strip() for value in match[3].split("|")]
        if operator in ("=", "==") and (len(said) > 1 or _INTEGER.fullmatch(said[0])):
            # What looks like a number may be text: PCI ids have digits only, some of them.
            operator, value = "in", [value for one in said for value in _readings(one)]
        elif len(said) > 1:
            raise UsageError(f"{part.strip()!r}: only = takes several values", where=where, do=_DO)
        else:
            operator, value = "==" if operator == "=" else operator, _readings(said[0])[0]
        if operator in found.setdefault(name, {}):
            raise UsageError(f"{name} is compared twice by {operator}", where=where, do=_DO)
        found[name][operator] = value
    return {name: terms["=="] if set(terms) == {"=="} else terms for name, terms in found.items()}


def _readings(text: str) -> list[Any]:
    """The value that is meant, or both that may be."""
    if text in ("true", "false"):
        return [text == "true"]
    if _INTEGER.fullmatch(text):
        return [int(text), text]
    return [text.strip('"')]
