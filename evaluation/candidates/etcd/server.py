"""Runs etcd on this machine: one member, on the loopback interface."""

from __future__ import annotations

import contextlib
import json
import subprocess
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from evaluation.candidates.candidate import Setting
from evaluation.candidates.installed import program
from evaluation.candidates.processes import StoreProcess, free_ports

PACKAGE: Final = "etcd-server"
SETTINGS: Final = (
    Setting(
        "auto-compaction-mode",
        "revision",
        "https://etcd.io/docs/v3.4/op-guide/maintenance/: the keyspace must be compacted, or its history fills the disk",
    ),
    Setting(
        "auto-compaction-retention",
        "10000",
        "https://etcd.io/docs/v3.4/op-guide/maintenance/ has 1000 as its example; ten times more, so that a scheduler that"
        " was cut off for some seconds can continue its watch",
    ),
    Setting(
        "quota-backend-bytes",
        str(8 << 30),
        "https://etcd.io/docs/v3.4/dev-guide/limit/: 8 GB is the maximum that it suggests; the default of 2 GB is too small"
        " for a million providers and their history",
    ),
    Setting(
        "unsafe-no-fsync",
        "not set",
        "https://etcd.io/docs/v3.4/op-guide/configuration/: each entry of the write-ahead log is synced before it is applied",
    ),
)


class EtcdServer:
    """One member, with its data in `directory`. They survive `kill`, `stop` and the next `start`."""

    def __init__(self, directory: Path) -> None:
        self.port, self._peer_port = free_ports(2)
        self._directory = directory
        self._process: StoreProcess | None = None

    @property
    def pids(self) -> list[int]:
        """The id of the running process."""
        return [] if self._process is None else [self._process.pid]

    def start(self) -> None:
        """Start the server on the data that it had, and wait until it serves."""
        self._process = StoreProcess("etcd", self._command(), self._directory / "etcd.log")
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
        client, peer = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self._peer_port}"
        return [
            program("etcd", PACKAGE),
            f"--data-dir={self._directory}/data",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--logger=zap",
            *(f"--{one.name}={one.value}" for one in SETTINGS if one.value != "not set"),
        ]

    def _serves(self) -> bool:
        """Whether it has a leader, as its own health check tells."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=1)
        with contextlib.suppress(OSError, HTTPException, ValueError):
            connection.request("GET", "/health")
            return bool(json.loads(connection.getresponse().read())["health"] == "true")
        connection.close()
        return False


def etcd_version() -> str:
    """The version of the installed server."""
    done = subprocess.run(
        [program("etcd", PACKAGE), "--version"], capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout.splitlines()[0].partition(": ")[2]
