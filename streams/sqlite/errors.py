"""Translates SQLite's errors: what happened, where, and what to do. Retries while another writer locks the file."""

from __future__ import annotations

import random
import sqlite3
import struct
import time
from collections.abc import Callable
from typing import Final, TypeVar

from vacancy.resources.model.errors import LogError, LogUnavailable

T = TypeVar("T")

_TRANSLATIONS: Final[dict[int, tuple[str, str]]] = {
    sqlite3.SQLITE_FULL: ("the disk is full: nothing was written", "free disk space, then try again"),
    sqlite3.SQLITE_IOERR: (
        "the disk failed to read or write: nothing was written",
        "check its free space, its quota and its health, then try again",
    ),
    sqlite3.SQLITE_NOTADB: ("the file is not a log: it is not an SQLite database", "name the log's own file"),
    sqlite3.SQLITE_CORRUPT: ("the log's file is damaged", "restore it from a backup, or create a new log"),
    sqlite3.SQLITE_CANTOPEN: ("the log's file cannot be opened", "check that its directory is writable"),
    sqlite3.SQLITE_READONLY: (
        "the log's file cannot be written",
        "check the permissions of it and its directory",
    ),
    sqlite3.SQLITE_PERM: (
        "the log's file cannot be opened",
        "check the permissions of it and its directory",
    ),
}

_OTHER_TYPES: Final = (TypeError, UnicodeDecodeError, struct.error)
"""What the values of a damaged row, or a damaged name of a column, cause: SQLite does not check the types of columns."""


def is_busy(error: sqlite3.Error) -> bool:
    """Whether the error means that another connection has locked the file."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def translate_error(error: sqlite3.Error, where: str) -> LogError:
    """`error` as a LogError (LogUnavailable if the file was only locked); `where` is the log."""
    if is_busy(error):
        return LogUnavailable("other writers kept the log locked", where=where, do="try again")
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    unknown = (f"SQLite failed: {error}", "check the file; if it is intact, report this")
    what, do = _TRANSLATIONS.get(code, unknown)
    return LogError(what, where=where, do=do)


def retry_while_busy(attempt: Callable[[], T], timeout_s: float, where: str) -> T:
    """Call `attempt`, and retry it while the file is locked, for up to `timeout_s`. Returns its result.

    SQLite's own busy handler sleeps the same intervals in every process, so that waiting writers collide again; the
    pauses here are random. Raises LogUnavailable after `timeout_s`, LogError for any other SQLite error and for values of
    other types than were written.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = 0.001
    while True:
        try:
            return attempt()
        except sqlite3.Error as error:
            left_s = deadline - time.monotonic()
            if not is_busy(error) or left_s <= 0:
                raise translate_error(error, where) from error
        except _OTHER_TYPES as error:
            what, do = _TRANSLATIONS[sqlite3.SQLITE_CORRUPT]
            raise LogError(
                f"{what}: a value has another type than was written", where=where, do=do
            ) from error
        time.sleep(min(random.uniform(0, pause_s), left_s))
        pause_s = min(pause_s * 1.5, 0.02)
