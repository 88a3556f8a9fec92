"""Runs OpenStack Placement on this machine: its WSGI application under uWSGI, on a MariaDB of its own.

`GATE` is how Placement's own performance jobs start it. `BEST` is the fastest correct set-up that was found on two cores.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from evaluation.candidates.candidate import Setting
from evaluation.candidates.placement.mariadb import MariadbServer
from evaluation.candidates.processes import StoreProcess, answers_http, free_ports

# pyuwsgi is uWSGI as a Python extension. It starts its workers with the name of a program.
_UWSGI: Final = "import sys, pyuwsgi; sys.argv[0] = 'uwsgi'; pyuwsgi.run()"
_START_S: Final = 120.0
_GATE: Final = "gate/perfload-server.sh of Placement"
_CONFIG: Final = "https://docs.openstack.org/placement/latest/configuration/config.html"
_SHARED: Final = (
    Setting("OS_PLACEMENT_DATABASE__MAX_POOL_SIZE", "25", _GATE),
    Setting("OS_PLACEMENT_DATABASE__MAX_OVERFLOW", "100", _GATE),
    Setting("OS_PLACEMENT_DATABASE__SYNC_ON_STARTUP", "True", _GATE),
    Setting("OS_API__AUTH_STRATEGY", "noauth2", _GATE),
)


@dataclass(frozen=True)
class PlacementProfile:
    """One way to run Placement. `environment`: settings that oslo.config reads, `OS_GROUP__OPTION`. `why`: the source of the
    number of processes and threads."""

    processes: int
    threads: int
    why: str
    environment: tuple[Setting, ...]
    options: tuple[str, ...] = ()


GATE: Final = PlacementProfile(
    5,
    25,
    _GATE,
    (
        *_SHARED,
        Setting(
            "OS_PLACEMENT_PLACEMENT__RANDOMIZE_ALLOCATION_CANDIDATES",
            "True",
            f"{_GATE}: so it is spelt there; the group `placement` is `OS_PLACEMENT__`, so it has no effect",
        ),
        Setting("OS_DEFAULT__DEBUG", "True", _GATE),
    ),
)
BEST: Final = PlacementProfile(
    4,
    1,
    "measured on two cores: faster than 2 x 10, 5 x 25 and 2 x 1",
    (
        *_SHARED,
        Setting(
            "OS_PLACEMENT__RANDOMIZE_ALLOCATION_CANDIDATES",
            "True",
            f"{_CONFIG}: otherwise schedulers get the same few providers and conflict there",
        ),
        Setting(
            "OS_PLACEMENT__ALLOCATION_CONFLICT_RETRY_COUNT",
            "1",
            f"{_CONFIG} has 10: but the retries run in one transaction, and can accept more than the capacity",
        ),
        Setting("OS_DEFAULT__DEBUG", "False", f"{_CONFIG}: the default"),
    ),
    ("--disable-logging",),
)

DEFAULTS: Final = PlacementProfile(
    4,
    1,
    "as many processes as BEST has",
    (
        Setting("OS_PLACEMENT_DATABASE__SYNC_ON_STARTUP", "True", _GATE),
        Setting("OS_API__AUTH_STRATEGY", "noauth2", _GATE),
    ),
    ("--disable-logging",),
)
"""All of Placement's options have their defaults, but for what lets it start on an empty database without Keystone."""


class PlacementServer:
    """Placement and its database, with data in `directory`. The first start makes the tables."""

    def __init__(self, directory: Path, profile: PlacementProfile) -> None:
        self.port = free_ports(1)[0]
        self._profile = profile
        self._directory = directory
        self.database = MariadbServer(directory / "mariadb")
        self._api: StoreProcess | None = None

    @property
    def pids(self) -> list[int]:
        """The ids of the running first processes: of uWSGI and of MariaDB."""
        return [*([] if self._api is None else [self._api.pid]), *self.database.pids]

    def start(self) -> None:
        """Start the database, then the API."""
        self.database.start()
        (self._directory / "placement.conf").touch()
        environment = {
            **{one.name: one.value for one in self._profile.environment},
            "OS_PLACEMENT_DATABASE__CONNECTION": self.database.url,
            # Its empty file is read instead of one of this machine.
            "OS_PLACEMENT_CONFIG_DIR": str(self._directory),
        }
        self._api = StoreProcess(
            "Placement", self._command(), self._directory / "placement.log", environment=environment
        )
        self._api.wait_until(lambda: answers_http(self.port), _START_S)

    def stop(self) -> None:
        """Stop the API with SIGTERM, then the database."""
        if self._api is not None:
            self._api.stop()
            self._api = None
        self.database.stop()

    def kill(self) -> None:
        """Kill the API and the database with SIGKILL."""
        if self._api is not None:
            self._api.kill()
            self._api = None
        self.database.kill()

    def _command(self) -> list[str]:
        return [
            *(sys.executable, "-c", _UWSGI),
            *("--http", f"127.0.0.1:{self.port}"),
            *("--module", "placement.wsgi.api:application"),
            *("--virtualenv", sys.prefix),
            # The first process starts the workers again and ends at SIGTERM; without an application it does not start.
            *("--master", "--die-on-term", "--need-app"),
            *("--processes", str(self._profile.processes), "--threads", str(self._profile.threads)),
            *self._profile.options,
        ]
