"""Exports a log: its records as segments of an archive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from vacancy.resources.model.errors import LogError, LogUnavailable, UsageError
from vacancy.resources.model.record import Record
from vacancy.streams.archive.manifest import FORMAT, ArchiveManifest, Segment, record_checksum
from vacancy.streams.archive.segment import encode_segment
from vacancy.streams.archive.storage import ArchiveStorage
from vacancy.streams.log import Log

SEGMENT_BYTES: Final = 32 * 1024 * 1024
"""Keys and values of a segment have at most about this number of bytes before compression: a reader holds whole segments in
memory."""

_READ: Final = 2_000
_READ_S: Final = 10.0

Progress = Callable[[int, int], None]
"""Called with (records exported, records in total)."""


class Exported(NamedTuple):
    """What an export did: the archive's manifest, and how many segments and records were new."""

    manifest: ArchiveManifest
    segments: int
    records: int


def export_log(
    log: Log,
    storage: ArchiveStorage,
    *,
    until: Mapping[int, int] | None = None,
    segment_records: int = 100_000,
    progress: Progress | None = None,
) -> Exported:
    """Add the records that the archive lacks, up to `until` (partition -> offset; None: the log's current end).

    It starts after the last segment that the archive has, in each partition; a killed export is continued so. Before that
    the last record of the archive is compared with the log's. Raises `LogError` if the archive is of another log, if the
    log no longer has the next record, or where one of them cannot be read or written.
    """
    if segment_records < 1:
        raise UsageError("a segment has at least one record", do="give a larger --segment-records")
    identity = log.identity()
    with storage.locked():
        manifest = storage.manifest()
        if manifest is None:
            manifest = ArchiveManifest(format=FORMAT, log=identity.log, partitions=identity.partitions)
            storage.write_manifest(manifest)
        if (manifest.log, manifest.partitions) != identity:
            raise LogError(
                f"the archive is of log {manifest.log} with {manifest.partitions} partitions, this is log"
                f" {identity.log} with {identity.partitions}",
                where=storage.url,
                do="export to another place, or name the log that the archive is of",
            )
        starts = first_offsets(log, manifest, storage.url)
        ends = _ends(log, until)
        total = sum(max(0, end - starts[p]) for p, end in ends.items())
        segments = records = 0
        for partition, end in sorted(ends.items()):
            for batch in _segments(log, partition, starts[partition], end, segment_records):
                segment, data = encode_segment(batch, identity.log)
                storage.write_segment(segment, data)
                manifest = manifest.with_segment(segment)
                storage.write_manifest(manifest)
                segments, records = segments + 1, records + len(batch)
                if progress is not None:
                    progress(records, total)
    return Exported(manifest, segments, records)


def _ends(log: Log, until: Mapping[int, int] | None) -> dict[int, int]:
    """Partition -> the offset up to which it is exported. Raises `LogError` if the log ends before."""
    end = log.end()
    for partition, offset in {} if until is None else until.items():
        if offset > end[partition]:
            raise LogError(
                f"the log ends at offset {end[partition]}, before {offset}",
                where=f"{log.name}, partition {partition}",
                do="give an earlier position",
            )
    return end if until is None else dict(until)


def first_offsets(log: Log, manifest: ArchiveManifest, where: str) -> dict[int, int]:
    """Partition -> the first offset that the archive lacks: where it has none of a partition, the log's first. Raises
    `LogError` where the log no longer has that record, or has another record before it than the archive."""
    found, start, end = {}, log.start(), log.end()
    for partition in range(manifest.partitions):
        segments = manifest.of_partition(partition)
        if not segments:
            found[partition] = start[partition]
            continue
        position = found[partition] = segments[-1].end
        if not start[partition] <= position <= end[partition]:
            raise LogError(
                f"the archive ends at offset {position}, the log has the records {start[partition]} to {end[partition]}",
                where=f"{where}, partition {partition}",
                do="export to another place, and keep this archive",
            )
        if position > start[partition]:
            _check_last(log, partition, segments[-1], where)
    return found


def _check_last(log: Log, partition: int, segment: Segment, where: str) -> None:
    records = log.read(partition, segment.end - 1, 1, timeout_s=_READ_S)
    if not records:
        raise _silent(log, partition, segment.end - 1)
    if record_checksum(records[0]) != segment.last_checksum:
        raise LogError(
            "the log has another record than the archive",
            where=f"{where}, partition {partition}, offset {segment.end - 1}",
            do="export to another place: the log was put back from a backup, or written again",
        )


def _segments(log: Log, partition: int, offset: int, end: int, records_max: int) -> Iterator[list[Record]]:
    """The records of a partition from `offset` to `end`, in lists of one segment each."""
    batch: list[Record] = []
    size = 0
    while offset < end:
        found = log.read(partition, offset, min(_READ, end - offset), timeout_s=_READ_S)
        if not found:
            raise _silent(log, partition, offset)
        offset = found[-1].offset + 1
        for record in found:
            batch.append(record)
            size += len(record.key) + len(record.value)
            if len(batch) == records_max or size >= SEGMENT_BYTES:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _silent(log: Log, partition: int, offset: int) -> LogUnavailable:
    return LogUnavailable(
        f"the log did not answer within {_READ_S:g} s",
        where=f"{log.name}, partition {partition}, offset {offset}",
        do="try again: the export goes on where it ended",
    )
