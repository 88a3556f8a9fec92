"""Builds of this package: this one, and a released one whose modules are kept here. Each runs in processes of its own.

`released/rules_4.tar.xz` has the packages of the release that introduced rules version 4 (commit 5793870), without tests.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from tests.support.packaging.site_environment import make_environment, outside
from tests.support.processes.command_process import CommandProcess, Ended

HERE: Final = Path(__file__).parent
WAIT_S: Final = 90.0
_WORKER: Final = "import sys; from vacancy.cli.main import main; sys.exit(main())"


class Build:
    """A build. `python` imports it; its processes run in `home`."""

    def __init__(self, python: Path, home: Path) -> None:
        self.python, self.home = python, home
        self._commands = CommandProcess(python, home, outside(home))

    def __enter__(self) -> Build:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._commands.close()

    def run(self, *words: str) -> Ended:
        """Run a command line of `vacancy`. All run in one process: to load the libraries takes longer than most commands."""
        return self._commands.run(*words)

    def json(self, *words: str) -> Any:
        """The answer of a command line that must end with 0."""
        ended = self.run(*words, "--json")
        assert ended.code == 0, ended.err
        return json.loads(ended.out)

    @contextmanager
    def worker(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        """A worker of this build, without pages. It is stopped as an operator stops it."""
        command = [str(self.python), "-c", _WORKER, "worker", *options]
        environment = {**outside(self.home), "VACANCY_WEB_PORT": "off"}
        with subprocess.Popen(
            command,
            cwd=self.home,
            env=environment,
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                yield process
            finally:
                process.terminate()
                process.communicate(timeout=WAIT_S)


def released_build(name: str, home: Path) -> Build:
    """The build that is kept as `name`, unpacked in `home`."""
    python, packages = make_environment(home / name)
    unpack(HERE / f"released/{name}.tar.xz", packages)
    return Build(python, home)


def unpack(archive: Path, into: Path) -> None:
    """Unpack an archive of this folder."""
    with tarfile.open(archive) as file:
        file.extractall(into, filter="data")
