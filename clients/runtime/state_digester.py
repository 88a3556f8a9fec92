"""Computes digests of a worker's tables at boundaries, outside of the fold.

After the commit that ends at a boundary the thread that folds makes a checkpoint of the partition (hard links, in
`STORE/digests`). A process of its own, with the lowest priority, reads all rows of it; the directory is removed before the
digest is known to anybody. So a row that was altered on the disk changes the next digest, and the fold pays for the
checkpoint only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Final
from uuid import uuid4

import structlog

from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.runtime.child_process import ChildProcess
from vacancy.projections.snapshots.checkpoint_tables import TablesState, read_checkpoint
from vacancy.projections.store.rocksdb import DIRECTORY_MODE, translated
from vacancy.projections.store.store import Store, partition_path
from vacancy.resources.model.errors import StoreError, VacancyError

REST: Final = 9.0
"""After a digest, boundaries of the partition are passed over for that many times the time that it took: digests take at most
a tenth of one processor, however many marks there are in the log."""

DIRECTORY: Final = "digests"

_NICE: Final = 19
_POLL_S: Final = 0.1

_events = structlog.get_logger("vacancy.worker")


@dataclass(slots=True)
class _Job:
    """The checkpoint of a partition at a boundary."""

    partition: int
    position: int
    path: Path
    cancelled: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)


class StateDigester:
    """The digests of the partitions that `store` has open. `take`, `step` and `release` are called by the thread that folds.

    `rest`: see `REST`. One process runs at a time. What a process that was killed left behind is removed when the
    partition is open the next time.
    """

    def __init__(self, store: Store, *, rest: float = REST) -> None:
        self._store, self._rest = store, rest
        self._directory = store.path / DIRECTORY
        self._swept: set[int] = set()
        self._not_before_s: dict[int, float] = {}
        self._lock = threading.Lock()
        self._jobs: deque[_Job] = deque()  # the first one runs
        self._thread: threading.Thread | None = None
        self._found: SimpleQueue[tuple[_Job, TablesState, float]] = SimpleQueue()

    def take(self, partition: int, position: int) -> None:
        """The partition's last commit ended at a boundary. Passes it over while an earlier one is not done, and for a while
        after that. An error is logged; the fold goes on."""
        self._sweep(partition)
        with self._lock:
            busy = any(job.partition == partition for job in self._jobs)
        if busy or time.monotonic() < self._not_before_s.get(partition, 0.0):
            return
        path = self._directory / f"{partition_path(Path(), partition)}-{position}-{uuid4().hex[:8]}"
        try:
            with translated(self._store.path):
                self._directory.mkdir(DIRECTORY_MODE, exist_ok=True)
            self._store.partition(partition).checkpoint(path)
        except StoreError as error:
            _not_computed(partition, position, error)
            return
        with self._lock:
            self._jobs.append(_Job(partition, position, path))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()

    def step(self) -> None:
        """Hand the digests that were computed to the store. It is called between commits."""
        for partition in self._store.opened:
            self._sweep(partition)
        while not self._found.empty():
            job, state, seconds = self._found.get()
            self._not_before_s[job.partition] = time.monotonic() + self._rest * seconds
            if job.partition in self._store.opened and not job.cancelled.is_set():
                self._store.add_digest(job.partition, state.position, state.digest)

    def release(self, partition: int) -> None:
        """The partition is about to be closed: another worker may open it. Ends what is computed of it."""
        self._swept.discard(partition)
        with self._lock:
            jobs = [job for job in self._jobs if job.partition == partition]
            for job in jobs:
                job.cancelled.set()
                if job is not self._jobs[0]:
                    self._jobs.remove(job)
                    job.done.set()
        for job in jobs:
            job.done.wait()
            shutil.rmtree(job.path, ignore_errors=True)

    # -- the thread that waits ----------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._lock:
                job = self._jobs[0]
            began_s = time.monotonic()
            state = self._compute(job)
            shutil.rmtree(job.path, ignore_errors=True)
            if state is not None:
                self._found.put((job, state, time.monotonic() - began_s))
            with self._lock:
                self._jobs.popleft().done.set()
                if not self._jobs:
                    self._thread = None
                    return

    def _compute(self, job: _Job) -> TablesState | None:
        """None where it was cancelled or failed."""
        if job.cancelled.is_set():
            return None
        try:
            with ChildProcess("the process that computes digests", _digest, job.path) as child:
                while not child.poll(_POLL_S):
                    if job.cancelled.is_set():
                        return None
                state: TablesState = child.receive()
        except VacancyError as error:
            if not job.cancelled.is_set():
                _not_computed(job.partition, job.position, error)
            return None
        return state

    def _sweep(self, partition: int) -> None:
        """Remove what was left behind of a partition that this process has opened since."""
        if partition in self._swept:
            return
        self._swept.add(partition)
        for left in left_behind(self._store.path, partition):
            shutil.rmtree(left, ignore_errors=True)


def left_behind(store: Path, partition: int) -> Iterator[Path]:
    """The checkpoints of a partition for digests that are in a store now."""
    return (store / DIRECTORY).glob(f"{partition_path(Path(), partition)}-*")


def _not_computed(partition: int, position: int, error: VacancyError) -> None:
    _events.warning("digest not computed", partition=partition, position=position, error=str(error))


def _digest(parent: Connection, path: Path) -> None:
    """The spawned process."""
    os.nice(_NICE)
    try:
        state = read_checkpoint(path, installed_registry())
    finally:
        shutil.rmtree(path, ignore_errors=True)  # also where the worker was killed
    with contextlib.suppress(OSError):  # it was
        parent.send(state)
