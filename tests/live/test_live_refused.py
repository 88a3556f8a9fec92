"""Conditions in which a worker ends, at its start or later: one line says what, where and what to do."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, TopicPartition

from tests.live.site import Ended, WorkerCommand, new_topic, report, until, wait_for, worker_here
from vacancy.clients.runtime.bootstrap import installed_registry, new_log, worker_parts
from vacancy.resources.model.errors import LogError
from vacancy.resources.model.partitioner import covering_cells
from vacancy.streams.log import Log, open_log
from vacancy.streams.log_url import parse_log_url

pytestmark = pytest.mark.kafka


@pytest.fixture
def admin(kafka: str) -> Iterator[Any]:
    client = KafkaAdminClient(bootstrap_servers=kafka)
    yield client
    client.close()


def topic_of(log: Log) -> str:
    return parse_log_url(log.url).place


def partitions_of(log: Log) -> int:
    """How many partitions the log has for who opens it now."""
    with open_log(log.url) as opened:
        return opened.partitions


def folded(log: Log, store: Path, count: int = 20) -> None:
    """A store that has folded a number of reports of each partition."""
    cells = covering_cells(log.partitions)
    log.append([report(cell, f"{cell}-{n}") for cell in cells for n in range(count)])
    with worker_here(log.url, store):
        pass


def refused(log: Log, store: Path, *more: str) -> str:
    """The one line with which a worker ends at once."""
    ended = WorkerCommand(log, store, *more).start().ended()
    return last_line(ended)


def last_line(ended: Ended) -> str:
    assert ended.code == 1, ended
    assert not any("Traceback" in line for line in ended.lines), "\n".join(ended.lines)
    return ended.lines[-1].removeprefix("vacancy: ")


def remake(admin: Any, log: Log, reports: int) -> None:
    """Delete the topic, and make another log under its name."""
    admin.delete_topics([topic_of(log)])
    give_up_at = time.monotonic() + 90
    while True:
        try:
            made = new_log(log.url, log.partitions, installed_registry())
            break
        except LogError:  # until the old one is gone
            assert time.monotonic() < give_up_at
            time.sleep(0.1)
    with made:
        cells = covering_cells(made.partitions)
        made.append([report(cell, f"new-{n}") for cell in cells for n in range(reports)])


def test_retention_that_has_eaten_what_the_store_needs(kafka: str, tmp_path: Path, admin: Any) -> None:
    with new_topic(kafka, 2) as log:
        folded(log, tmp_path / "store")
        log.append([report(cell, f"{cell}-{n}") for cell in covering_cells(2) for n in range(20, 60)])
        admin.delete_records({TopicPartition(topic_of(log), 1): 40})
        said = refused(log, tmp_path / "store")
        name = topic_of(log)
    where = f"{name}, partition 1, offset 21, log holds 40 to 61"
    assert said.startswith(f"the requested records are no longer in the log ({where}); ")


def test_a_new_store_on_a_log_whose_front_is_gone(kafka: str, tmp_path: Path, admin: Any) -> None:
    with new_topic(kafka, 2) as log:
        log.append([report(cell, f"{cell}-{n}") for cell in covering_cells(2) for n in range(20)])
        admin.delete_records({TopicPartition(topic_of(log), 1): 10})
        assert "partition 1, offset 0, log holds 10 to 21" in refused(log, tmp_path / "store")


def test_retention_that_has_eaten_only_what_was_folded(kafka: str, tmp_path: Path, admin: Any) -> None:
    with new_topic(kafka, 2) as log:
        folded(log, tmp_path / "store")
        admin.delete_records({TopicPartition(topic_of(log), 1): 21})
        log.append([report(cell, "another") for cell in covering_cells(2)])
        with worker_here(log.url, tmp_path / "store") as app:
            assert app.ownership.records == 2


def test_a_topic_that_was_made_again(kafka: str, tmp_path: Path, admin: Any) -> None:
    with new_topic(kafka, 2) as log:
        folded(log, tmp_path / "store")
        remake(admin, log, reports=100)
        said = refused(log, tmp_path / "store")
    assert said.startswith("the store was folded from log ")
    assert "vacancy replay --rebuild" in said


def test_a_partition_count_that_grew(kafka: str, tmp_path: Path, admin: Any) -> None:
    with new_topic(kafka, 2) as log:
        folded(log, tmp_path / "store")
        admin.create_partitions({topic_of(log): 4})
        until(lambda: partitions_of(log) == 4, "the broker has no new partitions")
        said = refused(log, tmp_path / "store")
    assert said.startswith("the log has 4 partitions but was created with 2")


def test_a_partition_count_that_grows_under_a_worker(kafka: str, tmp_path: Path, admin: Any) -> None:
    with new_topic(kafka, 2) as log:
        worker = WorkerCommand(log, tmp_path / "store", "--set", "metadata.max.age.ms=500")
        worker.start().wait_ready()
        admin.create_partitions({topic_of(log): 3})
        said = last_line(worker.ended())
    assert said.startswith("partition 2 was added to the log, it was created with 2 partitions")


def test_a_topic_that_is_made_again_under_a_worker(kafka: str, tmp_path: Path, admin: Any) -> None:
    """Sooner or later the worker asks for an offset that the new log does not have, maybe before all is in it. Or it sees before that
    that it is another log: it looks every half a minute."""
    with new_topic(kafka, 1) as log:
        worker = WorkerCommand(log, tmp_path / "store", "--set", "metadata.max.age.ms=500")
        worker.start().wait_ready()
        log.append([report("a", f"node-{n}") for n in range(200)])
        wait_for(tmp_path / "store", log.end())
        remake(admin, log, reports=3)
        said = last_line(worker.ended())
    beyond = "partition 0, offset 201, log holds 0 to [0-4][);]"
    assert re.search(f"{beyond}|the log was replaced while this worker ran", said), said


def test_retention_that_overtakes_a_worker(kafka: str, tmp_path: Path, admin: Any) -> None:
    """While the worker stands still the log's front is taken away."""
    with new_topic(kafka, 1) as log:
        worker = WorkerCommand(log, tmp_path / "store")
        worker.start().wait_ready()
        os.kill(worker.process.pid, signal.SIGSTOP)
        for at in range(0, 40_000, 1000):
            log.send([report("a", f"node-{n}") for n in range(at, at + 1000)])
        log.append([report("a", "last")])
        admin.delete_records({TopicPartition(topic_of(log), 0): 40_000})
        os.kill(worker.process.pid, signal.SIGCONT)
        said = last_line(worker.ended())
    assert "the requested records are no longer in the log" in said
    assert "log holds 40000 to 40002" in said


def test_no_partition_is_opened_to_name_a_store(kafka: str, tmp_path: Path) -> None:
    """What makes the parts of a worker takes nothing from the worker that has them."""
    with new_topic(kafka, 2) as log, WorkerCommand(log, tmp_path / "store") as worker:
        parts = worker_parts(log, tmp_path / "store")
        until(lambda: worker.get("/ready").code == 200, "not ready")
        assert parts.projection.id == worker.status()["store"]
