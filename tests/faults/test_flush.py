"""A worker flushes or ends while a reader catches up: all that is read is from one position."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.faults.site_on_disk import Site, wait_for
from tests.support.logs.events_json import provider, reported
from vacancy.clients.inspection.lookup import show_provider
from vacancy.projections.reader.partition_reader import PartitionReader
from vacancy.projections.store.partition_store import PartitionStore
from vacancy.resources.classes.registry import Registry
from vacancy.resources.state.rows import NodeRow, RequestRow
from vacancy.resources.state.tables import NODES, REQUESTS, key

CELL = "auto-0"
NODE = key(CELL, "node-1")
ROW = NodeRow((("incarnation", 1),), 1)


class Both:
    """The writer of a partition, and a reader."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.store = PartitionStore(path, "store", Registry())
        self.reader = PartitionReader(path, Registry())
        self._position = 0

    def heard(self, ms: int) -> None:
        self.store.stage({NODES: {NODE: replace(ROW, heard_ms=ms)}})
        self._commit()

    def asked(self) -> None:
        self.store.stage({REQUESTS: {b"request": RequestRow(b"{}", 1)}})
        self._commit()

    def _commit(self) -> None:
        self._position += 1
        self.store.commit(self._position, 0, 0)

    def flush(self) -> None:
        """Flush everything and start another write-ahead log, as at a restart of the worker."""
        self.store.close()
        self.store = PartitionStore(self._path, "store", Registry())

    def check(self, ms: int) -> None:
        """Check that position and rows of the reader are those of the writer."""
        self.reader._asked_at = 0.0
        self.reader.catch_up()
        assert self.reader.local.position == self._position
        row = self.reader.get(NODES, NODE)
        assert row is not None
        assert row.heard_ms == ms


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    made = Both(tmp_path / "p00000")
    made.heard(1)
    made.check(1)
    yield made
    made.reader.close()
    made.store.close()


def test_a_flush_of_rows_that_the_reader_has_in_part(both: Both) -> None:
    both.heard(2)
    both.flush()
    both.check(2)


def test_a_flush_and_then_a_commit_of_another_row(both: Both) -> None:
    """Every commit changes the position but not the node's row, which the reader must still have."""
    both.heard(2)
    both.flush()
    both.asked()
    both.check(2)


def test_flushes_one_after_the_other(both: Both) -> None:
    for ms in range(2, 12):
        both.heard(ms)
        both.flush()
        if ms % 3:
            both.asked()
        both.check(ms)


def test_a_worker_that_ends_between_two_catch_ups(tmp_path: Path) -> None:
    """It flushes when it ends. A reader in the middle of the changes sees the rest, and the next worker's commits."""
    site = Site.made(tmp_path)
    sequence = 0

    def report(*vcpus: int) -> None:
        nonlocal sequence
        for total in vcpus:
            sequence += 1
            site.append(CELL, reported("node-1", [provider("node-1", VCPU=total)], sequence=sequence))

    def shown() -> int:
        (node,) = show_provider(reader, "node-1").providers
        return node.inventories[0].capacity

    with site.with_worker():
        report(1)
        site.settle()
        reader = site.reader()
        report(2, 3)
        site.settle()
        assert shown() == 3
        report(4, 5)
        site.settle()
    with reader:
        assert shown() == 5
        with site.with_worker():
            report(6)
            wait_for(lambda: shown() == 6)
