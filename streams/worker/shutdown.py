"""Requests to stop: from a signal, or from another part of the process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue

StopSignal = SimpleQueue[None]
"""Putting anything into this queue requests a stop. It is a queue because a signal handler may call `put` at any
moment; `Event.set` could wait for a lock that the interrupted code holds."""


def stop_requested(stop_signal: StopSignal, wait_s: float | None = 0.0) -> bool:
    """Whether a stop was requested, now or within `wait_s` (None: wait until it is). A request is never withdrawn."""
    try:
        stop_signal.get(timeout=wait_s) if wait_s != 0.0 else stop_signal.get_nowait()
    except Empty:
        return False
    stop_signal.put(None)  # for other callers
    return True


def on_stop(stop_signal: StopSignal, callback: Callable[[], object]) -> threading.Thread:
    """Start a daemon thread that calls `callback` once a stop is requested."""

    def wait() -> None:
        stop_requested(stop_signal, None)
        callback()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@contextmanager
def forward_signals(stop_signal: StopSignal) -> Iterator[None]:
    """SIGTERM and SIGINT request a stop while this is entered. Does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    for number, _ in before:
        signal.signal(number, lambda *_: stop_signal.put(None))
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
