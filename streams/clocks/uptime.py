"""This machine's uptime, as a second witness of how much time passed between two records.

The wall clock can be wrong and can be set. The time since the machine started cannot: the kernel counts it, also while
the machine sleeps, and all processes see the same value.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Final
from zlib import crc32

Uptime = Callable[[], int]
"""Returns a time mark (`uptime_mark`), or 0 where the machine has none. It is a parameter for tests."""

_BOOT_BITS: Final = 20
_MS_BITS: Final = 42
_MS_MASK: Final = (1 << _MS_BITS) - 1


def uptime_mark() -> int:
    """The milliseconds since the machine started (42 bits), and above them a hash of the start's id (20 bits). 0 on a
    system that has neither."""
    boot = _boot_hash()
    if not boot:
        return 0
    return boot << _MS_BITS | (time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000 & _MS_MASK)


def passed_ms(before: int, now: int) -> int | None:
    """The milliseconds between two marks; None where they are not of one start of one machine. 0 where `now` was read before
    the other: another process appended in the meantime."""
    if not before or not now or before >> _MS_BITS != now >> _MS_BITS:
        return None
    return max(0, now - before)


@lru_cache(maxsize=1)
def _boot_hash() -> int:
    """A hash of the id of this start of the machine, not 0; 0 where the system does not give one."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    except OSError:
        return 0
    if not boot_id or not hasattr(time, "CLOCK_BOOTTIME"):
        return 0
    return crc32(boot_id) % ((1 << _BOOT_BITS) - 1) + 1
