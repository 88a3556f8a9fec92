"""Many placements at once, on a log and a store that a worker thread folds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from vacancy.clients.fleet import node_reports
from vacancy.clients.scheduler import Scheduler
from vacancy.clients.wiring import installed_registry, new_log, open_store
from vacancy.resources.events import ProviderReport
from vacancy.resources.request import RequestGroup, RequestSpec
from vacancy.streams.worker import EmbeddedWorker

ONE = RequestSpec(groups=(RequestGroup(resources={"VCPU": 1}),))


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Scheduler]:
    """A scheduler over one node of four VCPUs."""
    node = ProviderReport(id="node-1", inventories={"VCPU": {"total": 4}})
    with (
        new_log(f"sqlite://{tmp_path}/log.db", 1, installed_registry()) as log,
        open_store(tmp_path / "store", log, installed_registry()) as store,
    ):
        log.append(list(node_reports([(node,)], 1)))
        worker = EmbeddedWorker(log, store)
        while worker.step():
            pass
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            with Scheduler(log, tmp_path / "store", installed_registry(), seed=1) as made:
                yield made
        finally:
            worker.stop()
            thread.join()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("in_flight", [1, 2, 3, 8])
def test_it_ends_when_all_are_decided_however_many_may_be_in_flight(
    scheduler: Scheduler, in_flight: int
) -> None:
    outcomes = list(scheduler.place_many([ONE] * 6, in_flight=in_flight))
    assert sorted(outcome.status for outcome in outcomes) == ["no_valid_host"] * 2 + ["placed"] * 4


@pytest.mark.timeout(60)
def test_it_ends_at_once_where_nothing_is_asked(scheduler: Scheduler) -> None:
    assert list(scheduler.place_many([])) == []
