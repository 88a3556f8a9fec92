"""A worker as a process: when it is ready, how it ends, and what is heard of what went wrong."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from tests.support.logs.events_json import rules_in_steps
from vacancy.clients.demo.synthetic_fleet import node_reports
from vacancy.clients.replay_tool.replay import digest
from vacancy.clients.runtime.bootstrap import installed_registry, new_log, open_store
from vacancy.clients.runtime.worker_process import RunningWorker, WorkerProcess, run_worker
from vacancy.resources.model.errors import LogError, StoreInUse, StoreMismatch, VacancyError
from vacancy.resources.model.events import ProviderReport
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import Log

TREES = [(ProviderReport(id=f"node-{n}", inventories={"VCPU": {"total": 4}}),) for n in range(20)]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with new_log(f"sqlite://{tmp_path}/log.db", 2, installed_registry()) as made:
        made.append(list(node_reports(TREES, 2)))
        yield made


def wait_for(position: dict[int, int], store: Path, seconds: float = 90.0) -> None:
    give_up_at = time.monotonic() + seconds
    while digest(store, installed_registry()).position != position:
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def test_it_is_ready_once_it_has_folded_what_was_there_and_it_goes_on(log: Log, tmp_path: Path) -> None:
    with WorkerProcess(log.url, tmp_path / "store") as worker:
        assert worker.wait_ready() == log.end()
        log.append(list(node_reports(TREES, 2)))
        wait_for(log.end(), tmp_path / "store")
        worker.check()


def test_when_it_has_stopped_the_store_is_free(log: Log, tmp_path: Path) -> None:
    with WorkerProcess(log.url, tmp_path / "store") as worker:
        worker.wait_ready()
        with pytest.raises(StoreInUse):
            open_store(tmp_path / "store", log, installed_registry())
    with open_store(tmp_path / "store", log, installed_registry()) as store:
        assert store.position() == log.end()


def test_it_may_be_stopped_before_it_is_ready(log: Log, tmp_path: Path) -> None:
    with WorkerProcess(log.url, tmp_path / "store"):
        pass
    open_store(tmp_path / "store", log, installed_registry()).close()


def test_after_a_kill_the_next_one_goes_on(log: Log, tmp_path: Path) -> None:
    worker = WorkerProcess(log.url, tmp_path / "store")
    worker.start()
    worker.wait_ready()
    worker.kill()
    log.append(list(node_reports(TREES, 2)))
    with WorkerProcess(log.url, tmp_path / "store") as next_one:
        assert next_one.wait_ready() == log.end()


def test_its_error_is_the_parents(log: Log, tmp_path: Path) -> None:
    with (
        pytest.raises(LogError, match="there is no log"),
        WorkerProcess(f"sqlite://{tmp_path}/none.db", tmp_path / "store") as worker,
    ):
        worker.wait_ready()
    with new_log(f"sqlite://{tmp_path}/other.db", 2, installed_registry()) as other:
        open_store(tmp_path / "store", other, installed_registry()).close()
    with pytest.raises(StoreMismatch) as caught, WorkerProcess(log.url, tmp_path / "store") as worker:
        worker.wait_ready()
    assert caught.value.exit_code == 1
    assert "store.json" in str(caught.value) or str(tmp_path) in str(caught.value)


def test_a_worker_that_was_killed_is_noticed(log: Log, tmp_path: Path) -> None:
    worker = WorkerProcess(log.url, tmp_path / "store")
    worker.start()
    worker.wait_ready()
    worker.kill()
    with pytest.raises(VacancyError, match="ended with code -9"):
        worker.check()


def test_it_can_be_stopped_twice(log: Log, tmp_path: Path) -> None:
    with WorkerProcess(log.url, tmp_path / "store") as worker:
        worker.wait_ready()
        worker.stop()
        worker.stop()
    worker.stop()
    with WorkerProcess(log.url, tmp_path / "store") as worker:
        worker.wait_ready()
        worker.kill()
        worker.stop()


def test_after_it_has_failed_and_was_stopped_nothing_more_is_raised(tmp_path: Path) -> None:
    worker = WorkerProcess(f"sqlite://{tmp_path}/none.db", tmp_path / "store")
    with pytest.raises(LogError, match="there is no log"), worker:
        worker.wait_ready()
    worker.stop()


def test_what_it_has_to_say_goes_to_standard_error(log: Log, tmp_path: Path) -> None:
    """Standard output belongs to the process that started it. Here a partition is stopped, which is logged."""
    log.append([NewRecord(covering_cells(2)[1], value) for value in rules_in_steps(99)])
    script = (
        "import pathlib, sys\n"
        "from vacancy.clients.runtime.worker_process import WorkerProcess\n"
        "from vacancy.resources.model.errors import Halt\n"
        "if __name__ == '__main__':\n"
        "    worker = WorkerProcess(sys.argv[1], pathlib.Path(sys.argv[2]))\n"
        "    worker.start()\n"
        "    try:\n"
        "        worker.wait_ready()\n"
        "        worker.stop()\n"
        "    except Halt:\n"
        "        worker.kill()\n"
    )
    (tmp_path / "parent.py").write_text(script)
    command = [sys.executable, str(tmp_path / "parent.py"), log.url, str(tmp_path / "store")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout == ""
    assert "partition stopped" in said.stderr


def test_it_does_not_outlive_its_parent(log: Log, tmp_path: Path) -> None:
    script = (
        "import os, pathlib, sys\n"
        "from vacancy.clients.runtime.worker_process import WorkerProcess\n"
        "if __name__ == '__main__':\n"
        "    worker = WorkerProcess(sys.argv[1], pathlib.Path(sys.argv[2]))\n"
        "    worker.start()\n"
        "    worker.wait_ready()\n"
        "    print(worker.pid, flush=True)\n"
        "    os._exit(0)\n"
    )
    (tmp_path / "parent.py").write_text(script)
    command = [sys.executable, str(tmp_path / "parent.py"), log.url, str(tmp_path / "store")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    give_up_at = time.monotonic() + 90
    while Path(f"/proc/{int(said.stdout)}").exists():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
    open_store(tmp_path / "store", log, installed_registry()).close()


def test_in_this_process_it_runs_until_reported(log: Log, tmp_path: Path) -> None:
    stop: SimpleQueue[None] = SimpleQueue()
    ready = threading.Event()

    def tell(worker: RunningWorker) -> None:
        assert worker.position == log.end()
        ready.set()

    thread = threading.Thread(
        target=run_worker, args=(log.url, tmp_path / "store"), kwargs={"on_ready": tell, "stop": stop}
    )
    thread.start()
    assert ready.wait(90)
    stop.put(None)
    thread.join(90)
    assert not thread.is_alive()
    assert multiprocessing.active_children() == []
    assert digest(tmp_path / "store", installed_registry()).position == log.end()


def test_a_stop_that_came_first_is_heard(log: Log, tmp_path: Path) -> None:
    stop: SimpleQueue[None] = SimpleQueue()
    stop.put(None)
    run_worker(log.url, tmp_path / "store", stop=stop)
    assert (tmp_path / "store").is_dir()
