"""`vacancy placement serve`: several processes on one log, as clients see them."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

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


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Site:
    """A log in SQLite, a worker, and the API in two processes."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        places = ("--log", f"sqlite://{directory}/log.db")
        subprocess.run(
            [VACANCY, "topics", "create", *places, "--partitions", "1"],
            check=True,
        )
        store = ("--store", str(directory / "store"))
        worker = self.worker = vacancy("worker", *places, *store)
        stack.callback(stop, worker)
        assert worker.stderr is not None
        while "caught up" not in worker.stderr.readline():
            assert worker.poll() is None
        self.port = free_port()
        serve = ("placement", "serve", *places, *store, "--port", str(self.port), "--processes", "2")
        stack.callback(stop, vacancy(*serve))
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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path_factory.mktemp("placement"), stack)


def claim(*providers: str) -> dict[str, Any]:
    return {
        "allocations": {uuid: {"resources": {"VCPU": 1}} for uuid in providers},
        "consumer_generation": None,
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


def test_what_was_written_is_read_at_once(site: Site) -> None:
    (one, _), to = providers_with(site, 2), site.connect()
    consumer = str(uuid4())
    status, _, written = site.ask(to, "PUT", f"/allocations/{consumer}", claim(one))
    assert status == 204
    status, body, read = site.ask(to, "GET", f"/resource_providers/{one}/usages")
    assert (status, body["usages"]) == (200, {"VCPU": 1})
    assert int(read.partition(":")[2]) >= int(written.partition(":")[2])


def test_a_race_of_eight_clients_never_overcommits(site: Site) -> None:
    """320 claims of one VCPU of each of two providers that have 100: what is first in the log gets it."""
    both, statuses = providers_with(site, 100), Counter[int]()

    def run() -> None:
        to = site.connect()
        for _ in range(40):
            status, _, _ = site.ask(to, "PUT", f"/allocations/{uuid4()}", claim(*both))
            statuses[status] += 1

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == {204: 100, 409: 220}
    to = site.connect()
    for uuid in both:
        assert site.ask(to, "GET", f"/resource_providers/{uuid}/usages")[1]["usages"] == {"VCPU": 100}


def test_a_write_without_a_verdict_says_so_and_its_retry_is_safe(site: Site) -> None:
    """The worker stands still: the log has the write, the tables do not. Reads go on."""
    (one, _), to = providers_with(site, 2), site.connect()
    path = f"/allocations/{uuid4()}"
    site.worker.send_signal(signal.SIGSTOP)
    try:
        status, body, _ = site.ask(to, "PUT", path, claim(one))
        assert (status, site.ask(to, "GET", path)[0]) == (503, 200)
        assert "it is not known whether it was written" in body["errors"][0]["detail"]
    finally:
        site.worker.send_signal(signal.SIGCONT)
    until = time.monotonic() + START_S
    while not site.ask(to, "GET", path)[1]["allocations"]:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert site.ask(to, "PUT", path, claim(one))[0] == 409, (
        "the first one was written: the generation says so"
    )
    assert site.ask(to, "GET", f"/resource_providers/{one}/usages")[1]["usages"] == {"VCPU": 1}
