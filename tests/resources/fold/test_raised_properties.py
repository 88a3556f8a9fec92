"""Random logs whose rules are raised midway: the auditor agrees with every verdict, a store and the memory have the same rows, and
after all was counted the rows of quotas are the sums of what is held."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import LOG, provider
from tests.support.logs.raised_log import CELL, RaisedLog
from tests.support.models.quota_counts import counted, recounted
from vacancy.projections.store.digest import as_scan, partition_digest
from vacancy.projections.store.store import Store
from vacancy.resources.state.rows import AllocationRow
from vacancy.resources.state.tables import ALLOCATIONS, QUOTA_AMOUNTS

SEEDS = range(int(os.environ.get("VACANCY_RAISED_LOGS", "12")))
NODES = ("n0", "n1", "n2")
PROJECTS = ("p", "q", "-")
UNITS = ("VCPU", "PCI_DEVICE", "NUMA_CELL", "NUMA_CELL.memory_mb")
CELL_OF_NUMA = {"cores": [[0, 4], [1, 5], [2, 6], [3, 7]], "memory_mb": 64, "page_kib": 4}
ASKS: tuple[dict[str, Any], ...] = (
    {"VCPU": 1},
    {"VCPU": 3},
    {"VCPU": 1, "PCI_DEVICE": 1},
    {"PCI_DEVICE": {"count": 2}},
    {"NUMA_CELL": {"pinned": 2}},
    {"VCPU": 2, "NUMA_CELL": {"memory_mb": 8}},
)
SEEN: Counter[str] = Counter()


class RandomRaise(RaisedLog):
    """A log of any version that is raised to version 4 at a random record."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        super().__init__(rng.choice((1, 2, 3)))
        self._numbers: Counter[str] = Counter()
        for root in NODES:
            self.offer(root)

    def step(self) -> None:
        """One random record."""
        deeds = [self.place, self.place, self.place, self.replace, self.replace, self.give_back, self.confirm]
        deeds += [self.settings, self.pass_time, self.offer]
        if self.partition.rules_version == 4:
            deeds += [self.account, self.account, self.share, self.parent, self.some_counted, self.rename]
        deed = self.rng.choice(deeds)
        deed()
        SEEN[f"{deed.__name__} {self.partition.rules_version}"] += 1

    def number(self, of: str) -> int:
        """The next number of something."""
        self._numbers[of] += 1
        return self._numbers[of]

    def holders(self) -> list[tuple[str, AllocationRow]]:
        """All consumers that hold something."""
        rows = self.state.rows(ALLOCATIONS)
        return [(key.decode().partition("\0")[2], row) for key, row in sorted(rows)]

    def offer(self, root: str = "") -> None:
        """A full report of a node."""
        root = root or self.rng.choice(NODES)
        devices: dict[str, Any] = {f"d{n}": {} for n in range(4) if self.rng.random() < 0.9}
        inventories: dict[str, Any] = {"VCPU": {"total": self.rng.choice((6, 12))}, "NUMA_CELL": CELL_OF_NUMA}
        if devices:
            inventories["PCI_DEVICE"] = {"devices": devices}
        said = {"root": root, "incarnation": f"{1:016x}", "sequence": self.number(root)}
        more: dict[str, Any] = {}
        if self.partition.rules_version == 4 and self.rng.random() < 0.5:
            more["machine"] = f"m-{root}"
        holders = [name for name, _ in self.holders()]
        if holders and self.rng.random() < 0.3:
            more["consumers"] = self.rng.sample(holders, 1)
        kind = "node.reported.v2" if "machine" in more else "node.reported.v1"
        self.say(kind, {**said, "providers": [{**provider(root), "inventories": inventories}], **more})

    def bid(self, consumer: str) -> dict[str, Any]:
        """A claim of a consumer, on one node or two."""
        rng = self.rng
        some = rng.sample(NODES, rng.choice((1, 1, 2)))
        asks = [
            {"provider": id_, "group": f"g{n}", "resources": rng.choice(ASKS)} for n, id_ in enumerate(some)
        ]
        found = {
            "id": f"c{self.number('claim')}",
            "consumer": consumer,
            "allocations": asks,
            "deadline_ms": self.tape.now_ms + 500_000,
            "project": rng.choice(PROJECTS),
            "user": rng.choice(("-", "u")),
            "consumer_type": rng.choice(("INSTANCE", "MIGRATION")),
        }
        if rng.random() < 0.3:
            found["hold_until_ms"] = self.tape.now_ms + rng.choice((4_000, 30_000))
        if rng.random() < 0.3:
            group = {"group": f"{CELL}/apart", "policy": "anti-affinity", "hard": True, "max_per_node": 3}
            found["memberships"] = [group]
        return found

    def place(self) -> None:
        """A consumer claims."""
        bid = self.bid(f"i{self.rng.randrange(12)}")
        self.say("claims.requested.v1", {"claims": [bid]})
        verdict = self.verdict(bid["id"])
        SEEN[verdict.reason or "accepted"] += 1

    def replace(self) -> None:
        """A consumer that holds something is moved or resized."""
        if not (holders := self.holders()):
            return
        consumer, row = self.rng.choice(holders)
        bid = {**self.bid(consumer), "consumer_generation": row.generation, "replaces": row.claim}
        old = self.partition.quotas_from > row.offset
        form = "v3" if self.partition.rules_version == 4 else "v2"
        if self.partition.rules_version < 3:
            del bid["replaces"]
            form = "v1"
        self.say(f"consumer.replaced.{form}", bid)
        if old and self.verdict(bid["id"]).accepted:
            SEEN["an old one moved"] += 1

    def give_back(self) -> None:
        """A consumer releases all."""
        if holders := self.holders():
            consumer, row = self.rng.choice(holders)
            SEEN["an old one ended"] += row.offset < self.partition.quotas_from
            self.release(consumer)

    def confirm(self) -> None:
        """A hold becomes an allocation."""
        if holders := self.holders():
            consumer, row = self.rng.choice(holders)
            self.say("consumer.confirmed.v1", {"consumer": consumer, "claim": row.claim})

    def settings(self) -> None:
        """An operator closes or opens a node."""
        root = self.rng.choice(NODES)
        facts = {"status": self.rng.choice(("enabled", "enabled", "disabled"))}
        self.say("facts.set.v1", {"provider": root, "revision": self.number(f"facts {root}"), "facts": facts})

    def pass_time(self) -> None:
        """Some holds end."""
        self.tape.now_ms += self.rng.choice((1_000, 5_000))
        self.say("tick.v1", {})

    # -- since version 4 --------------------------------------------------------------------------------------

    def account(self) -> None:
        """A consumer changes its project, user or type."""
        if holders := self.holders():
            changes = {"project": self.rng.choice(PROJECTS), "user": self.rng.choice(("-", "u"))}
            self.update(self.rng.choice(holders)[0], **changes)

    def share(self) -> None:
        """An operator changes what a project may hold."""
        scope = {"project": self.rng.choice(PROJECTS), "unit": self.rng.choice(UNITS)}
        amount = self.rng.choice((-1, 2, 6))
        self.say("quota.share.set.v1", {**scope, "number": self.number(f"{scope}"), "amount": amount})

    def parent(self) -> None:
        """A project comes under another one, or leaves it."""
        data = {"project": self.rng.choice("pq"), "parent": self.rng.choice(("top", "-", ""))}
        self.say("quota.parent.set.v1", {**data, "revision": self.number("parent")})

    def some_counted(self) -> None:
        """Some consumers are counted, of which some are counted already or hold nothing."""
        self.count(*{f"i{self.rng.randrange(12)}" for _ in range(3)})

    def rename(self) -> None:
        """A node that another machine is now gets another name, and back."""
        root = self.rng.choice(NODES)
        them = [name for name, row in self.holders() if any(part.provider == root for part in row.parts)]
        for old, new in ((root, f"{root}x"), (f"{root}x", root)):
            names = {"root": old, "to": new, "providers": {old: new}, "consumers": them}
            self.say("node.renamed.v1", names)
        self.offer(root)


