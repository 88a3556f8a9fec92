"""An in-memory log with a worker that follows it, for tests that read a store while it is written."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vacancy.clients.runtime.bootstrap import answer_entry, open_store, opening_records, tick_entry
from vacancy.clients.scheduler.client import Scheduler
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.resources.model import events
from vacancy.resources.model.errors import Halt
from vacancy.resources.model.partitioner import cell_for
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import Log, create_log
from vacancy.streams.worker.embedded_worker import EmbeddedWorker


@dataclass
class FollowedLog:
    """A log, the store that is folded from it, and a reader of the store."""

    log: Log
    store: Path
    reader: StoreReader
    registry: Registry
    worker: EmbeddedWorker
    thread: threading.Thread

    def stop_following(self) -> None:
        """What is appended from now on is not folded."""
        self.worker.stop()
        self.thread.join()

    def report(self, root: str, *, cell: str | None = None, gpus: int = 0, **inventories: Any) -> None:
        """Append the first report of a node: by default 8 VCPU, with GPUs as child providers."""
        providers = (
            events.ProviderReport(
                id=root,
                inventories=inventories or {"VCPU": {"total": 8}},
                traits=("HW_CPU_X86_AVX2",),
            ),
            *(
                events.ProviderReport(
                    id=f"{root}:gpu{n}", parent=root, inventories={"CUSTOM_GPU": {"total": 1}}
                )
                for n in range(gpus)
            ),
        )
        data = events.NodeReportedData(
            root=root, incarnation=uuid.uuid4().hex[:16], sequence=1, providers=providers
        )
        self.append(
            cell or cell_for(root, self.log.partitions),
            events.NodeReported(id=uuid.uuid4().hex, source="/test", data=data),
        )

    def append(self, cell: str, event: events.Event) -> None:
        """Append an event and wait until the reader has it."""
        (landed,) = self.log.append([NewRecord(cell, events.encode(event))])
        wait_for(self.reader, {landed.partition: landed.offset + 1})

    def scheduler(self) -> Scheduler:
        return Scheduler(self.log, self.store, self.registry, seed=1)


def wait_for(reader: StoreReader, position: Mapping[int, int]) -> None:
    """Wait until the reader is at `position`."""
    give_up_at = time.monotonic() + 90.0
    while time.monotonic() < give_up_at:
        reader.catch_up()
        if all(reader.position[partition] >= offset for partition, offset in position.items()):
            return
        time.sleep(0.001)
    raise AssertionError(f"the store did not reach {position}, but {reader.position}")


@contextmanager
def followed_log(
    path: Path,
    *,
    partitions: int = 2,
    registry: Registry | None = None,
    follow: bool = True,
    rules_version: int = RULES_VERSION,
    answers: bool = True,
) -> Iterator[FollowedLog]:
    """Create a log with a worker. Without `follow`, only the opening records are folded. `answers`: it answers proposed
    rules."""
    registry = registry or Registry()
    openings = opening_records(partitions, events.Rules(version=rules_version))
    with (
        create_log(f"memory://{uuid.uuid4()}", partitions, openings) as log,
        open_store(path / "store", log, registry) as store,
    ):
        worker = EmbeddedWorker(
            log,
            store,
            tick_entry=lambda p: tick_entry(p, partitions),
            answer_entry=(lambda p, answer: answer_entry(p, partitions, store.id, answer))
            if answers
            else None,
            poll_s=0.0005,
        )
        while worker.step():
            pass
        thread = threading.Thread(target=_run, args=(worker,))
        if follow:
            thread.start()
        try:
            with StoreReader(path / "store", registry) as reader:
                yield FollowedLog(log, path / "store", reader, registry, worker, thread)
        finally:
            worker.stop()
            if follow:
                thread.join()


def _run(worker: EmbeddedWorker) -> None:
    """Run it until it is stopped, or all its partitions have. Their errors are in `worker.errors`."""
    with suppress(Halt):
        worker.run()
