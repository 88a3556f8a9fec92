"""Makes a snapshot of a store: checkpoints, their digests, compressed files, and the manifest at the end."""

from __future__ import annotations

import socket
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from vacancy.projections.snapshots.checkpoint_tables import prepare_checkpoint
from vacancy.projections.snapshots.checkpoints import CheckpointRequest
from vacancy.projections.snapshots.manifest import FORMAT, SnapshotManifest, SnapshotPartition
from vacancy.projections.snapshots.storage import SnapshotStorage
from vacancy.projections.store.digest import store_digest
from vacancy.projections.store.manifest import read_manifest
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import StoreError

_NOT_OPENED = ("LOCK", "LOG", "OPTIONS-")
"""The beginnings of names of files that RocksDB makes again."""


def create_snapshot(
    store: Path,
    storage: SnapshotStorage,
    registry: Registry,
    *,
    timeout_s: float = 60.0,
    only_ask: bool = False,
) -> SnapshotManifest:
    """Make a snapshot of the store as of its last commits. Workers go on meanwhile; each is asked for checkpoints of its
    partitions, and has `timeout_s` for that. Each partition has a position of its own. With `only_ask` no partition is opened here.

    What an earlier call for this store left unfinished is removed. Raises `StoreError`.
    """
    named = read_manifest(store)
    if named is None:
        raise StoreError("there is no store", where=str(store), do="name the worker's --store")
    with CheckpointRequest(store, named) as request:
        checkpoints = request.take(registry, timeout_s, only_ask=only_ask)
        mark = named.store[:8]
        for left in storage.unfinished():
            if left.endswith(f"-{mark}"):
                storage.remove(left)
        made_ms = time.time_ns() // 1_000_000
        name = snapshot_id(made_ms, mark)
        partitions = tuple(
            _keep(name, partition, path, storage, registry) for partition, path in sorted(checkpoints.items())
        )
        manifest = SnapshotManifest(
            format=FORMAT,
            id=name,
            made_ms=made_ms,
            host=socket.gethostname()[:255],
            build=version("vacancy"),
            store=named.store,
            log=named.log,
            store_format=named.format,
            classes=named.classes,
            digest=store_digest(one.digest for one in partitions),
            partitions=partitions,
        )
        storage.finish(manifest)
    return storage.manifest(name)


def snapshot_id(made_ms: int, mark: str) -> str:
    """The id of a snapshot: when it was made, and the first 8 digits of the id of its store."""
    at = datetime.fromtimestamp(made_ms // 1000, UTC)
    return f"{at:%Y%m%dT%H%M%S}{made_ms % 1000:03d}Z-{mark}"


def _keep(
    name: str, partition: int, path: Path, storage: SnapshotStorage, registry: Registry
) -> SnapshotPartition:
    state = prepare_checkpoint(path, registry)
    files = sorted(file for file in path.iterdir() if not file.name.startswith(_NOT_OPENED))
    kept = tuple(storage.write_file(name, partition, file) for file in files)
    return SnapshotPartition(partition=partition, files=kept, **state._asdict())