def old_ones(log: RandomRaise) -> list[str]:
    """The consumers that are not counted."""
    marks = {key.decode().partition("\0")[2] for key, _ in log.state.rows(QUOTA_AMOUNTS)}
    return [
        name for name, row in log.holders() if row.offset < log.partition.quotas_from and name not in marks
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_log_that_is_raised_midway_is_judged_and_counted_right(seed: int, tmp_path: Path) -> None:
    log = RandomRaise(seed)
    for _ in range(log.rng.choice((5, 20, 60))):
        log.step()
    log.raise_rules()
    for _ in range(60):
        log.step()
        problems = log.audit().problems if log.rng.random() < 0.05 else []
        assert [one for one in problems if not one.startswith("quotas partition")] == []
    left = old_ones(log)
    SEEN["counted at last"] += len(left)
    for at in range(0, len(left), 64):
        log.count(*left[at : at + 64])
    assert old_ones(log) == []
    assert counted(log.state) == recounted(log.state, REGISTRY)
    assert [one for one in log.audit().problems if not one.startswith("quotas partition")] == []
    with Store(tmp_path, log=LOG, partitions=1, registry=REGISTRY) as store:
        store.apply(0, log.tape.records[0])
        stored = partition_digest(store.partition(0).scan, REGISTRY)
    assert stored == partition_digest(as_scan(log.state.items), REGISTRY)
    for name in [name for name, _ in log.holders()]:
        log.release(name)
    assert (counted(log.state), dict(log.state.rows(QUOTA_AMOUNTS))) == ({}, {})


def test_enough_happened_to_tell() -> None:
    kinds: tuple[str, ...] = (
        "accepted",
        "no_room",
        "over_quota",
        "an old one moved",
        "an old one ended",
        "counted at last",
    )
    kinds += ("place 1", "replace 2", "confirm 3", "account 4", "parent 4", "rename 4", "some_counted 4")
    assert [kind for kind in kinds if not SEEN[kind]] == []
