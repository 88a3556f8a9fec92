"""Where a store and its log part: the first record that can be the cause, or the rows that were altered at rest.

Workers say digests of their stores in the log (`projections.store.state_digests`). The fold of the log again gives digests of the
same positions, so it is known between which two of them the store parted. A row that differs, and that no record wrote since
they were equal, was altered at rest.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from vacancy.clients.replay_tool.replay import fold_up_to
from vacancy.clients.runtime.bootstrap import open_store
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store.digest import digested_families, partition_digest
from vacancy.projections.store.store import Store
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.fold import fold
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.state.tables import CUSTOM_FAMILY, PARTITION
from vacancy.resources.state.transaction import Changes
from vacancy.streams.log import Log

ROWS_NAMED = 100
"""Rows that are named of those that differ; the others are counted."""

_STEP = 200

_ROWS_FREE = 10_000
_ROWS_A_RECORD = 5
"""A digest reads a row in some 2 us, and the fold of a record takes some 50 us: with 5 rows for each record since the last one a
digest takes a fifth of the fold's time."""


@dataclass(frozen=True, slots=True)
class DifferentRow:
    """A row that is another one in the store than in the log, decoded where possible. None: there is none."""

    table: str
    key: str
    here: Any
    log: Any


@dataclass(frozen=True, slots=True)
class PartedPartition:
    """How a partition of a store differs from the log at `position`, where the two have `digest` and `digest_log`.

    By what the store said in the log, it was `equal` at that position (-1: not known), where both had `digest_equal`, and no
    longer at `differs` (-1: not known), where it had `digest_differs` and the log gives `digest_differs_log`. `first` is
    the first offset after `equal` whose record writes one of the rows that differ. If none does (-1), they are `altered`:
    something else than the fold wrote them. The rows are named up to a limit; `count` is how many differ.
    """

    partition: int
    position: int
    digest: str
    digest_log: str
    altered: bool
    equal: int = -1
    digest_equal: str = ""
    differs: int = -1
    digest_differs: str = ""
    digest_differs_log: str = ""
    first: int = -1
    count: int = 0
    rows: list[DifferentRow] = field(default_factory=list)


class LogDigests:
    """Computes the digests of `tables`, into which a log is folded again, at boundaries, so that it compares them with what stores
    said. It passes over boundaries that are close together, so that it takes a fifth of the fold's time at most."""

    def __init__(self, tables: Store, registry: Registry) -> None:
        self._tables, self._registry = tables, registry
        self._last: dict[int, tuple[int, int]] = {}
        self.digests: dict[tuple[int, int], str] = {}
        """(partition, position) -> digest."""

        tables.on_boundary = self._take

    def _take(self, partition: int, position: int) -> None:
        at, rows = self._last.get(partition, (0, 0))
        if rows > _ROWS_FREE and (position - at) * _ROWS_A_RECORD < rows:
            return
        count = 0

        def scan(family: str) -> Iterator[tuple[bytes, bytes]]:
            nonlocal count
            for row in self._tables.partition(partition).scan(family):
                count += 1
                yield row

        digest = partition_digest(scan, self._registry)
        self._last[partition] = (position, count)
        self.digests[partition, position] = digest
        self._tables.add_digest(partition, position, digest)


class _Row(NamedTuple):
    family: str
    key: bytes
    here: bytes | None
    log: bytes | None


def parted(
    log: Log,
    store: Path,
    rebuilt: Path,
    registry: Registry,
    partitions: Sequence[int],
    digests: Mapping[tuple[int, int], str],
) -> list[PartedPartition]:
    """How these partitions of a store differ from the log. `rebuilt` is a store that was folded from the log, up to the position
    of the store or before, with `digests` at boundaries. A worker may go on writing the store meanwhile."""
    found = []
    with (
        StoreReader(store, registry, with_view=False) as reader,
        open_store(rebuilt, log, registry) as tables,
    ):
        reader.catch_up()
        for partition in partitions:
            position = reader.position[partition]
            for _ in fold_up_to(log, tables, {partition: position}):
                pass
            rows = list(_different_rows(reader, tables, partition, registry))
            if rows:
                found.append(_describe(log, reader, tables, registry, partition, rows, digests))
    return found


