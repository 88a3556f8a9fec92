"""What was worked out of a view's arrays, kept for as long as they stay as they are.

`View.derived` is emptied whenever an array comes or moves, and when traits, aggregates or the shape of a tree change.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Made = TypeVar("Made")

REQUESTS_MAX = 1024
"""So many things made of requests are kept: clients may bring new ones without end."""


class ViewCache:
    """What is dear to make and often wanted again."""

    def __init__(self) -> None:
        self._of_all: dict[Hashable, Any] = {}
        self._of_requests: dict[tuple[bytes, Hashable], Any] = {}

    def clear(self) -> None:
        """The arrays are others now."""
        self._of_all.clear()
        self._of_requests.clear()

    def of_all(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What was made of the arrays alone. Only few keys should be in use: nothing is thrown away."""
        found: Made | None = self._of_all.get(key)
        if found is None:
            found = self._of_all[key] = make()
        return found

    def of_request(self, request: bytes, which: Hashable, make: Callable[[], Made]) -> Made:
        """What was made of a request, given by its key (`CompiledRequest.key`). `which` tells apart what is made of the
        same request: as a rule the cell (None: all cells)."""
        key = (request, which)
        found: Made | None = self._of_requests.get(key)
        if found is None:
            if len(self._of_requests) >= REQUESTS_MAX:
                # One for one: to throw all away at once takes as long as many queries.
                del self._of_requests[next(iter(self._of_requests))]
            found = self._of_requests[key] = make()
        return found
