"""The domains of a cell, whatever happens to its nodes: what is counted is what the nodes' rows say."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import Tape, claim, claims, event, provider, reported
from tests.support.models.memory_state import MemoryState
from tests.support.sites.temporary_stores import opened_store
from vacancy.projections.store.digest import as_scan, partition_digest
from vacancy.resources.fold.fold import fold
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.server_group import kind_of
from vacancy.resources.state.rows import why_closed
from vacancy.resources.state.tables import (
    CELL_COUNTS,
    DOMAIN_NODES,
    DOMAIN_SLOTS,
    DOMAINS,
    NODES,
    PARTITION,
    PARTITION_KEY,
    PROVIDERS,
    VERDICTS,
    domain_count_name,
    domain_slot_name,
    key,
    split_key,
)

NEWEST = RULES_VERSIONS.newest.version
CELL = Tape().cells[0]
ROOTS = ("n0", "n1", "n2", "n3")
AGGREGATES = ("zone-a", "zone-b", "zone-c", "rack-1", "rack-2", "plain")


class NodeEvents:
    """Random events of four nodes: reports, gaps, retirements, disabled nodes, other zones, parts that change nodes."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.lives = dict.fromkeys(ROOTS, 1)
        self.sequences = dict.fromkeys(ROOTS, 0)
        self.revisions = dict.fromkeys(ROOTS, 0)
        self.claimed = 0

    def next(self, now_ms: int) -> bytes:
        rng, root = self.rng, self.rng.choice(ROOTS)
        deed = rng.choice(
            ("report", "report", "heartbeat", "lost", "retire", "settings", "settings", "claim")
        )
        if deed == "settings":
            self.revisions[root] += 1
            facts = {
                "status": rng.choice(("enabled", "enabled", "disabled", "draining")),
                "aggregates": rng.sample(AGGREGATES, rng.choice((0, 1, 2, 3))),
            }
            data = {"provider": root, "revision": self.revisions[root], "facts": facts}
            return event("facts.set.v1", data, f"{root}-{self.revisions[root]}")
        if deed == "claim":
            self.claimed += 1
            return claims(claim(f"c{self.claimed}", f"i{self.claimed}", root, {"VCPU": 1}, now_ms + 60_000))
        if deed == "report" and rng.random() < 0.3:
            self.lives[root] += 1
            self.sequences[root] = 0
        self.sequences[root] += 2 if deed == "lost" else 1
        said: dict[str, Any] = {
            "root": root,
            "incarnation": f"{self.lives[root]:016x}",
            "sequence": self.sequences[root],
        }
        if deed == "report":
            part = rng.choice(ROOTS)
            parts = [provider(part, root, VCPU=1)] if part != root and rng.random() < 0.2 else []
            return event("node.reported.v1", {**said, "providers": [provider(root, VCPU=8), *parts]})
        if deed == "retire":
            self.lives[root] += 1
            self.sequences[root] = 0
            return event("node.retired.v1", said)
        return event("node.heartbeat.v1", said)


def rows(state: MemoryState, table: Any) -> Iterator[tuple[bytes, Any]]:
    for family, row_key, data in state.items():
        if family == table.family:
            yield row_key, table.decode(data)


def nodes_by_domain(state: MemoryState) -> Counter[str]:
    """Domain -> the nodes that take new claims in it, from the rows of nodes and providers."""
    found = Counter[str]()
    for row_key, node in rows(state, NODES):
        root = state.get(PROVIDERS, row_key)
        if root is not None and root.root == split_key(row_key)[1] and why_closed(node, root, root) is None:
            found.update(name for name in root.aggregates if kind_of(name))
    return found


