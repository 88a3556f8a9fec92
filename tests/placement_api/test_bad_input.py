"""Whatever a client sends, the API answers with less than 500, and an answer 4xx leaves all state as it was.

Requests are those of the differential test with one part replaced. `VACANCY_SEED` chooses others, and `VACANCY_PLACEMENT_BAD_S` says
for how many seconds to go on.
"""

from __future__ import annotations

import copy
import os
import random
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from tests.placement_api.api_process import Api, api_process
from tests.placement_api.test_differential import Request, Requests, answer_of

SEED = int(os.environ.get("VACANCY_SEED", "1"))
SECONDS = float(os.environ.get("VACANCY_PLACEMENT_BAD_S", "0"))
BATCHES = 5
BATCH = 20
GOOD = 30
"""Requests between two batches that are sent as they are, so that there is something to damage."""

TEXTS = ("", " ", "x" * 300, "\0", "☃", "%00", "../..", "CUSTOM_", "custom_a", "VCPU:1", "-1", "1e9", "null")
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2**31, 2**53, 2**63, 2**64, 1.5, -0.0, 1e308, 5e-324, float("nan"), float("inf")),
    *TEXTS,
    *([], {}, [1], [[]], [None], {"a": 1}, {"": {}}, ["x"] * 300),
)
METHODS = ("GET", "PUT", "POST", "DELETE", "PATCH")
VERSIONS = ("1.0", "1.5", "1.27", "1.36", "1.39", "1.40", "latest", "x", "")
PARAMETERS = (
    *(
        "resources",
        "resources1",
        "resources_A",
        "required",
        "required1",
        "member_of",
        "in_tree",
        "limit",
        "uuid",
    ),
    *("group_policy", "same_subtree", "root_required", "name", "project_id", "user_id", "consumer_type", "x"),
)


class Damage:
    """Replaces one part of a request."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def of(self, request: Request) -> Request:
        method, path, body, version = request
        kinds = [self._path, self._query, self._query, self._rest]
        if body is not None:
            kinds += [self._body] * 6
        return self._rng.choice(kinds)(method, path, copy.deepcopy(body), version)

    def _body(self, method: str, path: str, body: Any, version: str) -> Request:
        places = list(_places(body))
        value = copy.deepcopy(self._rng.choice(VALUES))
        if not places or self._rng.random() < 0.05:
            return method, path, value, version
        holder, key = self._rng.choice(places)
        done = self._rng.random()
        if done < 0.6:
            holder[key] = value
        elif done < 0.8 or isinstance(holder, list):
            del holder[key]
        else:
            holder[self._rng.choice(TEXTS)] = holder.pop(key)
        return method, path, body, version

    def _path(self, method: str, path: str, body: Any, version: str) -> Request:
        parts = path.split("/")
        parts[self._rng.randrange(1, len(parts))] = quote(self._rng.choice(TEXTS))
        return method, "/".join(parts), body, version

    def _query(self, method: str, path: str, body: Any, version: str) -> Request:
        known = ("/resource_providers", "/allocation_candidates", "/usages", "/traits", "/resource_classes")
        values = (
            *TEXTS,
            "VCPU:1",
            "VCPU:99999999999999999999",
            "!HW_CPU_X86_AVX",
            "in:a,b",
            "1",
            "none",
            "isolate",
        )
        words = [f"{self._rng.choice(PARAMETERS)}={quote(self._rng.choice(values))}" for _ in range(3)]
        return "GET", f"{self._rng.choice(known)}?{'&'.join(words)}", None, version

    def _rest(self, method: str, path: str, body: Any, version: str) -> Request:
        if self._rng.random() < 0.5:
            return self._rng.choice(METHODS), path, body, version
        return method, path, body, self._rng.choice(VERSIONS)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(object or list, key) of all parts of a body."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield value, key
            yield from _places(inner)


def test_bad_input_is_refused_and_changes_nothing() -> None:
    rng, until = random.Random(SEED), time.monotonic() + SECONDS
    with api_process("sqlite") as api:
        requests, damage = Requests(rng, api), Damage(rng)
        batches = refused = 0
        while batches < BATCHES or time.monotonic() < until:
            for _ in range(GOOD):
                sent(api, requests.next())
            before, changed = state_of(api, requests), False
            batch = [damage.of(requests.next()) for _ in range(BATCH)]
            for request in batch:
                status = sent(api, request)
                refused += status >= 400
                changed = changed or (status < 400 and request[0] != "GET")
                if changed:
                    before, changed = state_of(api, requests), False
            assert state_of(api, requests) == before, (SEED, batches, batch)
            batches += 1
        assert refused > batches * BATCH / 4


def sent(api: Api, request: Request) -> int:
    answer = api.request(*request)
    assert answer.status < 500, (SEED, request, answer.status, answer.body)
    return answer.status


def state_of(api: Api, requests: Requests) -> list[Any]:
    return [answer_of(api.request(*request)) for request in requests.state()]
