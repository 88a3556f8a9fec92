"""Wakes the schedulers whose claims a commit has decided, and no others.

A scheduler that waits for a verdict sleeps until its bell rings. A bell is an empty file, and to ring it is to open it for
writing and to close it, which inotify reports to who watches that file. All schedulers of a host read the same feed, so to
wake all of them at each commit cost more processor time than the commit. Which bell is rung follows from the id of the claim:
a scheduler gives all its claims the same beginning.

A bell is only a hint, rung after the commit can be read. Two schedulers may have the same one, and a bell that was removed is
made again. Nothing is lost where it cannot be rung: schedulers also look at intervals.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

DIRECTORY: Final = "bells"
BELLS: Final = 61
"""How many there are. A prime number, so that the two characters that choose one count alike."""

SIGNIFICANT: Final = 2
"""How many bytes at the beginning of a claim's id choose the bell."""

_DIRECTORY_MODE: Final = 0o750
_MODE: Final = 0o640
_RING: Final = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC


def bell_path(store: Path, claim: bytes) -> Path:
    """The bell of a claim, or of all claims whose ids have this beginning of `SIGNIFICANT` bytes."""
    return store / DIRECTORY / f"{_number(claim):02d}"


def _number(claim: bytes) -> int:
    return int.from_bytes(claim[:SIGNIFICANT], "big") % BELLS


class Bells:
    """The bells of a store, for its worker. They are made if they are not there. No method raises."""

    def __init__(self, store: Path) -> None:
        directory = store / DIRECTORY
        self._paths = [os.fsencode(directory / f"{number:02d}") for number in range(BELLS)]
        # Each partition of a store comes here: what another one has made is not rung.
        there: set[bytes] = set()
        with contextlib.suppress(OSError):
            directory.mkdir(_DIRECTORY_MODE, exist_ok=True)
            there = {os.fsencode(path) for path in directory.iterdir()}
        for number, path in enumerate(self._paths):
            if path not in there:
                self._open(number)

    def ring(self, verdicts: Iterable[bytes]) -> None:
        """Wake who waits for these verdicts, by their keys in the table `VERDICTS`: each bell once."""
        for number in {_number(row_key[row_key.find(b"\0") + 1 :]) for row_key in verdicts}:
            self._open(number)

    def _open(self, number: int) -> None:
        with contextlib.suppress(OSError):  # the disk is full, or the directory was removed
            os.close(os.open(self._paths[number], _RING, _MODE))
