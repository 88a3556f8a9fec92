"""Runs lines of shell as a reader of a page does, in a home directory of its own."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Final

from tests.support.documentation.doc_runner import needs_shell, reader_environment
from tests.support.processes.command_process import CommandProcess, Ended
from tests.support.processes.http_status import http_status

_LONGEST_S: Final = 90.0

SERVING: Final[Mapping[str, str]] = {
    r"vacancy worker\b": "status at http://",
    r"vacancy publish\b(?!.*--(once|dry-run|retire))": "publishing",
    r"vacancy ui\b": "http://127.0.0.1:",
    r"vacancy placement serve\b": "http://",
    r"vacancy log tail\b.*--follow": "",
}
"""Commands that run until they are stopped: a pattern of their lines -> what they write when they are at work."""


class ShellSite:
    """Runs lines in `home`, without any setting of the user. A server runs until the same command is started again, or until `stop`;
    it must then end with 0."""

    def __init__(self, home: Path, programs: Path) -> None:
        self.home = home
        # Two servers of one host need ports of their own; the pages name none.
        self.environment = {**reader_environment(home, programs), "VACANCY_WEB_PORT": "0"}
        self._commands = CommandProcess(sys.executable, home, self.environment)
        self._numbers = count()
        self._servers: list[tuple[str, subprocess.Popen[bytes], Path]] = []

    def run(self, line: str) -> Ended:
        """Run a line. A server is started, and goes on; it has ended only if it does not get to its work."""
        said = next((said for pattern, said in SERVING.items() if re.match(pattern, line)), None)
        if said is not None:
            return self._serve(line, said)
        if line.startswith("export "):
            return self._export(line)
        if line.startswith("vacancy ") and not needs_shell(line):
            return self._commands.run(*shlex.split(line, comments=True)[1:])
        return self._shell(line)

    def stop(self, command: str = "") -> None:
        """End the servers of a command, or all."""
        for one in [one for one in reversed(self._servers) if one[0].startswith(command)]:
            line, server, output = one
            server.send_signal(signal.SIGTERM)
            code = server.wait(_LONGEST_S)
            self._servers.remove(one)
            assert code == 0, f"{line}: it ended with {code}: {output.read_text()}"

    def close(self) -> None:
        """End everything."""
        self._commands.close()
        for _, server, _ in self._servers:
            server.kill()
            server.wait()

    def _shell(self, line: str) -> Ended:
        done = subprocess.run(
            ["bash", "-c", line],
            capture_output=True,
            text=True,
            cwd=self.home,
            env=self.environment,
            timeout=_LONGEST_S,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def _export(self, line: str) -> Ended:
        name = line.removeprefix("export ").partition("=")[0]
        ended = self._shell(f"{line}; printenv {name}")
        self.environment[name] = ended.out.rstrip("\n")
        self._commands.close()  # the next one starts with the variable
        return ended

    def _serve(self, line: str, said: str) -> Ended:
        self.stop(" ".join(line.split()[:2]))
        output = self.home / f"server-{next(self._numbers)}.out"
        with output.open("wb") as out:
            server = subprocess.Popen(
                ["bash", "-c", f"exec {line}"], stdout=out, stderr=out, cwd=self.home, env=self.environment
            )
        self._servers.append((line, server, output))
        until = time.monotonic() + _LONGEST_S
        while said not in output.read_text():
            code = server.poll()
            if code is not None or time.monotonic() > until:
                return Ended(
                    1 if code is None else code, "", f"it did not write {said!r}: {output.read_text()}"
                )
            time.sleep(0.02)
        if address := re.search(r"http://127.0.0.1:(\d+)", output.read_text()):
            while http_status(int(address[1]), "/", _LONGEST_S) is None:
                assert time.monotonic() < until, f"{line}: it does not answer"
                time.sleep(0.02)
        return Ended(0, output.read_text(), "")
