"""The backends on which the suites run: each maker gives a fresh one, and what closes it.

A log and its store are made once for a process. A fresh state is a new cell of them: cells know nothing of each other.
"""

from __future__ import annotations

import atexit
import itertools
import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from tests.placement_api.memory_backend import MemoryBackend
from vacancy.clients.runtime.bootstrap import open_store, opening_records, tick_entry
from vacancy.placement_api.backend import Backend
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.resources.model import events
from vacancy.streams.embedded_worker import EmbeddedWorker
from vacancy.streams.log import Log, create_log

Maker = Callable[[], tuple[Backend, Callable[[], None]]]


def memory() -> tuple[Backend, Callable[[], None]]:
    return MemoryBackend(), lambda: None


def sqlite() -> tuple[Backend, Callable[[], None]]:
    return _on_log("sqlite://{}/log.db")


def kafka() -> tuple[Backend, Callable[[], None]]:
    """Needs the address of a broker in VACANCY_TEST_KAFKA."""
    return _on_log(f"kafka://{os.environ['VACANCY_TEST_KAFKA']}/placement-{os.getpid()}")


MAKERS: Mapping[str, Maker] = {"memory": memory, "sqlite": sqlite, "kafka": kafka}


def _on_log(url: str) -> tuple[Backend, Callable[[], None]]:
    from vacancy.placement_api.log_backend import LogBackend

    log, reader, numbers = _site(url)
    return LogBackend(log, reader, f"cell{next(numbers)}"), lambda: None


@cache
def _site(url: str) -> tuple[Log, StoreReader, itertools.count[int]]:
    """A log with a worker in a thread of this process, until the process ends. `{}` in the URL is a new directory."""
    stack = ExitStack()
    atexit.register(stack.close)
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vacancy-placement-")))
    registry = Registry()
    openings = opening_records(1, events.Rules(version=RULES_VERSION))
    log = stack.enter_context(create_log(url.format(directory), 1, openings))
    store = stack.enter_context(open_store(directory / "store", log, registry))
    worker = EmbeddedWorker(log, store, tick_entry=lambda p: tick_entry(p, 1), poll_s=0.0005)
    while worker.step():
        pass
    thread = threading.Thread(
        target=worker.run, daemon=True
    )  # so that it lives until the exit handlers stop it
    thread.start()
    stack.callback(thread.join)
    stack.callback(worker.stop)
    reader = stack.enter_context(StoreReader(directory / "store", registry, with_view=False))
    return log, reader, itertools.count()
