"""A store that is made again beside the one in use takes its place: workers and readers go on, at whatever moment it is killed.

`VACANCY_REPLAY_KILLS` is how many moments of each are tried (`make explore`).
"""

from __future__ import annotations

import fcntl
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.replay_tool import swap_actor
from tests.clients.replay_tool.replay_site import REGISTRY, append_reports, log_of_reports
from tests.support.processes.killed_process import ANSWER_S, killed_within, seconds_of
from vacancy.clients.replay_tool.replay import Digest, digest, replay
from vacancy.clients.replay_tool.swap import swap_store
from vacancy.clients.runtime.child_process import ChildProcess
from vacancy.clients.runtime.worker_process import WorkerProcess
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store import swap as module
from vacancy.projections.store.manifest import read_manifest
from vacancy.projections.store.store import Store
from vacancy.projections.store.swap import MARK, is_swapping
from vacancy.resources.model.errors import StoreInUse
from vacancy.resources.state.tables import NODES
from vacancy.streams.log import open_log

KILLS = int(os.environ.get("VACANCY_REPLAY_KILLS", "2"))
RNG = random.Random(os.environ.get("VACANCY_SEED", "13"))


def store_id(store: Path) -> str:
    named = read_manifest(store)
    assert named is not None
    return named.store


def folded(url: str, store: Path) -> Digest:
    with open_log(url) as log:
        return replay(log, store, REGISTRY)


def reached(store: Path, end: dict[int, int]) -> Callable[[], bool]:
    return lambda: digest(store, REGISTRY).position == end


def wait_until(done: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + ANSWER_S
    while not done():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


def names(home: Path) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in home.iterdir() if path.is_dir())


@pytest.mark.parametrize("atomic", [True, False])
def test_workers_and_readers_go_on_with_the_new_store(
    tmp_path: Path, atomic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader never goes back, and never has another number of nodes than its position has."""
    if not atomic:
        monkeypatch.setattr(module, "exchange", lambda *_: False)
    url, store = log_of_reports(tmp_path, 2, 60), tmp_path / "store"
    with open_log(url) as log, WorkerProcess(url, store) as worker:
        worker.wait_ready()
        before = store_id(store)
        ended = threading.Event()
        seen: list[tuple[int, int]] = []
        with StoreReader(store, REGISTRY) as reader:

            def follow() -> None:
                while not ended.wait(0.002):
                    reader.catch_up()
                    seen.append((sum(reader.position.values()) - 2, reader.view.size))

            follower = threading.Thread(target=follow)
            follower.start()
            try:
                done = swap_store(url, store, REGISTRY, processes=1)
                append_reports(log, 90, sequence=2)
                end = log.end()
                wait_until(reached(store, end))
                wait_until(lambda: bool(seen) and seen[-1][0] == sum(end.values()) - 2)
            finally:
                ended.set()
                follower.join()
        worker.check()
        assert store_id(store) != before
        assert done.aside is not None
        assert store_id(done.aside) == before
    assert digest(store, REGISTRY) == folded(url, tmp_path / "again")
    positions = [position for position, _ in seen]
    assert positions == sorted(positions), "the new store is not behind the old one"
    assert seen[0] == (60, 60)
    assert seen[-1] == (150, 90)
    assert not (store / MARK).exists()


def test_a_worker_that_does_not_close_the_store_keeps_it(tmp_path: Path) -> None:
    """As one of an earlier build. The new store stays, and the next call has little to do."""
    url, store = log_of_reports(tmp_path, 2, 20), tmp_path / "store"
    folded(url, store)
    before = store_id(store)
    with open_log(url) as log:
        named = log.identity()
    with Store(store, log=named.log, partitions=2, registry=REGISTRY) as tables:
        tables.partition(0)
        with (
            ChildProcess("swap", swap_actor.impatient, url, store) as child,
            pytest.raises(StoreInUse, match="a worker did not close the store"),
        ):
            child.receive(60)
        assert store_id(store) == before
        assert not is_swapping(store)
    made = store_id(tmp_path / "store.new")
    swap_store(url, store, REGISTRY)
    assert store_id(store) == made


def test_one_process_swaps_at_a_time(tmp_path: Path) -> None:
    url, store = log_of_reports(tmp_path, 1, 1), tmp_path / "store"
    with (tmp_path / "store.swap").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StoreInUse, match="another process makes a new store"):
            swap_store(url, store, REGISTRY)
    assert swap_store(url, store, REGISTRY).aside is None
    assert names(tmp_path) == ["store"]


def test_a_killed_swap_is_completed_by_the_next(tmp_path: Path) -> None:
    """Beside a worker, which always has one whole store."""
    url, store = log_of_reports(tmp_path, 2, 400), tmp_path / "store"
    with WorkerProcess(url, store) as worker:
        worker.wait_ready()
        seconds = seconds_of(swap_actor.swap, url, store)
        for number in range(KILLS):
            killed_within(RNG, seconds, swap_actor.swap, url, store)
            with open_log(url) as log:
                append_reports(log, 10, sequence=2 + number)
                wait_until(reached(store, log.end()))
            worker.check()
        before = store_id(store)
        while swap_store(url, store, REGISTRY).finished_earlier:
            pass
        assert store_id(store) != before
    assert digest(store, REGISTRY) == folded(url, tmp_path / "again")
    assert not (tmp_path / "store.new").exists()


@pytest.mark.parametrize("moment", ["set aside", "mark"])
def test_a_swap_that_was_killed_after_the_exchange_is_finished(
    tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old store never comes back."""
    url, store = log_of_reports(tmp_path, 2, 20), tmp_path / "store"
    folded(url, store)
    before = store_id(store)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.Swap, "_set_aside", killed) if moment == "set aside" else monkeypatch.setattr(
        Path, "unlink", killed
    )
    with pytest.raises(KeyboardInterrupt):
        swap_store(url, store, REGISTRY)
    monkeypatch.undo()
    new = store_id(store)
    assert new != before
    done = swap_store(url, store, REGISTRY)
    assert done.finished_earlier == (moment == "set aside")
    assert store_id(store) != before
    assert "store.new" not in names(tmp_path)
    assert digest(store, REGISTRY) == folded(url, tmp_path / "again")


def test_a_killed_fold_in_bulk_is_continued(tmp_path: Path) -> None:
    """What is not written to files yet is folded again; nothing of it is there alone."""
    url = log_of_reports(tmp_path, 1, 3000)
    whole = folded(url, tmp_path / "whole")
    store = tmp_path / "store"
    seconds = seconds_of(swap_actor.fold, url, tmp_path / "first")
    for _ in range(KILLS):
        killed_within(RNG, seconds, swap_actor.fold, url, store)
        if (store / "p00000").exists() and digest(store, REGISTRY).position[0]:
            at = digest(store, REGISTRY)
            with open_log(url) as log:
                then = replay(log, tmp_path / f"at-{at.position[0]}", REGISTRY, until=at.position)
            assert at == then
            with StoreReader(store, REGISTRY) as reader:
                assert sum(1 for _ in reader.scan(NODES)) == reader.view.size == at.position[0] - 1
    seconds_of(swap_actor.fold, url, store)
    assert digest(store, REGISTRY) == whole
