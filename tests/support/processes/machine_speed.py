"""How fast this machine is now, so that a test of CPU time judges the code and not the machine."""

from __future__ import annotations

import time
from typing import Final


def _yardstick_s() -> float:
    """The CPU time of a fixed piece of work of the kind that the fold does, seconds."""
    started = time.process_time()
    for number in range(40_000):
        row = {str(number % 97): (number, number + 1)}
        _YARDSTICK.update(row)
    sorted(_YARDSTICK.items(), reverse=True)
    return time.process_time() - started


_YARDSTICK: Final[dict[str, tuple[int, int]]] = {}
_YARDSTICK_S: Final = 0.0086
"""What `_yardstick_s` is on the machine for which bounds of CPU time are stated (docs/measured.md): the least of many runs."""


def slowness() -> float:
    """How many times slower than that machine this one is now, at least 1. A machine of continuous integration is often
    busy: its caches and its second hardware threads belong to others, and CPU time grows with that."""
    return max(1.0, min(_yardstick_s() for _ in range(3)) / _YARDSTICK_S)
