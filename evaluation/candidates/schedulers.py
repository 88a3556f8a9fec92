"""The processes of the schedulers, as the process that runs the tests sees them."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from evaluation.candidates.candidate import Json
from evaluation.candidates.jobs import END, Job, JobResult
from evaluation.candidates.processes import die_with_parent
from evaluation.candidates.registry import Connects, described
from vacancy.resources.model.errors import VacancyError

_ROOT: Final = Path(__file__).parents[2]
_END_S: Final = 20.0
_TAIL: Final = 800
START_TOGETHER_S: Final = 0.1
"""How far ahead a common start is set, so that each process has its job by then."""


class SchedulerProcess:
    """One scheduler in a process of its own."""

    def __init__(self, description: Json, number: int) -> None:
        self._number = number
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
        self._process = subprocess.Popen(
            [sys.executable, "-m", "evaluation.candidates.scheduler_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=_ROOT,
            preexec_fn=die_with_parent,
        )
        self._buffer = bytearray()
        self._write(description)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def start(self, job: Job) -> None:
        """Start a job. `result` has its result."""
        self._write(job.as_json())

    def end_job(self) -> None:
        """End the job that is under way; its result comes soon."""
        self._write({"job": END})

    def result(self, timeout_s: float) -> JobResult:
        """The result of the oldest job. Raises `VacancyError` if the process ends or takes longer."""
        return JobResult.from_json(self.receive(timeout_s))

    def receive(self, timeout_s: float) -> Json:
        """The next object that it sends."""
        assert self._process.stdout is not None  # noqa: S101 - it was opened
        end = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while (at := self._buffer.find(b"\n")) < 0:
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise self._failed(f"sent nothing for {timeout_s:g} s")
                data = os.read(self._process.stdout.fileno(), 1 << 20)
                if not data:
                    raise self._failed(f"ended with code {self._process.wait(_END_S)}")
                self._buffer += data
        line, self._buffer = self._buffer[:at], self._buffer[at + 1 :]
        received: dict[str, Any] = json.loads(line)
        return received

    def close(self) -> None:
        """End it: by the end of its input, and with SIGKILL if that takes too long."""
        assert self._process.stdin is not None  # noqa: S101 - it was opened
        assert self._process.stdout is not None  # noqa: S101 - it was opened
        try:
            self._process.stdin.close()
            self._process.wait(_END_S)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        finally:
            self._process.stdout.close()
            self._errors.close()

    def _write(self, data: Json) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it was opened
        try:
            self._process.stdin.write(json.dumps(data).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._failed("has ended") from None

    def _failed(self, what: str) -> VacancyError:
        self._errors.seek(0)
        text = " ".join(self._errors.read().decode(errors="replace").split())[-_TAIL:]
        return VacancyError(f"scheduler {self._number} {what}: {text}")


class Schedulers:
    """A number of scheduler processes that are connected to a candidate. As a context they are ended at its end.

    With `pool` its processes are used first, new ones are added to it, and none is ended here.
    """

    def __init__(
        self,
        candidate: Connects,
        number: int,
        pool: list[SchedulerProcess] | None = None,
        *,
        timeout_s: float = 600.0,
    ) -> None:
        self._is_shared = pool is not None
        every: list[SchedulerProcess] = [] if pool is None else pool
        started = []
        try:
            for one in range(len(every), number):
                started.append(SchedulerProcess(described(candidate, one), one))  # noqa: PERF401 - see the error below
            for process in started:
                process.receive(timeout_s)
        except BaseException:
            for process in started:
                process.close()
            raise
        every += started
        self.processes = every[:number]

    @classmethod
    def joined(cls, processes: Sequence[SchedulerProcess]) -> Self:
        """These processes, of several groups, as one group. It does not end them."""
        made = cls.__new__(cls)
        made._is_shared, made.processes = True, list(processes)
        return made

    def start(self, jobs: Sequence[Job]) -> None:
        """Start a job in each process."""
        for process, job in zip(self.processes, jobs, strict=True):
            process.start(job)

    def end_jobs(self) -> None:
        """End the jobs that are under way in all processes."""
        for process in self.processes:
            process.end_job()

    def results(self, timeout_s: float) -> list[JobResult]:
        """The results of the jobs that were started."""
        end = time.monotonic() + timeout_s
        return [process.result(max(0.1, end - time.monotonic())) for process in self.processes]

    def run(self, jobs: Sequence[Job], timeout_s: float = 300.0) -> list[JobResult]:
        """Start a job in each process, and wait for all results."""
        self.start(jobs)
        return self.results(timeout_s)

    def close(self) -> None:
        """End all processes, unless they are of a pool."""
        if not self._is_shared:
            for process in self.processes:
                process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def together() -> float:
    """The time of a common start of jobs that are sent now."""
    return time.monotonic() + START_TOGETHER_S
