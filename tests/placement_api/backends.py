"""The backends on which the suites run: each maker gives a fresh one, and what closes it.

A log and its store are made once for a process. A fresh state is a new cell of them: cells know nothing of each other.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tests.placement_api.memory_backend import MemoryBackend
from vacancy.clients.runtime.bootstrap import open_store, opening_records, tick_entry
from vacancy.placement_api.state.backend import Backend
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.resources.model import events
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import Log, Receipt, create_log
from vacancy.streams.worker.embedded_worker import EmbeddedWorker

ANSWER_S = 90.0
_TEMPORARY = tempfile.gettempdir()
"""As it is at the beginning: upstream's fixtures give each test its own, and remove that."""

Maker = Callable[[], tuple[Backend, Callable[[], None]]]


def memory() -> tuple[Backend, Callable[[], None]]:
    return MemoryBackend(), lambda: None


def sqlite() -> tuple[Backend, Callable[[], None]]:
    return _on_log("sqlite://{}/log.db")


def kafka() -> tuple[Backend, Callable[[], None]]:
    """Needs the address of a broker in VACANCY_TEST_KAFKA."""
    logging.getLogger("kafka").setLevel(logging.WARNING)  # upstream's fixtures keep all that is logged
    return _on_log(f"kafka://{os.environ['VACANCY_TEST_KAFKA']}/placement-{os.getpid()}")


MAKERS: Mapping[str, Maker] = {"memory": memory, "sqlite": sqlite, "kafka": kafka}


def _on_log(url: str) -> tuple[Backend, Callable[[], None]]:
    from vacancy.placement_api.state.log_backend import LogBackend

    log, reader, numbers = site(url)
    backend = LogBackend(log, reader, f"cell{next(numbers)}")
    return backend, backend.close


@cache
def site(url: str) -> tuple[Any, StoreReader, itertools.count[int]]:
    """What `folded_log` gives, and numbers for cells, until the process ends."""
    stack = ExitStack()
    atexit.register(stack.close)
    return *stack.enter_context(folded_log(url)), itertools.count()


@contextmanager
def folded_log(url: str) -> Iterator[tuple[Any, StoreReader]]:
    """A new log with a worker in this process, and a reader of its store. `{}` in the URL is a new directory."""
    with ExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="vacancy-placement-", dir=_TEMPORARY))
        )
        registry = Registry()
        openings = opening_records(1, events.Rules(version=RULES_VERSION))
        log = stack.enter_context(create_log(url.format(directory), 1, openings))
        store = stack.enter_context(open_store(directory / "store", log, registry))
        worker = EmbeddedWorker(log, store, tick_entry=lambda p: tick_entry(p, 1), poll_s=0.0005)
        _fold_to(worker, log.end())
        reader = stack.enter_context(StoreReader(directory / "store", registry, with_view=False))
        yield _Folded(log, worker), reader


class _Folded:
    """A log whose worker folds what is sent at once, in the same thread: a suite of 1,316 requests waits for nobody. It is given
    more time than the API gives it, because other work on the machine is no fault."""

    def __init__(self, log: Log, worker: EmbeddedWorker) -> None:
        self._log = log
        self._worker = worker

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def send(self, entries: Sequence[NewRecord], timeout_s: float = 10.0) -> Receipt:
        timeout_s = max(timeout_s, ANSWER_S)
        receipt = self._log.send(entries, timeout_s)
        _fold_to(self._worker, {at.partition: at.offset + 1 for at in receipt.wait(timeout_s)})
        return receipt


def _fold_to(worker: EmbeddedWorker, ends: Mapping[int, int]) -> None:
    """Fold up to these positions. A step may find nothing: Kafka fetches records in the background."""
    while any(worker.position[partition] < end for partition, end in ends.items()):
        if not worker.step():
            time.sleep(0.0002)
        for error in worker.errors.values():
            raise error
