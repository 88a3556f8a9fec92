"""Where a store and its log part: the first record, or the rows that were altered while nothing was folded.

A store counts a checksum of all rows with each commit (`projections.store.state_checksum`). If that checksum is the log's,
and that of the rows as they are now is another one, the fold was right and rows were altered at rest. Otherwise the fold gave
something else, or a row that was altered was folded into others.
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
from vacancy.projections.store.metadata import LOCAL_FAMILY, STATE_UNKNOWN, MetadataRow
from vacancy.projections.store.state_checksum import checked_families, state_checksum
from vacancy.projections.store.state_digests import (
    DIGESTS_KEY,
    Boundary,
    ComparedStore,
    decode_digests,
)
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


class CheckedPartition(NamedTuple):
    """The checksums of a partition of a store: `kept` beside its position, and `counted` from its rows as they are; and what
    it has kept of boundaries."""

    position: int
    kept: int
    counted: int
    boundaries: tuple[Boundary, ...]

    @property
    def altered(self) -> bool:
        """Whether the rows are others than those that were committed."""
        return self.kept not in (STATE_UNKNOWN, self.counted)


@dataclass(frozen=True, slots=True)
class DifferentRow:
    """A row that is another one in the store than in the log, decoded where possible. None: there is none."""

    table: str
    key: str
    here: Any
    log: Any


@dataclass(frozen=True, slots=True)
class PartedPartition:
    """How a partition of a store differs from the log at `position`.

    `altered` is whether the store's own checksum is the log's: its rows were altered after they were committed. Otherwise the
    store and the log were `equal` at that position (-1: not known) and no longer at `differs` (-1: not known), and `first` is
    the first offset after `equal` whose record writes one of the rows that differ (-1: none does). The rows are named up to
    a limit; `count` is how many differ.
    """

    partition: int
    position: int
    altered: bool
    checksum_kept: int
    checksum_rows: int
    checksum_log: int
    equal: int = -1
    differs: int = -1
    first: int = -1
    count: int = 0
    rows: list[DifferentRow] = field(default_factory=list)


class _Row(NamedTuple):
    family: str
    key: bytes
    here: bytes | None
    log: bytes | None


def checked(reader: StoreReader, registry: Registry) -> dict[int, CheckedPartition]:
    """The checksums of all partitions as of the reader's position."""
    found = {}
    for partition in sorted(reader.position):
        local: MetadataRow | None = reader.metadata(partition)
        if local is None:
            continue
        digests = decode_digests(dict(reader.raw(partition, LOCAL_FAMILY)).get(DIGESTS_KEY))
        counted = state_checksum(partial(reader.raw, partition), registry)
        found[partition] = CheckedPartition(local.position, local.state, counted, digests.boundaries)
    return found


def parted(
    log: Log, store: Path, rebuilt: Path, registry: Registry, partitions: Sequence[int]
) -> list[PartedPartition]:
    """How these partitions of a store differ from the log. `rebuilt` is a store that was folded from the log, up to the position
    of the store or before. A worker may go on writing the store meanwhile."""
    found = []
    with (
        StoreReader(store, registry, with_view=False) as reader,
        open_store(rebuilt, log, registry) as tables,
    ):
        reader.catch_up()
        here = checked(reader, registry)
        for partition in partitions:
            one = here[partition]
            for _ in fold_up_to(log, tables, {partition: one.position}):
                pass
            rows = list(_different_rows(reader, tables, partition, registry))
            if rows or one.kept not in (STATE_UNKNOWN, tables.partition(partition).local.state):
                found.append(_describe(log, reader, tables, registry, partition, one, rows))
    return found


def _describe(
    log: Log,
    reader: StoreReader,
    tables: Store,
    registry: Registry,
    partition: int,
    one: CheckedPartition,
    rows: Sequence[_Row],
) -> PartedPartition:
    theirs = tables.partition(partition)
    altered = one.altered and one.kept == theirs.local.state
    equal, differs = _interval(
        one, theirs.digests.row.stores, theirs.digests.row.boundaries, reader.manifest.store
    )
    first = -1
    if rows and not altered:
        end = differs if differs >= 0 else one.position
        first = _first_record(log, registry, partition, max(equal, 0), end, rows)
    return PartedPartition(
        partition,
        one.position,
        altered,
        one.kept,
        one.counted,
        theirs.local.state,
        equal,
        differs,
        first,
        len(rows),
        [
            DifferentRow(row.family, _key_text(row.key), *(_decoded(row, data, registry) for data in row[2:]))
            for row in rows[:ROWS_NAMED]
        ],
    )


def _interval(
    one: CheckedPartition, said: Sequence[ComparedStore], boundaries: Sequence[Boundary], store: str
) -> tuple[int, int]:
    """(last position at which the store had the log's checksum, first one after it at which it had another), -1 where unknown:
    from what the store said in the log, and from what it keeps of boundaries."""
    equal, differs = -1, -1
    for own in said:
        if own.store == store:
            equal, differs = own.equal, own.differs
    log = {boundary.position: boundary.checksum for boundary in boundaries}
    for boundary in one.boundaries:
        if boundary.position not in log or 0 <= differs <= boundary.position:
            continue
        if log[boundary.position] != boundary.checksum:
            differs = boundary.position
        else:
            equal = max(equal, boundary.position)
    return equal, differs


def _different_rows(reader: StoreReader, tables: Store, partition: int, registry: Registry) -> Iterator[_Row]:
    for family in checked_families(registry):
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
