"""A SQLite log with a store, snapshots of it and an archive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.sites.snapshot_site import REGISTRY, SnapshotSite, snapshot_site
from vacancy.clients.archives.export import Exported, export_log
from vacancy.clients.archives.trim import TrimPlan, plan_trim
from vacancy.projections.snapshots.creation import create_snapshot
from vacancy.projections.snapshots.storage import SnapshotStorage
from vacancy.streams.archive.log import ArchiveLog
from vacancy.streams.archive.storage import ArchiveStorage
from vacancy.streams.log import Log, open_log
from vacancy.streams.log_url import LogUrl


class ArchivedSite(NamedTuple):
    """A log with its store, and where its snapshots and its archive are."""

    site: SnapshotSite

    @property
    def archive_url(self) -> str:
        return f"file://{self.site.home}/archive"

    @property
    def storage(self) -> SnapshotStorage:
        return SnapshotStorage(str(self.site.home / "snapshots"))

    def export(self, segment_records: int = 7) -> Exported:
        return export_log(self.site.log, ArchiveStorage(self.archive_url), segment_records=segment_records)

    def archive(self) -> ArchiveLog:
        return ArchiveLog(LogUrl("archive", self.archive_url))

    def snapshot(self) -> str:
        """Fold the log, and make a snapshot. Its id."""
        self.site.fold()
        return create_snapshot(self.site.store, self.storage, REGISTRY).id

    def plan(self, snapshot: str, log: Log | None = None) -> TrimPlan:
        with self.archive() as archive:
            return plan_trim(log or self.site.log, archive, self.storage, snapshot, REGISTRY)

    def joined(self) -> Log:
        """The log, with the archive for what it does not have any more."""
        return open_log(self.site.log.url, archive=self.archive_url)


@pytest.fixture
def archived(tmp_path: Path) -> Iterator[ArchivedSite]:
    with snapshot_site(tmp_path) as site:
        yield ArchivedSite(site)
