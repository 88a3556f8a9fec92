"""A worker is killed repeatedly while records arrive: nothing is lost, and nothing is folded twice.

`VACANCY_LIVE_KILLS` is how often it is killed (`make explore`).
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.live.hosts import fleet
from tests.live.site import WorkerCommand, new_topic, rebuilt, report, said, until, wait_for
from vacancy.clients.runtime.worker_process import WorkerProcess
from vacancy.resources.model.partitioner import covering_cells
from vacancy.streams.log import Log

pytestmark = pytest.mark.kafka

ROUNDS = int(os.environ.get("VACANCY_LIVE_KILLS", "3"))
CELLS = covering_cells(4)
PATIENCE_MS = 300_000
"""A dead member would be missed after this time: later than any test waits."""


@contextmanager
def load(log: Log, rng: random.Random) -> Iterator[None]:
    """Send node reports in bursts until the end of the block."""
    stop = threading.Event()
    lives: dict[int, int] = {}

    def send() -> None:
        while not stop.wait(rng.uniform(0.0, 0.15)):
            burst = []
            for _ in range(rng.randrange(1, 80)):
                node = rng.randrange(300)
                lives[node] = lives.get(node, 0) + 1
                burst.append(
                    report(CELLS[node % 4], f"n{node}", life=lives[node], vcpus=rng.randrange(1, 99))
                )
            log.send(burst).wait(90)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_killed_under_load(kafka: str, tmp_path: Path) -> None:
    store, rng = tmp_path / "store", random.Random(20_240_607)
    with new_topic(kafka) as log:
        with load(log, rng):
            for _ in range(ROUNDS):
                worker = WorkerProcess(log.url, store)
                worker.start()
                worker.wait_ready()
                time.sleep(rng.uniform(0.0, 0.3))
                worker.kill()
        with WorkerProcess(log.url, store) as worker:
            worker.wait_ready()
            wait_for(store, log.end())
        found = said(store)
        assert found.position == log.end()
        assert min(log.end().values()) > 100
        assert found == rebuilt(log, tmp_path / "again")


@pytest.mark.long  # the two tests below are its short forms
def test_two_workers_on_one_store_share_its_partitions(kafka: str, tmp_path: Path) -> None:
    """A scheduler reads the store and claims meanwhile; the result is audited."""
    with new_topic(kafka) as log, fleet(log, tmp_path, [log.url], rate=300) as running:
        (host,) = running.hosts
        (alone,) = host.workers
        first = WorkerCommand(log, host.store)
        with first:
            until(lambda: len(first.partitions()) == 2, "they do not share")
            alone.stop()
            until(lambda: first.partitions() == [0, 1, 2, 3], "not taken over")
            host.goes_on()
            second = WorkerCommand(log, host.store).start().wait_ready()
            _split(first, second)
            host.goes_on()
            assert second.end().code == 0
            until(lambda: first.partitions() == [0, 1, 2, 3], "not given back")
            third = WorkerCommand(log, host.store).start().wait_ready()
            _split(first, third)
            third.end(signal.SIGKILL)
            until(lambda: first.partitions() == [0, 1, 2, 3], "the dead one keeps them")
            host.goes_on()
            assert not first.status()["errors"]
            host.workers.clear()
            host.scheduler.stop()
            running.publisher.stop()
            wait_for(host.store, log.end())
        assert running.conclude()["accepted"] > 20


def test_two_workers_that_start_at_the_same_time_share_a_store(kafka: str, tmp_path: Path) -> None:
    """The first to join gets all partitions, and must not wait for those that the other holds: the other waits to join."""
    with new_topic(kafka) as log:
        for life in range(1, 6):
            log.append([report(CELLS[n % 4], f"n{n}", life=life, vcpus=life) for n in range(2_000)], 60)
        both = [WorkerCommand(log, tmp_path / "store").start() for _ in range(2)]
        try:
            _split(*(one.wait_ready() for one in both))
            assert not any(one.status()["errors"] for one in both)
        finally:
            ended = [one.end() for one in both]
        assert [one.code for one in ended] == [0, 0]


def test_a_killed_worker_is_replaced_at_once_next_to_another(kafka: str, tmp_path: Path) -> None:
    """A new worker notices that the process of the killed one has ended, so the group need not wait for the timeout."""
    store = tmp_path / "store"
    patient = ("--set", f"session.timeout.ms={PATIENCE_MS}", "--set", f"request.timeout.ms={PATIENCE_MS}")
    with new_topic(kafka) as log, WorkerCommand(log, store, *patient) as first:
        second = WorkerCommand(log, store, *patient).start().wait_ready()
        _split(first, second)
        second.end(signal.SIGKILL)
        with WorkerCommand(log, store, *patient) as third:
            _split(first, third)


def _split(one: WorkerCommand, other: WorkerCommand) -> None:
    """Wait until each has two partitions. While the group is rebalanced, one may still show those that it had before."""

    def share() -> bool:
        here, there = one.partitions(), other.partitions()
        return len(here) == len(there) == 2 and sorted(here + there) == [0, 1, 2, 3]

    until(share, "they do not share")
