"""Fills small fleets to the brim through Placement's API: several clients place until there are no candidates.

A client does what nova does. It gets allocation candidates and claims one of them. A claim that met a concurrent update is
sent again, up to four times as in nova's `scheduler/client/report.py`; after any other conflict the next candidate is taken.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from evaluation.placement_api.client import ApiClient, claim_of

CLIENTS: Final = 8
PROVIDERS: Final = 3
TOTALS: Final[Mapping[str, int]] = {"VCPU": 8, "MEMORY_MB": 8_192}
ASKED: Final[Mapping[str, int]] = {"VCPU": 1, "MEMORY_MB": 1_024}
_TRIES_OF_ONE: Final = 4
_CONFLICT: Final = 409
_CONCURRENT_UPDATE: Final = "placement.concurrent_update"


@dataclass
class BrimResult:
    """placed, conflicts: claims that were accepted, and answers 409. places: how many claims there was room for.

    overcommitted: by how much the use of the providers is over their capacity, summed over classes and rounds.
    rounds_overcommitted: the rounds in which it is. unexpected: other answers, as text.
    """

    rounds: int = 0
    places: int = 0
    placed: int = 0
    conflicts: int = 0
    overcommitted: int = 0
    rounds_overcommitted: int = 0
    unexpected: tuple[str, ...] = ()


def fill_rounds(port: int, rounds: int, seed: int) -> BrimResult:
    """Fill `rounds` new fleets, one after the other."""
    rng, found = random.Random(seed), BrimResult()
    for _ in range(rounds):
        _fill(port, rng, found)
    return found


def _uuid(rng: random.Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))


def _fill(port: int, rng: random.Random, found: BrimResult) -> None:
    aggregate = _uuid(rng)
    providers = [_add_provider(ApiClient(port), _uuid(rng), aggregate) for _ in range(PROVIDERS)]
    asked = ",".join(f"{name}:{amount}" for name, amount in ASKED.items())
    query = f"/allocation_candidates?resources={asked}&member_of={aggregate}&limit=10"
    clients = [_Client(port, query, random.Random(rng.random())) for _ in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        for one in [pool.submit(one.place_all) for one in clients]:
            one.result()
    over = sum(_excess(ApiClient(port), uuid) for uuid in providers)
    found.rounds += 1
    found.places += PROVIDERS * min(TOTALS[name] // amount for name, amount in ASKED.items())
    found.placed += sum(one.placed for one in clients)
    found.conflicts += sum(one.conflicts for one in clients)
    found.overcommitted += over
    found.rounds_overcommitted += over > 0
    found.unexpected += tuple(text for one in clients for text in one.unexpected)


def _add_provider(api: ApiClient, uuid: str, aggregate: str) -> str:
    path = f"/resource_providers/{uuid}"
    api.must("POST", "/resource_providers", {"name": uuid, "uuid": uuid})
    inventories = {name: {"total": total} for name, total in TOTALS.items()}
    api.must("PUT", f"{path}/inventories", {"resource_provider_generation": 0, "inventories": inventories})
    api.must("PUT", f"{path}/aggregates", {"resource_provider_generation": 1, "aggregates": [aggregate]})
    return uuid


def _excess(api: ApiClient, uuid: str) -> int:
    used = api.must("GET", f"/resource_providers/{uuid}/usages")["usages"]
    return sum(max(0, used[name] - total) for name, total in TOTALS.items())


class _Client:
    """Places one instance after the other until nothing is left."""

    def __init__(self, port: int, query: str, rng: random.Random) -> None:
        self._api, self._query, self._rng = ApiClient(port), query, rng
        self.placed = self.conflicts = 0
        self.unexpected: list[str] = []

    def place_all(self) -> None:
        while requests := self._candidates():
            self._place(requests)

    def _candidates(self) -> Sequence[Any]:
        found: list[Any] = self._api.must("GET", self._query)["allocation_requests"]
        return found

    def _place(self, requests: Sequence[Any]) -> None:
        consumer = _uuid(self._rng)
        for one in self._rng.sample(requests, len(requests)):
            for _ in range(_TRIES_OF_ONE):
                answer = self._api.ask("PUT", f"/allocations/{consumer}", claim_of(one["allocations"]))
                if answer.status < 300:
                    self.placed += 1
                    return
                if answer.status != _CONFLICT:
                    self.unexpected.append(f"{answer.status}: {answer.body}"[:300])
                    return
                self.conflicts += 1
                if answer.code != _CONCURRENT_UPDATE:
                    break
