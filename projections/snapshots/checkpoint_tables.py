"""The tables in a checkpoint: what they hold, and how they become those of a store again.

A snapshot has no change feed, because readers of a restored store load everything, and no id of a store, so that it
cannot be opened before it is restored.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace
from rocksdict import Rdict

from vacancy.projections.store.digest import partition_digest
from vacancy.projections.store.integrity import check_directory, read_metadata
from vacancy.projections.store.metadata import (
    FEED_FAMILY,
    LOCAL_FAMILY,
    LOCAL_KEY,
    MetadataRow,
    encode_metadata,
    new_epoch,
)
from vacancy.projections.store.partition_store import families, supported_rules
from vacancy.projections.store.rocksdb import (
    create_family,
    existing_families,
    open_primary,
    scan,
    translated,
)
from vacancy.projections.store.state_digests import DIGESTS_KEY
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.errors import StoreCorrupt, StoreMismatch
from vacancy.resources.state.rule_set import RulesVersions
from vacancy.resources.state.tables import PARTITION, PARTITION_KEY


class TablesState(NamedTuple):
    """What a partition's tables hold: the next offset, a checksum of the record before it, log time in ms since 1970, the
    version of the rules in force, and the digest."""

    position: int
    checksum: int
    time_ms: int
    rules_version: int
    digest: str


def prepare_checkpoint(
    path: Path, registry: Registry, versions: RulesVersions = RULES_VERSIONS
) -> TablesState:
    """Make a checkpoint ready to be kept: remove the change feed and the store's id. Returns what it holds. Raises
    `StoreCorrupt` where the store was damaged already."""
    check_directory(path, existing_families(path))
    with _opened(path, registry, versions) as (db, tables):
        row, state = _read(path, tables, registry, versions)
        with translated(path):
            tables.pop(FEED_FAMILY).close()
            db.drop_column_family(FEED_FAMILY)
            tables[FEED_FAMILY] = create_family(db, FEED_FAMILY)
        _write_row(path, tables, MetadataRow("", row.position, row.checksum, rules_version=row.rules_version))
        with translated(path):
            tables[LOCAL_FAMILY].delete(DIGESTS_KEY)  # what one store has compared
    return state


def read_checkpoint(path: Path, registry: Registry, versions: RulesVersions = RULES_VERSIONS) -> TablesState:
    """What a checkpoint holds. All rows are read. Raises `StoreCorrupt` where the store was damaged already."""
    check_directory(path, existing_families(path))
    with _opened(path, registry, versions) as (_, tables):
        return _read(path, tables, registry, versions)[1]


def restore_checkpoint(
    path: Path, store: str, registry: Registry, versions: RulesVersions = RULES_VERSIONS
) -> TablesState:
    """Make a checkpoint that was kept a partition of the store with this id. Returns what it holds. Raises `StoreCorrupt`,
    and `StoreMismatch` where this build does not support it."""
    with _opened(path, registry, versions) as (_, tables):
        row, state = _read(path, tables, registry, versions)
        _write_row(path, tables, replace(row, store=store, epoch=new_epoch()))
    return state


@contextmanager
def _opened(
    path: Path, registry: Registry, versions: RulesVersions
) -> Iterator[tuple[Rdict, dict[str, Rdict]]]:
    """The database, and its tables by name."""
    there = existing_families(path)
    unknown = set(there).difference(families(registry, versions.newest))
    if unknown:
        raise StoreMismatch(
            f"the snapshot has tables that this build does not know: {', '.join(sorted(unknown))}",
            where=str(path),
            do="upgrade vacancy on this host, or install the package of the resource class",
        )
    db = open_primary(path, there, (FEED_FAMILY,))
    tables = {name: db.get_column_family(name) for name in there}
    try:
        yield db, tables
    finally:
        with translated(path):
            for one in (*tables.values(), db):
                one.close()


def _read(
    path: Path, tables: dict[str, Rdict], registry: Registry, versions: RulesVersions
) -> tuple[MetadataRow, TablesState]:
    row = read_metadata(path, tables) if LOCAL_FAMILY in tables else None
    if row is None:
        raise StoreCorrupt("the checkpoint has no rows", where=str(path), do="make another snapshot")
    supported_rules(row.rules_version, versions, path)

    def rows(family: str) -> Iterator[tuple[bytes, bytes]]:
        return scan(tables[family]) if family in tables else iter(())

    with translated(path):
        digest = partition_digest(rows, registry, versions)
        data = tables[PARTITION.family].get(PARTITION_KEY)
    time_ms = 0 if data is None else PARTITION.decode(data).time_ms
    return row, TablesState(row.position, row.checksum, time_ms, row.rules_version, digest)


def _write_row(path: Path, tables: dict[str, Rdict], row: MetadataRow) -> None:
    with translated(path):
        tables[LOCAL_FAMILY][LOCAL_KEY] = encode_metadata(row)
