"""Log time: the only clock of the rules. It never goes back, and a single record advances it by an hour at most."""

from __future__ import annotations

LEAP_MS_MAX = 3600 * 1000
"""The limit by which one record may advance log time. It limits how many holds a broker with a wrong clock ends."""


def advance(time_ms: int, timestamp_ms: int) -> int:
    """A partition's log time after a record with that timestamp. Milliseconds since 1970, UTC."""
    return max(time_ms, min(timestamp_ms, time_ms + LEAP_MS_MAX))
