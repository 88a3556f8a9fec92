"""The file of an SQLite log: its two tables, and functions to create it, open it and append to it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from vacancy.resources.model.errors import LogError
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.model.record import NewRecord
from vacancy.streams.clock import wall_ms
from vacancy.streams.file_modes import make_file
from vacancy.streams.log import AppendedAt, existing_log, missing_log
from vacancy.streams.log_url import LogUrl
from vacancy.streams.sqlite.errors import retry_while_busy, translate_error

FORMAT: Final = 1
APPLICATION_ID: Final = 0x76616361  # "vaca", for tools that recognise files by their header

# Without a rowid the table is one B-tree in reading order. Pages have 8 KiB, because a row of such a tree that is larger
# than a quarter of a page goes to overflow pages: with pages of 4 KiB, rows of 1.5 KB took 4.6 KB.
_SCHEMA: Final = f"""
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
    PRIMARY KEY (partition, offset)
) WITHOUT ROWID;
COMMIT;
"""
_LAST: Final = "SELECT offset, timestamp_ms FROM records WHERE partition = ? ORDER BY offset DESC LIMIT 1"
_INSERT: Final = "INSERT INTO records (partition, offset, timestamp_ms, key, value) VALUES (?, ?, ?, ?, ?)"


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
            db.executescript(_SCHEMA)
            meta = [("format", FORMAT), ("partitions", len(openings))]
            db.executemany("INSERT INTO meta (name, value) VALUES (?, ?)", meta)
            add_entries(db, openings, len(openings), wall_ms())
        _put_in_place(draft, path, place.url)
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


def _put_in_place(draft: Path, path: Path, url: str) -> None:
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
        # Without a limit, the -wal file stays as large as the largest burst made it.
        retry_while_busy(lambda: db.execute("PRAGMA journal_size_limit = 67108864").close(), 5.0, place.url)
    except BaseException:
        db.close()
        raise
    return db


def read_partitions(db: sqlite3.Connection, place: LogUrl) -> int:
    """The number of partitions of the log in `db`. Raises LogError if this build cannot read it."""

    def read_meta() -> dict[str, int]:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchall():
            return {}
        return dict(db.execute("SELECT name, value FROM meta").fetchall())

    meta = retry_while_busy(read_meta, 5.0, place.url)
    found, partitions = meta.get("format"), meta.get("partitions")
    if not isinstance(found, int) or not isinstance(partitions, int) or partitions < 1:
        raise LogError("the database is not a vacancy log", where=place.url, do="name the log's own file")
    if found > FORMAT:
        raise LogError(
            f"the log's file has format {found}, this version reads up to format {FORMAT}",
            where=place.url,
            do="upgrade vacancy",
        )
    return partitions


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


def add_entries(
    db: sqlite3.Connection, entries: Sequence[NewRecord], partitions: int, now_ms: int
) -> list[AppendedAt]:
    """Append `entries` in one transaction. Offsets and timestamps continue from the last record of each partition."""
    appended: list[AppendedAt] = []
    rows: list[tuple[int, int, int, bytes, bytes]] = []
    with immediate(db):
        last: dict[int, tuple[int, int]] = {}
        for key, value in entries:
            partition = partition_for(key, partitions)
            if partition not in last:
                found = db.execute(_LAST, (partition,)).fetchone()
                last[partition] = (-1, now_ms) if found is None else (found[0], max(now_ms, found[1]))
            before, timestamp_ms = last[partition]
            last[partition] = (before + 1, timestamp_ms)
            appended.append(AppendedAt(partition, before + 1, timestamp_ms))
            rows.append((partition, before + 1, timestamp_ms, key.encode(), value))
        db.executemany(_INSERT, rows)
    return appended
