"""The wall clock: milliseconds since 1970, UTC; and how people read them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], int]
"""Returns milliseconds since 1970, UTC. It is a parameter so that tests need not wait."""


def wall_ms() -> int:
    """This machine's time: milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


def utc_text(ms: int, timespec: str = "milliseconds") -> str:
    """Milliseconds since 1970 as ISO 8601 in UTC: `2026-11-28T07:30:00.000Z`. `timespec` is that of `datetime.isoformat`."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")
