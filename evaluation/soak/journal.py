"""A journal for processes that may be killed at any moment: an append-only file of lines."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Journal:
    """An append-only file of lines, each one JSON list. Complete lines survive the death of the writer.

    If the writer is killed during a write that crosses a page, an incomplete line remains. It counts as not written;
    readers skip it and the next writer removes it.
    """

    def __init__(self, path: Path) -> None:
        if path.exists():
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, *words: Any) -> None:
        os.write(self._file, json.dumps(words).encode() + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)


def journal_of(path: Path) -> list[list[Any]]:
    """The lines of a journal so far."""
    complete, _, _ = path.read_bytes().rpartition(b"\n") if path.exists() else (b"", b"", b"")
    return [json.loads(line) for line in complete.splitlines()]
