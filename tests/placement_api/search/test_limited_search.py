"""A search with a limit gives some of what the search without one gives, and as many as there are up to the limit."""

from __future__ import annotations

import random
from typing import Any
from uuid import UUID

import pytest

from tests.placement_api.api_process import Api, api_process
from vacancy.placement_api.search.random_order import in_random_order

CLASSES = ("VCPU", "MEMORY_MB", "CUSTOM_NOBODY")
TRAITS = ("HW_CPU_X86_AVX", "HW_CPU_X86_AVX2", "CUSTOM_NOBODY")
VERSIONS = ("1.16", "1.29", "1.39")


def uuid(rng: random.Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))


def fill(api: Api, rng: random.Random, aggregates: list[str]) -> None:
    """Providers without parents, some of them full."""
    for _ in range(12):
        one = uuid(rng)
        stock = {
            name: {"total": rng.choice((1, 4)), "max_unit": 4} for name in CLASSES[:2] if rng.random() < 0.8
        }
        parts = {
            "inventories": stock,
            "traits": rng.sample(TRAITS[:2], rng.randrange(3)),
            "aggregates": rng.sample(aggregates, rng.randrange(2)),
        }
        assert api.request("POST", "/resource_providers", {"name": one, "uuid": one}).status == 200
        generation = 0
        for name, value in parts.items():
            path, body = (
                f"/resource_providers/{one}/{name}",
                {name: value, "resource_provider_generation": generation},
            )
            answer = api.request("PUT", path, body)
            assert answer.status == 200, answer.body
            generation = answer.body["resource_provider_generation"]


def query(rng: random.Random, aggregates: list[str]) -> str:
    names = (
        rng.sample(CLASSES, rng.choice((1, 1, 2)))
        if rng.random() < 0.2
        else rng.sample(CLASSES[:2], rng.choice((1, 2)))
    )
    words = ["resources=" + ",".join(f"{name}:{rng.choice((1, 2))}" for name in names)]
    if rng.random() < 0.5:
        trait = rng.choice(TRAITS if rng.random() < 0.1 else TRAITS[:2])
        words.append(f"required={rng.choice(('', '!'))}{trait}")
    if rng.random() < 0.3:
        words.append(f"member_of={rng.choice(('', '!'))}{rng.choice(aggregates)}")
    return "/allocation_candidates?" + "&".join(words)


def test_some_of_all_candidates() -> None:
    rng = random.Random(1)
    aggregates = [uuid(rng) for _ in range(2)]
    with api_process("memory") as api:
        fill(api, rng, aggregates)
        counts = set()
        for _ in range(60):
            path, version, limit = query(rng, aggregates), rng.choice(VERSIONS), rng.choice((1, 3, 50))
            every = api.request("GET", path, version=version)
            some = api.request("GET", f"{path}&limit={limit}", version=version)
            assert some.status == every.status, (path, version, some.body, every.body)
            if some.status != 200:
                continue
            found, all_of_them = some.body["allocation_requests"], every.body["allocation_requests"]
            assert len(found) == min(limit, len(all_of_them)), (path, version)
            assert all(one in all_of_them for one in found)
            chosen = {uuid for one in found for uuid in providers_of(one)}
            expected = {one: what for one, what in every.body["provider_summaries"].items() if one in chosen}
            assert some.body["provider_summaries"] == expected
            counts.add(len(found))
    assert counts >= {0, 1, 3}


def providers_of(request: dict[str, Any]) -> set[str]:
    return set(request["allocations"])


@pytest.mark.parametrize("count", range(12))
def test_a_random_order_has_each_once(count: int) -> None:
    names = [str(number) for number in range(count)]
    assert sorted(in_random_order(names), key=int) == names
