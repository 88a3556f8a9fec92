"""Waiting for a log that does not answer: as long as that takes, or until told to stop.

A service may be up before the brokers are. It says so at once, and again now and then; who serves its state serves
it meanwhile, too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol, Self

import structlog

from vacancy.resources.model.errors import LogUnavailable
from vacancy.streams.log import Log
from vacancy.streams.shutdown import Told, stop_requested

_FIRST_TRY_S: Final = 2.0
_PAUSE_S: Final = 1.0
_LOOK_S: Final = 0.05
_SAY_AGAIN_S: Final = 10.0
_SAY_AGAIN_MAX_S: Final = 300.0

_events = structlog.get_logger("vacancy.streams.wait_for_log")

OpenLog = Callable[[float | None], Log]
"""Opens the log within so many seconds, or in its own time. Raises LogUnavailable where it does not answer."""


class NotReadyPages(Protocol):
    """Serves what is known while the log does not answer."""

    def show(self, since: float, why: str) -> None:
        """Serve that it is waited since then (of the monotonic clock), and why."""

    def close(self) -> None:
        """Serve nothing any more, until `show` is called again."""


class LogWaiter:
    """Opens a log, `where` by name, until it is `told` to stop. As a context it closes its pages at the end.

    Not for use by several threads.
    """

    def __init__(self, where: str, told: Told, pages: NotReadyPages | None = None) -> None:
        self._where, self._told, self._pages = where, told, pages
        self._since = 0.0
        self._waiting = False
        self._say_at, self._say_again_s = 0.0, _SAY_AGAIN_S

    def open(self, open_log: OpenLog) -> Log | None:
        """The log, once it answers; None where it was told to stop before. Raises what `open_log` raises, but
        LogUnavailable."""
        if not self._waiting:
            self._since = time.monotonic()
        while not stop_requested(self._told, _PAUSE_S if self._waiting else 0.0):
            attempt = _Attempt(open_log, None if self._waiting else _FIRST_TRY_S)
            while not attempt.ended(_LOOK_S):
                if stop_requested(self._told):
                    attempt.abandon()
                    return None
            found = attempt.result()
            if isinstance(found, LogUnavailable):
                self.note(found)
                continue
            if self._waiting:
                _events.warning("log answers", log=self._where, waited_s=self._waited_s())
            if self._pages is not None:
                self._pages.close()
            self._waiting = False
            return found
        return None

    def note(self, error: LogUnavailable) -> None:
        """The log did not answer, here or to whoever used it."""
        now = time.monotonic()
        if not self._waiting:
            self._waiting, self._say_at, self._say_again_s = True, now, _SAY_AGAIN_S
        if self._pages is not None:
            self._pages.show(self._since, str(error))
        if now < self._say_at:
            return
        self._say_at = now + self._say_again_s
        self._say_again_s = min(2 * self._say_again_s, _SAY_AGAIN_MAX_S)
        _events.warning(
            "log does not answer; waiting", log=self._where, waited_s=self._waited_s(), error=str(error)
        )

    def _waited_s(self) -> int:
        return round(time.monotonic() - self._since)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pages is not None:
            self._pages.close()


class _Attempt:
    """One attempt, on another thread: nothing can interrupt it, and whoever was told to stop must not wait for it."""

    def __init__(self, open_log: OpenLog, timeout_s: float | None) -> None:
        self._log: Log | None = None
        self._error: Exception | None = None
        self._abandoned = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, args=(open_log, timeout_s), daemon=True)
        self._thread.start()

    def _run(self, open_log: OpenLog, timeout_s: float | None) -> None:
        try:
            log = open_log(timeout_s)
        except Exception as error:
            self._error = error
            return
        with self._lock:
            self._log = log
            if not self._abandoned:
                return
        log.close()

    def ended(self, wait_s: float) -> bool:
        self._thread.join(wait_s)
        return not self._thread.is_alive()

    def abandon(self) -> None:
        """Nobody wants what comes of it."""
        with self._lock:
            self._abandoned = True
            log = self._log
        if log is not None:
            log.close()

    def result(self) -> Log | LogUnavailable | None:
        if self._error is not None and not isinstance(self._error, LogUnavailable):
            raise self._error
        return self._log if self._error is None else self._error
