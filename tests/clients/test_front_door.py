"""What `vacancy.clients` offers: a scheduler and a publisher of one host in a few lines, imported when they are used."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from vacancy.clients import Publisher, Scheduler, StoreQuery, replay, verify
from vacancy.clients.runtime import garbage_collector
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.clients.runtime.worker_process import WorkerProcess
from vacancy.resources.model.errors import LogError, StoreError
from vacancy.resources.model.events import ProviderReport
from vacancy.streams.settings import load_settings


def test_every_name_is_there_and_no_other() -> None:
    clients = import_module("vacancy.clients")
    for name in clients.__all__:
        assert callable(getattr(clients, name))
        assert name in dir(clients)
    with pytest.raises(AttributeError, match="no attribute 'Schedule'"):
        _ = clients.Schedule


def test_nothing_heavy_is_imported_before_a_name_is_used() -> None:
    heavy = "{'numpy', 'rocksdict', 'kafka', 'faust', 'pydantic'}"
    code = f"import sys, vacancy.clients; sys.exit(' '.join({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_scheduler_for_one_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VACANCY_LOG", f"sqlite://{tmp_path}/log.db")
    monkeypatch.setenv("VACANCY_STORE", f"{tmp_path}/store")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    settings = load_settings()
    new_log(settings.log, 2, installed_registry()).close()
    with WorkerProcess(settings.log, settings.store) as worker:
        worker.wait_ready()
        with Publisher.from_settings("node-1") as publisher:
            publisher.report([ProviderReport(id="node-1", inventories={"VCPU": {"total": 4}})])
            assert publisher.flush() == 1
        assert publisher.cell.startswith("auto-")
        with StoreQuery.from_settings() as query:
            while not query.candidates("resources=VCPU:4").candidates:
                pass
        with Scheduler.from_settings() as scheduler:
            placed = scheduler.place("resources=VCPU:3")
            assert placed.root == "node-1"
            assert [row.claim for _, row in scheduler.allocations(placed.consumer)] == [placed.claim]
        with pytest.raises(LogError, match="closed"):
            scheduler.log.end()
    with Scheduler.from_settings(settings, spare_collector=False) as scheduler:
        verified = verify(scheduler.log, settings.store, installed_registry())
        assert verified.ok
        assert replay(scheduler.log, tmp_path / "second", installed_registry()).whole == verified.digest_store


def test_a_log_is_closed_where_the_store_cannot_be_opened(tmp_path: Path) -> None:
    settings = load_settings(log=f"sqlite://{tmp_path}/log.db", store=tmp_path / "store")
    new_log(settings.log, 1, installed_registry()).close()
    with pytest.raises(StoreError, match="there is no store"):
        Scheduler.from_settings(settings)  # the connections that stay open are warnings, and so errors


def test_the_collector_is_spared_until_the_last_has_undone_it() -> None:
    import gc

    before = gc.get_threshold()
    first, second = garbage_collector.spare_collector(), garbage_collector.spare_collector(collect=False)
    first()
    first()
    assert gc.get_threshold() != before
    assert gc.get_freeze_count()
    second()
    assert gc.get_threshold() == before
    assert not gc.get_freeze_count()
