"""How much memory a worker needs at most for the largest records, compared with one that folds small records.

Both are real processes that follow a SQLite log; the peak is `VmHWM` of /proc.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.live.site import WorkerCommand, until
from tests.support.logs.events_json import event, provider, reported
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.projections.store.rocksdb import WRITE_BUFFER_BYTES
from vacancy.resources.model.limits import LIMITS_3
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.clocks.clock import wall_ms
from vacancy.streams.clocks.uptime import uptime_mark
from vacancy.streams.sqlite.schema import add_entries

(CELL,) = covering_cells(1)
SIZE = LIMITS_3.record_bytes
MIB = 1024 * 1024


def record(number: int, size: int = SIZE) -> bytes:
    """A record of this size, by default 8 MiB: in turn text that is not JSON, a long value, as many small values as may be
    parsed, an unknown event."""
    kind = number % 4
    if kind == 0:
        return random.Random(number).randbytes(size)
    if kind == 1:
        node = provider("n1") | {"attributes": {"text": "x" * (size - 400)}}
        return reported("n1", [node], sequence=number + 1)
    if kind == 2:
        values = ["y" * 28] * (LIMITS_3.record_marks * size // SIZE - 2_000)
        return event(
            "requests.closed.v1", {"requests": [{"id": "r", "outcome": "lost", "in_flight": values}]}
        )
    return event(f"unknown.v{number}", {"text": "\u00e9" * (size // 6 - 100)})


def written(path: Path, entries: Iterable[NewRecord]) -> str:
    """The URL of a log with these entries, also those that a log refuses now: earlier builds took them."""
    new_log(f"sqlite://{path}", 1, installed_registry()).close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        for entry in entries:
            add_entries(db, [entry], 1, wall_ms(), uptime_mark())
    return f"sqlite://{path}"


def peak_bytes(log: str, store: Path) -> int:
    """The peak memory of a worker that has folded the log into a new store."""
    worker = WorkerCommand(log, store)
    del worker.command[-2:]  # no pages are needed
    worker.start()
    try:
        until(lambda: worker.said("caught up"), "it has not folded the log", 200.0)
        status = Path(f"/proc/{worker.process.pid}/status").read_text()
    finally:
        ended = worker.end()
    assert ended.code == 0, ended
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> int:
    """The peak of a worker that folds 200 reports and 4 records of 64 KiB, of the same kinds as the large ones: the
    parsers of their events take memory, too."""
    home = tmp_path_factory.mktemp("small")
    values = [reported(f"n{n}", [provider(f"n{n}", VCPU=8)]) for n in range(200)]
    values += [record(number, 64 * 1024) for number in range(4)]
    return peak_bytes(written(home / "log.db", (NewRecord(CELL, value) for value in values)), home / "store")


def test_the_largest_records_are_not_kept_in_memory(small: int, tmp_path: Path) -> None:
    """Twenty-eight records of 8 MiB each, 224 MiB: all were kept when a batch had 500 records of any size."""
    records = (NewRecord(CELL, record(number)) for number in range(28))
    peak = peak_bytes(written(tmp_path / "log.db", records), tmp_path / "store")
    # RocksDB flushes its write buffer after the record that filled it.
    assert peak - small < 64 * MIB + WRITE_BUFFER_BYTES + SIZE, f"{peak // MIB} MiB instead of {small // MIB}"


def test_long_keys_are_not_kept_in_memory(small: int, tmp_path: Path) -> None:
    """A hundred and twenty keys of 1 MB each: all were kept when partitions of keys were remembered whatever their length."""
    records = (NewRecord(f"{number}-" + "x" * 1_000_000, b"{}") for number in range(120))
    peak = peak_bytes(written(tmp_path / "log.db", records), tmp_path / "store")
    assert peak - small < 64 * MIB, f"{peak // MIB} MiB instead of {small // MIB}"
