"""The size of the file system of the instances."""

from __future__ import annotations

from pathlib import Path

import psutil


def read_disk_gib(path: Path) -> int | None:
    """The size of the file system at `path` in GiB, rounded down; None if it cannot be read."""
    try:
        return int(psutil.disk_usage(str(path)).total) >> 30
    except OSError:
        return None
