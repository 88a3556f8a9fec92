"""A cache of values that are computed from a view's arrays, valid as long as the arrays stay the same.

`FleetView.derived` is cleared when an array is created or replaced, and when traits, aggregates or the shape of a tree
change. Queries write to it, but its key and the arrays determine each entry. So a cached entry changes the time of a
query and never its result. Scratch arrays in it have no content between uses.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Made = TypeVar("Made")

REQUESTS_MAX = 1024
"""The limit of entries that belong to requests: clients may send any number of different requests."""


class ViewCache:
    """Values that are expensive to compute and often used again."""

    def __init__(self) -> None:
        self._of_all: dict[Hashable, Any] = {}
        self._of_requests: dict[tuple[bytes, Hashable], Any] = {}

    def clear(self) -> None:
        """Drop all entries: arrays were created or replaced."""
        self._of_all.clear()
        self._of_requests.clear()

    def derive(self) -> ViewCache:
        """A cache for a view that has the same traits, aggregates and trees, but other columns."""
        made = ViewCache()
        made._of_all = self._of_all
        return made

    def clear_requests(self) -> None:
        """Drop the entries of requests: the columns of a class were replaced."""
        self._of_requests.clear()

    def of_all(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """A value that depends only on traits, aggregates and trees. Use few keys: no entry is dropped."""
        found: Made | None = self._of_all.get(key)
        if found is None:
            found = self._of_all[key] = make()
        return found

    def of_request(self, request: bytes, which: Hashable, make: Callable[[], Made]) -> Made:
        """A value that depends on a request, given by its key (`CompiledRequest.key`). `which` distinguishes several values
        of one request, for example by cell (None: all cells)."""
        key = (request, which)
        found: Made | None = self._of_requests.get(key)
        if found is None:
            if len(self._of_requests) >= REQUESTS_MAX:
                # Drop only the oldest entry: dropping all at once takes as long as many queries.
                del self._of_requests[next(iter(self._of_requests))]
            found = self._of_requests[key] = make()
        return found
