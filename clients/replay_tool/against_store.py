"""Compares a store, and snapshots, with the log: folds the log again, and stops where there is something to compare with.

The interval in which a partition parts from the log is between the last position at which both are equal and the first at
which they differ. At the position of the store itself the rows are compared, too.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from vacancy.clients.replay_tool.parallel import deal
from vacancy.clients.replay_tool.replay import Progress, fold_up_to
from vacancy.clients.replay_tool.row_text import comparable_bytes, key_text, row_fields
from vacancy.clients.runtime.bootstrap import installed_registry, open_store, unchecked_store
from vacancy.clients.runtime.child_process import ChildProcess, wait_for_any
from vacancy.clients.runtime.garbage_collector import spare_collector
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store.digest import partition_digest
from vacancy.projections.store.store import Store
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.errors import StoreMismatch
from vacancy.resources.state.rows import DeadLetterRow
from vacancy.resources.state.tables import CUSTOM_FAMILY, DEAD_LETTERS, Table
from vacancy.streams.log import Log, open_log

ROWS_NAMED = 10
"""Rows of a partition that are named where it differs. All are counted."""

_REPORT_EVERY_S = 0.2
STORE = "the store"


class Mark(NamedTuple):
    """What a partition should hold at a position: who says so (a snapshot, the store), and the digest."""

    name: str
    position: int
    digest: str


class CheckedMark(NamedTuple):
    """A mark, and the digest of the log at its position."""

    name: str
    position: int
    digest: str
    digest_log: str

    @property
    def equal(self) -> bool:
        """Whether they are the same."""
        return self.digest == self.digest_log


class RowDifference(NamedTuple):
    """A row that differs: its table, its key, and the decoded rows (None: there is no row)."""

    table: str
    key: str
    log: Any
    store: Any


class PartitionComparison(NamedTuple):
    """The marks of a partition by position, how many rows of the store differ at its position, and the first of them."""

    partition: int
    marks: tuple[CheckedMark, ...]
    rows_different: int
    rows: tuple[RowDifference, ...]

    @property
    def interval(self) -> tuple[int, int] | None:
        """(the last position at which log and marks are equal, 0 if none; the first at which they differ). None: all equal."""
        equal = 0
        for mark in self.marks:
            if not mark.equal:
                return equal, mark.position
            equal = mark.position
        return None


class _Folded(NamedTuple):
    records: int


def compare_store(
    url: str,
    store: Path,
    registry: Registry,
    scratch: Path,
    marks: Mapping[int, Sequence[Mark]],
    *,
    processes: int,
    client_settings: Mapping[str, str],
    progress: Progress | None = None,
) -> list[PartitionComparison]:
    """Fold the log into the new store `scratch`, and compare it with the store at `store`, and with further marks by partition.

    A worker may write the store meanwhile: it is read as of one moment for each partition. Raises `LogError`, `StoreError`;
    `StoreMismatch` where the store is of another log.
    """
    with open_log(url, **client_settings) as log:
        with StoreReader(store, registry, with_view=False) as reader:
            manifest, position = reader.manifest, reader.position
        if manifest.log != (named := log.identity().log):
            raise StoreMismatch(
                f"the store was folded from log {manifest.log}, this is log {named}",
                where=str(store),
                do="name the log that it came from",
            )
        open_store(scratch, log, registry).close()
    left = {p: max([offset, *(mark.position for mark in marks.get(p, ()))]) for p, offset in position.items()}
    with ExitStack() as running:
        children = [
            running.enter_context(
                ChildProcess(
                    f"comparing process {number}",
                    _run,
                    *(url, store, scratch),
                    {p: tuple(marks.get(p, ())) for p in share},
                    dict(client_settings),
                )
            )
            for number, share in enumerate(deal(left, processes), start=1)
        ]
        found = list(_collect(children, sum(left.values()), progress))
    return sorted(found)


def _collect(
    children: Iterable[ChildProcess], total: int, progress: Progress | None
) -> Iterator[PartitionComparison]:
    done, running = 0, list(children)
    while running:
        for child in wait_for_any(running):
            message: _Folded | PartitionComparison | None = child.receive()
            if message is None:
                running.remove(child)
            elif isinstance(message, PartitionComparison):
                yield message
            else:
                done += message.records
                if progress is not None:
                    progress(min(done, total), total)


def _run(
    parent: Connection,
    url: str,
    store: Path,
    scratch: Path,
    marks: dict[int, tuple[Mark, ...]],
    settings: dict[str, str],
) -> None:
    """The spawned process: compares the partitions of `marks` one after the other."""
    registry = installed_registry()
    with open_log(url, **settings) as log, unchecked_store(scratch, log, registry, bulk=True) as tables:
        spare_collector()
        for partition, given in marks.items():
            with StoreReader(store, registry, with_view=False, partitions=(partition,)) as reader:
                parent.send(_compare(parent, log, tables, reader, partition, given))
            tables.release(partition)
    parent.send(None)


def _compare(
    parent: Connection,
    log: Log,
    tables: Store,
    reader: StoreReader,
    partition: int,
    given: Sequence[Mark],
) -> PartitionComparison:
    """Compare a partition of the store that `reader` reads, and the marks, with the fold into `tables`."""
    registry = tables.registry
    own = partition_digest(partial(reader.raw, partition), registry)
    wanted = (*given, Mark(STORE, reader.position[partition], own))
    checked: list[CheckedMark] = []
    rows: list[RowDifference] = []
    count = 0
    for mark in sorted(wanted, key=lambda one: one.position):
        _report(parent, fold_up_to(log, tables, {partition: mark.position}))
        digest = partition_digest(tables.partition(partition).scan, registry)
        checked.append(CheckedMark(*mark, digest))
        if mark.name == STORE and digest != mark.digest:
            for row in different_rows(tables, reader, partition, registry):
                count += 1
                if count <= ROWS_NAMED:
                    rows.append(row)
    return PartitionComparison(partition, tuple(checked), count, tuple(rows))


def _report(parent: Connection, batches: Iterator[int]) -> None:
    folded, sent_at = 0, time.monotonic()
    for records in batches:
        folded += records
        if time.monotonic() - sent_at > _REPORT_EVERY_S:
            parent.send(_Folded(folded))
            folded, sent_at = 0, time.monotonic()
    parent.send(_Folded(folded))


def different_rows(
    tables: Store, reader: StoreReader, partition: int, registry: Registry
) -> Iterator[RowDifference]:
    """The rows of a partition that differ between a store that is open for writing and one that is read, by table and key."""
    by_family: dict[str, Table[Any]] = {table.family: table for table in RULES_VERSIONS.newest.tables}
    for name in registry.names:
        by_family[registry.table(name).family] = registry.table(name)
    for family in (*by_family, CUSTOM_FAMILY):
        ours = tables.partition(partition).scan(family)
        for key, log, store in _merged(ours, reader.raw(partition, family)):
            table = by_family.get(family) or registry.table(key.partition(b"\0")[0].decode())
            ours_row, theirs = _decoded(table, log), _decoded(table, store)
            if table is not DEAD_LETTERS or _without_reason(ours_row) != _without_reason(theirs):
                yield RowDifference(table.name, key_text(key), row_fields(ours_row), row_fields(theirs))


def _without_reason(letter: Any) -> Any:
    return comparable_bytes(DEAD_LETTERS, letter) if isinstance(letter, DeadLetterRow) else letter


def _decoded(table: Table[Any], data: bytes | None) -> Any:
    """The row, or a text in its place where its bytes are none."""
    try:
        return None if data is None else table.decode(data)
    except Exception:  # what was changed at rest may be anything
        return f"not a row of this table: {data!r}"


def _merged(
    ours: Iterator[tuple[bytes, bytes]], theirs: Iterator[tuple[bytes, bytes]]
) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    """(key, our value, their value) of all keys with different values."""
    end: tuple[bytes, bytes] | None = None
    one, other = next(ours, end), next(theirs, end)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            assert one is not None  # noqa: S101 - one of them is left
            yield one[0], one[1], None
            one = next(ours, end)
        elif one is None or other[0] < one[0]:
            yield other[0], None, other[1]
            other = next(theirs, end)
        else:
            if one[1] != other[1]:
                yield one[0], one[1], other[1]
            one, other = next(ours, end), next(theirs, end)
