"""Many browsers, slow logs and other stores: what is bounded, what is not missed, and what the pages say then."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.sites.ui_site import NODE, Fleet, served
from tests.ui.test_views import WAIT_S, columns, get, get_json
from vacancy.clients.past.historical_store import HistoricalStore, Progress
from vacancy.resources.model.errors import StoreError
from vacancy.ui.command_line import command_line
from vacancy.ui.http.live import SUBSCRIBERS_MAX
from vacancy.ui.http.server import names_of_host
from vacancy.ui.past import BeingMade, Busy, PastTables
from vacancy.ui.tables import Tables


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = Fleet(tmp_path_factory.mktemp("ui"), nodes=3)
    yield made
    made.close()


def events(answer: Any) -> Iterator[tuple[str, Any]]:
    """The events of an open stream: name and data."""
    name = ""
    for line in answer:
        field, _, value = line.decode().strip().partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


def test_nothing_that_changes_after_the_nodes_were_fetched_is_missed(fleet: Fleet) -> None:
    with served(fleet) as address:
        answer = urllib.request.urlopen(f"{address}/events?class=VCPU", timeout=WAIT_S)  # noqa: S310
        with answer:
            stream = events(answer)
            assert next(stream) == ("hello", {})
            header, before, names = columns(get(f"{address}/fleet.bin?class=VCPU")[1])
            assert before["used"][names.index(NODE)] == 0
            fleet.claim("new", {"VCPU": 2})
            fleet.fold()
            news = next(data for name, data in stream if name == "fleet")
        assert news["generation"] == header["generation"]


def test_the_number_of_browsers_is_limited(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SUBSCRIBERS_MAX == 256
    monkeypatch.setattr("vacancy.ui.http.live.SUBSCRIBERS_MAX", 2)
    began = time.monotonic()
    with served(fleet) as address:

        def browse() -> Any:
            return urllib.request.urlopen(f"{address}/events", timeout=WAIT_S)  # noqa: S310

        first, second = browse(), browse()
        assert next(events(second)) == ("hello", {})
        status, body, headers = get(f"{address}/events")
        assert (status, headers["Retry-After"]) == (503, "10")
        assert b"too many pages are open" in body
        assert get(f"{address}/status")[0] == 200  # without news it is shown all the same
        first.close()
        third = None
        while third is None:  # the end of the first is noticed with the next event
            assert time.monotonic() < began + WAIT_S
            time.sleep(0.2)
            with suppress(urllib.error.HTTPError):
                third = browse()
        second.close()
        third.close()


def test_the_pages_follow_when_the_store_is_rebuilt(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, nodes=3)
    began = time.monotonic()
    with served(fleet) as address:
        assert get_json(f"{address}/status.json")["health"]["nodes"] == 4
        shutil.rmtree(fleet.settings.store)
        assert get(f"{address}/status")[0] in (200, 503)
        fleet.claim("new", {"VCPU": 2})
        fleet.fold()
        found: list[int] = []
        while found != [2]:
            assert time.monotonic() < began + WAIT_S
            time.sleep(0.2)
            status, body, _ = get(f"{address}/fleet.json?class=VCPU")
            if status == 200:
                shown = json.loads(body)["columns"]
                found = [
                    used for node, used in zip(shown["node"], shown["used"], strict=True) if node == NODE
                ]
    fleet.close()


def test_a_search_in_the_log_ends(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vacancy.ui.site._SEARCH_S", -1.0)
    with served(fleet) as address:
        for path in ("log?type=none", f"history?id={NODE}"):
            status, body, _ = get(f"{address}/{path}")
            assert status == 503, path
            assert b"given up" in body
        assert get(f"{address}/log")[0] == 200


class Makers:
    """Makes no tables before `go_on` is set, and then fails."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.asked: list[str] = []

    def make(self, as_of: str, progress: Progress) -> HistoricalStore:
        self.asked.append(as_of)
        assert self.go_on.wait(WAIT_S)
        progress(1, 2)
        raise StoreError(f"no tables of {as_of}")

    def open_(self, store: HistoricalStore) -> Tables:
        raise AssertionError(store)


def test_tables_of_the_past_wait_in_a_short_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vacancy.ui.past._SOON_S", 0.01)
    makers = Makers()
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        past = PastTables(makers.make, makers.open_, makers=one, readers=other)

        async def ask(as_of: str) -> type[BaseException] | None:
            try:
                await past.wait(as_of)
            except (BeingMade, Busy, StoreError) as error:
                return type(error)
            return None

        async def scenario() -> None:
            assert {await ask(f"0:{at}") for at in range(8)} == {BeingMade}
            assert await ask("0:8") is Busy
            assert await ask("0:0") is BeingMade
            monkeypatch.setattr("vacancy.ui.past._ASKED_S", -1.0)  # nobody asks for them any more
            makers.go_on.set()
            while await ask("0:9") is Busy:
                await asyncio.sleep(0.01)
            assert makers.asked == ["0:0"]
            monkeypatch.setattr("vacancy.ui.past._ASKED_S", 1000.0)
            while (found := await ask("0:10")) in (BeingMade, Busy):  # until those before are given up
                await asyncio.sleep(0.01)
            assert found is StoreError

        asyncio.run(scenario())


def test_each_loopback_address_answers_to_its_names_only() -> None:
    assert names_of_host("127.0.0.2") == {"127.0.0.1", "127.0.0.2", "localhost", "::1"}
    assert names_of_host("LOCALHOST") == names_of_host("::1") == {"127.0.0.1", "localhost", "::1"}
    assert names_of_host("0.0.0.0") == set()  # noqa: S104 - a proxy may give it any name


def test_a_command_line_is_safe_to_paste() -> None:
    flags = ("--store", "/srv/my store")
    assert command_line(("history", "-x"), "0:1", flags) == (
        "vacancy history --as-of 0:1 --store '/srv/my store' -- -x"
    )
    assert command_line(("history", "a\x1b[201~\nreboot\n"), "", ()) == ""
