"""Replay: rebuild the state from the log, and compute digests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from vacancy.clients.runtime.bootstrap import open_store
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store.digest import partition_digest, store_digest
from vacancy.projections.store.store import Store
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import LogError, StoreError
from vacancy.resources.model.record import Record
from vacancy.streams.log import Log

BATCH = 2000

BULK_RECORDS = 20_000
"""From this number of records on a store is folded in bulk (see `Store`): its readers load everything afterwards, which
takes less time than the fold."""

Progress = Callable[[int, int], None]
"""Called with (records folded, records in total) after each batch."""


class Digest(NamedTuple):
    """A store's digest, its partitions' digests, and the position (partition -> next offset) they are at."""

    whole: str
    partitions: tuple[str, ...]
    position: dict[int, int]


def replay(
    log: Log,
    store: Path,
    registry: Registry,
    *,
    until: Mapping[int, int] | None = None,
    progress: Progress | None = None,
) -> Digest:
    """Fold the log into the store at `store` (created if missing), up to `until` or to the log's current end. Nothing
    is appended to the log, not even a tick. A call that was killed is continued by the next one.

    Raises `LogError`, `StoreError`, `Halt`; `StoreError` also where the store is past `until`.
    """
    ends, left = remaining(log, store, registry, until)
    done, total = 0, sum(left.values())
    with open_store(store, log, registry, bulk=total >= BULK_RECORDS) as tables:
        for folded in fold_up_to(log, tables, ends):
            done += folded
            if progress is not None:
                progress(done, total)
        return store_digests(tables, registry)


def remaining(
    log: Log, store: Path, registry: Registry, until: Mapping[int, int] | None = None
) -> tuple[dict[int, int], dict[int, int]]:
    """Where a replay into `store` ends, and how many records are left to fold, by partition, of all partitions. The store is created if missing, and checked against the log. Raises `StoreError` where it is past `until`; `LogError` where
    `until` is not in the log."""
    with open_store(store, log, registry) as tables:
        position = dict(tables.position())
    ends = log.end()
    for partition, offset in (until or {}).items():
        if not 0 <= offset <= ends.get(partition, 0):
            raise LogError(
                f"the log has no position {partition}:{offset}: it ends at {ends.get(partition, 0)}",
                where=f"{log.name}, partition {partition}",
                do="give a position that the log has reached",
            )
    ends = {**ends, **(until or {})}
    for partition, end in ends.items():
        if position[partition] > end:
            raise StoreError(
                f"the store is at {partition}:{position[partition]}, past {partition}:{end}",
                where=str(store),
                do="name another directory with --into, or fold again from the first record with --rebuild",
            )
    return ends, {p: end - position[p] for p, end in ends.items()}


def fold_up_to(log: Log, tables: Store, ends: Mapping[int, int]) -> Iterator[int]:
    """Fold these partitions up to these offsets. Yields how many records each batch had."""
    for partition, end in sorted(ends.items()):
        position = tables.partition(partition).local.position
        while position < end:
            records = log.read(partition, position, min(BATCH, end - position), timeout_s=10.0)
            if not records:
                raise LogError(
                    f"the log ends at offset {position}, before {end}",
                    where=f"{log.name}, partition {partition}",
                    do="give an earlier position, or restore the log",
                )
            tables.apply(partition, records)
            position += len(records)
            yield len(records)


def store_digests(tables: Store, registry: Registry) -> Digest:
    """The digest of a store that is open for writing."""
    position = dict(tables.position())
    found = tuple(partition_digest(tables.partition(p).scan, registry) for p in sorted(position))
    return Digest(store_digest(found), found, position)


def digest(store: Path, registry: Registry) -> Digest:
    """The digest of a store as of its last commit. A worker may write meanwhile."""
    with StoreReader(store, registry, with_view=False) as reader:
        reader.catch_up()
        return digest_of(reader, registry)


def digest_of(reader: StoreReader, registry: Registry) -> Digest:
    """The digest of what a reader has at its position."""
    position = reader.position
    found = tuple(partition_digest(partial(reader.raw, p), registry) for p in sorted(position))
    return Digest(store_digest(found), found, position)


def read_all(log: Log, until: Mapping[int, int] | None = None) -> dict[int, list[Record]]:
    """All records of a log, by partition: for audits of logs that fit in memory."""
    ends = dict(until) if until is not None else log.end()
    found: dict[int, list[Record]] = {}
    for partition, end in ends.items():
        records = found.setdefault(partition, [])
        while len(records) < end:
            batch = log.read(partition, len(records), min(BATCH, end - len(records)), timeout_s=10.0)
            if not batch:
                break
            records.extend(batch)
    return found
