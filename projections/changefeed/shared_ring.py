"""The newest entries of a partition's change feed, in a file that the writer and its readers share.

Asking RocksDB what is new costs half a millisecond, and schedulers ask all the time. After each commit the writer
puts the feed's entry here and then the number of the next one, so that a reader knows in a microsecond whether there
is anything, and mostly has it in a few more. RocksDB has the whole feed: this is only the fast way to its end.
A writer that is killed between commit and `add` leaves the ring silent, so readers also ask RocksDB at intervals,
and always where there is no ring (it was lost with a copy of the directory).

The file: the number of the next entry, the writer's epoch and where the newest entry is; a slot an entry with its
number, place and checksum; and the entries themselves one after the other, the oldest overwritten first. A checksum is
over epoch, number and entry: a reader that is overtaken while it reads, or that meets an entry of another writer, sees
it.

The file is read and written, never mapped: a page of a mapped file that is cut off is a signal that kills a process.
"""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path
from time import monotonic
from zlib import crc32

SILENT = -1
NO_EPOCH = 0
"""In place of an epoch: the writer has given this file up, and there may be another one at its path."""

SLOTS = 8192
DATA_BYTES = 4 * 1024 * 1024
MODE = 0o640
LOOK_S = 0.05
"""How often the writer looks whether its file is still what it was."""

_HEAD = struct.Struct("<QQIII")
_SLOT = struct.Struct("<QIII")
_SEED = struct.Struct("<QQ")
_HEAD_BYTES = _HEAD.size
_INDEX = 40

_Slot = tuple[int, int, int, int]
"""Number, place, length and checksum of an entry."""

_DATA = _INDEX + SLOTS * _SLOT.size
_SIZE = _DATA + DATA_BYTES


def ring_path(partition: Path) -> Path:
    """The ring of a partition's directory."""
    return partition.with_suffix(".ring")


def _checksum(epoch: int, number: int, entry: bytes) -> int:
    return crc32(entry, crc32(_SEED.pack(number, epoch)))


class RingWriter:
    """Makes the file, or takes it over, with no entries yet before number `first`. Raises `OSError`.

    Later the ring is made again when it is no longer what it was. Where that fails there is none: readers find all
    entries in RocksDB.
    """

    def __init__(self, partition: Path, epoch: int, first: int) -> None:
        self._path = ring_path(partition)
        self._name = str(self._path)
        self._epoch = epoch
        self._file = self._inode = -1
        self._looked_at = 0.0
        self._open(first)

    def add(self, number: int, entry: bytes) -> None:
        """Publish entry `number`, which is committed, to readers. They find one that is too large in RocksDB."""
        try:
            now = monotonic()
            if now - self._looked_at >= LOOK_S or self._file < 0:
                self._looked_at = now
                if not self._is_whole():
                    self.close()
                    self._open(number)
            if len(entry) <= DATA_BYTES // 2:
                self._write(number, entry)
            else:
                os.pwrite(self._file, _HEAD.pack(number + 1, self._epoch, 0, 0, 0), 0)
        except OSError:
            self._give_up()

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self, first: int) -> None:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)
        with contextlib.suppress(PermissionError):  # somebody else's that may be written
            # That of an older build may be read by everybody.
            os.fchmod(self._file, os.fstat(self._file).st_mode & MODE)
        # Its blocks are there from the beginning, so that the disk cannot be full later.
        os.posix_fallocate(self._file, 0, _SIZE)
        self._inode = os.fstat(self._file).st_ino
        self._end = 0
        os.pwrite(self._file, _HEAD.pack(first, self._epoch, 0, 0, 0), 0)

    def _is_whole(self) -> bool:
        """Whether the file is still at its path, with its size."""
        if self._file < 0:
            return False
        try:
            found = os.stat(self._name)  # noqa: PTH116 - once a commit
        except OSError:
            found = None
        if found is None or found.st_ino != self._inode:
            self._tell_readers_to_leave()
            return False
        return found.st_size >= _SIZE

    def _write(self, number: int, entry: bytes) -> None:
        start = self._end if self._end + len(entry) <= DATA_BYTES else 0
        os.pwrite(self._file, entry, _DATA + start)
        place = (start, len(entry), _checksum(self._epoch, number, entry))
        os.pwrite(self._file, _SLOT.pack(number, *place), _INDEX + number % SLOTS * _SLOT.size)
        os.pwrite(self._file, _HEAD.pack(number + 1, self._epoch, *place), 0)
        self._end = start + len(entry)

    def _tell_readers_to_leave(self) -> None:
        with contextlib.suppress(OSError):
            os.pwrite(self._file, _HEAD.pack(0, NO_EPOCH, 0, 0, 0), 0)

    def _give_up(self) -> None:
        """A ring that cannot be written would be silent: leave none."""
        if self._file >= 0:
            self._tell_readers_to_leave()
            self.close()
        with contextlib.suppress(OSError):
            self._path.unlink()


