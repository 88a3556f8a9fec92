"""Restores a snapshot into a directory, and checks everything in it on the way."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from vacancy.projections.snapshots.checkpoint_tables import TablesState, restore_checkpoint
from vacancy.projections.snapshots.manifest import SnapshotManifest, SnapshotPartition
from vacancy.projections.snapshots.storage import SnapshotStorage
from vacancy.projections.store.digest import store_digest
from vacancy.projections.store.manifest import FORMAT, Manifest, write_manifest
from vacancy.projections.store.rocksdb import DIRECTORY_MODE, translated
from vacancy.projections.store.store import partition_path
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.errors import StoreCorrupt, StoreMismatch
from vacancy.resources.state.rule_set import RulesVersions


def check_supported(
    manifest: SnapshotManifest, where: str, registry: Registry, versions: RulesVersions = RULES_VERSIONS
) -> None:
    """Check that this build can use the snapshot. Raises `StoreMismatch` where its store has another format, follows rules
    that this build lacks, or has tables of classes that are not installed."""
    fold = "or fold the log from its first record: `vacancy replay --rebuild`"
    if manifest.store_format != FORMAT:
        raise StoreMismatch(
            f"the store in the snapshot has format {manifest.store_format}, this build reads {FORMAT}",
            where=where,
            do=f"use another snapshot, {fold}",
        )
    missing = set(manifest.classes).difference(registry.plugins)
    if missing:
        raise StoreMismatch(
            f"the snapshot has tables of resource class {', '.join(sorted(missing))}, which this build does not have",
            where=where,
            do="install the package that provides it",
        )
    for one in manifest.partitions:
        if one.rules_version not in versions:
            raise StoreMismatch(
                f"partition {one.partition} of the snapshot follows rules version {one.rules_version}, this build"
                f" supports up to {versions.newest.version}",
                where=where,
                do="upgrade vacancy on this host",
            )


def restore_files(
    storage: SnapshotStorage, manifest: SnapshotManifest, into: Path, registry: Registry
) -> None:
    """Make a new store of the snapshot in `into`, a directory that does not exist. It has an id of its own.

    Everything is checked: each file by its checksum, the tables by their digest. Raises `StoreCorrupt` with the file or
    the partition where something is not what the manifest says, `StoreMismatch` as `check_supported` does.
    """
    where = f"{storage.url}/{manifest.id}"
    check_supported(manifest, where, registry)
    store = uuid4().hex
    with translated(into):
        into.mkdir(DIRECTORY_MODE, parents=True)
    for one in manifest.partitions:
        path = partition_path(into, one.partition)
        with translated(path):
            path.mkdir(DIRECTORY_MODE)
        for file in one.files:
            storage.read_file(manifest.id, one.partition, file, path)
        _check(one, restore_checkpoint(path, store, registry), f"{where}/{path.name}")
    if store_digest(one.digest for one in manifest.partitions) != manifest.digest:
        raise _differs("digest of the store", where)
    write_manifest(
        into,
        Manifest(
            store=store, log=manifest.log, partitions=len(manifest.partitions), classes=manifest.classes
        ),
    )


def _check(named: SnapshotPartition, found: TablesState, where: str) -> None:
    for name, value in found._asdict().items():
        if getattr(named, name) != value:
            raise _differs(f"{name} of the tables ({value})", where)


def _differs(what: str, where: str) -> StoreCorrupt:
    return StoreCorrupt(
        f"the {what} is not what the manifest of the snapshot says",
        where=where,
        do="use another snapshot, and remove this one with `vacancy snapshot prune ID`",
    )
