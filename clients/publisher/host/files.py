"""Reading what the kernel says, where it says anything.

A file under /proc or /sys may be missing, forbidden, or refuse to be read (EINVAL, ENODEV); to the collector
these are all the same: not known.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

CPU_MAX: Final = 65_535
"""No kernel numbers processors higher; a file that says so must not fill the memory."""


def read_text(path: Path) -> str | None:
    """The file's text without surrounding space, or None if it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def read_int(path: Path, base: int = 10) -> int | None:
    """The file's one integer, or None if it cannot be read as one. Base 16 takes `0x` or does without."""
    try:
        return int(read_text(path) or "", base)
    except ValueError:
        return None


def link_name(path: Path) -> str | None:
    """The last name of where a symbolic link points to, or None if it is none."""
    try:
        return path.readlink().name
    except OSError:
        return None


def entries(path: Path) -> list[Path]:
    """What is in a directory, in order of name; nothing if it cannot be read."""
    try:
        return sorted(path.iterdir())
    except OSError:
        return []


def parse_cpu_list(text: str | None) -> tuple[int, ...]:
    """The kernel's list format (`0-3,8`) as CPU numbers in order. What does not parse is left out."""
    found: set[int] = set()
    for part in (text or "").split(","):
        first, dash, last = part.strip().partition("-")
        if first.isdecimal() and (last.isdecimal() if dash else True):
            found.update(range(int(first), min(int(last if dash else first), CPU_MAX) + 1))
    return tuple(sorted(found))


def parse_kib(text: str | None, field: str) -> int | None:
    """The KiB of a line like `MemTotal:  24684084 kB` in meminfo, or None if there is no such line."""
    for line in (text or "").splitlines():
        label, _, value = line.partition(":")
        words = value.split()
        # A NUMA cell's own meminfo starts each line with "Node 0 ".
        if label.split()[-1:] == [field] and words and words[0].isdecimal():
            return int(words[0])
    return None
