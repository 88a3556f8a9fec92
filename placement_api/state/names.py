"""Resource classes and traits: the standard ones of this installation, and the order in which Placement lists them."""

from __future__ import annotations

import re
from functools import cache
from uuid import NAMESPACE_URL, uuid5

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


_is_uuid = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}").fullmatch


def shown_uuid(name: str) -> str:
    """The uuid of a provider, an aggregate or a consumer: Placement wants one, and what vacancy's nodes report may have any id. An id
    that is a uuid is shown as it is."""
    return name if _is_uuid(name) else str(uuid5(NAMESPACE_URL, f"vacancy:{name}"))
