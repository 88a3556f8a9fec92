"""Processes that tests of the past kill, or let run at the same time."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path

from tests.support.sites.snapshot_site import REGISTRY
from vacancy.clients.past.historical_store import HistoricalStores
from vacancy.clients.past.store_cache import StoreCache
from vacancy.clients.replay_tool.replay import digest
from vacancy.projections.snapshots.storage import SnapshotStorage
from vacancy.streams.log import open_log


def make(parent: Connection, url: str, history: Path, kept: str, position: dict[int, int]) -> None:
    """Make the tables of a position, after a word to the parent; then its digest."""
    cache = StoreCache(history, stores_max=2, bytes_max=2**30)
    with open_log(url) as log:
        parent.send("begins")
        with HistoricalStores(log, REGISTRY, cache, SnapshotStorage(kept)).at(position) as store:
            parent.send(digest(store.path, REGISTRY).whole)
