"""The page beside a worker: `vacancy worker --ui-port PORT` serves it in a process of its own.

A viewer must not slow the fold. So the worker starts a process with the lowest priority, which is a reader of the store as any
`vacancy ui` is, and shares nothing with the thread that folds. The worker's own pages name its address.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from multiprocessing.connection import Connection
from typing import Any, Final, NamedTuple

from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.runtime.child_process import ChildProcess
from vacancy.resources.model.errors import StoreError, UsageError, VacancyError
from vacancy.streams.pages.page_server import free_port
from vacancy.streams.settings import Settings, WebAddress

_NICE: Final = 19
_AGAIN_S: Final = 2.0
"""How often a page that cannot be served now is tried again: where there is no store yet, or the port is in use."""

_RESTART_MIN_S: Final = 1.0
_RESTART_MAX_S: Final = 60.0


_STOPPED: Final = (0, 128 + signal.SIGTERM)
"""How it ends when it is asked to, by Ctrl-C or by a supervisor. The worker may end at the same moment."""


class _Message(NamedTuple):
    """What the process sends: the address at which it serves, or why it waits."""

    address: str
    waits: str


class PageProcess:
    """Serves the page of `settings.store` at `ui_host` and `ui_port`, from construction to `close`. As a context it closes itself.

    `flags`: see `SiteOptions`. `report` is called, in a thread, with lines for people. A port that is in use, a store that is not
    there yet, or the end of the process stop nothing: it is tried again.
    """

    def __init__(
        self, settings: Settings, flags: tuple[str, ...], report: Callable[[str], None] = lambda _: None
    ) -> None:
        self.address = ""
        """The URL of the page, "" while it is not served."""
        self._settings, self._flags, self._report = settings, flags, report
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._child: ChildProcess | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause_s = _RESTART_MIN_S
        while (child := self._start()) is not None:
            try:
                while True:
                    self._heard(child.receive())
            except VacancyError as error:
                self.address = ""
                if not self._closing.is_set() and child.exit_code not in _STOPPED:
                    self._report(f"the page has ended, and starts again in {pause_s:.0f} s: {error}")
            self._closing.wait(pause_s)
            child.close()
            pause_s = min(2 * pause_s, _RESTART_MAX_S)

    def _start(self) -> ChildProcess | None:
        with self._lock:
            if self._closing.is_set():
                return None
            arguments = (self._settings.model_dump(), self._flags)
            self._child = ChildProcess("the page", _serve, *arguments, where=f"store {self._settings.store}")
            return self._child

    def _heard(self, message: _Message) -> None:
        self.address = message.address
        self._report(
            f"the page is at {message.address}" if message.address else f"the page waits: {message.waits}"
        )

    def close(self) -> None:
        """Stop serving."""
        self._closing.set()
        with self._lock:
            if self._child is not None:
                self._child.terminate()
        self._thread.join()

    def __enter__(self) -> PageProcess:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _serve(parent: Connection, given: Mapping[str, Any], flags: tuple[str, ...]) -> None:
    """The spawned process."""
    os.nice(_NICE)
    settings = Settings(**given)
    waits = ""
    while True:
        try:
            _serve_once(settings, flags, lambda url: parent.send(_Message(url, "")))
        except (StoreError, UsageError) as error:
            if str(error) != waits:
                waits = str(error)
                parent.send(_Message("", waits))
            time.sleep(_AGAIN_S)
        else:
            return


def _serve_once(settings: Settings, flags: tuple[str, ...], started: Callable[[str], None]) -> None:
    """Serve until SIGTERM. Raises `UsageError` where it cannot listen, `StoreError` where there is no store."""
    from vacancy.ui.http.server import serve
    from vacancy.ui.site import Site, SiteOptions

    port = free_port(
        WebAddress(settings.ui_host, settings.ui_port)
    )  # before the store is read: that may take a while
    with closing(Site(settings, installed_registry(), SiteOptions(flags=flags))) as site:
        serve(site, settings.ui_host, port, started)
