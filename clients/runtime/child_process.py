"""A process, spawned with a pipe to it: heard from, spoken to, ended with whoever started it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from vacancy.clients.runtime.worker_process import watch_parent
from vacancy.resources.model.errors import VacancyError

_END_S = 5.0
_spawn = multiprocessing.get_context("spawn")


class ChildProcess:
    """`target(connection, *arguments)` in a process of its own. As a context it is ended on leaving.

    One whose parent is gone, however it went, ends by itself. A `VacancyError` of its target is sent to the parent.
    `connection` is there to wait for what several of them say.
    """

    def __init__(self, name: str, target: Callable[..., None], *arguments: Any) -> None:
        self.name = name
        self.connection, theirs = _spawn.Pipe()
        self._process = _spawn.Process(target=_main, args=(theirs, target, arguments), name=name)
        self._process.start()
        theirs.close()  # the child's end is now the only one, and its going away is seen

    def hear(self, timeout_s: float | None = None) -> Any:
        """What it says next. Raises its error, and VacancyError if it has ended or says nothing for so long."""
        if timeout_s is not None and not self.connection.poll(timeout_s):
            raise VacancyError(f"{self.name} has said nothing for {timeout_s:g} s")
        try:
            said = self.connection.recv()
        except EOFError:
            self._process.join(_END_S)
            raise VacancyError(
                f"{self.name} ended with code {self._process.exitcode} and said nothing",
                do="see what it wrote to standard error",
            ) from None
        if isinstance(said, VacancyError):
            raise said
        return said

    def tell(self, word: Any) -> None:
        """Say something to it."""
        self.connection.send(word)

    def join(self) -> None:
        """Wait until it has ended."""
        self._process.join()

    def end(self) -> None:
        """Let go of it, ending it if it still runs."""
        if self._process.exitcode is None:
            self._process.terminate()
            self._process.join(_END_S)
            self._process.kill()  # where it did not listen
            self._process.join()
        self.connection.close()

    def __enter__(self) -> ChildProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def _main(parent: Connection, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """The spawned process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, and tells once
    signal.signal(signal.SIGTERM, _leave)
    watch_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))
    try:
        target(parent, *arguments)
    except VacancyError as error:
        parent.send(error)
        raise SystemExit(error.exit_code) from None


def _leave(number: int, frame: object) -> None:
    """By way of all `with` blocks, so that nothing is left behind."""
    del frame
    raise SystemExit(128 + number)
