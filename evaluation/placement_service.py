"""OpenStack Placement as a service on this machine: its database made, and API processes that serve it.

The package is loaded in processes of its own only; nothing here imports it in the process that measures.
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
"""How often Placement itself tries to write a claim whose provider changes meanwhile, unless it is told otherwise."""

_SYNC = "from placement.cmd.manage import main; main()"
_CONFIG = """\
[DEFAULT]
log_file = {directory}/placement.log
default_log_levels = placement=WARNING,oslo_db=WARNING,oslo_policy=WARNING,alembic=WARNING
[api]
auth_strategy = noauth2
[placement]
# Or all schedulers are offered the same few nodes, and meet there.
randomize_allocation_candidates = true
allocation_conflict_retry_count = {tries}
[placement_database]
connection = {connection}
"""


def placement_version() -> str:
    """The version that is installed. Raises `UsageError` where there is none."""
    try:
        return version("openstack-placement")
    except PackageNotFoundError:
        raise UsageError(
            "OpenStack Placement is not installed", do="install it with: pip install -e '.[beside]'"
        ) from None


def database_kind(database: str | None) -> str:
    """What a database is, without where and whose: `postgresql`, `sqlite`."""
    return "sqlite" if database is None else database.partition(":")[0].partition("+")[0]


@contextmanager
def placement_service(
    directory: Path, servers: int, database: str | None, tries: int = SERVER_TRIES
) -> Iterator[list[int]]:
    """So many API processes, as their ports; they are ended at the end.

    `database`: an SQLAlchemy URL; None: a SQLite file in `directory`, where log and configuration go, too.
    `tries`: how often a claim is written whose provider changes meanwhile, before the scheduler is told.
    """
    # A writer of a SQLite file waits for another this long before it gives up.
    url = database or f"sqlite:///{directory.absolute()}/placement.db?timeout=60"
    # `$` refers to other options there.
    text = _CONFIG.format(directory=directory.absolute(), connection=url.replace("$", "$$"), tries=tries)
    (directory / "placement.conf").write_text(text)
    _make_database(directory)
    with ExitStack() as running:

        def start(number: int) -> ChildProcess:
            server = ChildProcess(f"placement-api-{number}", _serve, str(directory.absolute()))
            return running.enter_context(server)

        # The first writes the standard traits and classes, and the others find them.
        ports: list[int] = [start(1).hear(_START_S)]
        others = [start(number) for number in range(2, servers + 1)]
        yield ports + [server.hear(_START_S) for server in others]


def _make_database(directory: Path) -> None:
    """Bring the database's tables to the current form."""
    command = [sys.executable, "-c", _SYNC, "--config-file", str(directory / "placement.conf"), "db", "sync"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SYNC_S, check=False)
    if done.returncode:
        log = directory / "placement.log"
        said = (done.stderr or done.stdout or (log.read_text() if log.exists() else "")).split("\n")
        words = [line.strip() for line in said if line.strip() and not line.startswith(("(Background", " "))]
        raise UsageError(
            f"Placement could not make its database: {words[-1] if words else done.returncode}",
            do="see that --database names one that is there, whose driver is installed",
        )


# -- one API process ------------------------------------------------------------------------------------------------


class _Handler(WSGIRequestHandler):
    """Serves one connection for as long as it is open, and writes no log of requests."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body of an answer leave together
    disable_nagle_algorithm = True

    def handle(self) -> None:
        self.close_connection = True
        super().handle()
        while not self.close_connection:
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base class has it
        """Nothing."""


def _serve(parent: Connection, directory: str) -> None:
    """The API process: says its port, and serves one connection after the other until it is ended."""
    os.environ["OS_PLACEMENT_CONFIG_DIR"] = directory
    from placement.wsgi import init_application

    ServerHandler.http_version = "1.1"  # else every answer closes its connection
    try:
        application = init_application()
    except Exception as error:
        raise VacancyError(f"Placement does not start: {error}", where=directory) from error
    with WSGIServer(("127.0.0.1", 0), _Handler) as server:
        server.set_app(application)
        parent.send(server.server_port)
        server.serve_forever()
