"""The HTTP pages of a worker: readiness, status and metrics, on loopback only, without Faust's own pages."""

from __future__ import annotations

import json
import signal
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.live.site import FAUST, WorkerCommand, new_topic, report, until, wait_for
from tests.support.logs.events_json import provider, reported
from tests.support.processes.kafka_server import free_ports
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.printable import printable_lines

pytestmark = pytest.mark.kafka


def metrics_of(text: str) -> dict[str, float]:
    """Metric -> the sum over its labels."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def test_the_pages(kafka: str, tmp_path: Path) -> None:
    with new_topic(kafka) as log, WorkerCommand(log, tmp_path / "store", "--ui-port", "0") as worker:
        assert worker.get("/ready").code == 200
        log.append([report(covering_cells(4)[n % 4], f"node-{n}") for n in range(20)])
        log.append([report("cell-0", "node-1")._replace(value=b"garbage")])
        wait_for(tmp_path / "store", log.end())
        status = worker.status()
        assert status["ready"]
        assert status["records"] == 25
        assert status["lag_records"] == 0 == status["lag_seconds"]
        assert {one["partition"]: one["position"] for one in status["partitions"]} == log.end()
        assert sum(one["dead_letters"] for one in status["partitions"]) == 1
        found = metrics_of(worker.get("/metrics").text)
        assert found["vacancy_worker_records_total"] == 25
        assert found["vacancy_worker_batches_total"] == status["batches"] > 0
        assert found["vacancy_worker_dead_letters_total"] == 1
        assert found["vacancy_worker_lag_records"] == 0
        assert found["vacancy_worker_contested_nodes"] == 0
        assert found["vacancy_worker_contested_reports_total"] == 0
        assert status["partitions"][0]["contested"] == {"closed": 0, "dropped": 0, "dropped_reports": 0}
        assert found["vacancy_worker_lag_seconds"] == 0
        assert found["vacancy_worker_log_time_seconds"] > 4 * 1_700_000_000
        assert found["vacancy_worker_ready"] == 1
        until(lambda: bool(worker.status()["page"]), "no page")
        page = worker.status()["page"]
        assert f'href="{page}"' in worker.get("/").text
        with urllib.request.urlopen(  # noqa: S310 - the page of people
            f"{page}status.json", timeout=60
        ) as answer:
            assert json.load(answer)["health"]["nodes"] == 20


def test_hostile_text_of_a_log_and_of_paths_does_not_reach_the_pages(kafka: str, tmp_path: Path) -> None:
    bad = '"} 1\r\nvacancy_worker_ready{log="forged"} 1 \x1b[2J\u202e\u2066\u2028'
    node = provider("node-1", VCPU=4) | {"attributes": {"rack": bad}}
    with new_topic(kafka, 1) as log, WorkerCommand(log, tmp_path / 'st\u202e\x1b[2J"ore') as worker:
        log.append(
            [NewRecord("a", reported("node-1", [node])), NewRecord(bad, bad.encode()), report("a", "n2")]
        )
        wait_for(tmp_path / 'st\u202e\x1b[2J"ore', log.end())
        status, metrics = worker.get("/status").text, worker.get("/metrics").text
    for page in (status, metrics):
        assert page == printable_lines(page)
        assert "forged" not in page
    assert sum(one["dead_letters"] for one in json.loads(status)["partitions"]) == 1
    assert metrics_of(metrics)["vacancy_worker_dead_letters_total"] == 1


@pytest.mark.parametrize(
    "page", ["/table", "/table/", "/router", "/router/", "/graph", "/graph/", "/assignment/", "/performance"]
)
def test_faust_s_own_pages_are_disabled(page: str, serving: WorkerCommand) -> None:
    assert serving.get(page).code == 404


def test_it_listens_on_loopback_only(serving: WorkerCommand) -> None:
    port = int(serving._address.rpartition(":")[2])
    listening = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == "0A" and int(local.rpartition(":")[2], 16) == port:
                listening.add(local.rpartition(":")[0])
    assert listening == {"0100007F"}


@pytest.fixture(scope="module")
def serving(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerCommand]:
    with new_topic(kafka, 1) as log, WorkerCommand(log, tmp_path_factory.mktemp("pages") / "store") as worker:
        yield worker


def test_a_port_in_use(kafka: str, tmp_path: Path) -> None:
    with new_topic(kafka, 1) as log, socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        worker = WorkerCommand(log, tmp_path / "store", "--web-port", port)
        ended = worker.start().ended()
    assert ended.code == 2
    assert ended.lines[-1].startswith(
        f"vacancy: this program cannot listen on the web address 127.0.0.1:{port}"
    )
    assert not any("Traceback" in line for line in ended.lines)


def test_the_faust_command_runs_the_worker(kafka: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    (port,) = free_ports(1)
    with new_topic(kafka, 2) as log:
        worker = WorkerCommand(
            log,
            store,
            environment={
                "VACANCY_LOG": log.url,
                "VACANCY_STORE": str(store),
                "VACANCY_WEB_PORT": str(port),
            },
        )
        worker.command = [str(FAUST), "-A", "vacancy.streams.faust.entrypoint", "worker"]
        worker._address = f"127.0.0.1:{port}"
        worker.start()
        try:
            until(lambda: _answers(port), "it does not answer")
            log.append([report("a", "node-1")])
            wait_for(store, log.end())
            assert worker.get("/ready").code == 200
            assert worker.get("/table").code == 404
        finally:
            ended = worker.end(signal.SIGTERM)
        assert ended.code == 0, ended
        assert not any("Traceback" in line for line in ended.lines), ended
        worker = WorkerCommand(
            log,
            store,
            environment={"VACANCY_LOG": f"{log.url}-not-there", "VACANCY_STORE": str(store)},
        )
        worker.command = [str(FAUST), "-A", "vacancy.streams.faust.entrypoint", "worker"]
        ended = worker.start().ended()
    assert ended.code == 1
    assert "vacancy topics create" in ended.lines[-1]
    assert not any("Traceback" in line for line in ended.lines), ended


def test_the_faust_command_may_name_another_port(kafka: str, tmp_path: Path) -> None:
    chosen, other = free_ports(2)
    store = tmp_path / "store"
    with new_topic(kafka, 1) as log:
        settings = {"VACANCY_LOG": log.url, "VACANCY_STORE": str(store), "VACANCY_WEB_PORT": str(chosen)}
        worker = WorkerCommand(log, store, environment=settings)
        worker.command = [str(FAUST), "-A", "vacancy.streams.faust.entrypoint", "worker"]
        worker.command += ["--web-port", str(other)]
        worker.start()
        try:
            until(lambda: _answers(other), "it does not answer")
            assert not _answers(chosen)
        finally:
            ended = worker.end(signal.SIGTERM)
    assert ended.code == 0, ended


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=60) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
