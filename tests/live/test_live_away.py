"""Everything starts before the brokers: services wait, and single commands end after their timeout."""

from __future__ import annotations

import json
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.command import Vacancy, node_file
from tests.live.site import WAIT_S, WorkerCommand, new_topic, rebuilt, report, said, until, wait_for
from tests.support.processes.kafka_server import KafkaCluster, free_ports
from vacancy.clients.inspection.lookup import nodes
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.transactions import ProviderChange, TransactionClient
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import ClaimLost, LogUnavailable
from vacancy.resources.model.request import RequestGroup, RequestSpec
from vacancy.streams.log import Log, open_log

pytestmark = pytest.mark.kafka

ONE = RequestSpec(groups=(RequestGroup(resources={"VCPU": 1}),))
PATIENT = {"bootstrap.timeout.ms": "600000", "max.block.ms": "600000"}
"""Kafka's clients would wait this long, which no test does: what ends earlier keeps a timeout of its own."""
PATIENTLY = tuple(word for name, value in PATIENT.items() for word in ("--set", f"{name}={value}"))


def test_everything_starts_while_the_broker_is_down(mortal_kafka: KafkaCluster, tmp_path: Path) -> None:
    cluster, store = mortal_kafka, tmp_path / "store"
    with new_topic(cluster.servers) as log, open_log(log.url, **PATIENT) as unused:
        log.append([report("a", "node-1")])
        with WorkerCommand(log, store):
            wait_for(store, log.end())
        cluster.kill(1)
        with Vacancy(tmp_path, log=log.url, store=str(store)) as vacancy, ExitStack() as killed:
            waiting = waiting_worker(log, store)
            killed.callback(waiting.process.kill)
            stopped = WorkerCommand(log, tmp_path / "another", *PATIENTLY).start()
            killed.callback(stopped.process.kill)
            publisher = vacancy.start("publish", "--interval", "1", "--file", node_file(tmp_path, "late-1"))
            killed.callback(publisher.kill)
            check_first_claim(unused, store)
            check_first_transaction(unused, store)
            check_commands(vacancy)
            check_state(waiting, cluster.servers)
            check_stops(stopped)
            cluster.restart(1)
            until(lambda: waiting.said("caught up"), "it does not fold")
            assert waiting.get("/ready").code == 200
            assert sum("log answers" in line for line in waiting._lines) == 1
            check_published(publisher, store)
            wait_for(store, log.end())
            ended = waiting.end()
            assert ended.code == 0, ended
            assert not any("Traceback" in line for line in ended.lines), "\n".join(ended.lines)
        assert said(store) == rebuilt(log, tmp_path / "again")


def waiting_worker(log: Log, store: Path) -> WorkerCommand:
    (port,) = free_ports(1)
    worker = WorkerCommand(log, store, "--web-port", str(port)).start()
    worker._address = f"127.0.0.1:{port}"
    return worker


def check_first_claim(unused: Log, store: Path) -> None:
    """A scheduler that has sent nothing yet does not send its first claim, and reports that within its timeout."""
    with (
        Scheduler(unused, store, installed_registry()) as scheduler,
        pytest.raises(
            ClaimLost, match=r"no claim was sent: Kafka did not answer in time .*refuses connections"
        ),
    ):
        scheduler.place(ONE, timeout_s=5.0)


def check_first_transaction(unused: Log, store: Path) -> None:
    """A client that has sent nothing yet does not send its first transaction, and reports that within its timeout."""
    with StoreReader(store, installed_registry(), with_view=False) as reader:
        client = TransactionClient(unused, reader, cell="a")
        with pytest.raises(LogUnavailable, match="refuses connections"):
            client.submit(providers=[ProviderChange(provider="n1", op="create")], timeout_s=5.0)


def check_commands(vacancy: Vacancy) -> None:
    """Commands that need the log end within their own timeout; the others work."""
    assert "node-1" in vacancy("show", "nodes")
    assert "refuses connections" in vacancy.fails(
        1, "place", "--resources", "VCPU:1", "--timeout", "5", *PATIENTLY
    )


def check_state(worker: WorkerCommand, servers: str) -> None:
    """The log lines and pages of a worker while it waits."""
    until(lambda: worker.said("log does not answer; waiting"), "it does not say that it waits")
    (line,) = [line for line in worker._lines if "does not answer" in line]
    assert f"{servers} refuses connections" in line
    assert "check that the brokers run" in line
    answer = worker.get("/ready")
    assert (answer.code, json.loads(answer.text)) == (503, {"ready": False})
    status = worker.status()
    assert not status["ready"]
    assert servers in status["waiting_for"]
    assert status["waiting_seconds"] > 0
    assert "\nvacancy_worker_ready{" in worker.get("/metrics").text
    assert worker.get("/table").code == 404


def check_stops(worker: WorkerCommand) -> None:
    until(lambda: worker.said("log does not answer; waiting"), "it does not say that it waits")
    ended = worker.end(signal.SIGINT)
    assert ended.code == 0, ended
    assert not any("Traceback" in line for line in ended.lines), "\n".join(ended.lines)


def check_published(publisher: subprocess.Popen[str], store: Path) -> None:
    with StoreReader(store, installed_registry()) as reader:
        until(lambda: "late-1" in {node.root for node in nodes(reader)}, "it did not publish")
    publisher.terminate()
    _, words = publisher.communicate(timeout=WAIT_S)
    assert publisher.returncode == 0, words
    assert "log does not answer; waiting" in words
