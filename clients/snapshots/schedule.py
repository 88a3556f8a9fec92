"""Makes snapshots of a worker's store at intervals, and removes superfluous ones, each time in a process of its own."""

from __future__ import annotations

import os
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import structlog

from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.runtime.child_process import ChildProcess
from vacancy.projections.snapshots.creation import create_snapshot
from vacancy.projections.snapshots.retention import prune
from vacancy.projections.snapshots.storage import SnapshotStorage
from vacancy.projections.store.manifest import FILE, read_manifest
from vacancy.resources.model.errors import StoreInUse, VacancyError
from vacancy.streams.clocks.clock import wall_ms

_RETRY_S = 60.0
"""How long after a failure the next attempt is made, unless the interval is shorter."""

_POLL_S = 0.2
_NICE = 10
"""The fold comes first."""

_events = structlog.get_logger("vacancy.worker")


class SnapshotPlan(NamedTuple):
    """A snapshot of `store` every `every_s` seconds, kept at `url`. Of each log `keep` snapshots stay there, and none older
    than `max_age_ms`; None is no bound."""

    store: Path
    url: str
    every_s: float
    keep: int | None = None
    max_age_ms: int | None = None


class SnapshotSchedule:
    """Follows the plan while this is entered, in a thread that mostly waits. A snapshot that fails is a line in the log;
    the next attempt follows. Workers that share a store may all have the plan: one of them makes the snapshot."""

    def __init__(self, plan: SnapshotPlan) -> None:
        self._plan = plan
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> SnapshotSchedule:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        pause_s = 0.0
        while not self._stopping.wait(pause_s):
            there = (self._plan.store / FILE).exists()
            pause_s = self._make_if_due() if there else _POLL_S

    def _make_if_due(self) -> float:
        """How long to wait after it, in seconds."""
        try:
            with ChildProcess("the process that makes snapshots", _make_if_due, self._plan) as child:
                while not child.poll(_POLL_S):
                    if self._stopping.is_set():
                        return 0.0
                pause_s: float = child.receive()
        except VacancyError as error:
            _events.warning("snapshot not made", store=str(self._plan.store), error=str(error))
            return min(self._plan.every_s, _RETRY_S)
        return pause_s


def _make_if_due(parent: Connection, plan: SnapshotPlan) -> None:
    """The spawned process. Sends how long to wait until the next call, in seconds."""
    os.nice(_NICE)
    storage = SnapshotStorage(plan.url)
    left_s = plan.every_s - _age_s(plan, storage)
    if left_s <= 0:
        try:
            create_snapshot(plan.store, storage, installed_registry(), only_ask=True)
        except StoreInUse:  # another worker of this store makes it
            left_s = min(plan.every_s, _RETRY_S)
        else:
            prune(storage, wall_ms(), keep=plan.keep, max_age_ms=plan.max_age_ms)
            left_s = plan.every_s - _age_s(plan, storage)
    parent.send(max(0.0, min(left_s, plan.every_s)))


def _age_s(plan: SnapshotPlan, storage: SnapshotStorage) -> float:
    """How old the last snapshot of this store is. Infinite where there is none."""
    named = read_manifest(plan.store)
    made_ms = [
        one.manifest.made_ms
        for one in storage.snapshots()
        if one.manifest is not None and named is not None and one.manifest.store == named.store
    ]
    return (wall_ms() - max(made_ms)) / 1000 if made_ms else float("inf")