def check(state: MemoryState) -> Counter[str]:
    """What is counted is what there is, and the lists have each domain once."""
    wanted = nodes_by_domain(state)
    counted = {split_key(row_key)[1]: row for row_key, row in rows(state, DOMAINS)}
    assert {name: row.nodes for name, row in counted.items()} == wanted
    listed = {}
    for kind in {kind_of(name) for name in counted}:
        length = state.get(CELL_COUNTS, key(CELL, domain_count_name(kind)))
        assert length == sum(name.startswith(kind) for name in counted)
        for slot in range(length or 0):
            name = state.get(DOMAIN_SLOTS, key(CELL, domain_slot_name(kind, slot)))
            assert name is not None
            assert counted[name].slot == slot
            listed[name] = slot
    assert listed.keys() == counted.keys()
    assert sum(1 for _ in rows(state, DOMAIN_SLOTS)) == len(counted)
    assert {k for k, _ in rows(state, DOMAIN_NODES)} == {k for k, _ in rows(state, NODES)}
    return wanted


@pytest.mark.parametrize("seed", range(12))
def test_what_is_counted_is_what_the_nodes_say_and_live_is_replayed(seed: int) -> None:
    tape, deeds, state = Tape(version=NEWEST), NodeEvents(seed), MemoryState()
    state.commit(fold(state, tape.records[0][0], REGISTRY))
    seen = Counter[str]()
    for _ in range(150):
        tape.now_ms += deeds.rng.choice((0, 1_000, 600_000, 2 * 24 * 3_600_000))
        state.commit(fold(state, tape.append(CELL, deeds.next(tape.now_ms)), REGISTRY))
        seen += check(state)
    assert len(seen) >= 3
    assert "plain" not in seen
    with opened_store() as store:
        for at in range(0, len(tape.records[0]), 7):
            store.apply(0, tape.records[0][at : at + 7])
        live = partition_digest(store.partition(0).scan, REGISTRY)
    assert live == partition_digest(as_scan(state.items), REGISTRY)


def in_zone(root: str, zone: str) -> bytes:
    return event("facts.set.v1", {"provider": root, "revision": 1, "facts": {"aggregates": [zone]}}, root)


def test_a_node_from_before_the_rules_counts_from_its_next_event() -> None:
    tape, state = Tape(version=3), MemoryState()
    for root in ("n0", "n1"):
        tape.append(CELL, reported(root, [provider(root, VCPU=8)]))
        tape.append(CELL, in_zone(root, f"zone-{root}"))
    for record in tape.records[0]:
        state.commit(fold(state, record, REGISTRY))
    before = state.get(PARTITION, PARTITION_KEY)
    assert before is not None
    state.commit({PARTITION: {PARTITION_KEY: replace(before, rules_version=NEWEST)}})
    counted = []
    for kind, root in (("heartbeat", "n1"), ("retired", "n0")):
        said = {"root": root, "incarnation": f"{1:016x}", "sequence": 2}
        state.commit(fold(state, tape.append(CELL, event(f"node.{kind}.v1", said, kind)), REGISTRY))
        counted.append([split_key(row_key)[1] for row_key, _ in rows(state, DOMAINS)])
    assert counted == [["zone-n1"], ["zone-n1"]]
    check(state)


def test_many_domains_are_counted_and_a_record_does_not_read_more_than_it_may() -> None:
    """Each claim looks at all domains of its kind, so a record of many claims reads as much as any other."""
    tape, state, zones = Tape(version=NEWEST), MemoryState(), 400
    for number in range(zones):
        tape.append(CELL, reported(f"n{number}", [provider(f"n{number}", VCPU=8)]))
        tape.append(CELL, in_zone(f"n{number}", f"zone-{number}"))
    rule = {"group": f"{CELL}/web", "policy": "spread", "scope": "zone-"}
    many = [
        claim(f"c{n}", f"i{n}", f"n{n}", {"VCPU": 1}, tape.now_ms + 60_000, memberships=[rule])
        for n in range(64)
    ]
    record = tape.append(CELL, event("claims.requested.v2", {"claims": many}))
    for one in tape.records[0][:-1]:
        state.commit(fold(state, one, REGISTRY))
    changes = fold(state, record, REGISTRY)
    reasons = [row.reason for row in changes[VERDICTS].values()]
    limit = RULES_VERSIONS.newest.limits.claim_reads
    accepted = reasons.count("")
    assert limit // zones - 3 <= accepted < limit // zones
    assert reasons == [""] * accepted + ["record_full"] * (64 - accepted)