def _describe(
    log: Log,
    reader: StoreReader,
    tables: Store,
    registry: Registry,
    partition: int,
    rows: Sequence[_Row],
    digests: Mapping[tuple[int, int], str],
) -> PartedPartition:
    position = reader.position[partition]
    said = [
        one for one in tables.partition(partition).digests.row.stores if one.store == reader.manifest.store
    ]
    equal = said[0].equal if said else -1
    differs = said[0].differs if said else -1
    first = _first_record(
        log, registry, partition, max(equal, 0), differs if differs >= 0 else position, rows
    )
    return PartedPartition(
        partition=partition,
        position=position,
        digest=partition_digest(partial(reader.raw, partition), registry),
        digest_log=partition_digest(tables.partition(partition).scan, registry),
        altered=first < 0,
        equal=equal,
        digest_equal=digests.get((partition, equal), ""),
        differs=differs,
        digest_differs=said[0].theirs if said else "",
        digest_differs_log=said[0].ours if said else "",
        first=first,
        count=len(rows),
        rows=[
            DifferentRow(row.family, _key_text(row.key), *(_decoded(row, data, registry) for data in row[2:]))
            for row in rows[:ROWS_NAMED]
        ],
    )


def _different_rows(reader: StoreReader, tables: Store, partition: int, registry: Registry) -> Iterator[_Row]:
    for family in digested_families(registry):
        here = reader.raw(partition, family)
        theirs = tables.partition(partition).scan(family)
        yield from _merged(family, here, theirs)


def _merged(
    family: str, here: Iterator[tuple[bytes, bytes]], log: Iterator[tuple[bytes, bytes]]
) -> Iterator[_Row]:
    """The rows of two scans, both by key, that are not the same."""
    ours, theirs = next(here, None), next(log, None)
    while ours is not None or theirs is not None:
        if ours is not None and theirs is not None and ours[0] == theirs[0]:
            if ours[1] != theirs[1]:
                yield _Row(family, *ours, theirs[1])
            ours, theirs = next(here, None), next(log, None)
        elif ours is not None and (theirs is None or ours[0] < theirs[0]):
            yield _Row(family, *ours, None)
            ours = next(here, None)
        elif theirs is not None:
            yield _Row(family, theirs[0], None, theirs[1])
            theirs = next(log, None)


def _first_record(
    log: Log, registry: Registry, partition: int, start: int, end: int, rows: Sequence[_Row]
) -> int:
    """The offset of the first record from `start` on, before `end`, that writes one of these rows; -1 where none does."""
    wanted = {(row.family, row.key) for row in rows if row.family != PARTITION.family} or {
        (row.family, row.key) for row in rows
    }
    with (
        tempfile.TemporaryDirectory(prefix="vacancy-verify-") as scratch,
        open_store(Path(scratch) / "store", log, registry) as tables,
    ):
        for _ in fold_up_to(log, tables, {partition: start}):
            pass
        while start < end:
            records = log.read(partition, start, min(_STEP, end - start), timeout_s=10.0)
            if not records:
                return -1
            state = tables.partition(partition)
            for record in records:
                changes = fold(state, record, registry)
                if _writes(changes, wanted):
                    return record.offset
                state.stage(changes)
            state.abandon()
            tables.apply(partition, records)
            start += len(records)
    return -1


def _writes(changes: Changes, wanted: set[tuple[str, bytes]]) -> bool:
    return any((table.family, key) in wanted for table, rows in changes.items() for key in rows)


def _decoded(row: _Row, data: bytes | None, registry: Registry) -> Any:
    """The row as plain data; its bytes in hexadecimal where it does not read back."""
    if data is None:
        return None
    try:
        if row.family == CUSTOM_FAMILY:
            decode = registry.table(row.key.partition(b"\0")[0].decode()).decode
        else:
            tables: Mapping[str, Any] = {table.family: table for table in RULES_VERSIONS.newest.tables}
            decode = (tables.get(row.family) or registry.table(row.family)).decode
        found = decode(data)
        fields = msgspec.structs.asdict(found) if isinstance(found, msgspec.Struct) else found
        return msgspec.to_builtins(fields, enc_hook=_plain)
    except (ValueError, InvalidRecord, msgspec.MsgspecError, struct.error):
        return data.hex()


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else repr(value)


def _key_text(key: bytes) -> str:
    text = key.decode("utf-8", "backslashreplace").replace("\0", " ")
    return text if text.isprintable() else key.hex()
