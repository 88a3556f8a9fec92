"""Random transactions beside reports, claims, releases and operators: what must hold after each, and what the auditor says of all."""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import Tape, claim, claims, event, provider, released
from tests.support.models.memory_state import MemoryState
from tests.support.models.quota_counts import counted, recounted
from tests.support.random_logs.random_transactions import RandomTransactions
from vacancy.clients.auditor import audit
from vacancy.resources.fold.fold import fold
from vacancy.resources.state.rows import AllocationRow, VerdictRow
from vacancy.resources.state.tables import (
    ALLOCATIONS,
    DEAD_LETTERS,
    DEADLINES,
    FACTS,
    NODES,
    PROVIDER_DETAILS,
    PROVIDER_NAMES,
    PROVIDERS,
    VERDICTS,
    split_key,
)
from vacancy.resources.state.transaction import Changes

SEEDS = int(os.environ.get("VACANCY_TRANSACTION_SEEDS", "12"))
STEPS = 150
CELL = "auto-0"


class World:
    """A cell that everybody writes to. `verdicts` are as a store exports them."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.tape, self.state = Tape(version=6), MemoryState()
        self.transactions = RandomTransactions(self.rng, CELL)
        self.verdicts: list[dict[str, Any]] = []
        self.seen: Counter[str] = Counter()
        self.sequences: Counter[str] = Counter()
        self.revisions: Counter[str] = Counter()
        self.count = 0
        self.fold()

    def step(self) -> None:
        deed = self.rng.choice(
            (self.transact,) * 8 + (self.claim,) * 3 + (self.report, self.release, self.set)
        )
        self.tape.append(CELL, deed())
        self.tape.now_ms += self.rng.choice((0, 10, 500, 20_000))
        self.fold()

    def transact(self) -> bytes:
        return event("transaction.requested.v1", self.transactions.make(self.state, self.tape.now_ms))

    def report(self) -> bytes:
        root = self.rng.choice(("n0", "n1", "p0"))
        self.sequences[root] += 1
        parts = [
            provider(root, VCPU=self.rng.choice((4, 8)), traits=self.rng.choice(((), ("HW_CPU_X86_AVX",))))
        ]
        if self.rng.random() < 0.5:
            parts.append(provider(f"{root}:c", root, CUSTOM_IRON=4))
        life = {"root": root, "incarnation": f"{1:016x}", "sequence": self.sequences[root]}
        return event("node.reported.v2", {**life, "providers": parts})

    def claim(self) -> bytes:
        self.count += 1
        at = self.tape.now_ms
        hold = self.rng.choice((None, None, at + 20_000))
        place = self.rng.choice(("n0", "n1", "p0", "p1", "p2"))
        made = claim(
            f"c{self.count}",
            f"u{self.rng.randrange(12)}",
            place,
            {"VCPU": self.rng.choice((1, 2))},
            at + 60_000,
            hold_until_ms=hold,
        )
        return claims({**made, "project": "p"})

    def release(self) -> bytes:
        held = [(split_key(name)[1], row.claim) for name, row in self.state.rows(ALLOCATIONS)]
        return released(*self.rng.choice(held)) if held else event("tick.v1", {})

    def set(self) -> bytes:
        id_ = self.rng.choice(("n0", "p0", "p1"))
        row = {split_key(name)[1]: row for name, row in self.state.rows(PROVIDERS)}.get(id_)
        facts: dict[str, Any] = {"status": self.rng.choice(("enabled", "enabled", "disabled"))}
        if row is not None:
            facts |= {"aggregates": list(row.aggregates), "traits": list(row.operator_traits)}
        if self.rng.random() < 0.3:
            facts["overrides"] = {"VCPU": {"allocation_ratio_milli": 2000}}
        there = self.state.get(FACTS, f"{CELL}\0{id_}".encode())
        revision = 1 + (0 if there is None else there.revision)
        return event(
            "facts.set.v1", {"provider": id_, "revision": revision, "facts": facts}, f"f{self.count}"
        )

    def fold(self) -> None:
        record = self.tape.records[0][-1]
        changes = fold(self.state, record, REGISTRY)
        for name, row in changes.get(VERDICTS, {}).items():
            if row is not None and row.offset == record.offset:
                self._note(changes, split_key(name)[1], row)
        self.seen["dead letters"] += DEAD_LETTERS in changes
        self.state.commit(changes)

    def _note(self, changes: Changes, id_: str, row: VerdictRow) -> None:
        if id_.startswith("t"):
            self.seen[row.reason or "accepted"] += 1
        self.verdicts.append(
            {
                "claim": id_,
                "cell": CELL,
                "partition": 0,
                "offset": row.offset,
                "accepted": row.accepted,
                "reason": row.reason,
                "grants": [part._asdict() for part in row.grants],
            }
        )

    def check(self) -> None:
        """The tables agree with each other."""
        rows = {split_key(name)[1]: row for name, row in self.state.rows(PROVIDERS)}
        used: Counter[tuple[str, str]] = Counter()
        for _, held in self.state.rows(ALLOCATIONS):
            assert held.parts
            for part in held.parts:
                used[part.provider, part.resource_class] += part.grant
        for id_, row in rows.items():
            root = rows[row.root]
            assert id_ in root.members
            assert not row.reported or row.parent is None or rows[row.parent].root == row.root
            for name in row.classes:
                table = REGISTRY.table(name)
                there = self.state.get(table, table.prefix + f"{CELL}\0{id_}".encode())
                assert there is not None
                assert there.record.used == used.pop((id_, name), 0)
            if row.root == id_ and row.reported:
                assert self.state.get(NODES, f"{CELL}\0{id_}".encode()) is not None
        assert +used == Counter()
        details = {split_key(name)[1]: row for name, row in self.state.rows(PROVIDER_DETAILS)}
        assert details.keys() <= rows.keys()
        named = {split_key(name)[1]: id_ for name, id_ in self.state.rows(PROVIDER_NAMES)}
        assert named == {row.name: id_ for id_, row in details.items() if row.name}
        assert counted(self.state) == recounted(self.state, REGISTRY)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_transactions_beside_all_others(seed: int) -> None:
    world = World(seed)
    for _ in range(STEPS):
        world.step()
        world.check()
    found = audit({0: world.tape.records[0]}, world.verdicts)
    assert found.problems == [], found.problems
    assert world.seen["accepted"] > STEPS // 10


# -- one record, folded several ways --------------------------------------------------------------------------------


class WatchedWorld(World):
    """Folds each transaction also in other orders of its keys, and compares a refused one with a record that does nothing."""

    data: dict[str, Any] | None = None

    def transact(self) -> bytes:
        self.data = self.transactions.make(self.state, self.tape.now_ms)
        return event("transaction.requested.v1", self.data)

    def fold(self) -> None:
        if self.data is not None:
            self.compare(self.data)
            self.data = None
        super().fold()

    def compare(self, data: dict[str, Any]) -> None:
        changes = self.folded(data)
        for _ in range(2):
            assert without_order(self.folded(reordered(self.rng, data))) == without_order(changes)
        row = changes.get(VERDICTS, {}).get(f"{CELL}\0{data['id']}".encode())
        if row is None or row.accepted:
            return
        late = self.folded({"id": data["id"], "deadline_ms": 0})
        assert differing(changes, late) <= {VERDICTS.name, DEADLINES.name}, row
        own = Counter(len(rows) for rows in (changes[VERDICTS], changes[DEADLINES]))
        others = Counter(len(late.get(table, {})) + 1 for table in (VERDICTS, DEADLINES))
        assert own == others, "it writes its verdict, and when that goes"

    def folded(self, data: dict[str, Any]) -> Changes:
        record = self.tape.records[0][-1]
        return fold(self.state, record._replace(value=event("transaction.requested.v1", data)), REGISTRY)


def differing(some: Changes, others: Changes) -> set[str]:
    """The tables in which two records do not change the same."""
    return {table.name for table in {*some, *others} if some.get(table, {}) != others.get(table, {})}


def without_order(changes: Changes) -> dict[str, dict[bytes, Any]]:
    """The changes but for what follows the order of keys in a transaction, as in a claim: the order of the parts of an
    allocation, and which of several reasons for a refusal is found first."""

    def plain(row: Any) -> Any:
        if isinstance(row, AllocationRow):
            return replace(row, parts=tuple(sorted(row.parts)))
        if isinstance(row, VerdictRow):
            return row.accepted, row.offset, row.deadline_ms, row.fingerprint, sorted(row.grants)
        return row

    return {table.name: {key: plain(row) for key, row in rows.items()} for table, rows in changes.items()}


def reordered(rng: random.Random, value: Any) -> Any:
    """The same JSON, with the keys of its objects in another order."""
    if isinstance(value, list):
        return [reordered(rng, one) for one in value]
    if not isinstance(value, dict):
        return value
    return {name: reordered(rng, value[name]) for name in rng.sample(list(value), len(value))}


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_refused_one_changes_no_row_and_the_order_of_keys_decides_nothing(seed: int) -> None:
    world = WatchedWorld(1_000 + seed)
    for _ in range(STEPS):
        world.step()
    assert sum(world.seen.values()) - world.seen["accepted"] - world.seen["dead letters"] > STEPS // 10
