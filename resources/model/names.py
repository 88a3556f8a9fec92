"""Names: the patterns of the names of providers, classes, traits, aggregates and cells.

The patterns are rules of the log: an event with another name is a dead letter on every build. Only clients check whether a
standard trait exists (`check_trait`). The answer depends on the installed `os-traits`, and two builds must fold a log to
the same state.
"""

from __future__ import annotations

import difflib
import re
from functools import cache
from typing import Annotated

from pydantic import Field, StringConstraints

from vacancy.resources.model.errors import UsageError

AMOUNT_MAX = 2**53 - 1
"""The largest amount of anything: the largest integer that every JSON reader keeps exact."""

CONSUMER_TYPE_MAX = 64
"""Characters of the type of a consumer."""

ID_PATTERN = r"^[A-Za-z0-9._:/@+=~-]{1,200}$"
SYMBOL_PATTERN = r"^[A-Z][A-Z0-9_]{0,254}$"

Id = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
"""A provider, consumer, claim, request, aggregate, project, user or cell."""

Symbol = Annotated[str, StringConstraints(pattern=SYMBOL_PATTERN)]
"""A resource class or a trait."""

Amount = Annotated[int, Field(ge=0, le=AMOUNT_MAX)]
TimeMs = Annotated[int, Field(ge=0, le=AMOUNT_MAX)]
"""Milliseconds since 1970-01-01 UTC."""

CUSTOM_PREFIX = "CUSTOM_"

is_id = re.compile(ID_PATTERN).fullmatch
"""Whether a text can be an id: a match or None."""


def unit_name(resource_class: str, unit: str) -> str:
    """How usage and quotas name a unit of a class: `VCPU` for the unit '' of its capacity, `NUMA_CELL.memory_mb` for another."""
    return f"{resource_class}.{unit}" if unit else resource_class


def check_id(what: str, name: str) -> None:
    """Raise `UsageError` unless `name` can be the id of a `what`: a project, a user, a consumer."""
    if not is_id(name):
        raise UsageError(
            f"{name!r} is not a valid {what} id", do="use letters, digits and ._:/@+=~-, 200 of them at most"
        )


def check_consumer_type(name: str) -> None:
    """Raise `UsageError` unless `name` can be the type of a consumer."""
    if len(name) > CONSUMER_TYPE_MAX:
        raise UsageError(
            f"the consumer type {name[:80]!r} is too long", do=f"use {CONSUMER_TYPE_MAX} characters at most"
        )


@cache
def standard_traits() -> frozenset[str]:
    """All traits of the installed `os-traits`."""
    import os_traits

    return frozenset(os_traits.get_traits())


def check_trait(trait: str) -> str:
    """Return `trait`, or raise `UsageError` when it is neither standard nor `CUSTOM_*`."""
    if trait.startswith(CUSTOM_PREFIX) or trait in standard_traits():
        return trait
    raise UsageError(f"unknown trait {trait!r}", do=suggest(trait, standard_traits()))


def suggest(wrong: str, known: frozenset[str]) -> str:
    """The hint for an unknown name: the nearest known names, and how to use a name of one's own."""
    near = difflib.get_close_matches(wrong, sorted(known), n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{hint}Names of your own start with {CUSTOM_PREFIX}"
