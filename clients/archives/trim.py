"""Shortens a log by the records that an archive has.

A log is cut only at a `log.opened` record: so each partition begins with one, and the log's id and rules are read there, as they
are in a log that was never trimmed. `prepare_trim` appends copies of these records as marks. A trim before a snapshot cuts each
partition at its last mark before the position of that snapshot.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

from vacancy.clients.archives.importing import compare
from vacancy.clients.runtime.bootstrap import open_store
from vacancy.clients.snapshots.restore import check_log
from vacancy.projections.snapshots.manifest import SnapshotManifest
from vacancy.projections.snapshots.restoring import restore_files
from vacancy.projections.snapshots.storage import SnapshotStorage
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import LogError
from vacancy.resources.model.record import NewRecord, Record
from vacancy.streams.archive.log import ArchiveLog
from vacancy.streams.log import AppendedAt, Log
from vacancy.streams.log_identity import LogIdentity, is_opening, parse_opening

_BATCH = 2_000
_READ_S = 10.0


class TrimPlan(NamedTuple):
    """What a trim deletes: of each partition the records from `start` up to `before`. Both map a partition to an offset."""

    snapshot: SnapshotManifest
    start: dict[int, int]
    before: dict[int, int]

    @property
    def records(self) -> int:
        """How many records these are."""
        return sum(self.before.values()) - sum(self.start.values())


def prepare_trim(log: Log) -> list[AppendedAt]:
    """Append a copy of its `log.opened` record to each partition. It changes no table. A later trim may cut there. Raises
    `LogError`."""
    start = log.start()
    openings = [_opening(log, partition, first) for partition, first in sorted(start.items())]
    return log.append([NewRecord(one.key.decode(), one.value) for one in openings])


def _opening(log: Log, partition: int, first: int) -> Record:
    """The first record of a partition, which is `log.opened`."""
    records = log.read(partition, first, 1, timeout_s=_READ_S)
    if not records or not is_opening(records[0]):
        raise LogError(
            "the partition does not begin with its log.opened record",
            where=f"{log.name}, partition {partition}, offset {first}",
            do="remove a retention of the topic, import the archive as a new log, and trim that",
        )
    parse_opening(records[0], log.name)
    return records[0]


def plan_trim(
    log: Log, archive: ArchiveLog, storage: SnapshotStorage, snapshot: str, registry: Registry
) -> TrimPlan:
    """Check that a trim before this snapshot loses nothing, and find where it cuts.

    The snapshot is restored to a temporary directory and compared with the log. The archive must have all records before the
    snapshot's position, with right checksums; those that the log would lose are compared one by one. A log that was trimmed before that snapshot already has nothing to delete. Raises `StoreError` for the
    snapshot, `LogError` for the archive, or where no partition can be cut.
    """
    identity = log.identity()
    manifest = storage.manifest(snapshot)
    check_log(storage, manifest, identity)
    with tempfile.TemporaryDirectory(prefix="vacancy-trim-") as scratch:
        path = Path(scratch) / "store"
        restore_files(storage, manifest, path, registry)
        open_store(path, log, registry).close()
    _check_archive(archive, identity, manifest.position)
    start = log.start()
    before = {p: _last_mark(archive, _opening(log, p, start[p]), end) for p, end in manifest.position.items()}
    if before == start and not any(start.values()):
        raise LogError(
            f"no partition has a mark before snapshot {snapshot} where it can be cut",
            where=log.name,
            do="append marks with `vacancy topics trim --prepare`, then make a snapshot, export, and trim before that snapshot",
        )
    compare(log, archive, start, before)
    return TrimPlan(manifest, start, before)


def trim(log: Log, plan: TrimPlan) -> None:
    """Delete what the plan says. Raises `LogError`. A trim that was killed is completed by a new one."""
    identity = log.identity()
    for partition, before in plan.before.items():
        if before > plan.start[partition]:
            log.trim(partition, before)
    if log.start() != plan.before or log.identity() != identity:
        raise LogError(
            f"the log begins at {log.start()} after the trim, not at {plan.before}",
            where=log.name,
            do="run this again; nothing is lost, because the archive has these records",
        )


def _check_archive(archive: ArchiveLog, identity: LogIdentity, position: dict[int, int]) -> None:
    """Check that the archive is of this log, and has all records before this position."""
    found = archive.identity()
    if found != identity:
        raise LogError(
            f"the archive is of log {found.log} with {found.partitions} partitions, this is log {identity.log} with"
            f" {identity.partitions}",
            where=archive.url,
            do="name the archive of this log",
        )
    end = archive.end()
    for partition, offset in position.items():
        if end[partition] < offset:
            raise LogError(
                f"the archive ends at offset {end[partition]}, the snapshot at {offset}",
                where=f"{archive.url}, partition {partition}",
                do="add the records with `vacancy log export`, then try again",
            )
    archive.check_segments(position)


def _last_mark(archive: ArchiveLog, opening: Record, end: int) -> int:
    """The offset of the last copy of a partition's first record before `end`, or that of the first record. Others may write
    records that say something else of the log."""
    start = opening.offset
    for segment in reversed(archive.manifest.of_partition(opening.partition)):
        offset, last = max(segment.first, start + 1), min(segment.end, end)
        found = start
        while offset < last:
            records = archive.read(opening.partition, offset, min(_BATCH, last - offset))
            found = max([found, *(one.offset for one in records if one[3:] == opening[3:])])
            offset += len(records)
        if found > start:
            return found
    return start
