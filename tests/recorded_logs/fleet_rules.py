"""Logs of rules version 4: one that starts with it, and one that is raised to it from version 3 midway.

In the first, each scenario of version 4 has a partition of its own, and partition 1 has the events of `Version4Events`. It is
the partition of the ledger of parents, so that all quotas can be counted there. In the second, partition 0 is a random world,
and partition 1 has `Version4Events` from its first record: before the rules are raised they are dead letters. Nothing is left
to chance: the same build makes the same logs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Final

from tests.fuzz.events.version_4_events import Version4Events
from tests.recorded_logs.every_event import SCENARIOS, Chapter, name_in
from tests.recorded_logs.recording import Recording
from tests.recorded_logs.tapes import append, play, ports_tape, recording_of
from tests.support.classes.ports_class import REGISTRY, Ports
from tests.support.logs.events_json import START_MS, event, rules_in_steps
from tests.support.models.memory_state import MemoryState
from tests.support.random_logs.random_events import RandomEvents
from vacancy.resources.fold.claims.quota_ledgers import PARENTS_ID, quota_limit_id
from vacancy.resources.fold.fold import fold
from vacancy.resources.model.events import QuotaScope
from vacancy.resources.model.partitioner import covering_cells, partition_for
from vacancy.resources.model.record import Record
from vacancy.resources.state.tables import ALLOCATIONS, NODES, split_key

NAME: Final = "version_4"
RAISED: Final = "raised_to_4"
LOG_UUIDS: Final = {NAME: "4d5b0c8e1f6a4b279c3e7a90d2f418b6", RAISED: "4e92a7c35d1b48f0a6f0c4b7e8d95321"}
EVENTS: Final = 1_500
FLEET_SCENARIOS: Final = [path for path in SCENARIOS if "rules=4" in path.read_text()]


class _Chapter(Chapter):
    opens_with = 4


def fleet_rules() -> Recording:
    """Make the log that starts with version 4."""
    least = len(FLEET_SCENARIOS) + 2
    partitions = next(n for n in count(least) if partition_for(PARENTS_ID, n) == 1)
    tape = ports_tape(partitions, 4)
    records = tape.records
    for partition, path in zip((0, *range(2, partitions)), FLEET_SCENARIOS, strict=False):
        chapter = _Chapter(path, partition, partitions)
        chapter.play()
        records[partition] = list(chapter.records.values())
    for key, value in (*_ledgers(partitions), *_whole_forms(partitions)):
        append(tape, key, value)
    play(tape, Version4Events(random.Random(NAME), tape, name_in(1, partitions, "fleet")), EVENTS)
    return recording_of(NAME, LOG_UUIDS[NAME], records, ticks=2)


def raised_to_fleet_rules() -> Recording:
    """Make the log that is raised midway."""
    tape = ports_tape(2, 3)
    cells = covering_cells(2)
    tape.cells = (cells[0], cells[0], name_in(0, 2, "b"))
    world = RandomEvents(random.Random(f"{RAISED} world").choice, tape)
    world.settle()
    events = Version4Events(random.Random(RAISED), tape, name_in(1, 2, "fleet"))
    for raised in (False, True):
        for _ in range(EVENTS // 5):
            world.step()
        play(tape, events, EVENTS // 2)
        for partition in (0, 1) if not raised else ():
            for value in rules_in_steps(4, [Ports.name]):
                append(tape, cells[partition], value)
            for cell, value in _counted(tape.records[partition]):
                append(tape, cell, value)
    return recording_of(RAISED, LOG_UUIDS[RAISED], tape.records, ticks=2)


def _ledgers(partitions: int) -> Iterator[tuple[str, bytes]]:
    """(key, value) of the records that limit a project below another one, and recall a share, all in partition 1."""
    cell = name_in(1, partitions, "fleet")
    scopes = ({"project": "site", "user": "u", "consumer_type": f"T{n}", "unit": "VCPU"} for n in count())
    scope, ledger = next(
        (one, id_)
        for one in scopes
        if partition_for(id_ := quota_limit_id(QuotaScope(**one)), partitions) == 1
    )
    limit = {**scope, "limit": 10, "revision": 1, "by_default": False}
    yield ledger, event("quota.limit.set.v1", limit, "limit-1")
    for partition in range(partitions):  # no share without a limit is left
        change = {**scope, "number": 1, "amount": 0, "partition": partition}
        yield ledger, event("quota.share.planned.v1", change)
        yield ledger, event("quota.share.settled.v1", change)
    for number, amount in ((1, 0), (2, 6), (3, 2)):
        change = {**scope, "number": number, "amount": amount}
        if number > 1:
            yield ledger, event("quota.share.planned.v1", {**change, "partition": 1})
        yield cell, event("quota.share.set.v1", change)
    yield ledger, event("quota.share.settled.v1", {**change, "partition": 1})
    parent = {"project": "team", "parent": "site", "revision": 1}
    yield PARENTS_ID, event("quota.parent.planned.v1", parent, "parent-1")
    yield cell, event("quota.parent.set.v1", parent)


def _whole_forms(partitions: int) -> Iterator[tuple[str, bytes]]:
    """(key, value) of records that have each field of their form, whatever it says."""
    cell = name_in(1, partitions, "fleet")
    node = {"root": "whole", "incarnation": f"{1:016x}", "sequence": 1, "consumers": [], "machine": "m-whole"}
    inventories = {"VCPU": {"total": 64}, "PCI_DEVICE": {"devices": {"5:0": {}, "6:0": {}}}}
    yield (
        cell,
        event("node.reported.v2", {**node, "providers": [{"id": "whole", "inventories": inventories}]}),
    )
    facts = {"reason": "dedicated", "traits": ["CUSTOM_A"], "attributes": {"a": 1}, "aggregates": ["zone-a"]}
    facts |= {"status": "enabled", "overrides": {"PCI_DEVICE": {"excluded": {"6:0": "broken"}}}}
    taints = [{"key": "a", "value": "b", "effect": "no_schedule"}]
    settings = {"provider": "whole", "revision": 1, "facts": {**facts, "taints": taints}}
    yield cell, event("facts.set.v2", settings)
    yield cell, event("node.adopted.v1", {"root": "whole", "machine": "m-whole", "cell": cell})
    group = {"name": "a", "resources": {"VCPU": 1, "PCI_DEVICE": {"count": 1, "match": "numa_node"}}}
    spread = {"group": f"{cell}/whole", "policy": "spread", "scope": "zone-", "max_skew": 1, "hard": True}
    chosen = {
        "groups": [group, {"name": "b", "resources": {"VCPU": 1}}],
        "group_policy": "none",
        "copies": 2,
        "copies_on": "any",
        "root_required": ["CUSTOM_A"],
        "root_forbidden": ["CUSTOM_B"],
        "same_subtree": [["a", "b"]],
    }
    tolerated = {"tolerations": [{"key": "a", "value": "b"}]}
    choices = {"alternatives": [{"groups": [group]}], "prefer_same_subtree": [["a", "b"]]}
    request = name_in(1, partitions, "whole")
    spec = {**chosen, **choices, **tolerated, "memberships": [spread]}
    yield cell, event("requests.received.v2", {"specs": [spec], "requests": [{"id": request, "spec_at": 0}]})
    bid = {
        "consumer_type": "INSTANCE",
        "project": "p",
        "user": "u",
        "request": request,
        "spec": {**chosen, "memberships": [spread]},
        "allocations": [{"provider": "whole", "resources": {"VCPU": 1}, "group": "a#1"}],
        "predicates": [{"provider": "whole", "kind": "trait", "value": "CUSTOM_A", "negate": False}],
        "memberships": [spread],
        "deadline_ms": START_MS + 200_000,
        "hold_until_ms": START_MS + 250_000,
        "decided": {"as_of": {"1": 1}, "seed": 1, "policy": "spread"},
        **tolerated,
    }
    first = {**bid, "id": "whole-1", "consumer": "whole", "consumer_generation": None}
    listed = {**first, "id": "whole-3", "consumer": "listed", "spec": None, "spec_at": 0}
    shared = {"specs": [bid["spec"]], "decided": bid["decided"]}
    yield cell, event("claims.requested.v2", {"claims": [first, listed], **shared})
    gang = [{**first, "id": f"whole-{name}", "consumer": name} for name in ("a", "b")]
    yield cell, event("gang.requested.v1", {"claims": gang})
    second = {**bid, "id": "whole-2", "consumer": "whole", "consumer_generation": 1, "leaves": [f"{cell}/a"]}
    yield cell, event("consumer.replaced.v3", {**second, "replaces": "whole-1"})


def _counted(records: Sequence[Record]) -> Iterator[tuple[str, bytes]]:
    """(cell, value) of the records that count for quotas and domains what there was before."""
    state = MemoryState()
    for record in records:
        state.commit(fold(state, record, REGISTRY))
    found: dict[str, list[str]] = {}
    for key, _ in state.rows(ALLOCATIONS):
        cell, consumer = split_key(key)
        found.setdefault(cell, []).append(consumer)
    for cell, consumers in found.items():
        yield cell, event("quota.counted.v1", {"consumers": consumers[:32]})
    for key, _ in state.rows(NODES):
        cell, root = split_key(key)
        yield cell, event("node.counted.v1", {"root": root})
