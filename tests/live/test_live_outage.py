"""The broker stops while a worker runs: the worker logs it once, waits and continues; it also stops cleanly meanwhile."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.live.site import WorkerCommand, new_topic, rebuilt, report, said, until, wait_for
from tests.support.processes.kafka_server import KafkaCluster
from vacancy.resources.model.partitioner import covering_cells

pytestmark = pytest.mark.kafka

PATIENTLY = [
    word
    for name in ("session.timeout.ms", "request.timeout.ms", "bootstrap.timeout.ms", "max.block.ms")
    for word in ("--set", f"{name}=300000")
]
"""Kafka's clients would wait this long, which no test does."""


def test_the_broker_is_killed_and_comes_back(mortal_kafka: KafkaCluster, tmp_path: Path) -> None:
    store, rng, cells = tmp_path / "store", random.Random(7), covering_cells(4)
    cluster = mortal_kafka
    with new_topic(cluster.servers) as log:
        with WorkerCommand(log, store) as worker:
            lives = 0
            for outage_s in (1.0, 6.0):  # the second one outlives no session, but many tries
                receipts = []
                for _ in range(40):
                    lives += 1
                    burst = [
                        report(rng.choice(cells), f"n{n}", life=lives) for n in range(rng.randrange(1, 60))
                    ]
                    receipts.append(log.send(burst))
                    time.sleep(0.01)
                cluster.kill(1)
                receipts.append(log.send([report(cell, "while-away", life=lives) for cell in cells]))
                assert worker.get("/status").code == 200
                time.sleep(outage_s)
                cluster.restart(1)
                for receipt in receipts:
                    receipt.wait(90)
                wait_for(store, log.end())
            status = worker.status()
            assert not status["errors"]
            assert status["lag_records"] == 0
            ended = worker.end()
        assert ended.code == 0, ended
        assert not any("Traceback" in line for line in ended.lines), "\n".join(ended.lines)
        assert said(store) == rebuilt(log, tmp_path / "again")


def test_a_worker_stops_cleanly_while_the_broker_is_down(mortal_kafka: KafkaCluster, tmp_path: Path) -> None:
    cluster = mortal_kafka
    with new_topic(cluster.servers) as log:
        worker = WorkerCommand(log, tmp_path / "store", *PATIENTLY).start().wait_ready()
        log.append([report("a", "node-1")])
        wait_for(tmp_path / "store", log.end())
        cluster.kill(1)
        # It asks every 5 s how far the log is, and waits 10 s for the answer.
        until(lambda: worker.said("does not answer"), "it has not noticed")
        ended = worker.end()
        assert ended.code == 0, ended
        assert sum("does not answer" in line for line in ended.lines) == 1
        assert not any("Traceback" in line for line in ended.lines), "\n".join(ended.lines)
