"""Real Placement on a database in SQLite, as a process that answers HTTP on the loopback address."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

STARTED_S = 90.0

_SERVE = """
import sys
from wsgiref.simple_server import WSGIRequestHandler, make_server
from placement.wsgi.api import application

class Quiet(WSGIRequestHandler):
    def log_message(self, *arguments):
        pass

server = make_server("127.0.0.1", 0, application, handler_class=Quiet)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextmanager
def placement_service(directory: Path, database: str) -> Iterator[str]:
    """Serve a database. Yields the URL of the API. Any token is that of a user; `admin` is the administrator's."""
    (directory / "placement.conf").touch()
    environment = {
        **os.environ,
        "OS_PLACEMENT_DATABASE__CONNECTION": database,
        "OS_PLACEMENT_DATABASE__SYNC_ON_STARTUP": "False",
        "OS_API__AUTH_STRATEGY": "noauth2",
        "OS_PLACEMENT_CONFIG_DIR": str(directory),
    }
    with (directory / "placement.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE], stdout=subprocess.PIPE, stderr=log, env=environment, text=True
        )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, (directory / "placement.log").read_text()
        _wait(int(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=STARTED_S)


def _wait(port: int) -> None:
    until = time.monotonic() + STARTED_S
    while True:
        connection = HTTPConnection("127.0.0.1", port, timeout=STARTED_S)
        try:
            connection.request("GET", "/")
            assert connection.getresponse().status == 200
        except (OSError, HTTPException):
            assert time.monotonic() < until
            time.sleep(0.05)
        else:
            return
        finally:
            connection.close()
