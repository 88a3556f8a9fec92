"""The backends on which the suites run: each maker gives a fresh one, and what closes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.placement_api.memory_backend import MemoryBackend
from vacancy.placement_api.backend import Backend

Maker = Callable[[], tuple[Backend, Callable[[], None]]]


def memory() -> tuple[Backend, Callable[[], None]]:
    return MemoryBackend(), lambda: None


MAKERS: Mapping[str, Maker] = {"memory": memory}
