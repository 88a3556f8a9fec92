"""Runs MariaDB on this machine, as the database of OpenStack Placement.

The server runs as the user of this process: it serves the loopback interface only, and its data are in a directory of that user.
"""

from __future__ import annotations

import contextlib
import getpass
import socket
import subprocess
from pathlib import Path
from typing import Any, Final

from evaluation.candidates.candidate import Setting
from evaluation.candidates.installed import program
from evaluation.candidates.processes import StoreProcess, free_ports
from vacancy.resources.model.errors import VacancyError

PACKAGE: Final = "mariadb-server-core mariadb-client-core"
"""The programs without the system service of `mariadb-server`: the same server."""

PROGRAMS: Final = ("mariadbd", "mariadb-install-db", "my_print_defaults")
_NAME: Final = "placement"
"""The name of the database, of its user, and the user's password: for one run, on the loopback interface."""

_PAGE: Final = "https://mariadb.com/docs/server/server-usage/storage-engines/innodb/innodb-system-variables"
SETTINGS: Final = (
    Setting(
        "innodb-flush-log-at-trx-commit",
        "1",
        f"{_PAGE}: the default; each commit writes and syncs the redo log",
    ),
    Setting("innodb-buffer-pool-size", "1G", f"{_PAGE}: all data fit; the default of 128M is too small"),
    Setting(
        "innodb-log-file-size", "512M", f"{_PAGE}: larger means less flushing of pages; the default is 96M"
    ),
    Setting("skip-name-resolve", "ON", "https://mariadb.com/docs/server: no reverse lookup of 127.0.0.1"),
)
_INSTALL_S: Final = 120.0


class MariadbServer:
    """One server with the empty database of Placement. Its data in `directory` survive `kill`, `stop` and the next `start`."""

    def __init__(self, directory: Path) -> None:
        self.port = free_ports(1)[0]
        self._directory = directory
        self._data = directory / "data"
        self._process: StoreProcess | None = None

    @property
    def pids(self) -> list[int]:
        """The id of the running process."""
        return [] if self._process is None else [self._process.pid]

    @property
    def url(self) -> str:
        """The database as an SQLAlchemy URL, as Placement's own gate jobs write it."""
        return f"mysql+pymysql://{_NAME}:{_NAME}@127.0.0.1:{self.port}/{_NAME}?charset=utf8"

    def connect(self) -> Any:
        """A connection to the database (pymysql). The caller closes it."""
        import pymysql

        return pymysql.connect(
            host="127.0.0.1", port=self.port, user=_NAME, password=_NAME, database=_NAME, charset="utf8mb3"
        )

    def start(self) -> None:
        """Start the server on the data that it had, the first time with an empty database; wait until it serves."""
        if not self._data.exists():
            self._install()
        self._process = StoreProcess("MariaDB", self._command(), self._directory / "mariadb.log")
        self._process.wait_until(self._serves)

    def stop(self) -> None:
        """Stop the server with SIGTERM."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def _command(self) -> list[str]:
        return [
            program("mariadbd", PACKAGE),
            "--no-defaults",
            # Without it, root is refused.
            f"--user={getpass.getuser()}",
            f"--datadir={self._data}",
            f"--socket={self._directory}/mariadb.sock",
            f"--pid-file={self._directory}/mariadb.pid",
            f"--init-file={self._directory}/init.sql",
            "--bind-address=127.0.0.1",
            f"--port={self.port}",
            *(f"--{one.name}={one.value}" for one in SETTINGS),
        ]

    def _install(self) -> None:
        """Make the system tables, and the script that makes the database and its user if they are not there."""
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / "init.sql").write_text(
            f"CREATE DATABASE IF NOT EXISTS {_NAME} CHARACTER SET utf8;\n"
            f"CREATE USER IF NOT EXISTS '{_NAME}'@'127.0.0.1' IDENTIFIED BY '{_NAME}';\n"
            f"GRANT ALL ON {_NAME}.* TO '{_NAME}'@'127.0.0.1';\n"
        )
        command = [
            program("mariadb-install-db", PACKAGE),
            "--no-defaults",
            f"--user={getpass.getuser()}",
            f"--datadir={self._data}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
        if done.returncode:
            output = " ".join((done.stdout + done.stderr).split())[-600:]
            raise VacancyError(f"MariaDB could not make its tables: {output}", where=str(self._data))

    def _serves(self) -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection,
        ):
            return bool(connection.recv(1))  # the server speaks first
        return False


def mariadb_version() -> str:
    """The version of the installed server."""
    command = [program("mariadbd", PACKAGE), "--no-defaults", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    return done.stdout.partition("Ver ")[2].partition(" ")[0]
