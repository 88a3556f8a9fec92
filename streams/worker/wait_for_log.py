"""Waits for a log that does not answer, without a time limit, until a stop is requested.

A service may start before the brokers do. It logs that it waits at once and then at growing intervals; a service with
status pages serves them meanwhile.
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
from vacancy.streams.worker.shutdown import StopSignal, stop_requested

_FIRST_TRY_S: Final = 2.0
_PAUSE_S: Final = 1.0
_POLL_S: Final = 0.05
_LOG_AGAIN_S: Final = 10.0
_LOG_AGAIN_MAX_S: Final = 300.0

_events = structlog.get_logger("vacancy.log")

OpenLog = Callable[[float | None], Log]
"""Opens the log within the given seconds (None: the default). Raises LogUnavailable if it does not answer."""


class NotReadyPages(Protocol):
    """Serves status pages while the log does not answer."""

    def show(self, since: float, why: str) -> None:
        """Serve that the process waits since `since` (monotonic clock, seconds), and the reason `why`."""

    def close(self) -> None:
        """Stop serving until `show` is called again."""


class LogWaiter:
    """Tries to open a log until it answers or `stop_signal` requests a stop. `where` names the log in messages.

    As a context manager it closes its pages at the end.
    Not for use by several threads.
    """

    def __init__(self, where: str, stop_signal: StopSignal, pages: NotReadyPages | None = None) -> None:
        self._where, self._stop_signal, self._pages = where, stop_signal, pages
        self._since = 0.0
        self._waiting = False
        self._log_at, self._log_again_s = 0.0, _LOG_AGAIN_S

    def open(self, open_log: OpenLog) -> Log | None:
        """Return the log once it answers, or None if a stop is requested before.

        Raises what `open_log` raises, except LogUnavailable.
        """
        if not self._waiting:
            self._since = time.monotonic()
        while not stop_requested(self._stop_signal, _PAUSE_S if self._waiting else 0.0):
            attempt = _Attempt(open_log, None if self._waiting else _FIRST_TRY_S)
            while not attempt.ended(_POLL_S):
                if stop_requested(self._stop_signal):
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
        """Record that the log did not answer, to this waiter or to a user of the log; log it at intervals."""
        now = time.monotonic()
        if not self._waiting:
            self._waiting, self._log_at, self._log_again_s = True, now, _LOG_AGAIN_S
        if self._pages is not None:
            self._pages.show(self._since, str(error))
        if now < self._log_at:
            return
        self._log_at = now + self._log_again_s
        self._log_again_s = min(2 * self._log_again_s, _LOG_AGAIN_MAX_S)
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
    """One attempt to open the log, on its own thread: it cannot be interrupted, and a stop must not wait for it."""

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
        """Discard the result: the log is closed when the attempt ends."""
        with self._lock:
            self._abandoned = True
            log = self._log
        if log is not None:
            log.close()

    def result(self) -> Log | LogUnavailable | None:
        if self._error is not None and not isinstance(self._error, LogUnavailable):
            raise self._error
        return self._log if self._error is None else self._error
