"""A process that runs command lines of `vacancy`, one after the other: to start a process takes longer than most commands."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

_LOOP: Final = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from vacancy.cli.main import main

class Part(io.StringIO):
    def write(self, text):
        both.write(text)
        return super().write(text)

answers = sys.stdout
for line in sys.stdin:
    sys.argv = ["vacancy", *json.loads(line)]
    both, out, err = io.StringIO(), Part(), Part()
    with redirect_stdout(out), redirect_stderr(err):
        code = main()
    print(json.dumps([code, out.getvalue(), err.getvalue(), both.getvalue()]), file=answers, flush=True)
"""


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class CommandProcess:
    """Runs command lines in `home` with the package of `python`. The process starts with the first of them."""

    def __init__(self, python: Path | str, home: Path, environment: Mapping[str, str]) -> None:
        self._python, self._home, self._environment = python, home, environment
        self._process: subprocess.Popen[str] | None = None

    def run(self, *words: str) -> Ended:
        """Run `vacancy` with these words."""
        code, out, err, _ = self._answer(words)
        return Ended(code, out, err)

    def shown(self, *words: str) -> str:
        """Both outputs of `vacancy` with these words, in the order in which they were written, as a terminal shows them."""
        return self._answer(words)[3]

    def _answer(self, words: Sequence[str]) -> tuple[int, str, str, str]:
        if self._process is None:
            self._process = subprocess.Popen(
                [self._python, "-c", _LOOP],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=self._home,
                env=self._environment,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        code, out, err, both = json.loads(self._process.stdout.readline())
        return code, out, err, both

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate()
            self._process = None
