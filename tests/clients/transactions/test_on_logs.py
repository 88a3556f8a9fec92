"""Transactions on a SQLite log and on Kafka, with a worker in another process. Each test has a cell of its own."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vacancy.clients.replay_tool.verify import verify
from vacancy.clients.runtime.bootstrap import new_log
from vacancy.clients.runtime.folded_log import RecordRefused
from vacancy.clients.runtime.worker_process import WorkerProcess
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.clients.transactions import (
    CellState,
    ConsumerChange,
    NameChange,
    ProviderChange,
    ProviderState,
    TransactionClient,
    TransactionOutcome,
)
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import LogUnavailable, NoValidHost, OutcomeUnknown
from vacancy.resources.state.tables import DEAD_LETTERS
from vacancy.streams.log import Log, open_log

REGISTRY = Registry()


@dataclass
class Site:
    """A log and the store that a worker folds from it."""

    log: Log
    store: Path
    worker: WorkerProcess

    @contextmanager
    def client(self, cell: str) -> Iterator[Client]:
        """A client as another process has it: with its own connection to the log, and its own reader."""
        with (
            open_log(self.log.url) as log,
            StoreReader(self.store, REGISTRY, with_view=False) as reader,
        ):
            yield Client(log, reader, cell)

    @contextmanager
    def stopped_worker(self) -> Iterator[None]:
        assert self.worker.pid is not None
        os.kill(self.worker.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.worker.pid, signal.SIGCONT)


class Client:
    """A client of one cell. `state` is read without catching up."""

    def __init__(self, log: Log, reader: StoreReader, cell: str) -> None:
        self.log, self.reader = log, reader
        self.state = CellState(reader, cell)
        self._client = TransactionClient(log, reader, cell=cell)

    def submit(self, **data: Any) -> TransactionOutcome:
        return self._client.submit(**data)

    def does(self, **data: Any) -> TransactionOutcome:
        outcome = self.submit(**data)
        assert outcome.accepted, outcome
        return outcome

    def node(self, id_: str = "n1") -> ProviderState:
        found = self.state.provider(id_)
        assert found is not None
        return found

    def letters(self) -> int:
        """The dead letters of the log."""
        return sum(1 for _ in self.reader.raw(0, DEAD_LETTERS.family))


@pytest.fixture(scope="module", params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp(request.param)
    url = f"sqlite:///{directory}/log.db"
    if request.param == "kafka":
        url = f"kafka://{request.getfixturevalue('kafka')}/transactions-{uuid.uuid4().hex[:8]}"
    with new_log(url, 1, REGISTRY) as log, WorkerProcess(log.url, directory / "store") as worker:
        worker.wait_ready()
        yield Site(log, directory / "store", worker)
        report = verify(log, directory / "store", REGISTRY)
        assert report.ok, (report.different, report.audit.problems)


@pytest.fixture
def cell() -> str:
    return uuid.uuid4().hex[:8]


@pytest.fixture
def client(site: Site, cell: str) -> Iterator[Client]:
    with site.client(cell) as client:
        client.does(names=[NameChange(kind="class", name="CUSTOM_GOLD", op="ensure")])
        yield client


def node(id_: str = "n1", total: int = 8, name: str = "VCPU") -> ProviderChange:
    return ProviderChange(provider=id_, op="create", raises=1, inventories={name: {"total": total}})


def holds(
    consumer: str, amount: int, generation: int | str = "absent", *, on: str = "n1", name: str = "VCPU"
) -> ConsumerChange:
    return ConsumerChange.model_validate(
        {"consumer": consumer, "generation": generation, "allocations": {on: {name: amount}}}
    )


def test_what_a_client_did_is_read_at_once_and_another_one_is_told_what_it_did(
    site: Site, cell: str, client: Client
) -> None:
    with site.client(cell) as other:
        made = client.does(providers=[node()], consumers=[holds("i1", 3)])
        assert (client.node().generation, client.node().inventories["VCPU"].used) == (2, 3)
        other.state.catch_up()
        assert other.node() == client.node()
        changed = other.does(providers=[ProviderChange(provider="n1", generation=2, raises=1)])
        assert other.node().generation == 3
        refused = client.submit(
            providers=[ProviderChange(provider="n1", generation=2, raises=1)],
            consumers=[holds("i2", 1)],
        )
    assert (refused.accepted, refused.reason, refused.provider) == (False, "provider_changed", "n1")
    assert (refused.asked, refused.available, refused.taken) == (2, 3, changed.offset)
    assert made.offset < changed.offset < refused.offset < refused.position[0]
    assert client.node().generation == 3
    assert [one.id for one in client.state.consumers()] == ["i1"]


def test_a_retry_with_the_same_id_changes_nothing(site: Site, cell: str, client: Client) -> None:
    first = client.does(transaction_id=f"t-{cell}", providers=[node()])
    client.does(providers=[ProviderChange(provider="n1", raises=1)])
    before, letters = client.node(), client.letters()
    again = client.does(transaction_id=f"t-{cell}", providers=[node()])
    assert again.offset == first.offset
    with site.client(cell) as other:
        assert other.does(transaction_id=f"t-{cell}", providers=[node()]).offset == first.offset
    assert (client.node(), client.letters()) == (before, letters)
    with pytest.raises(RecordRefused, match="made before with other content"):
        client.submit(transaction_id=f"t-{cell}", providers=[node("n2")])
    assert client.state.provider("n2") is None


def test_while_the_worker_stands_the_outcome_is_unknown_and_a_retry_finds_it(
    site: Site, cell: str, client: Client
) -> None:
    letters = client.letters()
    with site.client(cell) as other:
        # It is connected from now on.
        other.does(names=[NameChange(kind="class", name="CUSTOM_GOLD", op="ensure")])
        with site.stopped_worker():
            for one in (client, other):
                with pytest.raises(OutcomeUnknown, match="submit it again with the same id"):
                    one.submit(transaction_id="same", providers=[node()], timeout_s=2.0)
            assert client.state.provider("n1") is None
    outcome = client.does(transaction_id="same", providers=[node()])
    assert client.node().generation == 1
    assert client.node().created_ms > 0
    # The second client made it with another deadline, unless its time was over before it was sent.
    assert letters <= client.letters() <= letters + 1
    assert outcome.offset < outcome.position[0]


def test_two_clients_race_for_the_last_unit(site: Site, cell: str, client: Client) -> None:
    client.does(providers=[node(total=1)])
    start, outcomes = threading.Barrier(2), list[TransactionOutcome]()

    def race(consumer: str) -> None:
        with site.client(cell) as racer:
            start.wait()
            outcomes.append(racer.submit(consumers=[holds(consumer, 1)]))

    racers = [threading.Thread(target=race, args=(f"i{number}",)) for number in range(2)]
    for one in racers:
        one.start()
    for one in racers:
        one.join()
    won, lost = sorted(outcomes, key=lambda one: one.offset)
    assert won.accepted
    assert (lost.accepted, lost.reason, lost.taken) == (False, "no_room", won.offset)
    client.state.catch_up()
    assert client.node().inventories["VCPU"].used == 1
    assert len(list(client.state.consumers())) == 1


def test_a_scheduler_and_a_client_see_each_others_allocations(site: Site, client: Client) -> None:
    client.does(providers=[node("gold", total=2, name="CUSTOM_GOLD")])
    with Scheduler(site.log, site.store, REGISTRY, seed=1) as scheduler:
        placed = scheduler.place(PlacementRequest("resources=CUSTOM_GOLD:1", consumer="vm-1"))
        assert placed.root == "gold"
        client.state.catch_up()
        assert client.state.allocations_of("gold") == {"vm-1": {"CUSTOM_GOLD": 1}}
        assert client.node("gold").generation == 2
        refused = client.submit(consumers=[holds("i1", 2, on="gold", name="CUSTOM_GOLD")])
        assert (refused.reason, refused.asked, refused.available) == ("no_room", 2, 1)
        client.does(consumers=[holds("i1", 1, on="gold", name="CUSTOM_GOLD")])
        with pytest.raises(NoValidHost):
            scheduler.place(PlacementRequest("resources=CUSTOM_GOLD:1", consumer="vm-2"))
        client.does(consumers=[ConsumerChange(consumer="i1", generation=1)])
        assert scheduler.place(PlacementRequest("resources=CUSTOM_GOLD:1", consumer="vm-2")).root == "gold"


def test_a_log_that_does_not_answer_has_nothing(site: Site, cell: str, client: Client) -> None:
    """On Kafka this is in `tests/live/test_live_away.py`: it needs a broker that may be killed."""
    if not site.log.url.startswith("sqlite"):
        return
    with closing(sqlite3.connect(site.store.with_name("log.db"))) as other, site.client(cell) as fresh:
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        for one in (client, fresh):
            with pytest.raises(LogUnavailable):
                one.submit(providers=[node()], timeout_s=0.3)
        assert time.monotonic() - started < 18.0, "each waited for as long as a log is waited for by default"
        other.rollback()
    client.does(providers=[node()])
    assert client.node().generation == 1
