"""A reader that races with its writer's flushes: its position and its rows are always of one commit."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.projections.store.writer_process import WHEELS, rows_at
from tests.support.classes.ports_class import REGISTRY
from vacancy.projections.reader.partition_reader import PartitionReader
from vacancy.projections.store import rocksdb
from vacancy.projections.store.partition_store import PartitionStore
from vacancy.resources.state.tables import NODES

ROOT = Path(__file__).parents[3]
SCRIPT = Path(__file__).parents[1] / "store/writer_process.py"


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def stale_rows(reader: PartitionReader) -> list[str]:
    """Rows that are not those of the reader's position."""
    position = reader.local.position
    found = []
    for name, wheel in WHEELS.items():
        for number in range(wheel.rows):
            key = b"cell\0k%d" % number
            if name == NODES.name:
                node = reader.get(NODES, key)
                seen = 0 if node is None else node.heard_ms
            else:
                table = REGISTRY.table(name)
                row = reader.get(table, table.prefix + key)
                seen = 0 if row is None else row.record.total
            said = wheel.newest(position, number)
            if seen != said:
                found.append(f"at position {position}, {name} {number} is of {seen}, not {said}")
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_a_position_is_never_ahead_of_its_rows_nor_behind_them(tmp_path: Path, seed: int) -> None:
    with start("flush", tmp_path, seed, 6) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        reader = PartitionReader(tmp_path / "p00000", REGISTRY)
        rng = random.Random(seed)
        moved, entries = 0, reader.local.position
        while writer.poll() is None:
            if moved > 50:  # on a busy machine that takes longer
                writer.stdin.close()
            before = reader.local.position
            news = reader.follow() if rng.random() < 0.8 else reader.catch_up()
            moved += reader.local.position > before
            time.sleep(rng.choice((0, 0, 0, 0, 0.002, 0.02)))
            assert stale_rows(reader) == []
            if news is None:
                entries = reader.local.position
            else:
                assert [entry.position for entry in news] == list(range(entries + 1, entries + 1 + len(news)))
                entries += len(news)
            assert entries == reader.local.position
        last = int(writer.stdout.readline())
        reader.catch_up()
        reader.close()
        assert writer.returncode == 0
    assert reader.local.position == last
    assert moved > 50


@pytest.mark.parametrize("seed", range(12))
def test_whatever_the_writer_does_between_two_catch_ups(tmp_path: Path, seed: int) -> None:
    """Commits, flushes and restarts in any order, without a race: the same must hold."""
    path, rng = tmp_path / "p00000", random.Random(seed)
    tables = PartitionStore(path, "store", REGISTRY)
    reader = PartitionReader(path, REGISTRY)
    for _ in range(15):
        deed = rng.choice(("commit", "commit", "commit", "catch up", "follow", "follow", "flush", "restart"))
        if deed == "commit":
            for position in range(tables.local.position + 1, tables.local.position + 5):
                tables.stage(rows_at(position))
                tables.commit(position, position, 0)
        elif deed == "flush":
            rocksdb.flush(tables._db, tmp_path / "scratch")
        elif deed == "restart":
            tables.close()
            tables = PartitionStore(path, "store", REGISTRY)
        else:
            if deed == "catch up":
                reader.catch_up()
            else:
                reader.follow()
            assert reader.local.position == tables.local.position
            assert stale_rows(reader) == []
    reader.close()
    tables.close()


class FlushedMeanwhile:
    """A secondary that looks for new commits just before a flush, and finds its log gone."""

    def __init__(self, secondary: Any, tables: PartitionStore, scratch: Path) -> None:
        self._secondary, self._tables, self._scratch = secondary, tables, scratch

    def try_catch_up_with_primary(self) -> None:
        rocksdb.flush(self._tables._db, self._scratch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._secondary, name)


def test_a_flush_between_the_manifest_and_the_logs_that_a_reader_reads_is_noticed(tmp_path: Path) -> None:
    """The end of the log that went away is in a file that the reader's manifest does not contain yet."""
    path = tmp_path / "p00000"
    tables = PartitionStore(path, "store", REGISTRY)
    reader = PartitionReader(path, REGISTRY)
    for position in range(1, 400):
        tables.stage(rows_at(position))
        tables.commit(position, position, 0)
    racing: Any = FlushedMeanwhile(reader._tables.db, tables, tmp_path / "scratch")
    reader._tables = reader._tables._replace(db=racing)
    reader.catch_up()
    assert reader.local.position == tables.local.position
    assert stale_rows(reader) == []
    reader.close()
    tables.close()
