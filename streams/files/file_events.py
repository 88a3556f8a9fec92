"""Wakes a process when another one uses a file, by Linux's inotify: nothing has to look every millisecond for what is new.

It is only ever a hint. Who waits looks for itself, after each wait and after its own longest pause: there may be no inotify, its
instances may be used up, or the file was replaced.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

RUNG: Final = 0x8
"""Somebody closed a file that was open for writing."""

OPENED: Final = 0x20
"""Somebody opened a file, or a directory or a file in it."""

_WATCH_AGAIN_S: Final = 1.0
_EVENTS_BYTES: Final = 65_536


class FileEvents:
    """Waits for events of some files, which need not exist yet. For one thread; no method raises for a file.

    `kind` is `RUNG` or `OPENED`.
    """

    def __init__(self, paths: Iterable[Path], kind: int) -> None:
        self._paths = [os.fsencode(path) for path in paths]
        self._kind = kind
        self._descriptor = -1
        self._watch_at = 0.0
        libc = _libc()
        if libc is not None:
            self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        if self._descriptor >= 0:
            self._poll.register(self._descriptor, select.POLLIN)

    @property
    def works(self) -> bool:
        """Whether there can be events. Else `wait` only sleeps."""
        return self._descriptor >= 0

    def wait(self, timeout_s: float) -> bool:
        """Wait until there is an event since the last wait, or for this time. Returns whether there was one."""
        if self._descriptor < 0:
            time.sleep(timeout_s)
            return False
        now = time.monotonic()
        if now >= self._watch_at:
            self._watch_at = now + _WATCH_AGAIN_S
            self._watch()
        if not self._poll.poll(timeout_s * 1000):
            return False
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self._descriptor, _EVENTS_BYTES)) > _EVENTS_BYTES // 2:
                pass
        return True

    def _watch(self) -> None:
        """A watch is of the file that has the name now. To watch a file again changes nothing."""
        libc = _libc()
        for path in self._paths:
            libc.inotify_add_watch(self._descriptor, path, self._kind)

    def close(self) -> None:
        """End the watches. `wait` only sleeps then."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


@lru_cache(maxsize=1)
def _libc() -> Any:
    """The C library, or None where it has no inotify."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        library.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
        library.inotify_init1.argtypes = (ctypes.c_int,)
    except (OSError, AttributeError):
        return None
    return library
