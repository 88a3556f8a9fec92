"""The limits that rules version 3 sets to one record: to claims, releases and deadlines."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.logs.events_json import (
    START_MS,
    cells_of,
    claim,
    claims,
    event,
    opened,
    provider,
    released,
    reported,
)
from tests.support.models.memory_state import MemoryState
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.fold import fold
from vacancy.resources.model.limits import LIMITS_3, NAMED_PART_WEIGHT
from vacancy.resources.model.record import Record
from vacancy.resources.state.rows import AllocationRow, ProviderRow, VerdictRow
from vacancy.resources.state.tables import (
    ALLOCATIONS,
    DEAD_LETTERS,
    DEADLINES,
    PROVIDERS,
    VERDICTS,
    key,
    split_deadline,
)

CELL = cells_of(1)[0]
DEADLINE_MS = START_MS + 60_000
NO_TRAIT = {"provider": "n1", "kind": "trait", "value": "CUSTOM_NONE", "negate": True}


class Cell:
    """One cell, folded in memory under one version of the rules."""

    def __init__(self, version: int = 3) -> None:
        self.state, self.registry = MemoryState(), Registry()
        self.offset, self.now_ms = 0, START_MS
        self.fold(opened(classes=(), version=version))

    def fold(self, value: bytes) -> list[str]:
        """Fold a record. Returns the reasons of its dead letters."""
        changes = fold(self.state, Record(0, self.offset, self.now_ms, CELL.encode(), value), self.registry)
        self.state.commit(changes)
        self.offset += 1
        return [row.reason for row in changes.get(DEAD_LETTERS, {}).values() if row is not None]

    def verdict(self, id_: str) -> VerdictRow | None:
        return self.state.get(VERDICTS, key(CELL, id_))

    def reason(self, id_: str) -> str:
        """How a claim was judged: the reason of its rejection, or `accepted`."""
        verdict = self.verdict(id_)
        assert verdict is not None
        return verdict.reason or "accepted"

    def allocation(self, consumer: str) -> AllocationRow | None:
        return self.state.get(ALLOCATIONS, key(CELL, consumer))

    def provider(self, id_: str) -> ProviderRow | None:
        return self.state.get(PROVIDERS, key(CELL, id_))

    def waiting(self, kind: bytes) -> int:
        """How many deadlines of that kind there are."""
        return sum(
            split_deadline(row_key)[1] == kind
            for family, row_key, _ in self.state.items()
            if family == DEADLINES.family
        )


@pytest.fixture
def cell() -> Cell:
    made = Cell()
    made.fold(reported("n1", [provider("n1", VCPU=10**6, MEMORY_MB=10**6)]))
    return made


def one(number: int, **more: Any) -> dict[str, Any]:
    return claim(f"c{number}", f"i{number}", "n1", {"VCPU": 1}, DEADLINE_MS, **more)


def parts(number: int, count: int) -> dict[str, Any]:
    """A claim of that many parts."""
    allocations = [{"provider": "n1", "resources": {"VCPU": 1}, "group": str(n)} for n in range(count)]
    return claim(f"c{number}", f"i{number}", "", {}, DEADLINE_MS, allocations=allocations)


# -- before anything is judged --------------------------------------------------------------------------------


def test_a_record_of_too_many_marks_is_refused_before_it_is_parsed(cell: Cell) -> None:
    body = b"[" + b"," * LIMITS_3.record_marks + b"]"
    assert cell.fold(body) == [
        "the record has 262,145 marks (, : [ {), and rules version 3 allows 262,144 a record"
    ]
    assert "Invalid JSON" in cell.fold(body[1:])[0]
    assert "Invalid JSON" in Cell(2).fold(body)[0]


@pytest.mark.parametrize(
    ("what", "most", "more"),
    [
        ("predicates", 1_024, lambda count: {"predicates": [NO_TRAIT] * count}),
        (
            "asks",
            2_048,
            lambda count: {
                "allocations": [{"provider": "n1", "resources": {f"CUSTOM_{n}": 1 for n in range(count)}}]
            },
        ),
    ],
)
def test_what_all_claims_of_a_record_ask_for_is_limited(what: str, most: int, more: Any) -> None:
    for version in (2, 3):
        cell = Cell(version)
        assert cell.fold(claims(one(1, **more(most // 2)), one(2, **more(most - most // 2)))) == []
        refused = cell.fold(claims(one(3, **more(most // 2 + 1)), one(4, **more(most // 2))))
        text = f"the record has {most + 1:,} {what}, and rules version 3 allows {most:,} a record"
        assert refused == ([text] if version == 3 else [])
        assert (cell.verdict("c3") is None) == (version == 3), "no claim of the record is judged"


def test_the_memberships_of_a_record_are_limited(cell: Cell) -> None:
    def member(number: int, count: int) -> dict[str, Any]:
        groups = [{"group": f"{CELL}/g{n}", "policy": "affinity", "hard": False} for n in range(count)]
        return one(number, memberships=groups)

    assert cell.fold(claims(*(member(n, 16) for n in range(8)))) == []
    assert cell.fold(claims(*(member(n, 16) for n in range(10, 18)), member(20, 1))) == [
        "the record has 129 memberships in server groups, and rules version 3 allows 128 a record"
    ]


def test_an_inventory_of_too_many_devices_is_refused(cell: Cell) -> None:
    def devices(count: int) -> bytes:
        inventory: dict[str, Any] = {"devices": {f"d{n}": {} for n in range(count)}}
        return reported("n2", [provider("n2", PCI_DEVICE=inventory)], sequence=count)

    assert cell.fold(devices(512)) == []
    assert cell.fold(devices(513)) == [
        "provider n2: PCI_DEVICE: the inventory has 513 items, and rules version 3 allows 512"
    ]


# -- claims ---------------------------------------------------------------------------------------------------


def test_claims_that_would_read_too_much_are_rejected_and_may_come_again(cell: Cell) -> None:
    for number in range(20):
        inventory: dict[str, Any] = {"devices": {f"d{n}": {} for n in range(512)}}
        cell.fold(reported(f"g{number}", [provider(f"g{number}", PCI_DEVICE=inventory)]))
    bids = [claim(f"c{n}", f"i{n}", f"g{n}", {"PCI_DEVICE": 1}, DEADLINE_MS) for n in range(20)]
    cell.fold(claims(*bids))
    judged = [cell.reason(f"c{n}") for n in range(20)]
    assert judged == ["accepted"] * 16 + ["record_full"] * 4
    full = cell.verdict("c16")
    assert full is not None
    assert (full.asked, full.available) == (17 * 512, LIMITS_3.claim_reads)
    cell.fold(claims(*({**bid, "id": f"again-{n}"} for n, bid in enumerate(bids[16:]))))
    assert [cell.reason(f"again-{n}") for n in range(4)] == ["accepted"] * 4


def test_a_server_group_whose_members_name_too_many_providers_is_full(cell: Cell) -> None:
    names = [f"n1-{n}" for n in range(255)]
    cell.fold(
        reported("n1", [provider("n1"), *(provider(id_, "n1", VCPU=1000) for id_ in names)], sequence=2)
    )
    group = [{"group": f"{CELL}/g", "policy": "anti-affinity", "max_per_node": 1024}]

    def member(number: int, providers: int) -> dict[str, Any]:
        places = [
            {"provider": id_, "resources": {"VCPU": 1}, "group": str(n)}
            for n, id_ in enumerate(names[:providers])
        ]
        return claim(f"c{number}", f"i{number}", "", {}, DEADLINE_MS, allocations=places, memberships=group)

    for number in range(16):
        assert cell.fold(claims(member(number, 255))) == []
    cell.fold(claims(member(16, 17), member(17, 16), member(18, 1)))
    assert [cell.reason(f"c{n}") for n in range(15, 19)] == [
        *("accepted", "group_full", "accepted", "group_full")
    ]
    full = cell.verdict("c16")
    assert full is not None
    assert (full.asked, full.available) == (17, 16)


def test_a_replacement_names_the_claim_that_it_replaces(cell: Cell) -> None:
    cell.fold(claims(one(1)))
    bid = claim("c2", "i1", "n1", {"VCPU": 2}, DEADLINE_MS, consumer_generation=1)
    (refused,) = cell.fold(event("consumer.replaced.v1", bid))
    assert "use vacancy.consumer.replaced.v2" in refused
    assert "replaces: Field required" in cell.fold(event("consumer.replaced.v2", bid))[0]
    cell.fold(event("consumer.replaced.v2", {**bid, "replaces": "guessed"}))
    assert cell.reason("c2") == "consumer_changed"
    cell.fold(event("consumer.replaced.v2", {**bid, "id": "c3", "replaces": "c1"}))
    assert cell.reason("c3") == "accepted"
    held = cell.allocation("i1")
    assert held is not None
    assert (held.claim, held.generation) == ("c3", 2)
    assert cell.fold(event("consumer.replaced.v2", {**bid, "id": "c3", "replaces": "c1"})) == []
    (other,) = cell.fold(event("consumer.replaced.v2", {**bid, "id": "c3", "replaces": "c2"}))
    assert "was made before with other content" in other


def test_older_rules_have_the_older_replacement_only() -> None:
    cell = Cell(2)
    cell.fold(reported("n1", [provider("n1", VCPU=8)]))
    cell.fold(claims(one(1)))
    bid = claim("c2", "i1", "n1", {"VCPU": 2}, DEADLINE_MS, consumer_generation=1)
    assert (
        "no event of the log's rules"
        in cell.fold(event("consumer.replaced.v2", {**bid, "replaces": "c1"}))[0]
    )
    assert cell.fold(event("consumer.replaced.v1", bid)) == []
    assert cell.reason("c2") == "accepted"


# -- releases -------------------------------------------------------------------------------------------------


def release_of(*consumers: int) -> bytes:
    them = [{"consumer": f"i{n}", "claim": f"c{n}"} for n in consumers]
    return event("consumers.released.v1", {"releases": them})


def test_the_releases_of_a_record_give_back_a_limited_number_of_parts(cell: Cell) -> None:
    for number in range(10):
        cell.fold(claims(parts(number, 256)))
    refused = cell.fold(release_of(*range(10)))
    assert refused == [
        f"releasing i{number} would make the record give back 2,304 parts of allocations, and rules version 3 allows"
        " 2,048 a record: release it with another record"
        for number in (8, 9)
    ]
    assert [cell.allocation(f"i{n}") is None for n in range(10)] == [True] * 8 + [False] * 2
    assert cell.fold(release_of(8, 9)) == []
    assert cell.allocation("i9") is None


def test_a_small_release_after_a_refused_one_is_applied(cell: Cell) -> None:
    for number, count in enumerate([256] * 7 + [255, 256, 1]):
        cell.fold(claims(parts(number, count)))
    assert len(cell.fold(release_of(*range(10)))) == 1
    assert [n for n in range(10) if cell.allocation(f"i{n}")] == [8]


def test_a_part_that_was_granted_by_name_counts_as_many(cell: Cell) -> None:
    inventory: dict[str, Any] = {"devices": {f"d{n}": {} for n in range(100)}}
    cell.fold(reported("n2", [provider("n2", PCI_DEVICE=inventory)]))
    for number in range(40):
        cell.fold(claims(claim(f"c{number}", f"i{number}", "n2", {"PCI_DEVICE": 1}, DEADLINE_MS)))
    refused = cell.fold(release_of(*range(40)))
    assert len(refused) == 40 - LIMITS_3.released_parts // NAMED_PART_WEIGHT


# -- deadlines ------------------------------------------------------------------------------------------------


def test_a_limited_number_of_deadlines_ends_at_a_record_and_the_others_at_the_next(cell: Cell) -> None:
    for first in range(0, 1_280, 64):
        holds = (one(n, hold_until_ms=START_MS + 1_000 + n) for n in range(first, first + 64))
        cell.fold(claims(*holds))
    cell.now_ms = START_MS + 50_000
    counts = []
    for _ in range(4):
        cell.fold(event("tick.v1", {}))
        counts.append(cell.waiting(b"H"))
    assert counts == [1_280 - 512, 1_280 - 1_024, 0, 0], "a hold of one part is two units"
    assert [cell.allocation(f"i{n}") for n in range(1_280)] == [None] * 1_280


def test_the_deadlines_end_in_their_order_and_the_one_that_reaches_the_limit_ends(cell: Cell) -> None:
    for number in range(9):
        cell.fold(claims({**parts(number, 255), "hold_until_ms": START_MS + 9_000 - number}))
    cell.now_ms = START_MS + 50_000
    cell.fold(released("nobody", "nothing"))
    assert [n for n in range(9) if cell.allocation(f"i{n}")] == [0, 1, 2, 3, 4]
    cell.fold(claims(one(10)))
    assert [n for n in range(11) if cell.allocation(f"i{n}")] == [0, 10]


def test_all_end_at_once_under_older_rules() -> None:
    cell = Cell(2)
    cell.fold(reported("n1", [provider("n1", VCPU=10**6)]))
    for first in range(0, 1_280, 64):
        cell.fold(claims(*(one(n, hold_until_ms=START_MS + 1_000) for n in range(first, first + 64))))
    cell.now_ms = START_MS + 50_000
    cell.fold(event("tick.v1", {}))
    assert cell.waiting(b"H") == 0


# -- validation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2, 3])
def test_many_errors_are_reported_as_the_first_of_them(version: int) -> None:
    cell = Cell(version)
    wrong = {**provider("n1"), **{f"x{n}": n for n in range(1_000)}}
    assert cell.fold(reported("n1", [wrong])) == [
        "data.providers.0.x0: Extra inputs are not permitted, got '0'"
    ]
    traits = {**provider("n1"), "traits": ["GOOD", *["bad"] * 1_000]}
    (reason,) = cell.fold(reported("n1", [traits]))
    assert reason.startswith("data.providers.0.traits.1: String should match pattern")
    classes = {**provider("n1"), "inventories": {f"bad{n}": {} for n in range(1_000)}}
    (reason,) = cell.fold(reported("n1", [classes]))
    assert reason.startswith("data.providers.0.inventories.bad0.[key]: String should match pattern")
    assert reason.endswith("got 'bad0'")


def test_a_list_that_is_too_long_and_wrong_is_too_long_under_older_rules() -> None:
    value = claims(json.loads("{}"), *(one(n) for n in range(65)))
    assert "at most 64 items" in Cell(2).fold(value)[0]
    assert Cell(3).fold(value) == ["data.claims.0.id: Field required"]
