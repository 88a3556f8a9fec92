"""The complete loop on Kafka: report, fold, query, place, verdict; after a stop the worker continues at its position."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.live.site import WorkerCommand, new_topic, rebuilt, report, said, until, wait_for, worker_here
from vacancy.clients.publisher.outbox import Outbox
from vacancy.clients.publisher.publisher import Publisher
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.runtime.worker_process import WorkerProcess
from vacancy.clients.scheduler.client import Scheduler
from vacancy.resources.model import events
from vacancy.resources.model.errors import NoValidHost
from vacancy.resources.model.partitioner import cell_for, covering_cells
from vacancy.resources.model.request import RequestGroup, RequestSpec

pytestmark = pytest.mark.kafka

SPEC = RequestSpec(groups=(RequestGroup(resources={"VCPU": 6}),))


def test_from_a_report_to_a_verdict(kafka: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with new_topic(kafka) as log, WorkerProcess(log.url, store) as worker:
        worker.wait_ready()
        with Outbox(tmp_path / "outbox.db") as outbox:
            publisher = Publisher(log, "node-1", cell_for("node-1", log.partitions), outbox)
            publisher.report([events.ProviderReport(id="node-1", inventories={"VCPU": {"total": 8}})])
            publisher.flush()
        wait_for(store, log.end())
        with Scheduler(log, store, installed_registry(), seed=1) as scheduler:
            placed = scheduler.place(SPEC)
            assert (placed.status, placed.root) == ("placed", "node-1")
            with pytest.raises(NoValidHost):
                scheduler.place(SPEC)
            assert scheduler.release([placed]) == 1
            wait_for(store, log.end())
            assert scheduler.place(SPEC).root == "node-1"
        wait_for(store, log.end())
        worker.stop()
        assert said(store) == rebuilt(log, tmp_path / "again")


def test_a_worker_continues_exactly_at_the_position_of_its_store(kafka: str, tmp_path: Path) -> None:
    cells = covering_cells(4)
    with new_topic(kafka) as log:
        for life, count in ((1, 100), (2, 0), (3, 37)):
            log.append([report(cells[n % 4], f"node-{n}", life=life) for n in range(count)])
            with worker_here(log.url, tmp_path / "store") as app:
                folded, position = app.ownership.records, app.position
            assert folded == count + (4 if life == 1 else 0)  # the first round also folds the openings
            assert position == log.end() == dict(said(tmp_path / "store").position)
        assert said(tmp_path / "store") == rebuilt(log, tmp_path / "again")


def test_a_copied_store_continues_at_its_own_position_not_at_the_group_s(kafka: str, tmp_path: Path) -> None:
    """The group's offsets are ahead of a store that was restored from a copy. The store's position is used."""
    with new_topic(kafka, 1) as log:
        log.append([report("a", f"node-{n}") for n in range(10)])
        with worker_here(log.url, tmp_path / "store"):
            pass
        shutil.copytree(tmp_path / "store", tmp_path / "copy")
        log.append([report("a", f"more-{n}") for n in range(10)])
        with worker_here(log.url, tmp_path / "store"):
            pass
        with worker_here(log.url, tmp_path / "copy") as app:
            assert app.ownership.records == 10
        assert said(tmp_path / "copy") == said(tmp_path / "store")


def test_two_hosts_follow_one_log(kafka: str, tmp_path: Path) -> None:
    stores = [tmp_path / "one", tmp_path / "two"]
    with new_topic(kafka) as log, WorkerCommand(log, stores[0]), WorkerCommand(log, stores[1]):
        log.append([report(covering_cells(4)[n % 4], f"node-{n}") for n in range(200)])
        for store in stores:
            wait_for(store, log.end())
    assert said(stores[0]).whole == said(stores[1]).whole


def test_log_time_advances_while_a_deadline_is_open(kafka: str, tmp_path: Path) -> None:
    """A verdict is kept until its deadline. If nothing else arrives, the worker sends ticks until then."""
    store = tmp_path / "store"
    with new_topic(kafka, 1) as log, WorkerCommand(log, store) as worker:
        log.append([report("a", "node-1")])
        wait_for(store, log.end())
        with Scheduler(log, store, installed_registry(), seed=1, deadline_s=5.0) as scheduler:
            assert scheduler.place(SPEC).status == "placed"
        until(lambda: worker.status()["ticks"] > 0, "nothing ticks")

        def is_quiet() -> bool:
            """Whether nothing ticks for twice as long as between two ticks."""
            before = worker.status()["ticks"], log.end()
            time.sleep(2.5)
            return (worker.status()["ticks"], log.end()) == before

        until(is_quiet, "it does not end")  # one tick more may be under way when the first is folded
