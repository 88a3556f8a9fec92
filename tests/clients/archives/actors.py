"""Processes that tests of archives kill."""

from __future__ import annotations

from multiprocessing.connection import Connection

from tests.support.sites.snapshot_site import REGISTRY
from vacancy.clients.archives.export import export_log
from vacancy.clients.archives.importing import import_log
from vacancy.clients.archives.trim import plan_trim
from vacancy.clients.archives.trim import trim as trim_log
from vacancy.projections.snapshots.storage import SnapshotStorage
from vacancy.streams.archive.log import ArchiveLog
from vacancy.streams.archive.storage import ArchiveStorage
from vacancy.streams.log import open_log
from vacancy.streams.log_url import LogUrl


def export(parent: Connection, log_url: str, url: str, segment_records: int) -> None:
    """Export a log, after a word to the parent."""
    with open_log(log_url) as log:
        storage = ArchiveStorage(url)
        parent.send("begins")
        parent.send(export_log(log, storage, segment_records=segment_records).records)


def import_(parent: Connection, url: str, log_url: str) -> None:
    """Import an archive, after a word to the parent."""
    with ArchiveLog(LogUrl("archive", url)) as archive:
        parent.send("begins")
        parent.send(import_log(archive, log_url).records)


def trim(parent: Connection, log_url: str, archive_url: str, snapshots: str, snapshot: str) -> None:
    """Trim a log, after a word to the parent."""
    with open_log(log_url) as log, ArchiveLog(LogUrl("archive", archive_url)) as archive:
        plan = plan_trim(log, archive, SnapshotStorage(snapshots), snapshot, REGISTRY)
        parent.send("begins")
        trim_log(log, plan)
        parent.send(plan.records)
