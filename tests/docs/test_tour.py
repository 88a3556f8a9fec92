"""The tour names the modules that run, in both journeys, and no others."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.docs.call_path import ROOT, modules_that_run
from vacancy.clients.publisher.host.host import HostOptions, collect
from vacancy.clients.publisher.outbox import Outbox
from vacancy.clients.publisher.publisher import Publisher
from vacancy.clients.runtime.bootstrap import installed_registry, new_log, open_store, tick_entry
from vacancy.clients.scheduler.client import Scheduler
from vacancy.projections.store.store import Store
from vacancy.resources.model.partitioner import cell_for
from vacancy.resources.model.request import RequestGroup, RequestSpec
from vacancy.streams.log import Log
from vacancy.streams.worker.embedded_worker import EmbeddedWorker

PAGE = (ROOT / "docs/tour.md").read_text()
JOURNEYS = dict(re.findall(r"^## (A \w+).*?\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
REQUEST = RequestSpec(groups=(RequestGroup(resources={"VCPU": 1, "MEMORY_MB": 256}),))


def named(journey: str) -> tuple[list[str], set[str]]:
    """The modules of a journey's steps, in order, and those that may be passed besides."""
    text = JOURNEYS[journey]
    steps = re.findall(r"^\| \d+ \| `(\S+)` \|", text, re.M)
    (also,) = re.findall(r"^Also passed: (.*?)\.$", text, re.M | re.S)
    return steps, set(re.findall(r"`(\S+)`", also))


def worker_of(log: Log, store: Store) -> EmbeddedWorker:
    return EmbeddedWorker(log, store, tick_entry=lambda partition: tick_entry(partition, 1), poll_s=0.0005)


@contextmanager
def followed_log(log: Log, store: Store) -> Iterator[None]:
    """A worker in a thread of its own."""
    worker = worker_of(log, store)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join()


def publish(log: Log, store: Store, outbox: Path, root: str) -> None:
    """This host, from /proc to rows."""
    with Outbox(outbox) as queue:
        publisher = Publisher(log, root, cell_for(root, 1), queue)
        publisher.report(collect(HostOptions(root=root)))
        publisher.flush()
    worker = worker_of(log, store)
    while worker.step():
        pass


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The modules that run in each journey. Each is made once before, so that nothing is imported or opened in it."""
    path = tmp_path_factory.mktemp("tour")
    registry = installed_registry()
    with (
        closing(new_log(f"sqlite://{path}/log.db", 1, registry)) as log,
        open_store(path / "store", log, registry) as store,
    ):
        publish(log, store, path / "before.db", "before")
        with modules_that_run() as report:
            publish(log, store, path / "outbox.db", "node-1")
        with Scheduler(log, path / "store", registry, seed=1) as scheduler:
            with followed_log(log, store):
                scheduler.place(REQUEST)
            with modules_that_run() as claim, followed_log(log, store):
                scheduler.place(REQUEST)
    return {"A node": list(report), "A claim": list(claim)}


@pytest.mark.parametrize("journey", ["A node", "A claim"])
def test_every_module_that_runs_is_named(journey: str, passed: dict[str, list[str]]) -> None:
    steps, also = named(journey)
    missing = [module for module in passed[journey] if module not in also.union(steps)]
    assert not missing, f"docs/tour.md, {journey}: add these modules, or list them as also passed"


@pytest.mark.parametrize("journey", ["A node", "A claim"])
def test_every_module_that_is_named_runs(journey: str, passed: dict[str, list[str]]) -> None:
    steps, _ = named(journey)
    assert not set(steps) - set(passed[journey]), f"docs/tour.md, {journey}: these modules do not run there"


@pytest.mark.parametrize("journey", ["A node", "A claim"])
def test_the_steps_are_numbered(journey: str) -> None:
    numbers = re.findall(r"^\| (\d+) \|", JOURNEYS[journey], re.M)
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]


def test_modules_that_may_be_passed_exist() -> None:
    named_besides = set().union(*(named(journey)[1] for journey in JOURNEYS))
    assert {module for module in named_besides if not (ROOT / module).exists()} == set()
