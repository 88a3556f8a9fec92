"""One fixture for every kind of log, so that the same tests check all of them."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import Log, create_log, open_log
from vacancy.streams.log_url import parse_log_url
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


def _memory() -> Backend:
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


@pytest.fixture(params=["memory", "sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    if request.param == "kafka":
        made = _kafka(request.getfixturevalue("kafka"))
    else:
        made = _memory() if request.param == "memory" else _sqlite(tmp_path)
    yield made
    made.close()
