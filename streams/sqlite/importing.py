"""Makes an SQLite log of records that have their offsets and timestamps already.

The file grows under another name, `.NAME.importing`, and gets its own name at the end. So no process opens a half-made log,
and an import that was killed is continued.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from vacancy.resources.model.errors import LogError
from vacancy.resources.model.record import Record
from vacancy.streams.files.file_modes import DIRECTORY_MODE, FILE_MODE, make_file
from vacancy.streams.log import existing_log
from vacancy.streams.log_url import LogUrl
from vacancy.streams.sqlite.errors import retry_while_busy, translate_error
from vacancy.streams.sqlite.schema import (
    END,
    FORMAT,
    INSERT,
    SCHEMA,
    SET_END,
    checksums,
    immediate,
    put_in_place,
)
from vacancy.streams.sqlite.times import note_blocks

_ORIGIN: Final = (
    "CREATE TABLE import_of (log TEXT NOT NULL, partition INTEGER NOT NULL, first INTEGER NOT NULL)"
)
_LAST: Final = (
    "SELECT offset, timestamp_ms, key, value FROM records WHERE partition = ? ORDER BY offset DESC LIMIT 1"
)


class SqliteImport:
    """A log that is being made. `log` is the id of the log that it is made of, `starts` are its first offsets."""

    def __init__(self, place: LogUrl, log: str, starts: dict[int, int]) -> None:
        self._place, self._path = place, Path(place.place)
        self._draft = self._path.with_name(f".{self._path.name}.importing")
        self._log, self._starts = log, starts
        self._db = self._opened()

    def _opened(self) -> sqlite3.Connection:
        """The half-made file of an import of the same log, or a new one. Raises `LogError`."""
        with self._translated():
            made = self._draft.exists()
            make_file(self._draft)
            db = sqlite3.connect(self._draft, isolation_level=None)
            try:
                found = self._origin(db) if made else None
                if found is None:
                    db.close()
                    self._remove()
                    make_file(self._draft)
                    db = sqlite3.connect(self._draft, isolation_level=None)
                    self._create(db)
                elif found != (self._log, self._starts):
                    raise LogError(
                        f"an import of log {found[0]} into this file was not finished",
                        where=str(self._draft),
                        do="finish it with its own archive, or remove that file",
                    )
                # A power cut may take the last commits, and leaves the file whole.
                db.execute("PRAGMA synchronous = NORMAL")
            except BaseException:
                db.close()
                raise
        return db

    def _origin(self, db: sqlite3.Connection) -> tuple[str, dict[int, int]] | None:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'import_of'").fetchone():
            return None
        rows = db.execute("SELECT log, partition, first FROM import_of").fetchall()
        return (rows[0][0], {partition: first for _, partition, first in rows}) if rows else None

    def _create(self, db: sqlite3.Connection) -> None:
        db.executescript(SCHEMA)
        with immediate(db):
            meta = [("format", FORMAT), ("partitions", len(self._starts))]
            db.executemany("INSERT INTO meta (name, value) VALUES (?, ?)", meta)
            db.execute(_ORIGIN)
            rows = [(self._log, partition, first) for partition, first in self._starts.items()]
            db.executemany("INSERT INTO import_of (log, partition, first) VALUES (?, ?, ?)", rows)

    def last(self, partition: int) -> Record | None:
        """The last record that it has of a partition."""
        with self._translated():
            row = self._db.execute(_LAST, (partition,)).fetchone()
        return None if row is None else Record(partition, *row)

    def add(self, records: Sequence[Record]) -> None:
        """Add the next records of a partition. They are kept together or not at all."""
        partition, end = records[0].partition, records[-1].offset + 1

        def write() -> None:
            with immediate(self._db):
                rows = [(*record, sum_, 0) for record, sum_ in zip(records, checksums(records), strict=True)]
                self._db.executemany(INSERT, rows)
                self._db.execute(SET_END, (f"{END}{partition}", end))
                note_blocks(self._db, {partition: records[0].offset}, {partition: end})

        with self._translated():
            retry_while_busy(write, 5.0, self._place.url)

    def finish(self) -> None:
        """Give the file its name: from now on the log is there. Raises `LogError` if there is one by now."""
        with self._translated():
            self._db.execute("DROP TABLE import_of")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._db.close()
            put_in_place(self._draft, self._path, self._place.url)
            self._remove()

    def _remove(self) -> None:
        for suffix in ("-wal", "-shm", ""):
            self._draft.with_name(self._draft.name + suffix).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise translate_error(error, str(self._draft)) from error
        except OSError as error:
            raise LogError(
                f"the log cannot be created: {error.strerror}",
                where=self._place.url,
                do="check the directory and its permissions",
            ) from error

    def close(self) -> None:
        """Close the file. Without `finish` it is continued by the next import."""
        self._db.close()


@contextlib.contextmanager
def importing(place: LogUrl) -> Iterator[None]:
    """Let one process at a time make the log. Raises `LogError` where another one does, or where the log exists."""
    path = Path(place.place)
    lock = path.with_name(f".{path.name}.importing.lock")
    try:
        path.parent.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
        held = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        raise LogError(
            f"the log cannot be created: {error.strerror}",
            where=place.url,
            do="check the directory and its permissions",
        ) from error
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            do = "wait for it"
            raise LogError("another import is making this log", where=place.url, do=do) from None
        try:
            if path.exists():
                _remove_second_name(path)
                raise existing_log(place.url)
            yield
        finally:
            lock.unlink(missing_ok=True)
    finally:
        os.close(held)


def _remove_second_name(path: Path) -> None:
    """Remove the other name of a log whose import was killed after the file had got its own name."""
    draft = path.with_name(f".{path.name}.importing")
    with contextlib.suppress(FileNotFoundError):
        if draft.samefile(path):
            draft.unlink()
