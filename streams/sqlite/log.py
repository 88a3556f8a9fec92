"""The embedded log: one durable SQLite file that several processes of one host read and append to.

Writers take turns with `BEGIN IMMEDIATE`. Offsets and timestamps are assigned inside that transaction, so they are
consecutive across processes. Readers hold no transaction between polls: an open one would prevent the checkpoint of the
write-ahead log.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Final

from vacancy.resources.model.errors import LogError, LogUnavailable
from vacancy.resources.model.record import NewRecord, Record
from vacancy.streams.clocks.clock import Clock, wall_ms
from vacancy.streams.clocks.log_clock import LogClock
from vacancy.streams.clocks.uptime import Uptime, uptime_mark
from vacancy.streams.files.file_events import OPENED, FileEvents
from vacancy.streams.log import (
    READ_BYTES,
    SEND_S,
    AppendedAt,
    Log,
    SettledReceipt,
    check_entries,
    no_partition,
    out_of_range,
)
from vacancy.streams.log_url import LogUrl
from vacancy.streams.sqlite.errors import is_busy, retry_while_busy
from vacancy.streams.sqlite.schema import END, add_entries, checksums, connect, immediate, open_format
from vacancy.streams.sqlite.times import Block, keep_blocks, offset_after

# A damaged value can have another type, or none. This way all have the types of their columns, and the checksum tells.
_READ: Final = (
    "SELECT offset, ifnull(CAST(timestamp_ms AS INTEGER), 0), ifnull(CAST(key AS BLOB), x''),"
    " ifnull(CAST(value AS BLOB), x''), checksum"
    " FROM records WHERE partition = ? AND offset >= ? ORDER BY offset LIMIT ?"
)
_BOUNDS: Final = (
    "SELECT (SELECT offset FROM records WHERE partition = ?1 ORDER BY offset LIMIT 1),"
    " (SELECT offset + 1 FROM records WHERE partition = ?1 ORDER BY offset DESC LIMIT 1),"
    " (SELECT value FROM meta WHERE name = ?2)"
)
_END: Final = "(SELECT offset + 1 FROM records WHERE partition = {} ORDER BY offset DESC LIMIT 1)"
_STORED_ENDS: Final = "SELECT name, value FROM meta WHERE name >= ? AND name < ?"
_ENDS_ASKED: Final = 64
"""Partitions whose ends one statement asks for."""

_TRIM: Final = "DELETE FROM records WHERE partition = ?1 AND offset < min(?2, (SELECT max(offset) FROM records WHERE partition = ?1))"
_READ_TIMEOUT_S: Final = 5.0
_POLL_MAX_S: Final = 0.005

_Row = tuple[int, int, bytes, bytes, int | None]
"""Offset, timestamp, key, value, checksum."""


class SqliteLog(Log):
    """See `Log`. Thread-safe. `clock` (ms since 1970, UTC) and `uptime` give the timestamps of appended records
    (`schema.timestamp`)."""

    def __init__(self, place: LogUrl, clock: Clock = wall_ms, uptime: Uptime = uptime_mark) -> None:
        self.url, self.name = place.url, place.name
        self._path = Path(place.place)
        self._file = os.fspath(self._path)
        self.clock = LogClock(self.name)
        self._clock, self._uptime = clock, uptime
        self._closed = False
        self._writing, self._reading = Lock(), Lock()
        self._version = -1
        self._ends: dict[int, int] = {}
        """The ends of all partitions at this version of the file; none while they were not read."""
        # Who has appended opens the directory of the file, which changes nothing and wakes those who wait.
        self._bell = os.fspath(self._path.absolute().parent)
        self._events: FileEvents | None = None
        self._rang = self._is_rung = False
        self._writer = connect(place)
        try:
            self.partitions, self._checked_from = open_format(self._writer, place)
            self._inode = self._path.stat().st_ino
            # A second connection, because a connection's data_version does not count its own commits.
            self._reader = connect(place)
        except BaseException:
            self._writer.close()
            raise

    def send(self, entries: Sequence[NewRecord], timeout_s: float = SEND_S) -> SettledReceipt:
        """Append at once; the receipt is done."""
        return SettledReceipt(self.append(entries, timeout_s))

    def append(self, entries: Sequence[NewRecord], timeout_s: float = 30.0) -> list[AppendedAt]:
        """See `Log.append`. If this raises, nothing was appended."""
        deadline = time.monotonic() + timeout_s
        if not self._writing.acquire(timeout=timeout_s):
            raise LogUnavailable("other threads kept the log locked", where=self.url, do="try again")
        try:
            self._check_open()
            self._check_file()
            check_entries(entries, self.url)
            sent_ms = self.clock.host_ms()
            appended = retry_while_busy(
                lambda: add_entries(self._writer, entries, self.partitions, self._clock(), self._uptime()),
                deadline - time.monotonic(),
                self.url,
            )
            if appended:
                self._ring()
                self.clock.note(sent_ms, appended[-1].timestamp_ms)
            return appended
        finally:
            self._writing.release()

    def _ring(self) -> None:
        """Wake those who wait for records: the commit is done."""
        with contextlib.suppress(OSError):
            os.close(os.open(self._bell, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def wait(self, pause_s: float, longest_s: float) -> bool:
        """See `Log.wait`. It waits for `longest_s` while each append that was found had been announced."""
        if self._events is None:
            self._events = FileEvents([Path(self._bell)], OPENED)
        self._rang = self._events.wait(longest_s if self._is_rung else pause_s)
        return self._rang

    def unread(self, positions: Mapping[int, int]) -> list[int]:
        """See `Log.unread`. Where nothing was appended it costs a few microseconds, however many partitions there are."""
        with self._reading:
            self._check_open()
            self._check_file()
            retry_while_busy(self._find_ends, _READ_TIMEOUT_S, self.url)
            ends = self._ends
            return [partition for partition, offset in positions.items() if ends.get(partition) != offset]

    def read(self, partition: int, offset: int, limit: int, timeout_s: float = 0.0) -> list[Record]:
        """See `Log.read`. A poll without new records costs a few microseconds."""
        if not 0 <= partition < self.partitions:
            raise no_partition(self.name, partition, self.partitions)
        deadline = time.monotonic() + timeout_s
        pause_s = 0.001
        while True:
            with self._reading:
                self._check_open()
                records = retry_while_busy(
                    lambda: self._read_now(partition, offset, limit),
                    max(timeout_s, _READ_TIMEOUT_S),
                    self.url,
                )
            left_s = deadline - time.monotonic()
            if records or left_s <= 0:
                return records
            time.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 1.1, _POLL_MAX_S)

    def _find_ends(self) -> None:
        """Read the ends of all partitions, unless nothing was appended since they were read."""
        # The version is read before the rows, so that a commit between the two is found by the next poll.
        version = self._reader.execute("PRAGMA data_version").fetchone()[0]
        if version == self._version and self._ends:
            return
        self._version = version
        self._is_rung, self._rang = self._rang, False
        self._ends = {}
        ends: list[Any] = []
        for first in range(0, self.partitions, _ENDS_ASKED):
            asked = range(first, min(first + _ENDS_ASKED, self.partitions))
            ends += self._ends_of(asked)
        stored = dict(
            self._reader.execute(_STORED_ENDS, (END, f"{END}:")).fetchall()  # ":" is after the digits
        )
        # Of a partition whose end is not sure, `read` reports the error: the others do not wait for it.
        self._ends = {
            partition: end
            for partition, end in enumerate(ends)
            if isinstance(end, int) and stored.get(f"{END}{partition}", end) == end
        }

    def _ends_of(self, partitions: Sequence[int]) -> Sequence[Any]:
        try:
            found: Sequence[Any] = self._reader.execute(
                f"SELECT {', '.join(map(_END.format, partitions))}"
            ).fetchone()
        except sqlite3.Error as error:
            if is_busy(error):
                raise
            return [None] * len(partitions)
        return found

    def _read_now(self, partition: int, offset: int, limit: int) -> list[Record]:
        self._find_ends()
        if self._ends.get(partition) == offset:
            self._check_file()
            return []
        rows = self._rows(partition, offset, limit)
        if not rows or rows[0][0] != offset:
            start, end = self._bounds(partition)
            if not start <= offset <= end:
                raise out_of_range(self.name, partition, offset, start, end)
            if not rows and offset < end:  # they came since, or they are not found in a damaged file
                rows = self._rows(partition, offset, limit)
            if not rows and offset < end:
                raise self._missing(partition)
        if [row[0] for row in rows] != list(range(offset, offset + len(rows))):
            raise LogError(
                "the log has a gap",
                where=f"{self.url}, partition {partition}, between {offset} and {rows[-1][0]}",
                do="restore the file from a backup: another program changed it",
            )
        return self._checked(partition, rows)

    def _rows(self, partition: int, offset: int, limit: int) -> list[_Row]:
        """The rows of up to `limit` records from `offset` on. Of large records they are fewer: `READ_BYTES`."""
        cursor = self._reader.execute(_READ, (partition, offset, limit))
        rows: list[_Row] = []
        size = 0
        try:
            for row in cursor:
                rows.append(row)
                size += len(row[2]) + len(row[3])
                if size >= READ_BYTES:
                    break
        finally:
            cursor.close()  # an open one would prevent the checkpoint of the write-ahead log
        return rows

    def _checked(self, partition: int, rows: Sequence[_Row]) -> list[Record]:
        """The records of these rows, if they are as they were appended. Raises LogError if a checksum differs."""
        records = [Record(partition, offset, time_ms, key, value) for offset, time_ms, key, value, _ in rows]
        found = checksums(records)
        stored = [row[4] for row in rows]
        if found != stored:
            checked_from = self._checked_from[partition]
            for record, now, before in zip(records, found, stored, strict=True):
                if now != before and not (before is None and record.offset < checked_from):
                    raise LogError(
                        "the record is damaged: its checksum does not match",
                        where=f"{self.url}, partition {partition}, offset {record.offset}",
                        do="check the disk, and restore the file from a backup",
                    )
        return records

    def _bounds(self, partition: int) -> tuple[int, int]:
        start, end, stored = self._reader.execute(_BOUNDS, (partition, f"{END}{partition}")).fetchone()
        # Every partition has an opening record.
        if start is None or end is None or (stored is not None and end < stored):
            raise self._missing(partition)
        return start, end

    def _missing(self, partition: int) -> LogError:
        return LogError(
            "the log's file is damaged: records are missing",
            where=f"{self.url}, partition {partition}",
            do="check the disk, and restore the file from a backup",
        )

    def start(self) -> dict[int, int]:
        """See `Log.start`."""
        return {partition: bounds[0] for partition, bounds in self._all_bounds().items()}

    def end(self) -> dict[int, int]:
        """See `Log.end`."""
        return {partition: bounds[1] for partition, bounds in self._all_bounds().items()}

    def offset_after(self, partition: int, time_ms: int) -> int:
        """See `Log.offset_after`. It reads the highest timestamp of each block of records (`times`). Where an earlier build
        appended, the first call reads the timestamps of these records and keeps what it found."""
        if not 0 <= partition < self.partitions:
            raise no_partition(self.name, partition, self.partitions)
        missing: list[Block] = []

        def search() -> int:
            missing.clear()
            start, end = self._bounds(partition)
            return offset_after(self._reader, partition, time_ms, (start, end), missing)

        with self._reading:
            self._check_open()
            found = retry_while_busy(search, _READ_TIMEOUT_S, self.url)
        if missing:
            with self._writing:
                self._check_open()
                keep_blocks(self._writer, missing)
        return found

    def trim(self, partition: int, before: int) -> None:
        """See `Log.trim`. In one transaction, because a partition begins with its opening record at any time; writers wait
        for it. The file does not get smaller: later records use the room."""
        if not 0 <= partition < self.partitions:
            raise no_partition(self.name, partition, self.partitions)
        with self._writing:
            self._check_open()
            self._check_file()
            retry_while_busy(lambda: self._delete(partition, before), _READ_TIMEOUT_S, self.url)

    def _delete(self, partition: int, before: int) -> None:
        with immediate(self._writer):
            self._writer.execute(_TRIM, (partition, before))

    def _all_bounds(self) -> dict[int, tuple[int, int]]:
        with self._reading:
            self._check_open()
            return retry_while_busy(
                lambda: {partition: self._bounds(partition) for partition in range(self.partitions)},
                _READ_TIMEOUT_S,
                self.url,
            )

    def _check_open(self) -> None:
        if self._closed:
            raise LogError("the log is closed", where=self.url, do="open it again")

    def _check_file(self) -> None:
        """Raise LogError if the file was removed or replaced: appended records would be lost."""
        try:
            same = os.stat(self._file).st_ino == self._inode  # noqa: PTH116 - at each poll
        except FileNotFoundError:
            same = False
        if not same:
            raise LogError(
                "the log's file was removed or replaced", where=self.url, do="restart this process"
            )

    def close(self) -> None:
        """See `Log.close`. Everything appended is on disk already."""
        with self._writing, self._reading:
            self._closed = True
            if self._events is not None:
                self._events.close()
            for db in (self._reader, self._writer):
                self._shut(db)

    def _shut(self, db: sqlite3.Connection) -> None:
        try:
            db.close()
        except sqlite3.Error:
            # Only the checkpoint of the write-ahead log can fail here; the next process that opens the file does it.
            return
