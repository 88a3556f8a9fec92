"""An embedded worker serves the pages that a worker on Kafka serves, while it folds."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.processes.kafka_server import free_ports
from tests.support.sites.snapshot_site import SnapshotSite, snapshot_site
from vacancy.clients.runtime.worker_process import run_worker
from vacancy.clients.scheduler.client import Scheduler
from vacancy.resources.model.errors import UsageError
from vacancy.streams.pages.page_server import PageServer, listening
from vacancy.streams.settings import Settings, WebAddress


def get(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[SnapshotSite, str]]:
    """A log, and the address of a worker that follows it."""
    with snapshot_site(tmp_path) as site:
        stop: SimpleQueue[None] = SimpleQueue()
        ready: SimpleQueue[Any] = SimpleQueue()
        worker = threading.Thread(
            target=run_worker,
            args=(site.log.url, site.store),
            kwargs={"web": WebAddress(port=0), "stop": stop, "on_ready": ready.put},
        )
        worker.start()
        try:
            yield site, ready.get(timeout=60).web_address
        finally:
            stop.put(None)
            worker.join()


def test_the_pages(served: tuple[SnapshotSite, str]) -> None:
    site, address = served
    assert address.startswith("127.0.0.1:")
    assert get(address, "/ready") == (200, '{"ready": true}')
    site.report(30)
    until = time.monotonic() + 60
    status: dict[str, Any] = {}
    while status.get("records") != 30:
        assert time.monotonic() < until, status
        status = json.loads(get(address, "/status")[1])
    assert (status["ready"], status["lag_records"], status["lag_seconds"]) == (True, 0, 0)
    assert {one["partition"]: one["position"] for one in status["partitions"]} == site.log.end()
    assert status["errors"] == {}
    code, text = get(address, "/metrics")
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    assert code == 200
    assert found["vacancy_worker_records_total"] == 30
    assert found["vacancy_worker_ready"] == 1
    assert found["vacancy_worker_position"] == sum(site.log.end().values())
    assert get(address, "/other")[0] == 404


def test_claims_are_counted_by_verdict(served: tuple[SnapshotSite, str]) -> None:
    site, address = served
    settings = Settings(log=site.log.url, store=site.store)
    with Scheduler.from_settings(settings, name="test") as scheduler:
        spec = scheduler.compile("resources=VCPU:4")
        outcomes = list(scheduler.place_many([spec] * 3))
    assert [outcome.status for outcome in outcomes] == ["placed"] * 3
    _, text = get(address, "/metrics")
    counted = {
        sample.labels["verdict"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "vacancy_worker_claims_total"
    }
    assert counted["accepted"] == 3
    assert set(counted) <= {
        "accepted",
        "capacity_exceeded",
    }  # each node takes one, so a claim may have come second


def test_a_port_is_kept_for_a_server_that_starts_later() -> None:
    (port,) = free_ports(1)
    address = WebAddress(port=port)
    with listening(address) as kept:
        assert kept.getsockname() == ("127.0.0.1", port)
        with pytest.raises(UsageError, match=f"cannot listen on the web address 127.0.0.1:{port}"):
            listening(address)
    listening(address).close()


def test_a_port_that_is_in_use(tmp_path: Path) -> None:
    server = PageServer(WebAddress(port=0), lambda _: None)
    port = int(server.web_address.rpartition(":")[2])
    try:
        with (
            snapshot_site(tmp_path) as site,
            pytest.raises(UsageError, match="cannot listen on the web address"),
        ):
            run_worker(site.log.url, site.store, web=WebAddress(port=port))
    finally:
        server.end()
