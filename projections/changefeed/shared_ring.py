"""The newest entries of a partition's change feed, in a file that writer and readers share as memory.

Asking RocksDB what is new costs half a millisecond, and schedulers ask all the time. After each commit the writer
puts the feed's entry here and then the number of the next one, so that a reader knows in a microsecond whether there
is anything, and mostly has it in a few more. RocksDB has the whole feed: this is only the fast way to its end.
A writer that is killed between commit and `add` leaves the ring silent, so readers also ask RocksDB at intervals,
and always where there is no ring (it was lost with a copy of the directory).

The file: `next` and `first` (which entries are there), a slot an entry with its place, and the entries themselves
one after the other, the oldest overwritten first. Each carries its number and a checksum: a reader that is overtaken
while it reads sees it.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections import deque
from pathlib import Path
from zlib import crc32

SILENT = -1
SLOTS = 8192
DATA_BYTES = 4 * 1024 * 1024

_U64 = struct.Struct("<Q")
_ENTRY = struct.Struct("<QII")
_NEXT, _FIRST, _INDEX = 0, 8, 16
_DATA = _INDEX + SLOTS * _U64.size
_SIZE = _DATA + DATA_BYTES


def ring_path(partition: Path) -> Path:
    """The ring of a partition's directory."""
    return partition.with_suffix(".ring")


class RingWriter:
    """Makes the file, or takes it over, with no entries yet before number `first`."""

    def __init__(self, partition: Path, first: int) -> None:
        handle = os.open(ring_path(partition), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            # Its blocks are there before they are mapped: a full disk is an error here, and a signal later.
            os.posix_fallocate(handle, 0, _SIZE)
            self._map = mmap.mmap(handle, _SIZE, access=mmap.ACCESS_WRITE)
        finally:
            os.close(handle)
        self._kept: deque[tuple[int, int]] = deque()
        """(where it starts, where it ends) of each entry in the ring."""
        self._end = 0
        self._first = first
        _U64.pack_into(self._map, _FIRST, first)
        _U64.pack_into(self._map, _NEXT, first)

    def add(self, number: int, entry: bytes) -> None:
        """Publish entry `number`, which is committed, to readers. They find one that is too large in RocksDB."""
        size = _ENTRY.size + len(entry)
        if size > DATA_BYTES // 2:
            self._forget(len(self._kept))
            self._first = number + 1
        else:
            start = self._room(size)
            _ENTRY.pack_into(self._map, _DATA + start, number, len(entry), crc32(entry))
            self._map[_DATA + start + _ENTRY.size : _DATA + start + size] = entry
            _U64.pack_into(self._map, _INDEX + number % SLOTS * _U64.size, start)
            self._kept.append((start, start + size))
            self._end = start + size
        _U64.pack_into(self._map, _FIRST, self._first)
        _U64.pack_into(self._map, _NEXT, number + 1)

    def _room(self, size: int) -> int:
        """The place for this number of bytes. The entries there are given up first."""
        start = self._end if self._end + size <= DATA_BYTES else 0
        gone = max(0, len(self._kept) + 1 - SLOTS)
        wrapped = start != self._end
        for at, (begin, end) in enumerate(self._kept):
            behind = begin >= self._end  # of the last round, and so older than what starts at 0
            if (wrapped and behind) or (begin < start + size and end > start):
                gone = max(gone, at + 1)
            else:
                break
        self._forget(gone)
        return start

    def _forget(self, entries: int) -> None:
        for _ in range(entries):
            self._kept.popleft()
        self._first += entries
        _U64.pack_into(self._map, _FIRST, self._first)

    def close(self) -> None:
        """Close the file."""
        self._map.close()


class RingReader:
    """Reads the file, as soon as there is one."""

    def __init__(self, partition: Path) -> None:
        self._path = ring_path(partition)
        self._map: mmap.mmap | None = None

    def heard(self) -> int:
        """The number of the next entry that was not published yet, or `SILENT`."""
        if self._map is None:
            self._open()
            if self._map is None:
                return SILENT
        number: int = _U64.unpack_from(self._map, _NEXT)[0]
        return number

    def entries(self, first: int, end: int) -> list[bytes] | None:
        """Entries [first, end), which were published; None where they are no longer here, whole."""
        if self._map is None or end - first > SLOTS or first < _U64.unpack_from(self._map, _FIRST)[0]:
            return None
        found = []
        for number in range(first, end):
            start = _U64.unpack_from(self._map, _INDEX + number % SLOTS * _U64.size)[0]
            if start > DATA_BYTES - _ENTRY.size:
                return None
            there, length, checksum = _ENTRY.unpack_from(self._map, _DATA + start)
            begin = _DATA + start + _ENTRY.size
            entry = self._map[begin : begin + length]
            if there != number or crc32(entry) != checksum:
                return None
            found.append(entry)
        return found

    def close(self) -> None:
        """Close the file."""
        if self._map is not None:
            self._map.close()
            self._map = None

    def _open(self) -> None:
        try:
            handle = os.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            if os.fstat(handle).st_size >= _SIZE:
                self._map = mmap.mmap(handle, _SIZE, access=mmap.ACCESS_READ)
        finally:
            os.close(handle)
