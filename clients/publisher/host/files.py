"""Reads files of /proc and /sys that may not exist.

A file there may be missing, forbidden, or fail to read (EINVAL, ENODEV). The collector treats all of these as unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

CPU_MAX: Final = 65_535
"""No kernel has higher CPU numbers; a larger number in a file must not allocate unbounded memory."""


def read_text(path: Path) -> str | None:
    """The file's text without surrounding whitespace; None if it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def read_int(path: Path, base: int = 10) -> int | None:
    """The single integer in the file; None if it cannot be read. With base 16 the prefix `0x` is optional."""
    try:
        return int(read_text(path) or "", base)
    except ValueError:
        return None


def link_name(path: Path) -> str | None:
    """The last path component of a symbolic link's target; None if it is not a link."""
    try:
        return path.readlink().name
    except OSError:
        return None


def entries(path: Path) -> list[Path]:
    """The entries of a directory, sorted by name; empty if it cannot be read."""
    try:
        return sorted(path.iterdir())
    except OSError:
        return []


def parse_cpu_list(text: str | None) -> tuple[int, ...]:
    """Parse the kernel's list format (`0-3,8`) into sorted CPU numbers. Invalid parts are skipped."""
    found: set[int] = set()
    for part in (text or "").split(","):
        first, dash, last = part.strip().partition("-")
        if first.isdecimal() and (last.isdecimal() if dash else True):
            found.update(range(int(first), min(int(last if dash else first), CPU_MAX) + 1))
    return tuple(sorted(found))


def format_cpu_list(numbers: Iterable[int]) -> str:
    """The kernel's list format of some numbers: `0-3,8`. The inverse of `parse_cpu_list`."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def parse_kib(text: str | None, field: str) -> int | None:
    """The KiB of a line such as `MemTotal:  24684084 kB` in meminfo; None if there is no such line."""
    for line in (text or "").splitlines():
        label, _, value = line.partition(":")
        words = value.split()
        # In the meminfo of a NUMA cell each line starts with "Node 0 ".
        if label.split()[-1:] == [field] and words and words[0].isdecimal():
            return int(words[0])
    return None
