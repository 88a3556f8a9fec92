"""The wall clock: milliseconds since 1970, UTC."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns milliseconds since 1970, UTC. It is a parameter so that tests need not wait."""


def wall_ms() -> int:
    """This machine's time: milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000
