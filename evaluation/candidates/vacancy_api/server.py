"""Runs Placement's API on vacancy: a log in SQLite, a worker, and `vacancy placement serve` with several processes."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

from evaluation.candidates.processes import StoreProcess, answers_http, free_ports
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.clients.runtime.worker_process import WorkerProcess
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import VacancyError
from vacancy.streams.log import open_log

PROCESSES: Final = 4
_START_S: Final = 300.0
_ENVIRONMENT: Final = {"OS_PLACEMENT__RANDOMIZE_ALLOCATION_CANDIDATES": "True"}
"""Otherwise all schedulers get the same few providers and conflict there, as with Placement itself."""


class VacancyApiServer:
    """The API with its log and store in `directory`. The first start makes the log."""

    def __init__(self, directory: Path, processes: int = PROCESSES) -> None:
        self.port = free_ports(1)[0]
        self.directory = directory.absolute()
        self.url = f"sqlite://{self.directory}/log.db"
        self.store = self.directory / "store"
        self._processes = processes
        self._worker: WorkerProcess | None = None
        self._api: StoreProcess | None = None

    @property
    def pids(self) -> list[int]:
        """The ids of the running first processes: of the API and of the worker."""
        return [*([] if self._api is None else [self._api.pid]), *self.worker_pids]

    @property
    def worker_pids(self) -> list[int]:
        """The id of the running worker."""
        return [] if self._worker is None or self._worker.pid is None else [self._worker.pid]

    def start(self) -> None:
        """Start the worker, then the API; wait until it answers."""
        if not (self.directory / "log.db").exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            new_log(self.url, 1, installed_registry()).close()
        self.start_worker()
        command = [
            *(str(Path(sys.executable).with_name("vacancy")), "placement", "serve"),
            *("--log", self.url, "--store", str(self.store)),
            *("--port", str(self.port), "--processes", str(self._processes)),
        ]
        self._api = StoreProcess(
            "vacancy placement serve", command, self.directory / "api.log", environment=_ENVIRONMENT
        )
        self._api.wait_until(lambda: answers_http(self.port), _START_S)

    def start_worker(self) -> None:
        """Start the worker, and wait until it has folded what is in the log."""
        self._worker = WorkerProcess(self.url, self.store)
        self._worker.start()
        self._worker.wait_ready(_START_S)

    def wait_caught_up(self) -> None:
        """Wait until the worker has folded all that is in the log. Raises `VacancyError` if that takes too long."""
        until = time.monotonic() + _START_S
        with (
            open_log(self.url) as log,
            StoreReader(self.store, installed_registry(), with_view=False) as reader,
        ):
            ends = log.end()
            while any(reader.position.get(partition, 0) < end for partition, end in ends.items()):
                if time.monotonic() > until:
                    raise VacancyError("the store does not catch up", where=str(self.store))
                time.sleep(0.01)
                reader.catch_up()

    def kill_worker(self) -> None:
        """End the worker with SIGKILL."""
        if self._worker is not None and self._worker.pid is not None:
            self._worker.kill()
        self._worker = None

    def stop(self) -> None:
        """Stop the API with SIGTERM, then the worker."""
        if self._api is not None:
            self._api.stop()
            self._api = None
        self.kill_worker()