class RingReader:
    """Reads the file, as soon as there is one."""

    def __init__(self, partition: Path) -> None:
        self._path = ring_path(partition)
        self._file = self._inode = -1
        self._head: bytes | None = None
        """The head of the file when it was read last, and what it says."""
        self._heard = (SILENT, NO_EPOCH)
        self._newest: _Slot = (SILENT, 0, 0, 0)

    def look(self) -> tuple[int, int]:
        """The number of the next entry that was not published yet, or `SILENT`, and the epoch of the writer."""
        head = self._read(_HEAD_BYTES, 0)
        return self._heard if head == self._head else self._heard_in(head)

    def _heard_in(self, head: bytes) -> tuple[int, int]:
        if self._file < 0:
            self._open()
            head = self._read(_HEAD_BYTES, 0)
        if len(head) == _HEAD_BYTES:
            number, epoch, start, length, checksum = _HEAD.unpack(head)
            if epoch != NO_EPOCH:
                self._newest = (number - 1, start, length, checksum)
                self._head, self._heard = head, (number, epoch)
                return self._heard
        self.close()  # it was cut, or given up: look for another one the next time
        return SILENT, NO_EPOCH

    def entries(self, first: int, end: int, epoch: int) -> list[bytes] | None:
        """Entries [first, end) of this epoch, which were published; None where they are no longer here, whole."""
        if not 0 < end - first <= SLOTS:
            return None
        newest = self._newest
        slots = [newest] if newest[0] == first == end - 1 else self._slots(first % SLOTS, end - first)
        if slots is None:
            return None
        found: list[bytes] = []
        begin = ends = 0
        data = b""
        for at, (number, start, length, checksum) in enumerate(slots):
            if not begin <= start < start + length <= ends:
                begin, ends = start, _end_of_run(slots, at)
                data = self._read(ends - begin, _DATA + begin)
            entry = data[start - begin : start - begin + length]
            if number != first + at or len(entry) != length or _checksum(epoch, number, entry) != checksum:
                return None
            found.append(entry)
        return found

    def check_path(self) -> None:
        """Leave the file if it is no longer the one at its path."""
        try:
            inode = os.stat(self._path).st_ino  # noqa: PTH116 - also when nothing is new
        except OSError:
            inode = -1
        if inode != self._inode:
            self.close()

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
        self._file = self._inode = -1
        self._head = None

    def _slots(self, at: int, count: int) -> list[_Slot] | None:
        size = _SLOT.size
        before_wrap = min(count, SLOTS - at)
        data = self._read(before_wrap * size, _INDEX + at * size)
        if before_wrap < count:
            data += self._read((count - before_wrap) * size, _INDEX)
        return list(_SLOT.iter_unpack(data)) if len(data) == count * size else None

    def _read(self, size: int, at: int) -> bytes:
        """Up to this number of bytes: fewer where the file ends, none where there is no file or it cannot be read."""
        try:
            return os.pread(self._file, size, at)
        except OSError:
            return b""

    def _open(self) -> None:
        with contextlib.suppress(OSError):
            self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            found = os.fstat(self._file)
            if found.st_size < _SIZE:
                self.close()
            else:
                self._inode = found.st_ino


def _end_of_run(slots: list[_Slot], at: int) -> int:
    """Where those entries end that follow each other without a gap from this one on: they are read at once."""
    ends = slots[at][1]
    for _, start, length, _ in slots[at:]:
        if start != ends or ends + length > DATA_BYTES:
            break
        ends += length
    return ends
