"""The file of an SQLite log: its tables, and functions to create it, open it and append to it.

Format 2 has a checksum and an uptime mark with each record. A file of format 1 gets both columns when it is opened; its
records stay as they are, without a checksum. docs/formats.md has the details.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote
from zlib import crc32

from vacancy.resources.model.errors import LogError
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.model.record import NewRecord
from vacancy.streams.clocks.clock import wall_ms
from vacancy.streams.clocks.uptime import passed_ms, uptime_mark
from vacancy.streams.files.file_modes import make_file
from vacancy.streams.log import AppendedAt, existing_log, missing_log
from vacancy.streams.log_url import LogUrl
from vacancy.streams.sqlite.errors import retry_while_busy, translate_error
from vacancy.streams.sqlite.times import BLOCK, CREATE, note_blocks

FORMAT: Final = 2
APPLICATION_ID: Final = 0x76616361  # "vaca", for tools that recognise files by their header

# Without a rowid the table is one B-tree in reading order. Pages have 8 KiB, because a row of such a tree that is larger
# than a quarter of a page goes to overflow pages: with pages of 4 KiB, rows of 1.5 KB took 4.6 KB.
SCHEMA: Final = f"""
PRAGMA page_size = 8192;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
BEGIN;
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE records (
    partition    INTEGER NOT NULL,
    offset       INTEGER NOT NULL,
    timestamp_ms INTEGER NOT NULL,
    key          BLOB NOT NULL,
    value        BLOB NOT NULL,
    checksum     INTEGER,
    uptime       INTEGER,
    PRIMARY KEY (partition, offset)
) WITHOUT ROWID;
{CREATE};
COMMIT;
"""
_LOOK_BACK: Final = 4
"""Records of a partition whose timestamps an appender looks at."""

_LAST: Final = (
    "SELECT offset, timestamp_ms, uptime FROM records WHERE partition = ? ORDER BY offset DESC LIMIT ?"
)
INSERT: Final = "INSERT INTO records (partition, offset, timestamp_ms, key, value, checksum, uptime) VALUES (?, ?, ?, ?, ?, ?, ?)"
_REFUSE_FORMAT_1: Final = """
CREATE TRIGGER checked BEFORE INSERT ON records WHEN NEW.checksum IS NULL
BEGIN SELECT RAISE(ABORT, 'the log has format 2: upgrade vacancy in this process'); END
"""
"""A process of an earlier version that had the file open when it was raised must not append without checksums."""

_UNCHECKED: Final = "unchecked_"
"""`unchecked_P` in `meta`: the records of partition P below this offset were written in format 1, without a checksum."""

END: Final = "end_"
"""`end_P` in `meta`: the offset after the last record of partition P. Its search in the tree of records may miss the last ones
where the file is damaged. Files of earlier builds do not have it, and their processes do not raise it."""

SET_END: Final = (
    "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)

_CATCH_UP_MS: Final = 60_000
"""How much a timestamp may gain at most on the time that passed since the last record."""

_place = struct.Struct("<3q").pack

_Row = tuple[int, int, int, bytes, bytes]
"""Partition, offset, timestamp, key, value: a `Record` is one."""


def create_sqlite_log(place: LogUrl, openings: Sequence[NewRecord]) -> None:
    """Create the file with one opening entry per partition. Raises LogError if it exists or cannot be created.

    It is written under a temporary name and then linked to its own, so that no process opens an incomplete file, and of
    two processes that create it at the same time one fails.
    """
    path = Path(place.place)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        if path.exists():
            raise existing_log(place.url)
        make_file(draft)
        with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as db:
            db.executescript(SCHEMA)
            meta = [("format", FORMAT), ("partitions", len(openings))]
            db.executemany("INSERT INTO meta (name, value) VALUES (?, ?)", meta)
            add_entries(db, openings, len(openings), wall_ms(), uptime_mark())
        put_in_place(draft, path, place.url)
    except sqlite3.Error as error:
        raise translate_error(error, place.url) from error
    except OSError as error:
        raise LogError(
            f"the log cannot be created: {error.strerror}",
            where=place.url,
            do="check the directory and its permissions",
        ) from error
    finally:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                draft.with_name(draft.name + suffix).unlink()


def put_in_place(draft: Path, path: Path, url: str) -> None:
    """Give a finished file its name. Raises LogError if there is a log with that name."""
    try:
        os.link(draft, path)
    except FileExistsError as error:
        raise existing_log(url) from error
    descriptor = os.open(path.parent, os.O_RDONLY)  # the new name must survive a power cut
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def connect(place: LogUrl) -> sqlite3.Connection:
    """Connect to the file of an existing log, without SQLite's own busy handler. Any thread may use the connection.

    Raises LogError if there is no file or it cannot be opened.
    """
    if not Path(place.place).is_file():
        raise missing_log(place.url)
    try:
        db = sqlite3.connect(
            f"file:{quote(place.place)}?mode=rw",
            uri=True,
            isolation_level=None,
            timeout=0,
            check_same_thread=False,
        )
    except sqlite3.Error as error:
        raise translate_error(error, place.url) from error
    try:
        # In WAL mode a commit survives a power cut only with FULL.
        retry_while_busy(lambda: db.execute("PRAGMA synchronous = FULL").close(), 5.0, place.url)
        # A page with cells that do not fit is reported as damaged. Otherwise its last cells may be read as if they were not there.
        retry_while_busy(lambda: db.execute("PRAGMA cell_size_check = ON").close(), 5.0, place.url)
        # Without a limit, the -wal file stays as large as the largest burst made it.
        retry_while_busy(lambda: db.execute("PRAGMA journal_size_limit = 67108864").close(), 5.0, place.url)
    except BaseException:
        db.close()
        raise
    return db


def file_format(place: LogUrl) -> int:
    """The format of the file, which is only read. Raises LogError if it is no log or cannot be read."""
    path = Path(place.place)
    if not path.is_file():
        raise missing_log(place.url)

    def read() -> object:
        with contextlib.closing(
            sqlite3.connect(f"file:{quote(place.place)}?mode=ro", uri=True, timeout=0)
        ) as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchall():
                return None
            return dict(db.execute("SELECT name, value FROM meta").fetchall()).get("format")

    found = retry_while_busy(read, 5.0, place.url)
    if not isinstance(found, int):
        raise LogError("the database is not a vacancy log", where=place.url, do="name the log's own file")
    return found


def open_format(db: sqlite3.Connection, place: LogUrl) -> tuple[int, dict[int, int]]:
    """The number of partitions of the log in `db`, and partition -> the first offset with a checksum.

    A file of format 1 is raised to format 2. Raises LogError if this build cannot read the file.
    """

    def read_meta() -> dict[str, int]:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchall():
            return {}
        return dict(db.execute("SELECT name, value FROM meta").fetchall())

    def read_or_raise() -> dict[str, int]:
        meta = read_meta()
        if meta.get("format") == 1 and isinstance(meta.get("partitions"), int):
            _raise_to_format_2(db)
            meta = read_meta()
        return meta

    meta = retry_while_busy(read_or_raise, 5.0, place.url)
    found, partitions = meta.get("format"), meta.get("partitions")
    if not isinstance(found, int) or not isinstance(partitions, int) or partitions < 1:
        raise LogError("the database is not a vacancy log", where=place.url, do="name the log's own file")
    if found > FORMAT:
        raise LogError(
            f"the log's file has format {found}, this version reads up to format {FORMAT}",
            where=place.url,
            do="upgrade vacancy",
        )
    unchecked = {p: meta.get(f"{_UNCHECKED}{p}", 0) for p in range(partitions)}
    return partitions, unchecked


def _raise_to_format_2(db: sqlite3.Connection) -> None:
    """Add the columns of format 2. The table is not rewritten."""
    with immediate(db):
        if db.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()[0] != 1:
            return  # another process was faster
        db.execute("ALTER TABLE records ADD COLUMN checksum INTEGER")
        db.execute("ALTER TABLE records ADD COLUMN uptime INTEGER")
        ends = db.execute("SELECT partition, max(offset) + 1 FROM records GROUP BY partition").fetchall()
        rows = [(f"{_UNCHECKED}{partition}", end) for partition, end in ends]
        db.executemany("INSERT INTO meta (name, value) VALUES (?, ?)", rows)
        db.execute(_REFUSE_FORMAT_1)
        db.execute("UPDATE meta SET value = 2 WHERE name = 'format'")


@contextlib.contextmanager
def immediate(db: sqlite3.Connection) -> Iterator[None]:
    """A write transaction: committed at the end, rolled back on an exception."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # on some errors SQLite has already rolled back
            db.execute("ROLLBACK")
        raise


