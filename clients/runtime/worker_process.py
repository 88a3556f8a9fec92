"""Workers: run in this process, or in a spawned one."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from vacancy.clients.runtime.child_process import ChildProcess
from vacancy.clients.runtime.garbage_collector import spare_collector
from vacancy.resources.model.errors import (
    LogUnavailable,
    StoreError,
    StoreReleased,
    UsageError,
    VacancyError,
)
from vacancy.streams.log_url import ARCHIVE, parse_log_url
from vacancy.streams.worker.shutdown import StopSignal, forward_signals, on_stop, stop_requested
from vacancy.streams.worker.state_digests import DIGEST_INTERVAL, DigestInterval

if TYPE_CHECKING:
    from vacancy.streams.log import Log
    from vacancy.streams.pages.embedded_pages import EmbeddedPages
    from vacancy.streams.settings import WebAddress
    from vacancy.streams.worker.embedded_worker import EmbeddedWorker

NO_SETTINGS: Final[Mapping[str, str]] = MappingProxyType({})

_PAUSE_S = 0.005


def _nothing_before_opening(log: Log) -> None:
    del log


class RunningWorker(Protocol):
    """What a running worker shows to its caller."""

    @property
    def position(self) -> dict[int, int]:
        """Partition -> the offset after the last record applied."""

    @property
    def errors(self) -> dict[int, VacancyError]:
        """Partition -> why it stopped, in the order in which they stopped."""


class _Ready(NamedTuple):
    """An embedded worker that is ready, and where its pages are."""

    position: dict[int, int]
    errors: dict[int, VacancyError]
    web_address: str | None


def run_worker(
    log_url: str,
    store: Path,
    *,
    client_settings: Mapping[str, str] = NO_SETTINGS,
    on_ready: Callable[[RunningWorker], None] | None = None,
    stop: StopSignal | None = None,
    web: WebAddress | None = None,
    before_opening: Callable[[Log], None] = _nothing_before_opening,
    digest_interval: DigestInterval = DIGEST_INTERVAL,
    tracing: bool = False,
) -> None:
    """Fold the log into the store until it is stopped: by SIGTERM or SIGINT (where this is the main thread), or by
    anything put into `stop`.

    `on_ready` is called once all that was in the log at the start is folded; partitions that failed before that
    are in the worker's `errors`. `web` is where to serve the worker's state; None: that of a Kafka log at the default address, others nowhere.
    `before_opening` is called with the open log before the store is opened, and may make the store.
    `digest_interval`: how often digests of the tables are compared through the log. `tracing`: whether it makes OpenTelemetry spans of
    verdicts (`live_parts`). A Kafka that does not answer is waited
    for. Raises what else opening raises, and at the end the first partition's error.
    """
    # Imported here, because a process that only starts workers does not need ctypes.
    from vacancy.clients.runtime.malloc import returning_memory

    if parse_log_url(log_url).scheme == ARCHIVE:
        raise UsageError(
            "a worker follows a log, and an archive has no new records",
            where=log_url,
            do="fold it with `vacancy replay`, or name the log itself",
        )
    stop_signal: StopSignal = SimpleQueue() if stop is None else stop
    with forward_signals(stop_signal), returning_memory():
        run = _run_faust if parse_log_url(log_url).scheme == "kafka" else _run_embedded
        run(
            *(log_url, store, client_settings, on_ready, stop_signal, web, before_opening, digest_interval),
            tracing,
        )


def _run_faust(
    log_url: str,
    store: Path,
    client_settings: Mapping[str, str],
    on_ready: Callable[[RunningWorker], None] | None,
    stop_signal: StopSignal,
    web: WebAddress | None,
    before_opening: Callable[[Log], None],
    digest_interval: DigestInterval,
    tracing: bool,
) -> None:
    from vacancy.clients.runtime.bootstrap import worker_parts
    from vacancy.projections.store.swap import wait_for_swap
    from vacancy.streams.faust.app import WorkerApp, make_app
    from vacancy.streams.faust.worker import run_app
    from vacancy.streams.log import open_log
    from vacancy.streams.pages.not_ready_server import NotReadyServer
    from vacancy.streams.settings import WebAddress
    from vacancy.streams.worker.wait_for_log import LogWaiter

    def ready(app: WorkerApp) -> None:
        spare_collector()
        if on_ready is not None:
            on_ready(app)

    pages = NotReadyServer(web or WebAddress(), parse_log_url(log_url).name)
    with LogWaiter(log_url, stop_signal, pages) as waiter:
        while (
            log := waiter.open(lambda timeout_s: open_log(log_url, timeout_s, **client_settings))
        ) is not None:
            with log:
                try:
                    wait_for_swap(store, partial(stop_requested, stop_signal))
                    before_opening(log)
                    parts = worker_parts(log, store, digest_interval, tracing=tracing)
                    run_app(make_app(log, parts, client_settings, web), stop_signal, ready)
                except LogUnavailable as error:  # they went away before it had joined
                    waiter.note(error)
                except StoreError as error:
                    if not _is_released(store, error):
                        raise
                else:
                    return


def _is_released(store: Path, error: StoreError) -> bool:
    """Whether the worker goes on with the store that takes the place of this one."""
    from vacancy.projections.store.swap import is_swapping

    if not isinstance(error, StoreReleased) and not is_swapping(store):
        return False
    logging.getLogger(__name__).warning("the store is closed: another one takes its place (%s)", store)
    return True


def _run_embedded(
    log_url: str,
    store: Path,
    client_settings: Mapping[str, str],
    on_ready: Callable[[RunningWorker], None] | None,
    stop_signal: StopSignal,
    web: WebAddress | None,
    before_opening: Callable[[Log], None],
    digest_interval: DigestInterval,
    tracing: bool,
) -> None:
    # Imported here, because a process that only starts workers does not need RocksDB.
    from vacancy.projections.store.swap import wait_for_swap
    from vacancy.streams.log import open_log
    from vacancy.streams.pages.embedded_pages import EmbeddedPages
    from vacancy.streams.settings import WebAddress

    address = WebAddress(port="off") if web is None else web
    with (
        open_log(log_url, **client_settings) as log,
        contextlib.closing(EmbeddedPages(address, log.name)) as pages,
    ):
        while True:
            wait_for_swap(store, partial(stop_requested, stop_signal))
            try:
                before_opening(log)
                _fold_embedded(log, store, on_ready, stop_signal, pages, digest_interval, tracing)
            except StoreError as error:
                if not _is_released(store, error):
                    raise
            else:
                return


def _fold_embedded(
    log: Log,
    store: Path,
    on_ready: Callable[[RunningWorker], None] | None,
    stop_signal: StopSignal,
    pages: EmbeddedPages,
    digest_interval: DigestInterval,
    tracing: bool,
) -> None:
    """Fold until a stop is requested. Raises `StoreReleased` where another store takes the place of this one."""
    from vacancy.clients.runtime.bootstrap import installed_registry, live_parts, open_store
    from vacancy.streams.worker.embedded_worker import EmbeddedWorker

    with open_store(store, log, installed_registry()) as tables:
        parts = live_parts(tables, digest_interval, tracing=tracing)
        target = log.end()

        def between_commits() -> None:
            if parts.between_commits is not None:
                parts.between_commits()
            pages.answer()

        worker = EmbeddedWorker(
            log,
            tables,
            tick_entry=parts.tick_entry,
            answer_entry=parts.answer_entry,
            digest_entries=parts.digest_entries,
            digest_interval=digest_interval,
            between_commits=between_commits,
        )
        pages.attach(log, tables, worker, target)
        restore_collector = spare_collector()
        watcher = on_stop(stop_signal, worker.stop)
        released = False
        try:
            if on_ready is not None and _catch_up(worker, target, watcher):
                on_ready(_Ready(worker.position, worker.errors, pages.web_address))
            worker.run()
        except StoreReleased:
            released = True
            raise
        finally:
            pages.detach()
            restore_collector()
            if not released:  # otherwise the thread waits for the stop of the worker that goes on
                stop_signal.put(None)
                watcher.join()


def _catch_up(worker: EmbeddedWorker, target: Mapping[int, int], watcher: threading.Thread) -> bool:
    """Step until every partition is at `target` or has failed. False if it was stopped before."""
    while watcher.is_alive():
        position = worker.position
        if all(position[p] >= end or p in worker.errors for p, end in target.items()):
            return True
        if not worker.step():
            time.sleep(_PAUSE_S)
    return False


class WorkerProcess:
    """A worker on `store` in a spawned process, from `start` to `stop`. As a context it does both.

    The process stops by itself once its parent is gone.
    """

    def __init__(
        self, log_url: str, store: Path, *, client_settings: Mapping[str, str] = NO_SETTINGS
    ) -> None:
        self.store = store
        self._arguments = (log_url, store, dict(client_settings))
        self._child: ChildProcess | None = None
        self._ended = False

    @property
    def pid(self) -> int | None:
        """The process's id, None before `start`."""
        return None if self._child is None else self._child.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended (negative: by that signal), or None while it runs or was not started."""
        return None if self._child is None else self._child.exit_code

    def start(self) -> None:
        """Spawn it. It can be used after `wait_ready`."""
        self._child = ChildProcess("the worker", _work, *self._arguments, where=f"store {self.store}")

    def wait_ready(self, timeout_s: float = 120.0) -> dict[int, int]:
        """Wait until it has folded what was in the log when it started. Returns its position then.

        Raises the worker's own error if it failed, VacancyError if it is not ready in time.
        """
        child = self._started()
        if not child.poll(timeout_s):
            raise VacancyError(
                f"the worker has not caught up within {timeout_s:g} s",
                where=f"store {self.store}",
                do="allow more time, or check what slows it down",
            )
        position: dict[int, int] = child.receive()
        return position

    def check(self) -> None:
        """Raise the worker's error if it has ended by itself."""
        child = self._started()
        if child.exit_code is not None:
            raise child.last_error()

    def stop(self, timeout_s: float = 30.0) -> None:
        """Stop it, so that it closes its store. Raises its error if it had one, VacancyError if it had to be killed.
        Does nothing if it was never started, or was stopped or killed before."""
        child = self._child
        if child is None or self._ended:
            return
        child.terminate()
        child.join(timeout_s)
        self._ended = True
        code = child.exit_code
        if code is None:
            self.kill()
            raise VacancyError(
                f"the worker did not stop within {timeout_s:g} s and was killed",
                where=f"store {self.store}",
                do="start it again: the store is not damaged by that",
            )
        # SIGTERM itself ends it only before it has opened anything.
        if code not in (0, -signal.SIGTERM, 128 + signal.SIGTERM):
            raise child.last_error()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._started().kill()
        self._ended = True

    def _started(self) -> ChildProcess:
        if self._child is None:
            raise VacancyError(
                "the worker was not started", where=f"store {self.store}", do="call `start` first"
            )
        return self._child

    def __enter__(self) -> WorkerProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except VacancyError:
            if error is None:  # otherwise the first error is the one to raise
                raise
        finally:
            if self._child is not None:
                self._child.close()


def _work(parent: Connection, log_url: str, store: Path, client_settings: dict[str, str]) -> None:
    """The spawned process: sends its position once it is ready, or the first partition's error."""
    from vacancy.streams.settings import WebAddress

    def ready(worker: RunningWorker) -> None:
        parent.send(next(iter(worker.errors.values()), worker.position))

    run_worker(log_url, store, client_settings=client_settings, on_ready=ready, web=WebAddress(port="off"))
