"""Fixtures of tests of the past: a SQLite log with a store, a place for snapshots, and a cache of stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sites.snapshot_site import SnapshotSite, snapshot_site
from vacancy.clients.past.store_cache import StoreCache
from vacancy.projections.snapshots.storage import SnapshotStorage


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SnapshotSite]:
    with snapshot_site(tmp_path) as made:
        yield made


@pytest.fixture
def storage(tmp_path: Path) -> SnapshotStorage:
    return SnapshotStorage(str(tmp_path / "kept"))


@pytest.fixture
def cache(tmp_path: Path) -> StoreCache:
    return StoreCache(tmp_path / "history", stores_max=3, bytes_max=2**30)
