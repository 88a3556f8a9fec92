"""A process of a benchmark, spawned with a pipe to it: heard from, spoken to, ended with whoever started it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from vacancy.clients.worker_process import watch_parent
from vacancy.resources.errors import VacancyError

_END_S = 5.0
_spawn = multiprocessing.get_context("spawn")


class Child:
    """`target(connection, *arguments)` in a process of its own. As a context it is ended on leaving.

    One whose parent is gone, however it went, ends by itself.
    """

    def __init__(self, name: str, target: Callable[..., None], *arguments: Any) -> None:
        self.name = name
        self._connection, theirs = _spawn.Pipe()
        self._process = _spawn.Process(target=_main, args=(theirs, target, arguments), name=name)
        self._process.start()
        theirs.close()  # the child's end is now the only one, and its going away is seen

    def hear(self, timeout_s: float) -> Any:
        """What it says next. Raises its error, and VacancyError if it has ended or says nothing for so long."""
        if not self._connection.poll(timeout_s):
            raise VacancyError(f"{self.name} has said nothing for {timeout_s:g} s")
        try:
            said = self._connection.recv()
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
        self._connection.send(word)

    def end(self) -> None:
        """Let go of it, ending it if it still runs."""
        if self._process.exitcode is None:
            self._process.terminate()
            self._process.join(_END_S)
            self._process.kill()
            self._process.join()
        self._connection.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def _main(parent: Connection, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """The spawned process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, and tells once
    watch_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))
    try:
        target(parent, *arguments)
    except VacancyError as error:
        parent.send(error)
        raise SystemExit(error.exit_code) from None
