"""Runs the commands of a page in order and prints the page with their output.

`python -m tests.support.documentation.doc_runner README.md`.

A block that begins with ```` ```console ```` has lines `$ command`, each followed by its output. A block that begins with
```` ```json NAME ```` is a file. `--write` writes the output of this run into the page.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.support.processes.command_process import CommandProcess

HOME = "/home/ada"
"""Replaces the directory in which the commands ran."""

SAME_EXAMPLES: Final = "--hypothesis-seed=0"
"""The option of pytest with which the tests of a page have the same examples each time."""

_BLOCK = re.compile(r"^```(\S+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_STARTED_S = 90.0
_SHELL_SYNTAX = re.compile("[|&;<>()$`*?~]")
_QUOTED = re.compile("'[^']*'")


def needs_shell(command: str) -> bool:
    """Whether the command is more than words."""
    return _SHELL_SYNTAX.search(_QUOTED.sub("", command)) is not None


def reader_environment(home: Path, *programs: Path) -> dict[str, str]:
    """The variables of somebody who tries a page: `home`, no setting of `vacancy`, and the programs of these directories first."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("VACANCY_", "XDG_"))}
    path = os.pathsep.join((*map(str, programs), str(Path(sys.executable).parent), os.environ["PATH"]))
    return {**kept, "HOME": str(home), "PATH": path, "TERM": "dumb"}


class DocSession:
    """Runs commands in `home`, without any setting of the user. `close` stops the worker.

    All `vacancy` commands run in one process, except those with syntax of the shell.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = reader_environment(home)
        self._worker: subprocess.Popen[bytes] | None = None
        self._commands = CommandProcess(sys.executable, home, self.environment)

    def answers(self, page: str) -> str:
        """The page with the output of this run."""
        return _BLOCK.sub(self._block, page)

    def output(self, command: str) -> str:
        """The output of one command, standard error included."""
        if command == "vacancy worker":
            output = self._start_worker()
        elif command.startswith("vacancy ") and not needs_shell(command):
            output = self._commands.shown(*shlex.split(command)[1:])
        else:
            done = subprocess.run(
                ["bash", "-c", command],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=self.home,
                env=self.environment,
                timeout=_STARTED_S,
                check=False,
            )
            output = done.stdout
        return output.replace(str(self.home), HOME)

    def close(self) -> None:
        """Stop the worker, and the process of the commands."""
        self._commands.close()
        if self._worker is not None:
            self._worker.terminate()
            assert self._worker.wait(_STARTED_S) == 0

    def _block(self, found: re.Match[str]) -> str:
        kind, name, text = found.groups()
        if name is not None and kind == "json":
            (self.home / name).write_text(text)
        if kind != "console":
            return found[0]
        commands = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
        return "```console\n" + "".join(f"$ {one}\n{self.output(one)}" for one in commands) + "```"

    def _start_worker(self) -> str:
        file = self.home / "worker.out"
        with file.open("wb") as out:
            self._worker = subprocess.Popen(
                ["vacancy", "worker"], stdout=out, stderr=out, cwd=self.home, env=self.environment
            )
        until = time.monotonic() + _STARTED_S
        while "status at http://" not in file.read_text():  # the last line that it writes at its start
            assert time.monotonic() < until, file.read_text()
            time.sleep(0.02)
        return file.read_text()


def main() -> None:
    """Print a page with the output of this run, or write it."""
    file = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as directory:
        session = DocSession(Path(directory).resolve())
        try:
            page = session.answers(file.read_text())
        finally:
            session.close()
    if "--write" in sys.argv:
        file.write_text(page)
    else:
        sys.stdout.write(page)


if __name__ == "__main__":
    main()
