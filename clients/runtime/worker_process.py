"""A worker in a process of its own: started, heard from once it has caught up, and ended in good order."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Final, Protocol

from vacancy.clients.runtime.garbage_collector import spare_collector
from vacancy.resources.model.errors import LogUnavailable, UsageError, VacancyError
from vacancy.streams.log_url import parse_log_url
from vacancy.streams.shutdown import StopSignal, forward_signals, on_stop

if TYPE_CHECKING:
    from vacancy.streams.embedded_worker import EmbeddedWorker
    from vacancy.streams.settings import WebAddress

NO_SETTINGS: Final[Mapping[str, str]] = MappingProxyType({})

_PAUSE_S = 0.005
_spawn = multiprocessing.get_context("spawn")


class RunningWorker(Protocol):
    """A worker, as those who run one see it."""

    @property
    def position(self) -> dict[int, int]:
        """Partition -> the offset after the last record applied."""

    @property
    def errors(self) -> dict[int, VacancyError]:
        """Partition -> why it was stopped, in the order they stopped."""


def run_worker(
    log_url: str,
    store: Path,
    *,
    client_settings: Mapping[str, str] = NO_SETTINGS,
    on_ready: Callable[[RunningWorker], None] | None = None,
    stop: StopSignal | None = None,
    web: WebAddress | None = None,
) -> None:
    """Fold the log into the store until told to stop: by SIGTERM or SIGINT (where this is the main thread), or by
    anything put into `stop`.

    `on_ready` is called once all that was in the log at the start is folded; partitions that failed before that
    are in the worker's `errors`. `web` is where to serve the worker's state, which only that of a Kafka log does.
    A Kafka that does not answer is waited for. Raises what else opening raises, and at the end the first partition's
    error.
    """
    # Imported here, so that a process which only starts workers does without ctypes.
    from vacancy.clients.runtime.malloc import returning_memory

    stop_signal: StopSignal = SimpleQueue() if stop is None else stop
    with forward_signals(stop_signal), returning_memory():
        if parse_log_url(log_url).scheme == "kafka":
            _run_faust(log_url, store, client_settings, on_ready, stop_signal, web)
        elif web is not None and web.port not in (None, "off"):
            raise UsageError(
                "The worker of this log serves no pages",
                where=log_url,
                do="see `vacancy status`, or use Kafka",
            )
        else:
            _run_embedded(log_url, store, client_settings, on_ready, stop_signal)


def _run_faust(
    log_url: str,
    store: Path,
    client_settings: Mapping[str, str],
    on_ready: Callable[[RunningWorker], None] | None,
    stop_signal: StopSignal,
    web: WebAddress | None,
) -> None:
    from vacancy.clients.runtime.bootstrap import worker_parts
    from vacancy.streams.faust.app import WorkerApp, make_app
    from vacancy.streams.faust.worker import run_app
    from vacancy.streams.log import open_log
    from vacancy.streams.not_ready_server import NotReadyServer
    from vacancy.streams.settings import WebAddress
    from vacancy.streams.wait_for_log import LogWaiter

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
                    run_app(make_app(log, worker_parts(log, store), client_settings, web), stop_signal, ready)
                except LogUnavailable as error:  # they went away before it had joined
                    waiter.note(error)
                else:
                    return


def _run_embedded(
    log_url: str,
    store: Path,
    client_settings: Mapping[str, str],
    on_ready: Callable[[RunningWorker], None] | None,
    stop_signal: StopSignal,
) -> None:
    # Imported here, so that a process which only starts workers does not load RocksDB.
    from vacancy.clients.runtime.bootstrap import installed_registry, open_store, tick_entry
    from vacancy.streams.embedded_worker import EmbeddedWorker
    from vacancy.streams.log import open_log

    with (
        open_log(log_url, **client_settings) as log,
        open_store(store, log, installed_registry()) as tables,
    ):
        target = log.end()
        worker = EmbeddedWorker(log, tables, tick_entry=lambda p: tick_entry(p, log.partitions))
        spare_collector()
        watcher = on_stop(stop_signal, worker.stop)
        try:
            if on_ready is not None and _catch_up(worker, target, watcher):
                on_ready(worker)
            worker.run()
        finally:
            stop_signal.put(None)
            watcher.join()


def _catch_up(worker: EmbeddedWorker, target: Mapping[int, int], watcher: threading.Thread) -> bool:
    """Step until every partition is at `target` or has failed. False where it was told to stop before."""
    while watcher.is_alive():
        position = worker.position
        if all(position[p] >= end or p in worker.errors for p, end in target.items()):
            return True
        if not worker.step():
            time.sleep(_PAUSE_S)
    return False


class WorkerProcess:
    """A worker on `store` in a spawned process, from `start` to `stop`. As a context it does both.

    A worker whose parent is gone, however it went, stops by itself.
    """

    def __init__(
        self, log_url: str, store: Path, *, client_settings: Mapping[str, str] = NO_SETTINGS
    ) -> None:
        self.store = store
        self._ours, self._theirs = _spawn.Pipe(duplex=False)
        self._ended = False
        verbose = logging.getLogger().isEnabledFor(logging.INFO)
        words = (self._theirs, log_url, store, dict(client_settings), verbose)
        self._process = _spawn.Process(target=_main, args=words, name="vacancy-worker")

    @property
    def pid(self) -> int | None:
        """The process's id, None before `start`."""
        return self._process.pid

    def start(self) -> None:
        """Spawn it. It is of use after `wait_ready`."""
        self._process.start()
        self._theirs.close()  # the child's end is now the only one, and its going away is seen

    def wait_ready(self, timeout_s: float = 60.0) -> dict[int, int]:
        """Wait until it has folded what was in the log when it started; returns its position then.

        Raises the worker's own error if it failed, VacancyError if it is not ready in time.
        """
        if not self._ours.poll(timeout_s):
            raise VacancyError(
                f"the worker has not caught up within {timeout_s:g} s",
                where=f"store {self.store}",
                do="give it more time, or see what keeps it",
            )
        said = self._hear()
        if not isinstance(said, dict):
            raise said
        return said

    def check(self) -> None:
        """Raise the worker's error if it has ended by itself."""
        if self._process.exitcode is not None:
            raise self._last_error()

    def stop(self, timeout_s: float = 30.0) -> None:
        """Have it stop and close its store. Raises its error if it had one, VacancyError if it had to be killed.
        Once it was stopped, or killed by `kill`, nothing more is done."""
        if self._process.pid is None or self._ended:
            return
        self._process.terminate()
        self._process.join(timeout_s)
        self._ended = True
        code = self._process.exitcode
        if code is None:
            self.kill()
            raise VacancyError(
                f"the worker did not stop within {timeout_s:g} s and was killed",
                where=f"store {self.store}",
                do="start it again: a store survives that",
            )
        # SIGTERM ends it at once only before it has opened anything.
        if code not in (0, -signal.SIGTERM):
            raise self._last_error()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()
        self._process.join()
        self._ended = True

    def _hear(self) -> dict[int, int] | VacancyError:
        try:
            said: dict[int, int] | VacancyError = self._ours.recv()
        except (EOFError, OSError):  # it said no more, or what it said was heard and the pipe is closed
            self._process.join(5.0)
            return VacancyError(
                f"the worker ended with code {self._process.exitcode} and said nothing",
                where=f"store {self.store}",
                do="see what it wrote to standard error",
            )
        return said

    def _last_error(self) -> VacancyError:
        said = self._hear()
        while not isinstance(said, VacancyError):
            said = self._hear()
        return said

    def __enter__(self) -> WorkerProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except VacancyError:
            if error is None:  # else the first error is the one to tell
                raise
        finally:
            self._ours.close()


def _main(
    parent: Connection, log_url: str, store: Path, client_settings: dict[str, str], verbose: bool
) -> None:
    """The spawned process: says its position once it is ready, and its error if it ends with one."""
    from vacancy.clients.runtime.logging import configure_logs
    from vacancy.streams.settings import WebAddress

    configure_logs(verbose=verbose)  # unless told, structlog writes to standard output, which is the parent's
    stop_signal: StopSignal = SimpleQueue()
    watch_parent(lambda: stop_signal.put(None))

    def ready(worker: RunningWorker) -> None:
        parent.send(next(iter(worker.errors.values()), worker.position))

    try:
        run_worker(
            log_url,
            store,
            client_settings=client_settings,
            on_ready=ready,
            stop=stop_signal,
            web=WebAddress(port="off"),
        )
    except VacancyError as error:
        parent.send(error)
        raise SystemExit(error.exit_code) from None


def watch_parent(gone: Callable[[], None]) -> None:
    """Call `gone` from another thread once the process that spawned this one has ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_after, args=(parent.join, gone), daemon=True).start()


def _after(join: Callable[[], None], gone: Callable[[], None]) -> None:
    join()
    gone()
