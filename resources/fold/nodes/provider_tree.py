"""Provider trees: one root, every parent known, no cycle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from vacancy.resources.model.errors import InvalidRecord

P = TypeVar("P")


def path_to_root(provider: P, parent_of: Callable[[P], P | None]) -> Iterator[P]:
    """A provider and its ancestors, starting with the provider. `parent_of` returns None for a root and for an unknown
    provider. The path ends before a provider that is already in it."""
    passed: set[P] = set()
    at: P | None = provider
    while at is not None and at not in passed:
        yield at
        passed.add(at)
        at = parent_of(at)


def check_tree(root: str, parents: Mapping[str, str | None]) -> None:
    """Raise `InvalidRecord` unless `parents` (provider -> parent) is one tree under `root`."""
    if parents.get(root, "") is not None:
        missing = root not in parents
        raise InvalidRecord(f"root {root} is {'not among its providers' if missing else 'not a root'}")
    if len(parents) == 1:
        return
    sound = {root}
    for provider in parents:
        path: dict[str, None] = {}
        below = provider
        at: str | None = provider
        while at is not None and at not in sound:
            if at in path:
                raise InvalidRecord(f"provider {at} is its own ancestor ({' -> '.join([*path, at])})")
            if at not in parents:
                raise InvalidRecord(f"provider {below} has parent {at}, which is not in the tree of {root}")
            path[at] = None
            below, at = at, parents[at]
        if at is None:
            raise InvalidRecord(f"provider {below} has no parent, and {root} is the root")
        sound.update(path)
