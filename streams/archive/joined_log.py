"""A log whose oldest records are in an archive: reads them from there, and all others from the log."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from vacancy.resources.model.errors import LogError, LogUnavailable
from vacancy.resources.model.record import NewRecord, Record
from vacancy.streams.archive.log import ArchiveLog
from vacancy.streams.archive.manifest import record_checksum
from vacancy.streams.log import SEND_S, Log, Receipt, no_partition
from vacancy.streams.log_identity import LogIdentity
from vacancy.streams.log_url import ARCHIVE, LogUrl, archive_place

_READ_S = 10.0


def opener(archive: str) -> Callable[[], ArchiveLog]:
    """Opens the archive at this directory or URL. Raises UsageError at once if it is not one."""
    place = LogUrl(ARCHIVE, archive_place(archive))
    return lambda: ArchiveLog(place)


class JoinedLog(Log):
    """See `Log`. `log` is the log itself, `open_archive` opens the archive; that is done when a record is asked for, or the
    earliest offset, that the log does not have any more. So a log that was never trimmed needs no archive.

    The first use checks that the archive is of this log and that no record between the two is missing. Appends go to the
    log.
    """

    def __init__(self, log: Log, open_archive: Callable[[], ArchiveLog]) -> None:
        self.url, self.name, self.partitions, self.clock = log.url, log.name, log.partitions, log.clock
        self._log, self._open_archive = log, open_archive
        self._archive: ArchiveLog | None = None
        self._starts: dict[int, int] = {}

    def identity(self) -> LogIdentity:
        """See `Log.identity`. From the archive where no record of the log names it any more."""
        try:
            return self._log.identity()
        except LogError:
            if not any(self._log.start().values()):
                raise
            return self._joined(self._log.start()).identity()

    def send(self, entries: Sequence[NewRecord], timeout_s: float = SEND_S) -> Receipt:
        """See `Log.send`."""
        return self._log.send(entries, timeout_s)

    def read(self, partition: int, offset: int, limit: int, timeout_s: float = 0.0) -> list[Record]:
        """See `Log.read`. Raises `LogError` where the archive does not fit the log, or is damaged."""
        if not 0 <= partition < self.partitions:
            raise no_partition(self.name, partition, self.partitions)
        if offset >= self._starts.get(partition, 0):
            try:
                return self._log.read(partition, offset, limit, timeout_s)
            except LogError:
                start = self._log.start()
                if offset >= start[partition]:
                    raise
                self._starts = start
        archive = self._joined(self._starts)
        return archive.read(partition, offset, min(limit, self._starts[partition] - offset))

    def unread(self, positions: Mapping[int, int]) -> Collection[int]:
        """See `Log.unread`."""
        return self._log.unread(positions)

    def wait(self, pause_s: float, longest_s: float) -> bool:
        """See `Log.wait`."""
        return self._log.wait(pause_s, longest_s)

    def _joined(self, start: dict[int, int]) -> ArchiveLog:
        """The archive, checked against the log."""
        if self._archive is None:
            archive = self._open_archive()
            try:
                self._check(archive, start)
            except BaseException:
                archive.close()
                raise
            self._archive = archive
        return self._archive

    def _check(self, archive: ArchiveLog, start: dict[int, int]) -> None:
        named = archive.identity()
        try:
            own = self._log.identity()
        except LogError:
            own = LogIdentity(named.log, self.partitions)
        if named != own:
            raise LogError(
                f"the archive is of log {named.log} with {named.partitions} partitions, this is log {own.log} with"
                f" {own.partitions}",
                where=archive.url,
                do="name the archive of this log: --archive, VACANCY_ARCHIVE or `archive` in vacancy.toml",
            )
        for partition, first in start.items():
            segments = archive.manifest.of_partition(partition)
            end = segments[-1].end if segments else 0
            if first > end:
                raise LogError(
                    f"the archive ends at offset {end}, the log begins at {first}: the records between are missing",
                    where=f"{archive.url}, partition {partition}",
                    do="name the archive that the log was trimmed with",
                )
            self._check_overlap(archive, partition, first, end)

    def _check_overlap(self, archive: ArchiveLog, partition: int, first: int, end: int) -> None:
        """The last record of the archive must be the log's, if the log still has it."""
        if not first < end <= self._log.end()[partition]:
            return
        records = self._log.read(partition, end - 1, 1, timeout_s=_READ_S)
        last = archive.manifest.of_partition(partition)[-1].last_checksum
        if not records:
            raise LogUnavailable(
                f"the log did not answer within {_READ_S:g} s",
                where=f"{self.name}, partition {partition}, offset {end - 1}",
                do="try again",
            )
        if record_checksum(records[0]) != last:
            raise LogError(
                "the log has another record than the archive",
                where=f"{archive.url}, partition {partition}, offset {end - 1}",
                do="name the archive of this log: this one was made before the log was written again",
            )

    def start(self) -> dict[int, int]:
        """See `Log.start`: that of the archive, where the log was trimmed."""
        start = self._log.start()
        if not any(start.values()):
            return start
        archived = self._joined(start).start()
        return {partition: min(first, archived[partition]) for partition, first in start.items()}

    def end(self) -> dict[int, int]:
        """See `Log.end`."""
        return self._log.end()

    def offset_after(self, partition: int, time_ms: int) -> int:
        """See `Log.offset_after`."""
        first = self._log.start()[partition]
        if first:
            found = self._joined(self._log.start()).offset_after(partition, time_ms)
            if found < first:
                return found
        return self._log.offset_after(partition, time_ms)

    def close(self) -> None:
        """See `Log.close`."""
        if self._archive is not None:
            self._archive.close()
        self._log.close()
