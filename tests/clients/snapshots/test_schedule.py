"""The plan of a worker: one snapshot in each interval, also of two workers that share the store."""

from __future__ import annotations

import time
from pathlib import Path

import structlog

from tests.support.sites.snapshot_site import SnapshotSite
from vacancy.clients.runtime.worker_process import WorkerProcess
from vacancy.clients.snapshots.schedule import SnapshotPlan, SnapshotSchedule
from vacancy.projections.snapshots.storage import SnapshotStorage


def count(url: str) -> int:
    return len(SnapshotStorage(url).snapshots())


def wait_for(url: str, snapshots: int) -> None:
    give_up_at = time.monotonic() + 120
    while count(url) < snapshots:
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


def test_there_is_one_in_each_interval(site: SnapshotSite, tmp_path: Path) -> None:
    plan = SnapshotPlan(site.store, str(tmp_path / "kept"), 3600)
    with WorkerProcess(site.log.url, site.store) as worker:
        worker.wait_ready()
        with SnapshotSchedule(plan), SnapshotSchedule(plan):
            wait_for(plan.url, 1)
        made = count(plan.url)
        with SnapshotSchedule(plan):  # as after a restart
            time.sleep(1)
        assert count(plan.url) == made <= 2
    for one in SnapshotStorage(plan.url).snapshots():
        assert one.error is None


def test_a_failure_is_logged_and_stops_nothing(site: SnapshotSite, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file where a directory should be")
    plan = SnapshotPlan(site.store, str(tmp_path / "kept"), 0.1)
    with (
        structlog.testing.capture_logs() as lines,
        WorkerProcess(site.log.url, site.store) as worker,
        SnapshotSchedule(plan),
    ):
        worker.wait_ready()
        give_up_at = time.monotonic() + 120
        while sum(line["event"] == "snapshot not made" for line in lines) < 2:
            assert time.monotonic() < give_up_at
            time.sleep(0.05)
        assert "kept" in lines[0]["error"]
        worker.check()


def test_it_ends_while_a_snapshot_waits(site: SnapshotSite, tmp_path: Path) -> None:
    """No worker makes the checkpoints; the process that asks is ended, and its request is removed."""
    plan = SnapshotPlan(site.store, str(tmp_path / "kept"), 3600)
    requests = site.store / "checkpoints"
    with SnapshotSchedule(plan):
        give_up_at = time.monotonic() + 120
        while not requests.exists() or len(list(requests.iterdir())) < 2:
            assert time.monotonic() < give_up_at
            time.sleep(0.02)
    assert [path.name for path in requests.iterdir()] == ["lock"]
    assert count(plan.url) == 0
