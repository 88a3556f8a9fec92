"""Alternatives and preferred relations for the solver in `brute_force`, by docs/queries.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.support.solver.brute_force import Request


def choices(request: Request) -> Iterator[dict[str, Any]]:
    """The requests that one with alternatives stands for, in order of preference."""
    plain = {
        name: value for name, value in request.items() if name not in ("alternatives", "prefer_same_subtree")
    }
    tolerated = {"tolerations": request.get("tolerations", ())}
    for shape in (plain, *({**one, **tolerated} for one in request.get("alternatives", ()))):
        yield from _nearest_first(shape, list(request.get("prefer_same_subtree", ())))


def _nearest_first(shape: dict[str, Any], preferred: list[list[str]]) -> Iterator[dict[str, Any]]:
    """A request with each set of preferred relations; the first relation counts most."""
    if not preferred:
        yield shape
        return
    first, *others = preferred
    served = [group["name"] for group in shape["groups"] if group.get("same_provider", True)]
    if all(name in served for name in first):
        yield from _nearest_first({**shape, "same_subtree": [*shape.get("same_subtree", ()), first]}, others)
    yield from _nearest_first(shape, others)
