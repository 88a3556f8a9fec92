"""One host with an SQLite log, a store and worker processes, and checks that must hold after any fault."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vacancy.clients.auditor import AuditReport, audit
from vacancy.clients.inspection.verdicts import exported_verdicts
from vacancy.clients.replay_tool.replay import digest, read_all, replay
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.clients.runtime.worker_process import WorkerProcess
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import VacancyError
from vacancy.resources.model.partitioner import cell_for
from vacancy.resources.model.record import NewRecord, Record
from vacancy.resources.state.rows import AllocationRow, VerdictRow
from vacancy.resources.state.tables import ALLOCATIONS, VERDICTS, split_key
from vacancy.streams.log import AppendedAt, Log, open_log

spawn = multiprocessing.get_context("spawn")
T = TypeVar("T")


@dataclass(frozen=True)
class Site:
    """The log and the store of a host. It can be pickled."""

    home: Path
    partitions: int

    @classmethod
    def made(cls, home: Path, partitions: int = 1) -> Site:
        """A site with an empty log."""
        site = cls(home, partitions)
        new_log(site.url, partitions, installed_registry()).close()
        return site

    @property
    def file(self) -> Path:
        return self.home / "log.db"

    @property
    def url(self) -> str:
        return f"sqlite://{self.file}"

    @property
    def store(self) -> Path:
        return self.home / "store"

    def cell(self, root: str) -> str:
        """The default cell of a node."""
        return cell_for(root, self.partitions)

    def log(self) -> Log:
        return open_log(self.url)

    def append(self, cell: str, *values: bytes) -> list[AppendedAt]:
        """Append records to a cell."""
        with self.log() as log:
            return log.append([NewRecord(cell, value) for value in values])

    def records(self, until: Mapping[int, int] | None = None) -> dict[int, list[Record]]:
        with self.log() as log:
            return read_all(log, until)

    def worker(self, store: Path | None = None) -> WorkerProcess:
        """A worker process, not started."""
        return WorkerProcess(self.url, store or self.store)

    def reader(self) -> StoreReader:
        return StoreReader(self.store, installed_registry())

    @contextmanager
    def with_worker(self) -> Iterator[WorkerProcess]:
        """Run a worker; yields once it has caught up."""
        with self.worker() as worker:
            worker.wait_ready()
            yield worker

    def fold(self) -> None:
        """Fold the log into the store in this process. The store is as a worker leaves it that was stopped."""
        with self.log() as log:
            replay(log, self.store, installed_registry())

    def settle(self, timeout_s: float = 90.0) -> dict[int, int]:
        """Wait until the store has folded all records that are in the log now; returns its position."""
        with self.log() as log, self.reader() as reader:
            catch_up_with(reader, log.end(), timeout_s)
            return reader.position

    def allocations(self) -> dict[str, list[tuple[str, AllocationRow]]]:
        """Consumer -> (cell, allocation) pairs."""
        found: dict[str, list[tuple[str, AllocationRow]]] = {}
        with self.reader() as reader:
            for _, name, row in reader.scan(ALLOCATIONS):
                cell, consumer = split_key(name)
                found.setdefault(consumer, []).append((cell, row))
        return found

    def verdicts(self) -> dict[str, VerdictRow]:
        """Claim -> its verdict in the store."""
        with self.reader() as reader:
            return {split_key(name)[1]: row for _, name, row in reader.scan(VERDICTS)}

    def audited(self) -> AuditReport:
        """The audit of the store. No worker may write to it meanwhile."""
        with self.reader() as reader:
            return audit(self.records(reader.position), exported_verdicts(reader))

    def check_whole(self) -> AuditReport:
        """Check that the store equals a replay of its log and that the audit finds no problem. No worker may run."""
        check_digest(self, self.home / "rebuilt")
        report = self.audited()
        assert report.problems == []
        assert report.overcommitted == report.wrong_rejections == 0
        assert report.missing_verdicts == report.extra_verdicts == 0
        return report


def check_digest(site: Site, beside: Path) -> dict[int, int]:
    """Check that the store equals a replay of the log up to its position. Returns the position.

    The log is folded into the store `beside`, from that store's position on.
    """
    live = digest(site.store, installed_registry())
    with site.log() as log:
        rebuilt = replay(log, beside, installed_registry(), until=live.position)
    assert rebuilt == live
    return live.position


def catch_up_with(reader: StoreReader, ends: Mapping[int, int], timeout_s: float = 90.0) -> None:
    """Let the reader catch up until it is at `ends` or further."""

    def there() -> bool:
        reader.catch_up()
        return all(reader.position[partition] >= end for partition, end in ends.items())

    wait_for(there, timeout_s)


def wait_for(look: Callable[[], T], timeout_s: float = 90.0) -> T:
    """Call `look` until its result is true; returns the result."""
    give_up_at = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < give_up_at, f"timeout after {timeout_s:g} s"
        time.sleep(0.005)
    return found


def claims_in(records: Mapping[int, Sequence[Record]]) -> Iterator[tuple[Record, dict[str, Any]]]:
    """Every claim in a log, with its record."""
    for some in records.values():
        for record in some:
            event = json.loads(record.value)
            if event["type"].startswith("vacancy.claims.requested."):
                for claim in event["data"]["claims"]:
                    yield record, claim


def check_error_text(error: VacancyError, *fragments: str) -> None:
    """Check that the error is one line with what, where and what to do, and contains these fragments."""
    assert "\n" not in str(error)
    assert error.what
    assert error.do, f"it does not say what to do: {error}"
    for fragment in fragments:
        assert fragment in str(error)
