"""Who may read and write the files that this product makes: their owner, and their group for reading; nobody else."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from vacancy.streams.log_url import parse_log_url

FILE_MODE: Final = 0o640
DIRECTORY_MODE: Final = 0o750
_NOT_ALLOWED: Final = 0o027
"""The bits that no mode may have: writing by the group, and everything for others."""


def restrict_umask() -> None:
    """Let this process make files with 0640 and directories with 0750 at most. A umask that allows less stays.

    Files of RocksDB and SQLite get their modes from it. Programs that use the classes of `vacancy.clients` keep their
    own umask; there the directories of a store protect its files.
    """
    os.umask(os.umask(_NOT_ALLOWED) | _NOT_ALLOWED)


def make_file(path: Path) -> None:
    """Make an empty file for a database, if there is none. Raises OSError."""
    path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))


def too_open(log_url: str, store: Path | None = None, outbox: Path | None = None) -> Iterator[str]:
    """One warning for each of the log's file, the store and the outbox that other users may read or write.

    The names are in the form of a shell. A log on Kafka has no file here.
    """
    log = parse_log_url(log_url)
    for name, path in (("log", Path(log.place) if log.scheme == "sqlite" else None), ("outbox", outbox)):
        if path is None:
            continue
        # SQLite gives its other two files the mode of the first, and deletes them when the last process closes it.
        files = [one for suffix in ("", "-wal", "-shm") if _is_open(one := Path(f"{path}{suffix}"))]
        if files:
            yield (
                f"other users can read or write the {name} {path}; close it with"
                f" `chmod g-w,o= {shlex.join(map(str, files))}`"
            )
    if store is not None and _is_open(store):
        yield (
            f"other users can read or write the store {store}; close it with"
            f" `chmod -R g-w,o= {shlex.quote(str(store))}`"
        )


def _is_open(path: Path) -> bool:
    try:
        return bool(stat.S_IMODE(path.stat().st_mode) & _NOT_ALLOWED)
    except OSError:
        return False
