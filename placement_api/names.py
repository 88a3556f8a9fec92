"""Resource classes and traits: the standard ones of this installation, and the order in which Placement lists them."""

from __future__ import annotations

from functools import cache

import os_resource_classes
import os_traits


@cache
def standard_classes() -> dict[str, int]:
    """Name -> Placement's number of each standard class."""
    return {name: number for number, name in enumerate(os_resource_classes.STANDARDS)}


@cache
def standard_traits() -> tuple[str, ...]:
    """The standard traits, sorted."""
    return tuple(sorted(os_traits.get_traits()))


FIRST_CUSTOM = 10_000
"""Placement numbers custom classes from here on."""


def class_order(name: str) -> tuple[int, str]:
    """Sorts standard classes by number, then custom ones by name."""
    return (standard_classes().get(name, FIRST_CUSTOM), name)


def is_custom(name: str) -> bool:
    return name.startswith(os_resource_classes.CUSTOM_NAMESPACE)
