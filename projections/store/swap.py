"""Puts a new store in the place of one that workers write and readers follow.

The process that swaps has a lock on `STORE.swap`, a file beside the store. It makes the new store as `STORE.new`. When that is
ready it writes `release` into `STORE.swap`. Workers look there between two commits: they
close the store, wait until the lock or the word has gone, and open what is at `STORE` then. Meanwhile the process that swaps
has RocksDB's lock of each partition of the old store, so nobody can write it, and exchanges the two directories. A process
that is killed loses its locks, and workers continue with the store that they find.

Before the exchange the new store gets a file `swapped`. Where `STORE` has it, the exchange was made, and `STORE.new` is the old
store: its process was killed before it had renamed that.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Final

from vacancy.projections.store.manifest import FILE
from vacancy.projections.store.rocksdb import DIRECTORY_MODE, translated
from vacancy.resources.model.errors import StoreError, StoreInUse, StoreReleased

POLL_S: Final = 0.05
"""How often a worker looks whether it is asked for its store, in seconds."""

RELEASE_S: Final = 30.0
"""How long workers have to close the store."""

MARK: Final = "swapped"
_RELEASE: Final = b"release"
_WAIT_S: Final = 0.01
_EXCHANGE: Final = 2  # RENAME_EXCHANGE of renameat2(2)
_HERE: Final = -100  # AT_FDCWD


def is_swapping(store: Path) -> bool:
    """Whether a process that is alive wants workers to have the store closed."""
    try:
        file = _path(store, "swap").open("rb")
    except OSError:  # there is none, or it is another user's, who cannot swap this store
        return False
    with file:
        if file.read(len(_RELEASE)) != _RELEASE:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


class SwapWatch:
    """The worker's side: called between two commits by the thread that folds."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._next_s = 0.0

    def check(self) -> None:
        """Raise `StoreReleased` where the store is to be closed. It costs nothing more often than `POLL_S`."""
        now = time.monotonic()
        if now < self._next_s:
            return
        self._next_s = now + POLL_S
        if is_swapping(self._store):
            raise StoreReleased(
                "the store is closed, because another one takes its place", where=str(self._store)
            )


def wait_for_swap(store: Path, stopped: Callable[[], bool]) -> None:
    """Wait until no process wants the store closed, or `stopped` returns True."""
    while is_swapping(store) and not stopped():
        time.sleep(_WAIT_S)


class Swap:
    """The other side, for one process at a time: entering raises `StoreInUse` where another one swaps this store.

    `new` is where the new store is made. `finished` is the name that the old store has now, where an earlier call was killed
    after the exchange: entering has done the rest, and there is nothing to swap.
    """

    def __init__(self, store: Path) -> None:
        self.store, self.new = store, _path(store, "new")
        self.finished: Path | None = None
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Swap:
        path = _path(self.store, "swap")
        with translated(path):
            if self.store.exists() and (owner := self.store.stat().st_uid) != os.geteuid():
                raise StoreError(
                    f"the store belongs to the user with the id {owner}, and only that user can replace it",
                    where=str(self.store),
                    do="run the command as the user of the worker",
                )
            path.parent.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
            self._file = path.open("ab")
        if not _flocked(self._file):
            self._file.close()
            raise StoreInUse(
                "another process makes a new store for this one", where=str(path), do="wait for its end"
            )
        try:
            with translated(self.new):
                self._write(b"")
                self._begin()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None  # noqa: S101 - it was entered
        with contextlib.suppress(StoreError):
            self._write(b"")
        self._file.close()

    def _begin(self) -> None:
        """Do what an earlier call left."""
        if (self.store / MARK).exists():
            if self.new.exists():
                self.finished = self._set_aside()
            (self.store / MARK).unlink(missing_ok=True)
        elif self.new.exists() and any(self.new.iterdir()) and not (self.new / FILE).exists():
            raise StoreError(
                "the directory is not empty, and no store", where=str(self.new), do="remove or rename it"
            )

    @contextlib.contextmanager
    def released(self, timeout_s: float = RELEASE_S) -> Iterator[None]:
        """While this is entered, no worker has the store open. Raises `StoreInUse` where a worker does not close it in time; then
        the others continue."""
        self._write(_RELEASE)
        with contextlib.ExitStack() as locks:
            give_up_s = time.monotonic() + timeout_s
            for path in sorted(self.store.glob("p[0-9]*/LOCK")):
                with translated(path):
                    lock = locks.enter_context(path.open("r+b"))
                while not _locked(lock):
                    if time.monotonic() > give_up_s:
                        self._write(b"")
                        raise StoreInUse(
                            f"a worker did not close the store within {timeout_s:g} s",
                            where=str(path.parent),
                            do="stop the worker, run the same command again, and start the worker",
                        )
                    time.sleep(_WAIT_S)
            yield
        self._write(b"")

    def exchange(self) -> Path | None:
        """Put the new store in place. Returns where the old one is now (None: there was none). Only while `released`."""
        with translated(self.store):
            (self.new / MARK).touch()
            if not self.store.exists():
                self.new.rename(self.store)
                (self.store / MARK).unlink(missing_ok=True)
                return None
            if exchange(self.new, self.store):
                return self._set_aside()
            aside = _free_name(self.store)
            self.store.rename(aside)  # readers try again for the moment in which there is no store
            self.new.rename(self.store)
            (self.store / MARK).unlink(missing_ok=True)
            return aside

    def _set_aside(self) -> Path:
        """Give the old store, which is at `new`, its name, and remove the mark of the one that is in place."""
        aside = _free_name(self.store)
        self.new.rename(aside)
        (self.store / MARK).unlink(missing_ok=True)
        return aside

    def _write(self, word: bytes) -> None:
        assert self._file is not None  # noqa: S101 - it was entered
        with translated(_path(self.store, "swap")):
            self._file.truncate(0)
            self._file.write(word)
            self._file.flush()


def exchange(one: Path, other: Path) -> bool:
    """Exchange two directories in one step. Returns False where the system or the file system cannot. Raises `OSError`."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # a C library without it
        return False
    if not renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE):
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(other))


def _path(store: Path, suffix: str) -> Path:
    return store.with_name(f"{store.name}.{suffix}")


def _free_name(store: Path) -> Path:
    """A name for the old store that is not in use."""
    first = aside = store.with_name(f"{store.name}.old-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}")
    number = 1
    while aside.exists():
        number += 1
        aside = first.with_name(f"{first.name}~{number}")
    return aside


def _flocked(file: IO[bytes]) -> bool:
    """Lock the file until it is closed. It waits a moment, because workers test the lock."""
    for tries_left in reversed(range(20)):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if tries_left:
                time.sleep(_WAIT_S)
        else:
            return True
    return False


def _locked(lock: IO[bytes]) -> bool:
    """Take the lock that RocksDB has on an open database."""
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
