"""`vacancy placement serve`: several processes on one log, as clients see them.

`VACANCY_PLACEMENT_BRIMS` sets how many fleets are filled to the brim, `VACANCY_SEED` chooses other consumers.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from urllib.request import urlopen
from uuid import uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families

from evaluation.placement_api.brim import fill_rounds
from tests.placement_api.site import START_S, Site, claim, providers_with

SEED = int(os.environ.get("VACANCY_SEED", "1"))
BRIMS = int(os.environ.get("VACANCY_PLACEMENT_BRIMS", "2"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path_factory.mktemp("placement"), stack)


def test_what_was_written_is_read_at_once(site: Site) -> None:
    (one, _), to = providers_with(site, 2), site.connect()
    consumer = str(uuid4())
    status, _, written = site.ask(to, "PUT", f"/allocations/{consumer}", claim(one))
    assert status == 204
    status, body, read = site.ask(to, "GET", f"/resource_providers/{one}/usages")
    assert (status, body["usages"]) == (200, {"VCPU": 1})
    assert int(read.partition(":")[2]) >= int(written.partition(":")[2])


def test_metrics_are_those_of_all_processes(site: Site) -> None:
    (one,) = providers_with(site, 2)[:1]
    path, other = f"/resource_providers/{one}/usages", f"/resource_providers/{one}/{one}"

    def counted(route: str, status: int) -> float:
        text = urlopen(f"http://127.0.0.1:{site.metrics_port}/metrics").read().decode()
        (family,) = (
            found
            for found in text_string_to_metric_families(text)
            if found.name == "vacancy_placement_requests"
        )
        labels = {"method": "GET", "route": route, "status": str(status)}
        return sum(sample.value for sample in family.samples if sample.labels == labels)

    before = counted("/resource_providers/{uuid}/usages", 200), counted("(other)", 404)
    for _ in range(20):
        site.ask(site.connect(), "GET", path)
        site.ask(site.connect(), "GET", other)
    after = counted("/resource_providers/{uuid}/usages", 200), counted("(other)", 404)
    assert after == (before[0] + 20, before[1] + 20)


def test_the_process_that_forks_the_others_has_no_threads_of_rocksdb(site: Site) -> None:
    """A process that was forked would believe that it has them."""
    (one,) = providers_with(site, 2)[:1]
    site.check_read(one, 0)

    def threads(pid: int) -> set[str]:
        found = set()
        for thread in Path(f"/proc/{pid}/task").glob("*/comm"):
            with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
                found.add(thread.read_text().strip())
        return found

    found = [threads(process.pid) for process in site.api_processes()]
    assert any(name.startswith("rocksdb:") for name in set().union(*found))
    assert not any(name.startswith("rocksdb:") for name in threads(site.api.pid))


def test_a_race_of_eight_clients_never_overcommits(site: Site) -> None:
    """320 claims of one VCPU of each of two providers that have 100: what is first in the log gets it."""
    both, statuses = providers_with(site, 100), list[int]()

    def run() -> None:
        to = site.connect()
        for _ in range(40):
            status, _, _ = site.ask(to, "PUT", f"/allocations/{uuid4()}", claim(*both))
            statuses.append(status)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(statuses) == {204: 100, 409: 220}
    to = site.connect()
    for uuid in both:
        assert site.ask(to, "GET", f"/resource_providers/{uuid}/usages")[1]["usages"] == {"VCPU": 100}


def test_fleets_that_are_filled_to_the_brim_are_never_overcommitted(site: Site) -> None:
    """Clients try again as nova does; `python -m evaluation placement-api` does the same to real Placement."""
    found = fill_rounds(site.port, BRIMS, SEED)
    assert (found.placed, found.overcommitted, found.unexpected) == (found.places, 0, ())
    audit = site.verify()["audit"]
    assert (audit["overcommitted"], audit["wrong_rejections"]) == (0, 0)


def test_a_log_that_another_writer_keeps(site: Site) -> None:
    """Writes are answered 503, and reads go on."""
    (one, _), to, path = providers_with(site, 2), site.connect(), f"/allocations/{uuid4()}"
    with closing(
        sqlite3.connect(site.store.parent / "log.db", timeout=START_S, isolation_level=None)
    ) as writer:
        writer.execute("BEGIN IMMEDIATE")
        status, body, _ = site.ask(to, "PUT", path, claim(one))
        assert status == 503
        assert "nothing was written" in body["errors"][0]["detail"]
        site.check_read(one, 0)
    assert site.ask(to, "PUT", path, claim(one))[0] == 204
    site.check_read(one, 1)


def test_a_write_without_a_verdict_says_so_and_its_retry_is_safe(site: Site) -> None:
    """The worker stands still: the log has the write, the tables do not. Reads go on."""
    (one, _), to = providers_with(site, 2), site.connect()
    path = f"/allocations/{uuid4()}"
    with site.stopped_worker():
        status, body, _ = site.ask(to, "PUT", path, claim(one))
        assert (status, site.ask(to, "GET", path)[0]) == (503, 200)
        assert "it is not known whether it was written" in body["errors"][0]["detail"]
    until = time.monotonic() + START_S
    while not site.ask(to, "GET", path)[1]["allocations"]:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert site.ask(to, "PUT", path, claim(one))[0] == 409, (
        "the first one was written: the generation says so"
    )
    assert site.ask(to, "GET", f"/resource_providers/{one}/usages")[1]["usages"] == {"VCPU": 1}
