"""The real command, run in processes of its own, in a home that has nothing from anywhere else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

EXECUTABLE = Path(sys.executable).with_name("vacancy")
STARTED_S = 20.0


# Runs command lines one after the other: a process takes longer to start than most commands take to run.
SHELL = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from vacancy.cli.main import main
said = sys.stdout
for line in sys.stdin:
    sys.argv = ["vacancy", *json.loads(line)]
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main()
    print(json.dumps([code, out.getvalue(), err.getvalue()]), file=said, flush=True)
"""


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def _can_be_interrupted() -> None:
    # Whoever runs the tests in the background of a shell has SIGINT ignored, and so have all that are started from there.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Vacancy:
    """Runs `vacancy` in `home`. `settings` are environment variables without their VACANCY_ prefix."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self._shell: subprocess.Popen[str] | None = None
        outside = {name: value for name, value in os.environ.items() if not name.startswith("VACANCY_")}
        inside = {f"VACANCY_{name.upper()}": value for name, value in settings.items()}
        self.environment = {**outside, "XDG_STATE_HOME": str(home / "state"), **inside}

    def run(self, *words: object, stdin: str = "") -> Ended:
        """Run it to its end in a process of its own."""
        done = subprocess.run(
            [EXECUTABLE, *map(str, words)],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=self.home,
            env=self.environment,
            timeout=60,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def say(self, *words: object) -> Ended:
        """Run it to its end in a process that runs one command line after the other."""
        if self._shell is None:
            self._shell = subprocess.Popen(
                [sys.executable, "-c", SHELL],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=self.home,
                env=self.environment,
            )
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(json.dumps([str(word) for word in words]) + "\n")
        self._shell.stdin.flush()
        return Ended(*json.loads(self._shell.stdout.readline()))

    def __call__(self, *words: object) -> str:
        """What it answers, where it must succeed."""
        ended = self.say(*words)
        assert ended.code == 0, ended
        return ended.out

    def json(self, *words: object) -> Any:
        """What it answers in JSON, where it must succeed."""
        return json.loads(self(*words, "--json"))

    def fails(self, code: int, *words: object) -> str:
        """The one line it says, where it must end with `code`."""
        ended = self.say(*words)
        assert ended.code == code, ended
        lines = ended.err.splitlines()
        assert len(lines) == 1, ended
        assert lines[0].startswith("vacancy: "), ended
        return lines[0].removeprefix("vacancy: ")

    def close(self) -> None:
        """End the process of `say`."""
        if self._shell is not None:
            self._shell.communicate()
            self._shell = None

    def __enter__(self) -> Vacancy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, *words: object) -> subprocess.Popen[str]:
        """Start it, with both outputs in pipes."""
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
        """A command that goes on until stopped, once its standard error has said `until`; gives what it says there.

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
        """A worker that has caught up."""
        with self.serving("worker", until="caught up") as said:
            yield said


def node_file(home: Path, root: str, vcpus: int = 8, gpus: int = 0) -> Path:
    """A node as `vacancy publish --file` reads it."""
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
    file.write_text(json.dumps({"providers": providers}))
    return file
