"""Kinds of records of rules version 7 that may cost the fold more than they should (`expensive_records`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tests.fuzz.expensive.expensive_case import CELL, DEADLINE_MS, Case
from tests.support.logs.events_json import event, provider, reported
from tests.support.logs.signing import node_keys, policy, signed


def signed_report(parts: int, times: int) -> Case:
    """A signed report that names a consumer of many parts of another node, many times: it may confirm only its own."""
    other = [provider(f"p{n}", "n2", VCPU={"total": 9}) for n in range(parts)]
    held = {f"p{n}": {"VCPU": 1} for n in range(parts)}
    change = {"consumer": "i0", "generation": "absent", "project": "p", "user": "u", "allocations": held}
    setup = [
        reported("n2", [provider("n2", VCPU={"total": 8}), *other]),
        event("transaction.requested.v1", {"id": "t", "deadline_ms": DEADLINE_MS, "consumers": [change]}),
        signed(policy(1, ("alice",), "*:*"), "alice", 1, cell=CELL),
        signed(node_keys("n1", 1, "key"), "alice", 2, cell=CELL),
    ]
    value = reported("n1", [provider("n1", VCPU={"total": 8})], consumers=["i0"] * times)
    return Case(setup, signed(value, "key", 1, cell=CELL))


KINDS_7: Final[Mapping[str, tuple[Callable[..., Case], Mapping[str, int]]]] = {
    "signed_report": (signed_report, {"parts": 250, "times": 80_000}),
}
"""As `expensive_records.KINDS`."""
