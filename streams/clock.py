"""The wall clock, as this room uses it: milliseconds since 1970, UTC."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Gives milliseconds since 1970, UTC. Handed in, so that tests need not wait."""


def wall_ms() -> int:
    """This machine's time: milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000
