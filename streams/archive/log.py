"""An archive, read as a log: `archive+file:///path`, `archive+s3://bucket/path`."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from vacancy.resources.model.errors import LogError
from vacancy.resources.model.record import NewRecord, Record
from vacancy.streams.archive.manifest import ArchiveManifest, Segment, damaged
from vacancy.streams.archive.segment import SegmentReader
from vacancy.streams.archive.storage import ArchiveStorage
from vacancy.streams.clocks.log_clock import LogClock
from vacancy.streams.log import READ_BYTES, SEND_S, Log, Receipt, no_partition, out_of_range
from vacancy.streams.log_identity import LogIdentity, parse_opening
from vacancy.streams.log_url import LogUrl

_OPEN_SEGMENTS: Final = 4
"""Segments that are kept in memory. Of each, some thousand records are decoded."""


class ArchiveLog(Log):
    """See `Log`. Offsets and timestamps are those of the log that was exported. Nothing can be appended.

    A segment is fetched whole, and compared with the manifest, before a record of it is returned.
    """

    def __init__(self, place: LogUrl) -> None:
        """Raises `LogError` if there is no archive or its manifest is damaged, `UsageError` for an invalid URL."""
        self.url, self.name = place.url, place.name
        self.clock = LogClock(self.name)
        self._closed = False
        self._storage = ArchiveStorage(place.place)
        self._segments: list[list[Segment]] = []
        self._readers: OrderedDict[Segment, SegmentReader] = OrderedDict()
        self._manifest = self._load()
        self.partitions = self._manifest.partitions

    def _load(self) -> ArchiveManifest:
        manifest = self._storage.manifest()
        if manifest is None:
            raise LogError(
                "there is no archive", where=self.url, do="make it with `vacancy log export --to URL`"
            )
        self._segments = [manifest.of_partition(p) for p in range(manifest.partitions)]
        return manifest

    @property
    def manifest(self) -> ArchiveManifest:
        """What the archive has."""
        return self._manifest

    def refresh(self) -> None:
        """Read the manifest again: an export may have added segments. Raises `LogError` if it is of another log now."""
        before, now = self._manifest, self._load()
        if (now.log, now.partitions) != (before.log, before.partitions):
            raise damaged(f"the archive is of log {now.log} now, it was of {before.log}", self.url)
        self._manifest = now

    def identity(self) -> LogIdentity:
        """See `Log.identity`. Raises `LogError` if the manifest names another log than the first record of a partition."""
        self._check_open()
        for segments in self._segments:
            if segments and segments[0].first == 0:
                (record,) = self._reader(segments[0]).read(0, 1)
                found = parse_opening(record, self.name)
                if found != (self._manifest.log, self.partitions):
                    raise damaged(
                        f"the manifest of the archive is of log {self._manifest.log} with {self.partitions} partitions,"
                        f" its records are of log {found.log} with {found.partitions}",
                        self.url,
                    )
                break
        return LogIdentity(self._manifest.log, self.partitions)

    def send(self, entries: Sequence[NewRecord], timeout_s: float = SEND_S) -> Receipt:
        """Raises `LogError`: an archive is only read."""
        self._check_open()
        raise LogError(
            "an archive is only read: nothing can be appended to it",
            where=self.url,
            do="name the log itself, or make a log of the archive: `vacancy log import`",
        )

    def read(self, partition: int, offset: int, limit: int, timeout_s: float = 0.0) -> list[Record]:
        """See `Log.read`. Raises `LogError` for a segment that is missing or damaged."""
        self._check_open()
        if not 0 <= partition < self.partitions:
            raise no_partition(self.name, partition, self.partitions)
        segment = self._segment(partition, offset)
        if segment is None:
            time.sleep(timeout_s)
            self.refresh()
            segment = self._segment(partition, offset)
        return [] if segment is None else _bounded(self._reader(segment).read(offset, limit))

    def _segment(self, partition: int, offset: int) -> Segment | None:
        """The segment with this record; None at the end. Raises `LogError` for an offset that the archive does not have."""
        segments = self._segments[partition]
        start, end = (segments[0].first, segments[-1].end) if segments else (0, 0)
        if not start <= offset <= end:
            raise out_of_range(self.name, partition, offset, start, end)
        at = bisect_right(segments, offset, key=lambda one: one.first)
        return None if offset == end else segments[at - 1]

    def _reader(self, segment: Segment) -> SegmentReader:
        found = self._readers.get(segment)
        if found is None:
            where = f"{self.url}/{segment.path}"
            data = self._storage.read_segment(segment)
            found = SegmentReader(data, segment, self._manifest.log, where)
            self._readers[segment] = found
            while len(self._readers) > _OPEN_SEGMENTS:
                self._readers.popitem(last=False)
        self._readers.move_to_end(segment)
        return found

    def start(self) -> dict[int, int]:
        """See `Log.start`. 0 for a partition without records."""
        self._check_open()
        return self._manifest.start

    def end(self) -> dict[int, int]:
        """See `Log.end`: what has been exported by now."""
        self._check_open()
        self.refresh()
        return self._manifest.end

    def offset_after(self, partition: int, time_ms: int) -> int:
        """See `Log.offset_after`. By the manifest; one segment is read."""
        self._check_open()
        if not 0 <= partition < self.partitions:
            raise no_partition(self.name, partition, self.partitions)
        for segment in self._segments[partition]:
            if segment.latest_ms > time_ms:
                return self._reader(segment).offset_after(time_ms)
        return self._manifest.end[partition]

    def check_segments(self, until: dict[int, int]) -> None:
        """Read and check all segments with records before `until` (partition -> offset). Raises `LogError` for the first that
        is missing or damaged."""
        for segment in self._manifest.segments:
            if segment.first < until.get(segment.partition, 0):
                self._reader(segment)

    def _check_open(self) -> None:
        if self._closed:
            raise LogError("the log is closed", where=self.url, do="open it again")

    def close(self) -> None:
        """See `Log.close`."""
        self._closed = True
        self._readers.clear()


def _bounded(records: list[Record]) -> list[Record]:
    """The first of these records, up to about `READ_BYTES`."""
    size = 0
    for count, record in enumerate(records, 1):
        size += len(record.value)
        if size >= READ_BYTES:
            return records[:count]
    return records
