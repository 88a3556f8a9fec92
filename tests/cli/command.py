"""Runs the real command in separate processes, in a home directory without any settings of the user."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from tests.support.processes.command_process import CommandProcess, Ended
from vacancy.clients.runtime.bootstrap import opening_records
from vacancy.resources.model.events import Rules
from vacancy.streams.log import create_log

EXECUTABLE = Path(sys.executable).with_name("vacancy")
STARTED_S = 90.0
T = TypeVar("T")


def _can_be_interrupted() -> None:
    # A shell starts background processes with SIGINT ignored, and their children inherit that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Vacancy:
    """Runs `vacancy` in `home`. `settings` are environment variables without their VACANCY_ prefix."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        outside = {name: value for name, value in os.environ.items() if not name.startswith("VACANCY_")}
        inside = {f"VACANCY_{name.upper()}": value for name, value in settings.items()}
        self.environment = {**outside, "XDG_STATE_HOME": str(home / "state"), **inside}
        self._commands = CommandProcess(sys.executable, home, self.environment)

    def run(self, *words: object, stdin: str = "") -> Ended:
        """Run a command in a new process until it ends."""
        done = subprocess.run(
            [EXECUTABLE, *map(str, words)],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=self.home,
            env=self.environment,
            timeout=STARTED_S,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def run_shared(self, *words: object) -> Ended:
        """Run a command in the process that runs all command lines of this object."""
        return self._commands.run(*map(str, words))

    def __call__(self, *words: object) -> str:
        """The standard output of a command that must succeed."""
        ended = self.run_shared(*words)
        assert ended.code == 0, ended
        return ended.out

    def json(self, *words: object) -> Any:
        """The JSON output of a command that must succeed."""
        return json.loads(self(*words, "--json"))

    def fails(self, code: int, *words: object) -> str:
        """The single error line of a command that must end with `code`."""
        ended = self.run_shared(*words)
        assert ended.code == code, ended
        lines = ended.err.splitlines()
        assert len(lines) == 1, ended
        assert lines[0].startswith("vacancy: "), ended
        return lines[0].removeprefix("vacancy: ")

    def settled(self, look: Callable[[], T]) -> T:
        """What `look` finds while the store has all of the log. Records come when nobody waits for them: the outcome of a request after
        its claim, a tick when a deadline has passed. Then it looks again."""
        give_up_at = time.monotonic() + STARTED_S
        while True:
            before = self._ends()
            found = look()
            if all(position == end for position, end in before) and self._ends() == before:
                return found
            assert time.monotonic() < give_up_at, before

    def _ends(self) -> list[tuple[int, int]]:
        """Position and end of each partition."""
        return [(one["position"], one["end"]) for one in self.json("status")["partitions"]]

    def close(self) -> None:
        """End the process of `run_shared`."""
        self._commands.close()

    def __enter__(self) -> Vacancy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, *words: object) -> subprocess.Popen[str]:
        """Start a command with both outputs in pipes."""
        return subprocess.Popen(
            [EXECUTABLE, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.home,
            env=self.environment,
            preexec_fn=_can_be_interrupted,
        )

    @contextmanager
    def serving(
        self, *words: object, until: str, stop: signal.Signals = signal.SIGTERM
    ) -> Iterator[list[str]]:
        """Start a command that runs until stopped; yields its error lines as soon as one contains `until`.

        It must end with 0 when it is stopped.
        """
        process = self.start(*words)
        said: list[str] = []
        ready = threading.Event()

        def listen() -> None:
            assert process.stderr is not None
            for line in process.stderr:
                said.append(line)
                if until in line:
                    ready.set()

        listener = threading.Thread(target=listen)
        listener.start()
        try:
            assert ready.wait(STARTED_S), said
            yield said
            process.send_signal(stop)
            assert process.wait(STARTED_S) == 0, said
        finally:
            process.kill()
            process.wait()
            listener.join()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()

    @contextmanager
    def worker(self) -> Iterator[list[str]]:
        """Start a worker and wait until it has caught up."""
        with self.serving("worker", until="caught up") as said:
            yield said


def log_of_version(version: int, url: str, partitions: int = 1) -> None:
    """Create a log that starts with this version of the rules, as an older build does."""
    create_log(url, partitions, opening_records(partitions, Rules(version=version))).close()


def node_file(home: Path, root: str, vcpus: int = 8, gpus: int = 0) -> Path:
    """Write a node file for `vacancy publish --file`."""
    providers: list[dict[str, Any]] = [
        {
            "id": root,
            "inventories": {"VCPU": {"total": vcpus}, "MEMORY_MB": {"total": 16384, "reserved": 512}},
            "traits": ["HW_CPU_X86_AVX2"],
        },
        *(
            {"id": f"{root}:gpu{n}", "parent": root, "inventories": {"CUSTOM_GPU": {"total": 1}}}
            for n in range(gpus)
        ),
    ]
    file = home / f"{root}.json"
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps({"providers": providers}))
    return draft.replace(file)  # a publisher may read it meanwhile
