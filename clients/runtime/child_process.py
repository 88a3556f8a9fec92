"""A spawned process with a pipe to it: the only place where processes are started."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any

from vacancy.resources.model.errors import VacancyError
from vacancy.streams.printable import traceback_text

_END_S = 5.0
_spawn = multiprocessing.get_context("spawn")


class ChildProcess:
    """Runs `target(connection, *arguments)` in a spawned process, from construction on. As a context it ends the
    process on leaving.

    The process ignores SIGINT, because its parent decides when it ends; SIGTERM raises SystemExit in it, so that all
    `with` blocks are left. It ends by itself once its parent is gone. A `VacancyError` of `target` is sent to the
    parent with its type and text; any other exception is written to standard error. Log lines go to standard error,
    at the parent's level. `name` is the process in messages, `where` its place.
    """

    def __init__(self, name: str, target: Callable[..., None], *arguments: Any, where: str = "") -> None:
        self.name = name
        self._where = where
        verbose = logging.getLogger().isEnabledFor(logging.INFO)
        self._connection, theirs = _spawn.Pipe()
        self._process = _spawn.Process(target=_main, args=(theirs, verbose, target, arguments), name=name)
        self._process.start()
        theirs.close()  # now only the child has this end, so that its death closes the pipe

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process.pid is not None  # noqa: S101 - it was started
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended (negative: by that signal), or None while it runs."""
        return self._process.exitcode

    def poll(self, timeout_s: float) -> bool:
        """Whether there is something to receive, or the process has ended, within this time."""
        return self._connection.poll(timeout_s)

    def receive(self, timeout_s: float | None = None) -> Any:
        """The next object that it sent. Raises the error that it sent, and VacancyError if it has ended without one
        or sends nothing in time."""
        if timeout_s is not None and not self.poll(timeout_s):
            raise VacancyError(f"{self.name} sent nothing for {timeout_s:g} s", where=self._where)
        try:
            received = self._connection.recv()
        except (EOFError, OSError):  # it has ended, or its last message was received and the pipe is closed
            raise self._silent_end() from None
        if isinstance(received, VacancyError):
            raise received
        return received

    def send(self, value: Any) -> None:
        """Send an object to it. Raises VacancyError if it has ended."""
        try:
            self._connection.send(value)
        except OSError:
            raise self._silent_end() from None

    def last_error(self) -> VacancyError:
        """The error that it ended with. What else it sent before is dropped."""
        while True:
            try:
                self.receive()
            except VacancyError as error:
                return error

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until it has ended."""
        self._process.join(timeout_s)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()
        self._process.join()

    def close(self) -> None:
        """End it if it still runs: with SIGTERM, and with SIGKILL if that takes too long. Close the pipe."""
        if self.exit_code is None:
            self.terminate()
            self.join(_END_S)
            self.kill()
        self._connection.close()

    def _silent_end(self) -> VacancyError:
        self.join(_END_S)
        code = self.exit_code
        by = f" ({signal.Signals(-code).name})" if code is not None and code < 0 else ""
        return VacancyError(
            f"{self.name} ended with code {code}{by} and sent no error",
            where=self._where,
            do="see what it wrote to standard error",
        )

    def __enter__(self) -> ChildProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def wait_for_any(children: Collection[ChildProcess], timeout_s: float | None = None) -> list[ChildProcess]:
    """Those that have something to receive or have ended; waits until there is one, or for this time."""
    by_connection: dict[Any, ChildProcess] = {child._connection: child for child in children}
    return [by_connection[connection] for connection in wait(list(by_connection), timeout_s)]


def watch_parent(callback: Callable[[], object]) -> None:
    """Call `callback` from another thread once the process that spawned this one has ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_call_after, args=(parent.join, callback), daemon=True).start()


def _call_after(join: Callable[[], object], callback: Callable[[], object]) -> None:
    join()
    callback()


def _main(parent: Connection, verbose: bool, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """The spawned process."""
    from vacancy.clients.runtime.logging import configure_logs  # here, because only children need structlog

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _exit)
    configure_logs(verbose=verbose)  # by default structlog writes to standard output, which is the parent's
    watch_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))
    try:
        target(parent, *arguments)
    except VacancyError as error:
        parent.send(error)
        raise SystemExit(error.exit_code) from None
    except Exception:
        # Otherwise multiprocessing writes the traceback, with the control characters that the error's text may contain.
        sys.stderr.write(f"{traceback_text(*sys.exc_info())}\n")
        raise SystemExit(1) from None


def _exit(number: int, frame: object) -> None:
    del frame
    raise SystemExit(128 + number)
