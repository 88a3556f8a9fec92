"""API processes are killed in the middle of writes: a client that sends its request again gets what it wanted, once.

`VACANCY_PLACEMENT_KILLS` sets the number of kills, `VACANCY_SEED` chooses other requests.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.placement_api.site import START_S, Site, claim, providers_with

SEED = int(os.environ.get("VACANCY_SEED", "1"))
KILLS = int(os.environ.get("VACANCY_PLACEMENT_KILLS", "2"))
CLIENTS = 4
ROOM = 1_000_000

Wanted = dict[str, int]
"""Provider -> VCPU."""


class Client:
    """Changes what its own consumers hold, one request after the other, and checks each by a read."""

    def __init__(self, site: Site, seed: int, providers: tuple[str, str]) -> None:
        self._site, self._rng, self._providers = site, random.Random(seed), providers
        self.consumers = [str(UUID(int=self._rng.getrandbits(128), version=4)) for _ in range(3)]
        self.held: dict[str, tuple[int, Wanted]] = {}
        """Consumer -> its generation and what it holds."""
        self.writes = self.repeated = self.conflicts = 0

    def run(self, stopped: Callable[[], bool]) -> None:
        while not stopped():
            first, second, third = self._rng.sample(self.consumers, 3)
            self._rng.choice((self.put, self.put, self.post, self.delete))(first, second, third)
            self.writes += 1

    def put(self, consumer: str, *_: str) -> None:
        wanted, body = self._change(consumer)
        self._write("PUT", f"/allocations/{consumer}", body, {consumer: wanted})

    def post(self, *consumers: str) -> None:
        changes = {one: self._change(one) for one in consumers[:2]}
        bodies = {one: body for one, (_, body) in changes.items()}
        self._write("POST", "/allocations", bodies, {one: wanted for one, (wanted, _) in changes.items()})

    def delete(self, consumer: str, *_: str) -> None:
        if consumer in self.held:
            self._write("DELETE", f"/allocations/{consumer}", None, {consumer: {}})

    def _change(self, consumer: str) -> tuple[Wanted, dict[str, Any]]:
        wanted = {one: self._rng.randrange(1, 5) for one in self._providers}
        generation = self.held[consumer][0] if consumer in self.held else None
        body = claim(*wanted, generation=generation)
        for one, used in wanted.items():
            body["allocations"][one]["resources"]["VCPU"] = used
        return wanted, body

    def _write(self, method: str, path: str, body: Any, wanted: dict[str, Wanted]) -> None:
        status, tries = self._until_answered(method, path, body)
        if tries > 1:
            self.repeated += 1
            self.conflicts += status in (409, 404)
        # The first try may have been written: then the generation of its retry is too old, or nothing is left to delete.
        assert status == 204 or (tries > 1 and status == (404 if method == "DELETE" else 409)), (method, path)
        for consumer, amounts in wanted.items():
            generation = self.held[consumer][0] + 1 if consumer in self.held else 1
            self.held[consumer] = generation, amounts
            if not amounts:
                del self.held[consumer]
            self.check(consumer)

    def check(self, consumer: str) -> None:
        """It holds what was asked for, with the generation of its own writes and no other."""
        (status, body), _ = self._asked("GET", f"/allocations/{consumer}", None)
        assert status == 200
        found = {one: what["resources"]["VCPU"] for one, what in body["allocations"].items()}
        expected: tuple[int | None, Wanted] = self.held.get(consumer, (None, {}))
        assert (body.get("consumer_generation"), found) == expected, consumer

    def _until_answered(self, method: str, path: str, body: Any) -> tuple[int, int]:
        (status, _), tries = self._asked(method, path, body)
        return status, tries

    def _asked(self, method: str, path: str, body: Any) -> tuple[tuple[int, Any], int]:
        """The answer, and how often the request was sent until it came."""
        until = time.monotonic() + START_S
        tries = 0
        while True:
            tries += 1
            to = self._site.connect()
            try:
                return self._site.ask(to, method, path, body)[:2], tries
            except (OSError, HTTPException):
                assert time.monotonic() < until, "the API does not come back"
                time.sleep(0.02)
            finally:
                to.close()


def test_a_retry_after_a_kill_is_never_counted_twice(tmp_path: Path) -> None:
    with ExitStack() as stack:
        site = Site(tmp_path, stack)
        providers, failures, done = providers_with(site, ROOM), list[BaseException](), threading.Event()
        clients = [Client(site, SEED * 1_000 + number, providers) for number in range(CLIENTS)]

        def run(client: Client) -> None:
            try:
                client.run(lambda: done.is_set() or bool(failures))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(one,)) for one in clients]
        for thread in threads:
            thread.start()
        try:
            kill_processes(site, clients, random.Random(SEED), failures)
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert not failures, (SEED, failures)
        check_sums(site, providers, clients)
        assert site.verify()["audit"]["overcommitted"] == 0


def kill_processes(site: Site, clients: list[Client], rng: random.Random, failures: list[Any]) -> None:
    """Kills one process after the other, each after some more writes."""
    for _ in range(KILLS):
        enough = sum(one.writes for one in clients) + rng.randrange(5, 20)
        until = time.monotonic() + START_S
        while sum(one.writes for one in clients) < enough and not failures:
            assert time.monotonic() < until, "nothing is written"
            time.sleep(0.005)
        rng.choice(site.api_processes()).kill()


def check_sums(site: Site, providers: tuple[str, str], clients: list[Client]) -> None:
    to = site.connect()
    for uuid in providers:
        held = sum(wanted[uuid] for one in clients for _, wanted in one.held.values())
        status, body, _ = site.ask(to, "GET", f"/resource_providers/{uuid}/usages")
        assert (status, body["usages"]) == (200, {"VCPU": held})
