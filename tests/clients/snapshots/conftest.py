"""What tests of snapshots share: a log with its store, and a place for snapshots."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sites.snapshot_site import SnapshotSite, snapshot_site
from vacancy.projections.snapshots.storage import SnapshotStorage


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SnapshotSite]:
    with snapshot_site(tmp_path) as made:
        yield made


@pytest.fixture
def storage(tmp_path: Path) -> SnapshotStorage:
    return SnapshotStorage(str(tmp_path / "kept"))
