"""Expressions over a provider and their meaning, written by hand from docs/expressions.md.

A comparison with an absent value or a value of another type is false, and so is its negation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

Version = tuple[int, ...]


class Provider(Protocol):
    """The provider that an expression is evaluated on."""

    @property
    def attributes(self) -> Mapping[str, Any]: ...
    @property
    def traits(self) -> set[str]: ...
    @property
    def aggregates(self) -> set[str]: ...
    @property
    def stock(self) -> Mapping[str, Any]: ...


def _is(node: Provider, name: str, type_: type, test: Callable[[Any], bool]) -> bool:
    value = node.attributes.get(name)
    return type(value) is type_ and test(value)


def _version(node: Provider, test: Callable[[Version], bool]) -> bool:
    value = node.attributes.get("hv")
    found = re.fullmatch(r"(\d+(?:\.\d+)*)(?:[-+~_ ].*)?", value) if isinstance(value, str) else None
    if found is None:
        return False
    numbers = [int(part) for part in found[1].split(".")]
    return test((*numbers, 0, 0, 0)[:3])


def _free(node: Provider, name: str) -> int:
    return int(node.stock[name]["free"]) if name in node.stock else 0


WHERE: Mapping[str, Callable[[Provider], bool]] = {
    "": lambda _: True,
    'attributes.model == "a"': lambda node: _is(node, "model", str, lambda v: v == "a"),
    'attributes.model != "a"': lambda node: _is(node, "model", str, lambda v: v != "a"),
    '!(attributes.model in ["a", "b"])': lambda node: _is(node, "model", str, lambda v: v not in ("a", "b")),
    'attributes.model in ["b", "c"]': lambda node: _is(node, "model", str, lambda v: v in ("b", "c")),
    "attributes.rank >= 2": lambda node: _is(node, "rank", int, lambda v: v >= 2),
    "!(attributes.rank >= 2)": lambda node: _is(node, "rank", int, lambda v: v < 2),
    'attributes.rank == "many"': lambda node: _is(node, "rank", str, lambda v: v == "many"),
    "has(attributes.rank) && !attributes.secure": lambda node: (
        "rank" in node.attributes and _is(node, "secure", bool, lambda v: not v)
    ),
    "!has(attributes.rank) || attributes.secure": lambda node: (
        "rank" not in node.attributes or _is(node, "secure", bool, lambda v: v)
    ),
    'attributes.hv >= version("8.2")': lambda node: _version(node, lambda v: v >= (8, 2, 0)),
    'attributes.hv == version("8.2.0")': lambda node: _version(node, lambda v: v == (8, 2, 0)),
    '!(attributes.hv > version("8.9"))': lambda node: _version(node, lambda v: v <= (8, 9, 0)),
    'attributes.rank < 2 || (attributes.model == "b" && "CUSTOM_A" in traits)': lambda node: (
        _is(node, "rank", int, lambda v: v < 2)
        or (_is(node, "model", str, lambda v: v == "b") and "CUSTOM_A" in node.traits)
    ),
    '!("CUSTOM_A" in traits) && "x" in aggregates': lambda node: (
        "CUSTOM_A" not in node.traits and "x" in node.aggregates
    ),
    "VCPU.free >= 2": lambda node: _free(node, "VCPU") >= 2,
    "VCPU.free <= attributes.rank": lambda node: _is(node, "rank", int, lambda v: _free(node, "VCPU") <= v),
    "MEMORY_MB.free > 2 * VCPU.free - 3": lambda node: _free(node, "MEMORY_MB") > 2 * _free(node, "VCPU") - 3,
}
"""Expression -> a function that tests whether it is true for a provider."""
