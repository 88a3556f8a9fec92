"""A script that tests start as a separate process: `quota_process.py LOG STORE`. For each line `SEED PROJECT` on standard input
it forks schedulers that race for the limit of the project. Some of them end themselves with SIGKILL at a change of a share.
It prints their exit codes as a JSON list.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import random
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vacancy import projections
from vacancy.clients import request_language
from vacancy.clients import scheduler as scheduler_package
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.resources.model.errors import OverQuota
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import AppendedAt, Log, open_log

SCHEDULERS = 8
KILLED = 3
"""How many of them are killed in a round."""


class EndingLog:
    """A log that ends the process at a change of a share: the one with this number, counted from 0, before it was sent, after it
    was appended, or when a part of its records was."""

    def __init__(self, log: Log, change: int, moment: str) -> None:
        self._log, self._left, self._moment = log, change, moment

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append(self, entries: Sequence[NewRecord], timeout_s: float = 10.0) -> list[AppendedAt]:
        """As `Log.append`."""
        self._left -= b"vacancy.quota." in entries[0].value
        if self._left >= 0:
            return self._log.append(entries, timeout_s)
        parts = {"before": 0, "between": len(entries) // 2, "appended": len(entries)}
        if part := entries[: parts[self._moment]]:
            self._log.append(part, timeout_s)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("SIGKILL came late")


def race(url: str, store: Path, seed: int, project: str, number: int) -> None:
    """Take the limit of a project until it is full, in cells at random. In odd rounds some give back on the way."""
    rng = random.Random(seed * 100 + number)
    registry = installed_registry()
    with open_log(url) as log:
        used: Any = log
        if number < KILLED:
            used = EndingLog(log, rng.randrange(5), rng.choice(("before", "between", "appended")))
        with Scheduler(used, store, registry, seed=rng.randrange(10**6)) as scheduler:
            while True:
                wanted = f"resources=VCPU:{rng.randint(1, 2)}&in_tree=n{rng.randrange(4)}"
                try:
                    placed = scheduler.place(PlacementRequest(wanted, project=project), timeout_s=120)
                except OverQuota:
                    return
                if seed % 2 and rng.random() < 0.2:
                    scheduler.release([placed.consumer])


def run(url: str, store: Path, seed: int, project: str) -> list[int]:
    """One round. Returns the exit codes, negative for a signal."""
    children = []
    for number in range(SCHEDULERS):
        child = os.fork()
        if child == 0:
            try:
                race(url, store, seed, project, number)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def load() -> None:
    """Import what a scheduler imports when it needs it, once for all forks."""
    for package in (request_language, scheduler_package, projections):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


if __name__ == "__main__":
    load()
    for line in sys.stdin:
        seed_, project_ = line.split()
        sys.stdout.write(json.dumps(run(sys.argv[1], Path(sys.argv[2]), int(seed_), project_)) + "\n")
        sys.stdout.flush()
