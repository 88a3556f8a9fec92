"""A bell on each partition: how a reader knows, in a microsecond, that there is nothing new.

Asking RocksDB costs a tenth of a millisecond and more, and schedulers ask all the time. The writer puts the
number of its next feed entry into a small shared file after each commit. The bell is a hint: a writer killed
between commit and ring leaves it silent, so readers also ask RocksDB every `TRUST_S`. Where there is no bell (it
was lost with a copy of the directory) they always ask.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

TRUST_S = 0.05
SILENT = -1
_NUMBER = struct.Struct("<Q")


def bell_path(partition: Path) -> Path:
    """The bell of a partition's directory."""
    return partition.with_suffix(".bell")


class Bell:
    """The shared number. Writers create the file, readers open it."""

    def __init__(self, partition: Path, *, create: bool) -> None:
        self._map: mmap.mmap | None = None
        try:
            handle = os.open(bell_path(partition), os.O_RDWR | os.O_CREAT if create else os.O_RDONLY, 0o644)
        except FileNotFoundError:
            if create:
                raise
            return
        try:
            if create:
                # Its block is there before it is mapped: a full disk is an error here, and a signal later.
                os.posix_fallocate(handle, 0, _NUMBER.size)
            if os.fstat(handle).st_size >= _NUMBER.size:
                access = mmap.ACCESS_WRITE if create else mmap.ACCESS_READ
                self._map = mmap.mmap(handle, _NUMBER.size, access=access)
        finally:
            os.close(handle)

    def ring(self, number: int) -> None:
        """Tell readers."""
        if self._map is not None:
            _NUMBER.pack_into(self._map, 0, number)

    def heard(self) -> int:
        """What was rung last, or `SILENT`."""
        if self._map is None:
            return SILENT
        number: int = _NUMBER.unpack_from(self._map)[0]
        return number

    def close(self) -> None:
        """Let go of the file."""
        if self._map is not None:
            self._map.close()
