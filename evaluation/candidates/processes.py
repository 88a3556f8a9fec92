"""Processes of a store: started without a shell, ended with their parent, measured from Linux's /proc."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from evaluation.candidates.candidate import Footprint
from vacancy.resources.model.errors import VacancyError

_TAIL: Final = 600
_PR_SET_PDEATHSIG: Final = 1


def die_with_parent() -> None:
    """To be called in a child process: the kernel kills it when its parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface on which nothing listens. They are below the ephemeral ports, so that the port of a
    killed process stays free until it is restarted."""
    found: set[int] = set()
    while len(found) < count:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            found.add(port)
    return list(found)


def answers_http(port: int) -> bool:
    """Whether a server on a port of 127.0.0.1 answers a request for its root with 200."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        with contextlib.suppress(OSError, HTTPException):
            connection.request("GET", "/")
            return connection.getresponse().status == 200
        return False
    finally:
        connection.close()


class StoreProcess:
    """One process of a store. Its output goes to `output`. It is killed if this process ends."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        output: Path,
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.name = name
        self._output = output
        with output.open("ab") as file:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=directory,
                preexec_fn=die_with_parent,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def wait_until(self, serves: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Wait until `serves` returns True. Raises `VacancyError` with the last output if the process ends before, or if it takes
        too long."""
        end = time.monotonic() + timeout_s
        while not serves():
            if self._process.poll() is not None:
                raise VacancyError(
                    f"{self.name} ended with code {self._process.returncode}: {self.output_tail()}"
                )
            if time.monotonic() > end:
                raise VacancyError(f"{self.name} does not serve after {timeout_s:g} s: {self.output_tail()}")
            time.sleep(0.02)

    def output_tail(self) -> str:
        """The end of its output, on one line."""
        with contextlib.suppress(OSError):
            return " ".join(self._output.read_text(errors="replace").split())[-_TAIL:]
        return ""

    def kill(self) -> None:
        """End it and its children with SIGKILL."""
        pids = [self.pid, *descendants(self.pid)] if self._process.poll() is None else []
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def stop(self, timeout_s: float = 20.0) -> None:
        """End it with SIGTERM, and with SIGKILL if that takes too long."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
        self.kill()


def port_answers(port: int) -> bool:
    """Whether something accepts connections on a port of 127.0.0.1."""
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and theirs."""
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def pause(pids: Iterable[int]) -> None:
    """Stop processes and their children with SIGSTOP: they keep their connections, and do not answer."""
    _signal(pids, signal.SIGSTOP)


def resume(pids: Iterable[int]) -> None:
    """Undo `pause`."""
    _signal(pids, signal.SIGCONT)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to processes, then to their children: a parent that is stopped starts no more."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        for child in descendants(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)


def footprint(pids: Iterable[int], directory: Path) -> Footprint:
    """What these processes and their descendants use, with all files in `directory`."""
    every = {one for pid in pids for one in (pid, *descendants(pid))}
    return Footprint(
        sum(map(memory_bytes, every)),
        sum(disk_bytes(path) for path in directory.rglob("*")),
        len(every),
        sum(map(cpu_s, every)),
    )


def memory_bytes(pid: int) -> int:
    """The proportional memory (PSS) of a process; 0 if it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def disk_bytes(path: Path) -> int:
    """The disk space of a file; hard links count once for each name."""
    with contextlib.suppress(OSError):
        return path.lstat().st_blocks * 512
    return 0


def cpu_s(pid: int) -> float:
    """The processor time of a process, in user and kernel mode; 0 if it has ended."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0
