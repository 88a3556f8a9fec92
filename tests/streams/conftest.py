"""One fixture for every kind of log, so that the same tests check all of them."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vacancy.clients.archives.export import export_log
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord, Record
from vacancy.streams.archive.log import ArchiveLog
from vacancy.streams.archive.storage import ArchiveStorage
from vacancy.streams.log import Log, create_log, open_log
from vacancy.streams.log_identity import LogIdentity
from vacancy.streams.log_url import LogUrl, parse_log_url
from vacancy.streams.memory_log import MemoryLog


def opening_entries(partitions: int, log: str = "") -> list[NewRecord]:
    """One `log.opened` entry for each partition."""
    log = log or str(uuid.uuid4())
    return [
        NewRecord(
            cell,
            json.dumps(
                {
                    "specversion": "1.0",
                    "id": str(uuid.uuid4()),
                    "source": "tests",
                    "type": "vacancy.log.opened.v1",
                    "time": "2026-01-01T00:00:00Z",
                    "data": {"log": log, "partitions": partitions, "partition": partition, "rules": {}},
                }
            ).encode(),
        )
        for partition, cell in enumerate(covering_cells(partitions))
    ]


@pytest.fixture
def openings() -> Callable[..., list[NewRecord]]:
    return opening_entries


@dataclass
class Backend:
    """A backend with one log. `trim(partition, before)` deletes its oldest records, as a retention does."""

    url: str
    trim: Callable[[int, int], None]
    opened: list[Log] = field(default_factory=list)

    def create(self, partitions: int = 4, log: str = "") -> Log:
        return self._kept(create_log(self.url, partitions, opening_entries(partitions, log)))

    def open(self) -> Log:
        return self._kept(open_log(self.url))

    def _kept(self, log: Log) -> Log:
        self.opened.append(log)
        return log

    def close(self) -> None:
        for log in self.opened:
            log.close()


class ArchivedBackend(Backend):
    """A memory log whose handles append to it, and read only from an archive in `directory`."""

    directory: Path

    def create(self, partitions: int = 4, log: str = "") -> Log:
        return self._kept(ArchivedLog(super().create(partitions, log), self.directory))

    def open(self) -> Log:
        return self._kept(ArchivedLog(super().open(), self.directory))

    def trim_archive(self, partition: int, before: int) -> None:
        """Trim the log, and begin the archive again."""
        MemoryLog(parse_log_url(self.url)).trim(partition, before)
        shutil.rmtree(self.directory, ignore_errors=True)


class ArchivedLog(MemoryLog):
    """Appends to a memory log, and exports it before each read from the archive."""

    def __init__(self, log: Log, directory: Path) -> None:
        super().__init__(parse_log_url(log.url))
        self._plain = log
        self._directory = directory

    def _archive(self) -> ArchiveLog:
        export_log(self._plain, ArchiveStorage(f"file://{self._directory}"), segment_records=7)
        return ArchiveLog(LogUrl("archive", f"file://{self._directory}"))

    def read(self, partition: int, offset: int, limit: int, timeout_s: float = 0.0) -> list[Record]:
        until = time.monotonic() + timeout_s
        while True:
            with self._archive() as archive:
                found = archive.read(partition, offset, limit, max(0.0, min(0.1, until - time.monotonic())))
            if found or time.monotonic() >= until:
                return found

    def start(self) -> dict[int, int]:
        with self._archive() as archive:
            return archive.start()

    def end(self) -> dict[int, int]:
        with self._archive() as archive:
            return archive.end()

    def identity(self) -> LogIdentity:
        with self._archive() as archive:
            return archive.identity()

    def offset_after(self, partition: int, time_ms: int) -> int:
        with self._archive() as archive:
            return archive.offset_after(partition, time_ms)

    def trim(self, partition: int, before: int) -> None:
        with self._archive() as archive:
            archive.trim(partition, before)

    def close(self) -> None:
        self._plain.close()
        super().close()


def _memory(_directory: Path) -> Backend:
    place = parse_log_url(f"memory://{uuid.uuid4()}")

    def trim(partition: int, before: int) -> None:
        MemoryLog(place).trim(partition, before)

    return Backend(place.url, trim)


def _sqlite(directory: Path) -> Backend:
    path = directory / "a log.db"

    def trim(partition: int, before: int) -> None:
        db = sqlite3.connect(path)
        with db:
            db.execute("DELETE FROM records WHERE partition = ? AND offset < ?", (partition, before))
        db.close()

    return Backend(f"sqlite://{path}", trim)


def _kafka(servers: str) -> Backend:
    topic = f"log-{uuid.uuid4()}"

    def trim(partition: int, before: int) -> None:
        from kafka import KafkaAdminClient, TopicPartition

        admin = KafkaAdminClient(bootstrap_servers=servers)
        admin.delete_records({TopicPartition(topic, partition): before})
        admin.close()

    return Backend(f"kafka://{servers}/{topic}", trim)


def _archive(directory: Path) -> Backend:
    place = parse_log_url(f"memory://{uuid.uuid4()}")
    made = ArchivedBackend(place.url, lambda partition, before: made.trim_archive(partition, before))
    made.directory = directory / place.place
    return made


@pytest.fixture(params=["memory", "sqlite", "archive", pytest.param("kafka", marks=pytest.mark.kafka)])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    if request.param == "kafka":
        made = _kafka(request.getfixturevalue("kafka"))
    else:
        made = {"memory": _memory, "sqlite": _sqlite, "archive": _archive}[request.param](tmp_path)
    yield made
    made.close()
