"""Limits of nodes in rules version 3: how large a tree gets, how many names a cell has, how withdrawals go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.support.logs.events_json import START_MS, claim, claims, event, opened, provider, reported
from tests.support.models.memory_state import MemoryState
from tests.support.random_logs.random_trees import CELL, RandomTrees
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.fold import fold
from vacancy.resources.fold.nodes.cell_names import names_of
from vacancy.resources.model.limits import LIMITS_3
from vacancy.resources.model.record import Record
from vacancy.resources.state.tables import (
    CELL_COUNTS,
    DEAD_LETTERS,
    NODES,
    PARTITION,
    PARTITION_KEY,
    PROVIDERS,
    VERDICTS,
    WITHDRAWALS,
    key,
)

REGISTRY = Registry()
ROOT = key(CELL, "n1")


class Log:
    """A partition in memory; `append` folds a record and returns why it is a dead letter, or ''."""

    def __init__(self, version: int = 3) -> None:
        self.state = MemoryState()
        self.offset = 0
        assert self.append(opened(classes=(), version=version)) == ""

    def append(self, value: bytes) -> str:
        record = Record(0, self.offset, START_MS, CELL.encode(), value)
        changes = fold(self.state, record, REGISTRY)
        self.state.commit(changes)
        self.offset += 1
        return next((row.reason for row in changes.get(DEAD_LETTERS, {}).values() if row is not None), "")

    def complete(self) -> bool:
        node = self.state.get(NODES, ROOT)
        return node is not None and node.complete

    def count(self, name: str) -> int:
        return self.state.get(CELL_COUNTS, key(CELL, name)) or 0

    def providers(self) -> Iterator[Any]:
        for table, _, data in self.state.items():
            if table == PROVIDERS.name:
                yield PROVIDERS.decode(data)


def tree(parts: Sequence[str], **inventories: Any) -> list[dict[str, Any]]:
    return [provider("n1", VCPU=1000), *(provider(part, "n1", **inventories) for part in parts)]


def ids(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{n}" for n in range(count)]


def test_a_report_of_as_many_providers_as_an_event_may_have_passes() -> None:
    log = Log()
    parts = [
        {**provider(part, "n1", ("CUSTOM_A", "HW_B"), VCPU=1, MEMORY_MB=4096), "attributes": {"row": 1}}
        for part in ids("p", 4095)
    ]
    assert log.append(reported("n1", [provider("n1"), *parts])) == ""
    assert log.complete()


def test_a_tree_does_not_grow_with_what_stays_because_it_is_in_use() -> None:
    """Each round reports other parts and claims all of them. The third is refused: what was withdrawn before counts."""
    log = Log()
    reasons = []
    for turn in range(3):
        parts = ids(f"r{turn}-", 3000)
        reasons.append(log.append(reported("n1", tree(parts, VCPU=1), sequence=turn + 1)))
        while any(table == WITHDRAWALS.name for table, _, _ in log.state.items()):
            log.append(event("tick.v1", {}))
        bids = [claim(f"c-{part}", f"i-{part}", part, {"VCPU": 1}, START_MS + 9000) for part in parts]
        for at in range(0, 3000, 64):
            log.append(claims(*bids[at : at + 64]))
    assert reasons[:2] == ["", ""]
    assert reasons[2] == (
        "the tree of n1 would have 6,001 providers, and rules version 3 allows 4,096, with those that stay because they"
        " are in use"
    )
    change = event(
        "node.changed.v1",
        {
            "root": "n1",
            "incarnation": f"{1:016x}",
            "sequence": 3,
            "providers": [provider(part, "n1") for part in ids("s", 1096)],
            "removed": ids("r1-", 3000),
        },
    )
    assert log.append(change).startswith("the tree of n1 would have 4,097 providers")


def test_a_large_withdrawal_closes_the_node_until_it_is_done() -> None:
    log = Log()
    log.append(reported("n1", tree(ids("p", 3000), VCPU=1)))
    assert log.append(reported("n1", tree([]), sequence=2)) == ""
    assert not log.complete()
    claimed = claims(claim("c1", "i1", "n1", {"VCPU": 1}, START_MS + 9000))
    assert log.append(claimed) == ""
    verdict = log.state.get(VERDICTS, key(CELL, "c1"))
    assert verdict is not None
    assert verdict.reason == "node_incomplete"
    assert "the tree of n1 is still being withdrawn, and rules version 3 withdraws 512" in log.append(
        reported("n1", tree(["q"]), sequence=3)
    )
    for _ in range(6000 // LIMITS_3.withdrawn_at_once):
        log.append(event("tick.v1", {}))
    assert log.complete()
    assert [row.root for row in log.providers()] == ["n1"]
    assert log.append(reported("n1", tree(["q"]), sequence=3)) == ""


def test_names_that_go_make_room_for_others() -> None:
    log = Log()

    def report(number: int, first: int, classes: int) -> str:
        names: dict[str, Any] = {f"CUSTOM_{n}": 1 for n in range(first, first + classes)}
        return log.append(reported(f"n{number}", [provider(f"n{number}", **names)], sequence=log.offset))

    assert [report(number, 64 * number, 64) for number in range(16)] == [""] * 16
    assert log.count("classes") == LIMITS_3.cell_classes
    assert report(16, 5000, 1) == (
        "the cell would have 1,025 names of resource classes, and rules version 3 allows 1,024 a cell"
    )
    assert report(17, 0, 64) == ""
    assert report(0, 0, 63) == ""
    assert log.count("classes") == LIMITS_3.cell_classes, "another node has the name"
    assert report(17, 0, 63) == ""
    assert report(16, 5000, 1) == ""


def test_traits_and_attributes_of_operators_count() -> None:
    log = Log()
    log.append(reported("n1", [{**provider("n1", None, ("A", "B")), "attributes": {"a": 1, "b": True}}]))
    facts: Mapping[str, Any] = {"traits": ["B", "C"], "attributes": {"b": 3, "c": "x"}}
    log.append(event("facts.set.v1", {"provider": "n1", "revision": 1, "facts": facts}))
    assert (log.count("traits"), log.count("attributes")) == (3, 3)
    log.append(event("facts.set.v1", {"provider": "n1", "revision": 2, "facts": {}}))
    assert (log.count("traits"), log.count("attributes")) == (2, 2)


def test_a_report_does_not_change_more_names_than_a_record_may() -> None:
    """A set that many providers have counts once."""
    log = Log()
    same = [f"CUSTOM_{n}" for n in range(500)]
    assert (
        log.append(reported("n1", [provider("n1"), *(provider(p, "n1", same) for p in ids("p", 400))])) == ""
    )
    different = [
        provider(p, "n1", [f"CUSTOM_{n + at}" for n in range(500)]) for at, p in enumerate(ids("p", 140))
    ]
    assert log.append(reported("n1", [provider("n1"), *different], sequence=2)) == (
        "the sets of names that providers get or lose have 70,000 names, and rules version 3 allows 16,384 a record"
    )


def test_the_counts_are_those_of_the_providers() -> None:
    """Also of providers that were written before version 3 was in force: they are counted when they are next written."""
    for seed, version in ((1, 3), (2, 3), (3, 2), (4, 2)):
        log = Log(version)
        for record in RandomTrees(seed).records(600):
            log.append(record.value)
            if record.offset == 300 and version == 2:
                log.append(event("rules.activated.v1", {"version": 3, "classes": []}))
        first = log.count("from")
        rows = [row for row in log.providers() if row.changed >= first]
        assert rows
        for place, kind in enumerate(("classes", "traits", "attributes")):
            names = {name for row in rows for name in names_of(row)[place]}
            assert log.count(kind) == len(names)
            assert all(log.count(f"{kind} {name}") > 0 for name in names)
        partition = log.state.get(PARTITION, PARTITION_KEY)
        assert partition is not None
        assert partition.rules_version == 3
