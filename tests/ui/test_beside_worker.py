"""A worker serves the page in a process of its own, which no fold waits for and which ends with the worker."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil

from tests.live.site import WorkerCommand, until
from tests.support.sites.snapshot_site import snapshot_site
from tests.ui.test_views import get, get_json
from vacancy.streams.pages.page_server import PageServer
from vacancy.streams.settings import WebAddress


def page_of(worker: WorkerCommand) -> str:
    """The page's address, when it is served."""
    until(lambda: bool(worker.status()["page"]), "no page")
    return str(worker.status()["page"]).rstrip("/")


def test_a_worker_serves_the_page_until_it_ends(tmp_path: Path) -> None:
    with snapshot_site(tmp_path) as site:
        site.report(3)
        with WorkerCommand(site.log.url, site.store, "--ui-port", "0") as worker:
            address = page_of(worker)
            assert f'href="{address}/"' in worker.get("/").text
            nodes = get_json(f"{address}/status.json")["health"]["nodes"]
            assert nodes > 0
            assert f"--store {site.store}" in get(f"{address}/status")[1].decode()
            child = _page_process(worker)
            assert os.getpriority(os.PRIO_PROCESS, child.pid) == 19
            child.send_signal(signal.SIGKILL)  # the worker goes on, and starts another one
            until(lambda: worker.said("the page has ended"), "the end was not reported")
            assert get_json(f"{page_of(worker)}/status.json")["health"]["nodes"] == nodes
            child = _page_process(worker)
        until(lambda: not child.is_running(), "the page goes on without the worker")
        assert not any("Traceback" in line for line in worker._lines)


def _page_process(worker: WorkerCommand) -> psutil.Process:
    found = [
        one for one in psutil.Process(worker.process.pid).children() if "spawn_main" in str(one.cmdline())
    ]
    assert len(found) == 1
    return found[0]


def test_a_port_in_use_stops_no_worker(tmp_path: Path) -> None:
    other = PageServer(WebAddress(port=0), lambda _: None)
    port = other.web_address.rpartition(":")[2]
    with (
        snapshot_site(tmp_path) as site,
        WorkerCommand(site.log.url, site.store, "--ui-port", port) as worker,
    ):
        until(lambda: worker.said("the page waits: this program cannot listen"), "not reported")
        assert worker.status()["page"] is None
        assert "<code>vacancy ui</code>" in worker.get("/").text
        other.end()
        assert page_of(worker) == f"http://127.0.0.1:{port}"
