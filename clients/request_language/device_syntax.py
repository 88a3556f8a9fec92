"""The ask syntax of devices: `PCI_DEVICE:2[vendor=10de,memory_mb>=40000,model=A100|H100]`.

The conditions in brackets become the `where` of the ask, and `match:ATTRIBUTE` its `match`.
"""

from __future__ import annotations

import re
from typing import Any, Final

from vacancy.clients.request_language.ask_syntax import AskSyntax
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.request import Ask

_CONDITION: Final = re.compile(r"""([^\s=!<>|"]+)\s*(==|!=|<=|>=|=|<|>)\s*(.+)""")
_INTEGER: Final = re.compile(r"-?[0-9]{1,16}")
_MATCH: Final = "match:"
_DO: Final = 'write CLASS:AMOUNT[attribute=value,attribute>=number,attribute=this|that,match:attribute]; "10" in quotes is text'


class DeviceSyntax(AskSyntax):
    """Devices that are granted whole."""

    def with_attributes(self, name: str, amount: int, conditions: str) -> Ask:
        match, where = parse_match(conditions)
        return {"count": amount, "where": where, **match}


class VgpuSyntax(AskSyntax):
    """Virtual GPUs: the attribute `type`, compared with one text, is the type of the instances."""

    def with_attributes(self, name: str, amount: int, conditions: str) -> Ask:
        match, where = parse_match(conditions)
        kind = {"type": where.pop("type")} if isinstance(where.get("type"), str) else {}
        return {"count": amount, **kind, "where": where, **match}


class MigSyntax(AskSyntax):
    """MIG instances: the attributes `profile` and `start`, compared with one value, are the profile and the first slot."""

    def with_attributes(self, name: str, amount: int, conditions: str) -> Ask:
        match, where = parse_match(conditions)
        fields = {}
        if isinstance(where.get("profile"), str):
            fields["profile"] = where.pop("profile")
        start = where.get("start")
        if isinstance(start, dict) and len(start) == 1 and type(start.get("in", [""])[0]) is int:
            fields["start"] = where.pop("start")["in"][0]
        return {"count": amount, **fields, "where": where, **match}


class GpuShareSyntax(AskSyntax):
    """Shares of one GPU."""

    def with_attributes(self, name: str, amount: int, conditions: str) -> Ask:
        return {"share": amount, "where": parse_conditions(conditions)}


def parse_match(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """`match` and `where` of an ask: `match:nvlink` among the conditions says that all devices have the same value of that
    attribute."""
    parts = [part.strip() for part in text.split(",")]
    match = [part.removeprefix(_MATCH).strip() for part in parts if part.startswith(_MATCH)]
    if not all(match):
        raise UsageError(f"{_MATCH!r} names no attribute", do=_DO)
    others = [part for part in parts if not part.startswith(_MATCH)]
    return {"match": match} if match else {}, parse_conditions(",".join(others)) if others else {}


def parse_conditions(text: str) -> dict[str, Any]:
    """The comparisons of `attribute=value,attribute>=number`, by attribute, as a `where` has them. Raises
    `UsageError`."""
    found: dict[str, dict[str, Any]] = {}
    for part in text.split(","):
        match = _CONDITION.fullmatch(part.strip())
        if match is None:
            raise UsageError(f"{part.strip()!r} is not a comparison", do=_DO)
        value: Any
        name, operator, texts = match[1], match[2], [value.strip() for value in match[3].split("|")]
        if operator in ("=", "==") and (len(texts) > 1 or _INTEGER.fullmatch(texts[0])):
            # Digits may be text: some PCI ids consist of digits only.
            operator, value = "in", [value for one in texts for value in _possible_values(one)]
        elif len(texts) > 1:
            raise UsageError(f"{part.strip()!r}: only = takes several values", do=_DO)
        else:
            operator, value = "==" if operator == "=" else operator, _possible_values(texts[0])[0]
        if operator in found.setdefault(name, {}):
            raise UsageError(f"{name} is compared twice by {operator}", do=_DO)
        found[name][operator] = value
    return {name: terms["=="] if set(terms) == {"=="} else terms for name, terms in found.items()}


def _possible_values(text: str) -> list[Any]:
    """The value that a text stands for; of digits the number, then the text."""
    if text in ("true", "false"):
        return [text == "true"]
    if _INTEGER.fullmatch(text):
        return [int(text), text]
    return [text.strip('"')]
