"""Runs OpenStack Placement on this machine: creates its database and starts its API processes.

The package is imported only in those processes, never in the process that measures.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer

from vacancy.clients.runtime.child_process import ChildProcess
from vacancy.resources.model.errors import UsageError, VacancyError

_START_S = 120.0
_SYNC_S = 300.0
SERVER_TRIES = 10
"""Placement's default number of attempts to write a claim whose provider changes concurrently."""

_SYNC = "from placement.cmd.manage import main; main()"
_CONFIG = """\
[DEFAULT]
log_file = {directory}/placement.log
default_log_levels = placement=WARNING,oslo_db=WARNING,oslo_policy=WARNING,alembic=WARNING
[api]
auth_strategy = noauth2
[placement]
# Otherwise all schedulers get the same few nodes and conflict there.
randomize_allocation_candidates = true
allocation_conflict_retry_count = {tries}
[placement_database]
connection = {connection}
"""


def placement_version() -> str:
    """The installed version. Raises `UsageError` if Placement is not installed."""
    try:
        return version("openstack-placement")
    except PackageNotFoundError:
        raise UsageError(
            "OpenStack Placement is not installed", do="install it with: pip install -e '.[beside]'"
        ) from None


def database_kind(database: str | None) -> str:
    """The kind of a database, without host and user: `postgresql`, `sqlite`."""
    return "sqlite" if database is None else database.partition(":")[0].partition("+")[0]


@contextmanager
def placement_service(
    directory: Path, servers: int, database: str | None, tries: int = SERVER_TRIES
) -> Iterator[list[int]]:
    """Start `servers` API processes and yield their ports; they are stopped at the end.

    `database`: an SQLAlchemy URL, or None for an SQLite file in `directory`, which also gets the log and the
    configuration. `tries`: attempts to write a claim whose provider changes concurrently, before Placement answers 409.
    """
    # How long a writer of an SQLite file waits for another one.
    url = database or f"sqlite:///{directory.absolute()}/placement.db?timeout=60"
    # In this file `$` refers to other options.
    text = _CONFIG.format(directory=directory.absolute(), connection=url.replace("$", "$$"), tries=tries)
    (directory / "placement.conf").write_text(text)
    _make_database(directory)
    with ExitStack() as running:

        def start(number: int) -> ChildProcess:
            server = ChildProcess(f"placement-api-{number}", _serve, str(directory.absolute()))
            return running.enter_context(server)

        # The first process writes the standard traits and classes; the others find them.
        ports: list[int] = [start(1).receive(_START_S)]
        others = [start(number) for number in range(2, servers + 1)]
        yield ports + [server.receive(_START_S) for server in others]


def _make_database(directory: Path) -> None:
    """Create the tables of the database."""
    command = [sys.executable, "-c", _SYNC, "--config-file", str(directory / "placement.conf"), "db", "sync"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SYNC_S, check=False)
    if done.returncode:
        log = directory / "placement.log"
        output = (done.stderr or done.stdout or (log.read_text() if log.exists() else "")).split("\n")
        lines = [
            line.strip() for line in output if line.strip() and not line.startswith(("(Background", " "))
        ]
        raise UsageError(
            f"Placement could not create its tables: {lines[-1] if lines else done.returncode}",
            do="check that the database in --database exists and that its driver is installed",
        )


# -- one API process ------------------------------------------------------------------------------------------------


class _Handler(WSGIRequestHandler):
    """Serves one connection while it is open, and does not log requests."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # send header and body of an answer together
    disable_nagle_algorithm = True

    def handle(self) -> None:
        self.close_connection = True
        super().handle()
        while not self.close_connection:
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base class has it
        """Do not log."""


def _serve(parent: Connection, directory: str) -> None:
    """The API process: sends its port to the parent, and serves one connection after the other until terminated."""
    os.environ["OS_PLACEMENT_CONFIG_DIR"] = directory
    from placement.wsgi import init_application

    ServerHandler.http_version = "1.1"  # with 1.0 every answer would close its connection
    try:
        application = init_application()
    except Exception as error:
        raise VacancyError(f"Placement does not start: {error}", where=directory) from error
    with WSGIServer(("127.0.0.1", 0), _Handler) as server:
        server.set_app(application)
        parent.send(server.server_port)
        server.serve_forever()
