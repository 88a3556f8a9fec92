"""Being told to stop: by a signal, or by another part of the process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue

Told = SimpleQueue[None]
"""Whoever puts something in says that it is over. A queue, because a signal's handler may call its `put` at any moment;
an Event's `set` could wait for a lock that the interrupted code holds."""


def stop_requested(told: Told, wait_s: float | None = 0.0) -> bool:
    """Whether it is over, once it is or `wait_s` have passed (None: however long it takes). So it stays."""
    try:
        told.get(timeout=wait_s) if wait_s != 0.0 else told.get_nowait()
    except Empty:
        return False
    told.put(None)  # for whoever else asks
    return True


def on_stop(told: Told, then: Callable[[], object]) -> threading.Thread:
    """A thread that does something once it is over. It keeps no process from ending."""

    def wait() -> None:
        stop_requested(told, None)
        then()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@contextmanager
def forward_signals(told: Told) -> Iterator[None]:
    """SIGTERM and SIGINT say that it is over, where this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    for number, _ in before:
        signal.signal(number, lambda *_: told.put(None))
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
