"""Restores a snapshot as the store of this host, checked against its log."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from vacancy.clients.replay_tool.set_aside import set_aside
from vacancy.clients.runtime.bootstrap import open_store
from vacancy.projections.snapshots.manifest import SnapshotManifest
from vacancy.projections.snapshots.restoring import check_supported, restore_files
from vacancy.projections.snapshots.retention import furthest
from vacancy.projections.snapshots.storage import NoSnapshot, SnapshotStorage
from vacancy.projections.store.rocksdb import DIRECTORY_MODE, translated
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import StoreError, StoreMismatch, VacancyError
from vacancy.streams.log import Log
from vacancy.streams.log_identity import LogIdentity


class Restored(NamedTuple):
    """The snapshot that was restored, where the store that was there is now (None: there was none), and why newer
    snapshots were passed over."""

    manifest: SnapshotManifest
    aside: Path | None
    passed_over: tuple[VacancyError, ...]


def restore_snapshot(
    log: Log,
    storage: SnapshotStorage,
    store: Path,
    registry: Registry,
    name: str | None = None,
    *,
    replace: bool = False,
) -> Restored:
    """Make the snapshot called `name`, or the newest of this log, the store at `store`. With `replace` a store that is
    there is renamed first.

    The store appears when all of it was checked: files, digest, and that the log has the record before each position. A
    call that was killed leaves `STORE.restoring`, which the next call removes. Raises `NoSnapshot`; `StoreMismatch` for a
    snapshot of another log or one that this build does not support; `StoreCorrupt` for a damaged one; `StoreInUse` where a
    worker has the store; `StoreError` where there is a store and `replace` is not given; `LogError`.
    """
    identity = log.identity()
    with _alone(store):
        if not replace:
            check_empty(store)
        passed_over: list[VacancyError] = []
        if name is None:
            manifest = newest(storage, identity, registry, passed_over)
        else:
            manifest = storage.manifest(name)
            check_log(storage, manifest, identity)
        aside = _restore(log, storage, store, registry, manifest)
    return Restored(manifest, aside, tuple(passed_over))


def start_from_snapshot(
    log: Log,
    storage: SnapshotStorage,
    store: Path,
    registry: Registry,
    report: Callable[[str], None],
    *,
    until: Mapping[int, int] | None = None,
) -> None:
    """Make the newest snapshot of this log that is not after `until` the store at `store`, if there is none. `report` receives
    what was done, and why snapshots were passed over. Without a snapshot that this build supports nothing is done: the store is folded from the
    log. Raises as `restore_snapshot` does for a damaged one."""
    identity = log.identity()
    with _alone(store):
        if _is_there(store):
            return
        passed_over: list[VacancyError] = []
        try:
            manifest = newest(storage, identity, registry, passed_over, until=until)
        except NoSnapshot:
            manifest = None
        for error in passed_over:
            report(f"passed over: {error}")
        if manifest is None:
            report(
                f"no snapshot of log {identity.log} in {storage.url} can be used: the log is folded from its start"
            )
            return
        _restore(log, storage, store, registry, manifest)
        report(f"the store starts with snapshot {manifest.id} of {storage.url}")


def _restore(
    log: Log, storage: SnapshotStorage, store: Path, registry: Registry, manifest: SnapshotManifest
) -> Path | None:
    """Restore beside the store, check, and rename. Returns where the store that was there is now."""
    scratch = store.with_name(f"{store.name}.restoring")
    with translated(scratch):
        if scratch.exists():
            shutil.rmtree(scratch)
    restore_files(storage, manifest, scratch, registry)
    open_store(scratch, log, registry).close()
    aside = set_aside(store)
    with translated(store):
        scratch.rename(store)
    return aside


def verify_snapshot(storage: SnapshotStorage, name: str, registry: Registry) -> SnapshotManifest:
    """Restore a snapshot to a temporary directory, which checks all of it, and remove that. Raises as `restore_files`."""
    manifest = storage.manifest(name)
    with tempfile.TemporaryDirectory(prefix="vacancy-snapshot-") as scratch:
        restore_files(storage, manifest, Path(scratch) / "store", registry)
    return manifest


def newest(
    storage: SnapshotStorage,
    identity: LogIdentity,
    registry: Registry,
    passed_over: list[VacancyError],
    *,
    until: Mapping[int, int] | None = None,
) -> SnapshotManifest:
    """The snapshot of this log with the most records folded, among those that this build supports and that are after
    `until` in no partition. Adds to `passed_over` why others were not considered. Raises `NoSnapshot`."""
    found = storage.snapshots()
    passed_over += [one.error for one in found if one.error is not None]
    for manifest in furthest(
        one.manifest
        for one in found
        if one.manifest is not None and one.manifest.log == identity.log and _is_within(one.manifest, until)
    ):
        try:
            check_supported(manifest, f"{storage.url}/{manifest.id}", registry)
        except StoreMismatch as error:
            passed_over.append(error)
        else:
            check_log(storage, manifest, identity)
            return manifest
    what = f"there is no snapshot of log {identity.log} that can be used"
    if passed_over:
        what += f", {len(passed_over)} cannot: {passed_over[0].what}"
    raise NoSnapshot(
        what, where=storage.url, do="see `vacancy snapshot list`, or fold the log from its first record"
    )


def _is_within(manifest: SnapshotManifest, until: Mapping[int, int] | None) -> bool:
    """Whether the snapshot is after `until` in no partition."""
    return until is None or all(offset <= until.get(p, offset) for p, offset in manifest.position.items())


def check_log(storage: SnapshotStorage, manifest: SnapshotManifest, identity: LogIdentity) -> None:
    """Check that the snapshot is of this log. Raises `StoreMismatch`."""
    if manifest.log != identity.log or len(manifest.partitions) != identity.partitions:
        raise StoreMismatch(
            f"the snapshot is of log {manifest.log} with {len(manifest.partitions)} partitions, this is log"
            f" {identity.log} with {identity.partitions}",
            where=f"{storage.url}/{manifest.id}",
            do="name a snapshot of this log, or the log that it is of",
        )


def check_empty(store: Path) -> None:
    """Check that nothing is at `store`, or an empty directory. Raises `StoreError`."""
    if _is_there(store):
        raise StoreError(
            "there is a store already", where=str(store), do="give --replace to rename it, or another --store"
        )


def _is_there(store: Path) -> bool:
    with translated(store):
        return store.exists() and any(store.iterdir())


@contextmanager
def _alone(store: Path) -> Iterator[None]:
    """Let one process at a time restore the store, by a lock on the directory that it is in."""
    with translated(store):
        store.parent.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
        directory = os.open(store.parent, os.O_RDONLY)
    try:
        with translated(store):
            fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)