def checksums(records: Iterable[_Row]) -> list[int]:
    """The CRC-32 of each of these records: its partition, offset and timestamp, its key, its value."""
    return [
        crc32(value, crc32(key, crc32(_place(partition, offset, time_ms))))
        for partition, offset, time_ms, key, value in records
    ]


def add_entries(
    db: sqlite3.Connection, entries: Sequence[NewRecord], partitions: int, now_ms: int, uptime: int
) -> list[AppendedAt]:
    """Append `entries` in one transaction. Offsets continue from the last record of each partition. For the timestamp see
    `timestamp`; `uptime` is this machine's mark (`uptime_mark`). Raises sqlite3.DatabaseError if records are missing at the end
    of one."""
    rows: list[_Row] = []
    with immediate(db):
        last: dict[int, tuple[int, int]] = {}
        starts: dict[int, int] = {}
        for key, value in entries:
            partition = partition_for(key, partitions)
            if partition not in last:
                found = db.execute(_LAST, (partition, _LOOK_BACK)).fetchall()
                before = found[0][0] if found else -1
                end = db.execute("SELECT value FROM meta WHERE name = ?", (f"{END}{partition}",)).fetchone()
                if end is not None and end[0] > before + 1:
                    raise damaged()
                starts[partition] = before + 1
                last[partition] = (before, timestamp(now_ms, uptime, [one[1:] for one in found]))
            before, timestamp_ms = last[partition]
            last[partition] = (before + 1, timestamp_ms)
            rows.append((partition, before + 1, timestamp_ms, key.encode(), value))
        sums = checksums(rows)
        db.executemany(INSERT, [(*row, sum_, uptime) for row, sum_ in zip(rows, sums, strict=True)])
        ends = {partition: before + 1 for partition, (before, _) in last.items()}
        db.executemany(SET_END, [(f"{END}{partition}", end) for partition, end in ends.items()])
        if any(starts[partition] // BLOCK != end // BLOCK for partition, end in ends.items()):
            note_blocks(db, starts, ends)
    return [AppendedAt(*row[:3]) for row in rows]


def damaged() -> sqlite3.DatabaseError:
    """What SQLite raises for a damaged file, for damage that it does not see."""
    error = sqlite3.DatabaseError("records are missing")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def timestamp(now_ms: int, uptime: int, last: Sequence[tuple[int, int | None]]) -> int:
    """The timestamp of a record that is appended at `now_ms`, when the machine's mark is `uptime`. `last` has the timestamps
    and marks of the records before it, the newest first.

    It is now, also where that is before the last timestamp: one process with a fast clock must not push the log's time
    forward for all others. And it is not farther ahead than the time that has passed since these records, by the
    machine's uptime, and the time since the newest of them once more. So processes with a fast clock move the log at
    twice the speed of time at most, however many records they append; a clock that was set right is followed at that
    speed, too. The highest of several records counts, so that one append with a slow clock does not hold the others back.
    After a restart of the machine nothing is known, and now is taken.
    """
    known = [
        (at_ms + passed, passed)
        for at_ms, mark in last
        if (passed := passed_ms(mark or 0, uptime)) is not None
    ]
    if not known:
        return now_ms
    return min(now_ms, max(known)[0] + min(known[0][1], _CATCH_UP_MS))
