"""Processes that tests of snapshots kill."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path

from tests.support.sites.snapshot_site import REGISTRY
from vacancy.clients.snapshots.restore import restore_snapshot
from vacancy.projections.snapshots.creation import create_snapshot
from vacancy.projections.snapshots.retention import prune
from vacancy.projections.snapshots.storage import SnapshotStorage
from vacancy.streams.clocks.clock import wall_ms
from vacancy.streams.log import open_log


def create(parent: Connection, store: Path, url: str) -> None:
    """Make a snapshot, after a word to the parent."""
    storage = SnapshotStorage(url)
    parent.send("begins")
    parent.send(create_snapshot(store, storage, REGISTRY).id)


def restore(parent: Connection, log_url: str, url: str, store: Path) -> None:
    """Replace a store, after a word to the parent."""
    storage = SnapshotStorage(url)
    with open_log(log_url) as log:
        parent.send("begins")
        parent.send(restore_snapshot(log, storage, store, REGISTRY).manifest.id)


def remove(parent: Connection, url: str) -> None:
    """Remove all snapshots but one, after a word to the parent."""
    storage = SnapshotStorage(url)
    parent.send("begins")
    parent.send(prune(storage, wall_ms(), keep=1, max_age_ms=None))
