"""Checkpoints of a store that a worker writes: RocksDB's lock lets only the worker make them, so it is asked.

The process that needs them makes the directory `STORE/checkpoints/ID`. Each worker of the store looks there between two
commits, and makes a checkpoint of each partition that it has open: `p00000`, which appears when it is whole, or
`p00000.failed` with the error. A partition that no process has open is opened by the process that asks. It holds a lock
on `STORE/checkpoints/lock` until it has removed the directory. A directory without that lock was left behind by a
process that was killed, and is removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO
from uuid import uuid4

import structlog

from vacancy.projections.store.manifest import Manifest
from vacancy.projections.store.rocksdb import DIRECTORY_MODE, is_locked, translated
from vacancy.projections.store.store import Store, partition_path
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import StoreError, StoreInUse

POLL_S = 0.05
"""How often a worker looks for a request, in seconds."""

_DIRECTORY = "checkpoints"
_LOCK = "lock"
_WAIT_S = 0.02

_events = structlog.get_logger("vacancy.worker")


class CheckpointServer:
    """Makes the checkpoints that another process asks for. It is used by the thread that folds into `store`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._directory = store.path / _DIRECTORY
        self._next_s = 0.0

    def answer(self) -> None:
        """Make one checkpoint, if one is asked for. It is called between two commits, and costs nothing more often than
        `POLL_S`. An error is logged and reported to the process that asks; the fold goes on."""
        if time.monotonic() < self._next_s:
            return
        try:
            made = self._answer()
        except OSError as error:
            made = False
            _events.warning("checkpoint not made", store=str(self._store.path), error=str(error))
        self._next_s = 0.0 if made else time.monotonic() + POLL_S

    def _answer(self) -> bool:
        """Whether there was one to make."""
        for request in _requests(self._directory):
            if _swept(self._directory):
                return False
            for partition in self._store.opened:
                into = partition_path(request, partition)
                if not into.exists() and not _failure(into).exists():
                    self._make(partition, into)
                    return True
        return False

    def _make(self, partition: int, into: Path) -> None:
        try:
            self._store.partition(partition).checkpoint(into)
        except StoreError as error:
            if into.parent.exists():  # otherwise it is not needed any more
                _failure(into).write_text(str(error))
                _events.warning("checkpoint not made", partition=partition, error=str(error))


class CheckpointRequest:
    """A request for checkpoints of all partitions of the store at `path`, and the directory that they are in while
    this is entered. Entering raises `StoreInUse` while another process has a request."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._store, self._manifest = path, manifest
        self._directory = path / _DIRECTORY
        self._request = self._directory / uuid4().hex
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> CheckpointRequest:
        with translated(self._store):
            owner = self._store.stat().st_uid
            if owner != os.geteuid():
                raise StoreError(
                    f"the store belongs to the user with the id {owner}, and only that user can make a snapshot of it",
                    where=str(self._store),
                    do="run the command as the user of the worker",
                )
            self._directory.mkdir(DIRECTORY_MODE, exist_ok=True)
            self._lock = (self._directory / _LOCK).open("ab")
        try:
            if not _acquire(self._lock, exclusive=True):
                raise StoreInUse(
                    "another process makes a snapshot of this store",
                    where=str(self._store),
                    do="try again later",
                )
            _sweep(self._directory)
            with translated(self._store):
                self._request.mkdir(DIRECTORY_MODE)
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._request, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    def take(self, registry: Registry, timeout_s: float, *, only_ask: bool = False) -> dict[int, Path]:
        """Wait for the checkpoints: partition -> its directory, which the caller may change. With `only_ask` partitions that
        no process has open are left to the worker that is about to open them. Raises `StoreError` where a checkpoint
        cannot be made, or was not made in time."""
        made = {p: partition_path(self._request, p) for p in range(self._manifest.partitions)}
        give_up_s = time.monotonic() + timeout_s
        while missing := [p for p, into in made.items() if not into.exists()]:
            for partition in missing:
                self._raise_failure(partition, made[partition])
                if not only_ask and not is_locked(partition_path(self._store, partition)):
                    self._make(partition, made[partition], registry)
            if time.monotonic() > give_up_s:
                raise StoreError(
                    f"no worker made a checkpoint of partition {missing[0]} within {timeout_s:g} s",
                    where=str(self._store),
                    do="see whether the worker is an earlier build or hangs; restart it, and try again",
                )
            time.sleep(_WAIT_S)
        return made

    def _make(self, partition: int, into: Path, registry: Registry) -> None:
        """Make the checkpoint of a partition that no process had open a moment ago."""
        named = self._manifest
        with (
            contextlib.suppress(StoreInUse),
            Store(self._store, log=named.log, partitions=named.partitions, registry=registry) as tables,
        ):
            tables.partition(partition).checkpoint(into)

    @staticmethod
    def _raise_failure(partition: int, into: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            text = _failure(into).read_text()
            raise StoreError(f"the worker made no checkpoint of partition {partition}: {text}")


def _failure(into: Path) -> Path:
    return into.with_suffix(".failed")


def _requests(directory: Path) -> Iterator[Path]:
    """The directories of requests: at most one is alive."""
    try:
        found = os.listdir(directory)  # noqa: PTH208 - a worker does this all the time
    except FileNotFoundError:
        return
    for name in found:
        if name != _LOCK:
            yield directory / name


def _sweep(directory: Path) -> None:
    """Remove what was left behind. What is being written there by a worker is removed by the next call."""
    for left in _requests(directory):
        shutil.rmtree(left, ignore_errors=True)


def _swept(directory: Path) -> bool:
    """Remove what is there if the process that asked was killed. Returns whether it was."""
    with (directory / _LOCK).open("ab") as lock:
        if not _acquire(lock, exclusive=False):
            return False
        _sweep(directory)  # with the lock: nobody asks meanwhile
        return True


def _acquire(lock: IO[bytes], *, exclusive: bool) -> bool:
    """Lock the file until it is closed. For an exclusive lock wait a moment, because workers test it."""
    for tries_left in reversed(range(20 if exclusive else 1)):
        try:
            fcntl.flock(lock, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            if tries_left:
                time.sleep(_WAIT_S)
        else:
            return True
    return False
