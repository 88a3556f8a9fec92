"""Digests that are computed beside the fold: of which position, at most one at a time, and what is left of one that was stopped."""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.support.logs.events_json import LOG, START_MS, opened
from vacancy.clients.runtime.bootstrap import new_log
from vacancy.clients.runtime.child_process import ChildProcess
from vacancy.clients.runtime.state_digester import DIRECTORY, StateDigester
from vacancy.clients.runtime.worker_process import run_worker
from vacancy.projections.store.digest import partition_digest
from vacancy.projections.store.state_digests import OwnDigest
from vacancy.projections.store.store import Store
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.resources.model import events
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord, Record
from vacancy.streams.log import open_log
from vacancy.streams.worker.state_digests import DigestInterval

REGISTRY = Registry()
(CELL,) = covering_cells(1)
KILLS = int(os.environ.get("VACANCY_DIGEST_KILLS", "2"))
RNG = random.Random(os.environ.get("VACANCY_SEED", "7"))
WAIT_S = 600.0
OPENED = opened(0, 1, (), RULES_VERSION)


def mark() -> bytes:
    data = events.StateMarkedData(store="other")
    return events.encode(events.StateMarked(id=uuid.uuid4().hex, source="/test", data=data))


def tick() -> bytes:
    return events.encode(events.Tick(id=uuid.uuid4().hex, source="/test"))


class Folded:
    """A store, and the digester of a worker that folds into it."""

    def __init__(self, path: Path, rest: float = 0.0) -> None:
        self.store = Store(path, log=LOG, partitions=1, registry=REGISTRY, first_rules=RULES_VERSION)
        self.digester = StateDigester(self.store, rest=rest)
        self.store.on_boundary = self.digester.take
        self.store.on_release = self.digester.release

    def fold(self, *values: bytes) -> None:
        first = self.store.open(0)
        records = [
            Record(0, first + n, START_MS + first + n, CELL.encode(), value) for n, value in enumerate(values)
        ]
        self.store.apply(0, records)

    def wait(self) -> None:
        """Until what was taken is known."""
        before = len(self.own)

        def known() -> bool:
            self.digester.step()
            return len(self.own) > before

        until(known)

    @property
    def own(self) -> list[OwnDigest]:
        return list(self.store.partition(0).digests.row.own)

    @property
    def digest(self) -> str:
        return partition_digest(self.store.partition(0).scan, REGISTRY)

    @property
    def left(self) -> list[str]:
        return [one.name for one in (self.store.path / DIRECTORY).glob("*")]


def until(true: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


@pytest.fixture
def folded(tmp_path: Path) -> Iterator[Folded]:
    made = Folded(tmp_path / "store")
    yield made
    made.store.close()


def test_it_is_the_digest_of_the_boundary_while_the_fold_goes_on(folded: Folded) -> None:
    folded.fold(OPENED, mark())
    expected = folded.digest
    assert len(folded.left) == 1
    folded.fold(tick(), mark(), tick())  # this mark comes while the first digest is computed
    assert len(folded.left) == 1
    folded.wait()
    assert folded.own == [(2, expected)]
    assert folded.digest != expected
    until(lambda: not folded.left)
    found = folded.store.unsaid_digest(0)
    assert found == (2, expected)
    assert folded.store.unsaid_digest(0) is None
    folded.fold(mark())
    folded.wait()
    assert [position for position, _ in folded.own] == [2, 6]


def test_boundaries_soon_after_a_digest_are_passed_over(tmp_path: Path) -> None:
    folded = Folded(tmp_path / "store", rest=10_000.0)
    folded.fold(OPENED, mark())
    folded.wait()
    folded.fold(mark())
    assert folded.left == []
    folded.store.close()


def test_a_partition_that_is_released_leaves_nothing(folded: Folded) -> None:
    folded.fold(OPENED, mark())
    folded.store.release(0)
    assert folded.left == []
    folded.store.open(0)
    folded.digester.step()
    assert folded.own == []
    folded.fold(mark())
    folded.wait()
    assert [position for position, _ in folded.own] == [3]


def test_a_store_that_is_damaged_gets_a_warning_and_is_folded_on(
    folded: Folded, capsys: pytest.CaptureFixture[str]
) -> None:
    folded.fold(OPENED)
    (folded.store.path / DIRECTORY).write_text("no directory")
    folded.fold(mark(), tick())
    assert "digest not computed" in capsys.readouterr().out
    assert folded.store.open(0) == 3


def work(parent: Connection, log_url: str, store: Path) -> None:
    """A worker that asks for digests all the time."""
    del parent
    run_worker(log_url, store, digest_interval=DigestInterval(0.05, 1))


def test_a_worker_that_is_killed_leaves_no_checkpoint_for_ever(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/log.db"
    with new_log(url, 1, REGISTRY) as log:
        name = log.identity().log
        log.append([NewRecord(CELL, tick())])
        for _ in range(KILLS):
            with ChildProcess("killed", work, url, tmp_path / "store") as child:
                until(lambda: any((tmp_path / "store" / DIRECTORY).glob("*")))  # it computes a digest
                time.sleep(RNG.uniform(0, 1.0))
                child.kill()
            log.append([NewRecord(CELL, tick())])
    left = tmp_path / "store" / DIRECTORY / "p00000-5-0a1b2c3d"
    left.mkdir(parents=True)  # as a process leaves it that is killed with its child
    with Store(tmp_path / "store", log=name, partitions=1, registry=REGISTRY) as store:
        store.open(0)
        StateDigester(store).step()
        until(lambda: not list((tmp_path / "store" / DIRECTORY).glob("*")))
    with open_log(url) as log:
        said = [events.parse(record.value) for record in log.read(0, 0, 10_000)]
    assert any(isinstance(event, events.StateMarked) for event in said)
    for event in said:
        if isinstance(event, events.StateDigested):
            with Store(tmp_path / str(event.id), log=name, partitions=1, registry=REGISTRY) as again:
                with open_log(url) as log:
                    again.apply(0, log.read(0, 0, event.data.position))
                assert partition_digest(again.partition(0).scan, REGISTRY) == event.data.digest
