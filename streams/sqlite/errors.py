"""SQLite's errors, told as what, where and what to do; and the patience to wait for its one writer."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from typing import Final, TypeVar

from vacancy.resources.model.errors import LogError, LogUnavailable

T = TypeVar("T")

_TOLD: Final[dict[int, tuple[str, str]]] = {
    sqlite3.SQLITE_FULL: ("The disk is full: nothing was written", "free some space, then try again"),
    sqlite3.SQLITE_IOERR: (
        "The disk failed to read or write: nothing was written",
        "check its free space, its quota and its health, then try again",
    ),
    sqlite3.SQLITE_NOTADB: ("The file is no log: it is not an SQLite database", "name the log's own file"),
    sqlite3.SQLITE_CORRUPT: ("The log's file is damaged", "restore it from a backup, or make a new log"),
    sqlite3.SQLITE_CANTOPEN: ("The log's file cannot be opened", "check that its directory can be written"),
    sqlite3.SQLITE_READONLY: ("The log's file cannot be written", "check the rights on it and its directory"),
    sqlite3.SQLITE_PERM: ("The log's file cannot be opened", "check the rights on it and its directory"),
}


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection held the file for the moment."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def translate_error(error: sqlite3.Error, where: str) -> LogError:
    """`error` as a LogError (LogUnavailable if the file was only busy); `where` is the log."""
    if is_busy(error):
        return LogUnavailable("Other writers kept the log busy", where=where, do="try again")
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    what, do = _TOLD.get(code, (f"SQLite failed: {error}", "check the file; if it is whole, report this"))
    return LogError(what, where=where, do=do)


def retry_while_busy(attempt: Callable[[], T], timeout_s: float, where: str) -> T:
    """What `attempt` returns, tried again while the file is busy, for up to `timeout_s`.

    SQLite's own busy handler sleeps the same steps in every process, so waiting writers collide again; the
    pauses here are random. Raises LogUnavailable at the end, LogError for any other SQLite error.
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
        time.sleep(min(random.uniform(0, pause_s), left_s))
        pause_s = min(pause_s * 1.5, 0.02)
