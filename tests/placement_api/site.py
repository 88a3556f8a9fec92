"""A log, a worker and `vacancy placement serve`, as clients and operators see them."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

from tests.support.processes.kafka_server import free_ports

VACANCY = str(Path(sys.executable).with_name("vacancy"))
START_S = 120.0
HEADERS = {
    "X-Auth-Token": "admin",
    "OpenStack-API-Version": "placement 1.39",
    "Content-Type": "application/json",
}


def vacancy(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([VACANCY, *arguments], stderr=subprocess.PIPE, text=True)


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)


class Site:
    """A log, without a URL a new one in SQLite, a worker, and the API in several processes."""

    def __init__(
        self, directory: Path, stack: ExitStack, *, log: str | None = None, processes: int = 2
    ) -> None:
        self.log, self.store = log or f"sqlite://{directory}/log.db", directory / "store"
        places = ("--log", self.log)
        if log is None:
            subprocess.run([VACANCY, "topics", "create", *places, "--partitions", "1"], check=True)
        store = ("--store", str(self.store))
        worker = self.worker = vacancy("worker", *places, *store)
        stack.callback(stop, worker)
        assert worker.stderr is not None
        while "caught up" not in worker.stderr.readline():
            assert worker.poll() is None
        self.port, self.metrics_port = free_ports(2)
        serve = (
            "placement",
            "serve",
            *places,
            *store,
            "--port",
            str(self.port),
            "--processes",
            str(processes),
            "--metrics-port",
            str(self.metrics_port),
        )
        self.api = vacancy(*serve)
        stack.callback(stop, self.api)
        self.wait()

    def wait(self) -> None:
        until = time.monotonic() + START_S
        while True:
            try:
                assert self.ask(HTTPConnection("127.0.0.1", self.port), "GET", "/")[0] == 200
            except ConnectionError:
                assert time.monotonic() < until
                time.sleep(0.1)
            else:
                return

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=60)

    @staticmethod
    def ask(to: HTTPConnection, method: str, path: str, body: Any = None) -> tuple[int, Any, str]:
        """Status, parsed body, and the position that the answer is as of."""
        to.request(method, path, None if body is None else json.dumps(body), HEADERS)
        answer = to.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None, answer.headers["Vacancy-Position"]

    @contextmanager
    def stopped_worker(self) -> Iterator[None]:
        """The worker stands still, and keeps nobody from the log: it is not in the middle of a write."""
        until = time.monotonic() + START_S
        self._stop_worker()
        try:
            while not self._log_is_free():
                assert time.monotonic() < until
                self.worker.send_signal(signal.SIGCONT)
                time.sleep(0.05)
                self._stop_worker()
            yield
        finally:
            self.worker.send_signal(signal.SIGCONT)

    def _stop_worker(self) -> None:
        self.worker.send_signal(signal.SIGSTOP)
        until = time.monotonic() + START_S
        while psutil.Process(self.worker.pid).status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < until
            time.sleep(0.01)

    def _log_is_free(self) -> bool:
        """Whether a log in SQLite can be written to."""
        with closing(
            sqlite3.connect(self.store.parent / "log.db", timeout=1.0, isolation_level=None)
        ) as writer:
            try:
                writer.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            writer.execute("ROLLBACK")
            return True

    def api_processes(self) -> list[psutil.Process]:
        """The processes that answer requests."""
        return psutil.Process(self.api.pid).children()

    def check_read(self, provider: str, used: int) -> None:
        """A read is answered, with the position that it is as of."""
        status, body, position = self.ask(self.connect(), "GET", f"/resource_providers/{provider}/usages")
        assert (status, body["usages"]) == (200, {"VCPU": used})
        assert all(int(one.partition(":")[2]) > 0 for one in position.split(","))

    def verify(self) -> dict[str, Any]:
        """What `vacancy verify` finds: it compares the tables with the log, and audits every allocation."""
        command = [VACANCY, "verify", "--json", "--log", self.log, "--store", str(self.store)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def claim(*providers: str, used: int = 1, generation: int | None = None) -> dict[str, Any]:
    """The body of a claim of VCPU of each of these providers."""
    return {
        "allocations": {uuid: {"resources": {"VCPU": used}} for uuid in providers},
        "consumer_generation": generation,
        "consumer_type": "INSTANCE",
        "project_id": "p",
        "user_id": "u",
    }


def providers_with(site: Site, total: int) -> tuple[str, str]:
    """Two new providers with this many VCPU each."""
    to = site.connect()
    found = str(uuid4()), str(uuid4())
    for uuid in found:
        assert site.ask(to, "POST", "/resource_providers", {"name": uuid, "uuid": uuid})[0] == 200
        inventories = {"resource_provider_generation": 0, "inventories": {"VCPU": {"total": total}}}
        assert site.ask(to, "PUT", f"/resource_providers/{uuid}/inventories", inventories)[0] == 200
    return found
