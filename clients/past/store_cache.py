"""Directories with the tables of the past, which several processes make, use and remove.

```text
HISTORY/KEY/store/       the tables
HISTORY/KEY/entry.json   of which log, at which position: written before the directory gets its name
HISTORY/KEY.part/        one that is being made, or was left by a process that was killed
HISTORY/KEY.gone/        the same, being removed
HISTORY/KEY.lock         locked shared while it is used, exclusively while it is made or removed; its time is the last use
```

A directory appears by a rename when everything in it is written, and disappears by another one. So after a process was
killed there is nothing half-made, only directories that nobody opens and the next process removes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from vacancy.projections.store.rocksdb import DIRECTORY_MODE, translated

_PART: Final = ".part"
_GONE: Final = ".gone"
_LOCK: Final = ".lock"
_ENTRY: Final = "entry.json"
_STORE: Final = "store"
_MODE: Final = 0o640


class Lease:
    """A lock on an entry. While it is held, nobody removes the entry. Closing it twice is harmless."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def share(self) -> None:
        """Let others use the entry, too. Between the two locks somebody may have removed it."""
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def touch(self) -> None:
        """Note that the entry is used now."""
        os.utime(self._descriptor)

    def close(self) -> None:
        """Release the lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class CachedStore(NamedTuple):
    """A whole entry: its key, its log, the rules and classes that it was made with, and its position."""

    key: str
    log: str
    build: str
    position: dict[int, int]


class StoreCache:
    """The entries in `directory`: at most `stores_max` and about `bytes_max`, those in use not counted out. All methods
    raise `StoreError` where the directory cannot be used."""

    def __init__(self, directory: Path, *, stores_max: int, bytes_max: int) -> None:
        self.directory = directory
        self._stores_max, self._bytes_max = stores_max, bytes_max

    def store_path(self, key: str) -> Path:
        """The tables of an entry."""
        return self.directory / key / _STORE

    def get(self, key: str) -> Lease | None:
        """A lease of an entry that is there, None where it is not."""
        if not (self.directory / key).exists():
            return None
        lease = self._lock(key, exclusive=False, wait=True)
        if lease is not None and (self.directory / key).exists():
            lease.touch()
            return lease
        if lease is not None:
            lease.close()
        return None

    def get_or_make(
        self, key: str, log: str, build: str, position: Mapping[int, int], make: Callable[[Path], None]
    ) -> Lease:
        """A lease of an entry. If it is not there, `make` receives a path and makes the tables there; a process that makes
        the same entry meanwhile is waited for. What `make` raises is raised, and nothing is left but scratch."""
        while True:
            if (lease := self.get(key)) is not None:
                return lease
            with translated(self.directory):
                self.directory.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
            lease = self._lock(key, exclusive=True, wait=True)
            if lease is None:
                continue
            try:
                if not (self.directory / key).exists():
                    self._make(key, log, build, position, make)
                lease.touch()
                lease.share()
                if (self.directory / key).exists():
                    self.shrink()
                    return lease
            except BaseException:
                lease.close()
                raise
            lease.close()

    def _make(
        self, key: str, log: str, build: str, position: Mapping[int, int], make: Callable[[Path], None]
    ) -> None:
        part = self.directory / f"{key}{_PART}"
        with translated(part):
            if part.exists():
                shutil.rmtree(part)
            part.mkdir(DIRECTORY_MODE)
        make(part / _STORE)
        entry = {"log": log, "build": build, "position": {str(p): o for p, o in position.items()}}
        with translated(part):
            (part / _ENTRY).write_text(json.dumps(entry))
            _sync(part)
            part.rename(self.directory / key)

    def entries(self) -> list[CachedStore]:
        """All entries that are whole."""
        found = []
        for key in self._names(""):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                entry = json.loads((self.directory / key / _ENTRY).read_text())
                position = {int(p): int(o) for p, o in entry["position"].items()}
                found.append(CachedStore(key, entry["log"], entry["build"], position))
        return found

    def shrink(self) -> None:
        """Remove what was left unfinished, and entries beyond the bounds: the one that was not used for longest first, and
        none that is in use."""
        for suffix in (_PART, _GONE):
            for name in self._names(suffix):
                self._remove(name.removesuffix(suffix), name)
        keys = sorted(self._names(""), key=self._used_ns)
        while len(keys) > self._stores_max or (len(keys) > 1 and self._size() > self._bytes_max):
            for key in keys:
                if self._remove(key, key):
                    keys.remove(key)
                    break
            else:
                return

    def _remove(self, key: str, name: str) -> bool:
        """Remove an entry, or what is left of one. Returns whether it is gone: not while it is used or made."""
        lease = self._lock(key, exclusive=True, wait=False)
        if lease is None:
            return False
        try:
            gone = self.directory / f"{key}{_GONE}"
            with translated(self.directory):
                if name == key:
                    shutil.rmtree(gone, ignore_errors=True)
                    with contextlib.suppress(FileNotFoundError):
                        (self.directory / key).rename(gone)
                shutil.rmtree(gone if name == key else self.directory / name, ignore_errors=True)
                if not (self.directory / key).exists():
                    (self.directory / f"{key}{_LOCK}").unlink(missing_ok=True)
        finally:
            lease.close()
        return True

    def _lock(self, key: str, *, exclusive: bool, wait: bool) -> Lease | None:
        """Lock an entry; None where others have it and `wait` is not given."""
        path = self.directory / f"{key}{_LOCK}"
        kind = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB)
        while True:
            with translated(path):
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
            try:
                fcntl.flock(descriptor, kind)
                if path.stat().st_ino == os.fstat(descriptor).st_ino:
                    return Lease(descriptor)
            except BlockingIOError:
                os.close(descriptor)
                return None
            except FileNotFoundError:
                pass  # who had it removed the entry and the file
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _names(self, suffix: str) -> list[str]:
        """The directories with this suffix, or those without any."""
        try:
            there = [one.name for one in os.scandir(self.directory) if one.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return []
        return sorted(name for name in there if Path(name).suffix == suffix)

    def _used_ns(self, key: str) -> int:
        try:
            return (self.directory / f"{key}{_LOCK}").stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def _size(self) -> int:
        """The bytes of all entries. A file that several of them have counts once."""
        sizes = {}
        for file in _files(self.directory):
            with contextlib.suppress(FileNotFoundError):
                found = file.stat(follow_symlinks=False)
                sizes[found.st_ino] = found.st_blocks * 512
        return sum(sizes.values())


def _files(directory: Path) -> Iterator[Any]:
    try:
        with os.scandir(directory) as there:
            for one in there:
                if one.is_dir(follow_symlinks=False):
                    yield from _files(Path(one.path))
                else:
                    yield one
    except FileNotFoundError:
        return


def _sync(directory: Path) -> None:
    """Write everything in a directory to the disk: its name must not survive a power cut that its content does not."""
    for path in (*(Path(one.path) for one in _files(directory)), directory):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
