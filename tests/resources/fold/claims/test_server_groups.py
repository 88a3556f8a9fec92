"""Server groups: whatever races, no hard rule is broken, and the table says what the allocations say."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import START_MS, Tape, claim, claims, provider, reported
from tests.support.models.memory_state import MemoryState
from tests.support.random_logs.random_server_groups import CELL, Model, RandomServerGroupEvents, broken_rules
from tests.support.sites.temporary_stores import opened_store
from vacancy.clients.auditor import audit
from vacancy.projections.store.digest import as_scan, partition_digest
from vacancy.resources.fold.fold import fold
from vacancy.resources.model.request import RequestSpec
from vacancy.resources.model.server_group import MEMBERS_MAX, group_cell, group_name
from vacancy.resources.state.tables import GROUPS, VERDICTS

T = TypeVar("T")
MANY = settings(max_examples=150, deadline=None, derandomize=True)
SEEN: Counter[str] = Counter()


@st.composite
def worlds(draw: st.DrawFn, *, upheaval: bool, newest: bool = False) -> RandomServerGroupEvents:
    def pick(options: Sequence[T]) -> T:
        return options[draw(st.integers(0, len(options) - 1))]

    world = RandomServerGroupEvents(pick, upheaval=upheaval, newest=newest)
    for _ in range(draw(st.integers(5, 35))):
        world.step()
    return world


@MANY
@given(worlds(upheaval=False))
def test_no_hard_rule_is_ever_broken_and_the_table_is_what_the_allocations_say(
    world: RandomServerGroupEvents,
) -> None:
    model = Model()
    for record in world.tape.records[0]:
        model.fold(record)
        members = model.members()
        assert model.table() == members
        assert broken_rules(members, world.homes) == []
    SEEN.update(model.kinds)


@MANY
@given(worlds(upheaval=True))
def test_the_auditor_agrees_where_racks_change_and_parts_change_nodes(world: RandomServerGroupEvents) -> None:
    model = Model()
    for record in world.tape.records[0]:
        model.fold(record)
        assert model.table() == model.members()
    SEEN.update(model.kinds)
    report = audit({0: world.tape.records[0]}, model.verdicts)
    assert report.problems == []
    assert report.unverifiable == 0


@MANY
@given(worlds(upheaval=True, newest=True))
def test_the_auditor_agrees_where_groups_are_spread_and_nodes_close(world: RandomServerGroupEvents) -> None:
    model = Model()
    for record in world.tape.records[0]:
        model.fold(record)
        assert model.table() == model.members()
    SEEN.update(model.kinds)
    report = audit({0: world.tape.records[0]}, model.verdicts)
    assert report.problems == []
    assert report.unverifiable == 0


@settings(max_examples=30, deadline=None)
@given(worlds(upheaval=True))
def test_live_is_replayed(world: RandomServerGroupEvents) -> None:
    model, records = Model(), world.tape.records[0]
    for record in records:
        model.fold(record)
    with opened_store() as store:
        for at in range(0, len(records), 3):
            store.apply(0, records[at : at + 3])
        live = partition_digest(store.partition(0).scan, REGISTRY)
    assert live == partition_digest(as_scan(model.state.items), REGISTRY)


def test_enough_happened_to_tell() -> None:
    wanted = (
        "accepted",
        "affinity_broken",
        "anti_affinity_broken",
        "spread_broken",
        "no_spread_domain",
        "group_policy_differs",
        "group_in_other_cell",
    )
    assert [kind for kind in wanted if not SEEN[kind]] == []


def test_a_group_holds_so_many_and_no_more() -> None:
    tape = Tape()
    tape.append(CELL, reported("n0", [provider("n0", VCPU=10_000)]))
    for number in range(MEMBERS_MAX // 64 + 1):
        allocations = [{"provider": "n0", "resources": {"VCPU": 1}, "group": f"#{n}"} for n in range(64)]
        membership = {"group": f"{CELL}/crowd", "policy": "anti-affinity", "max_per_node": MEMBERS_MAX}
        bid = claim(
            f"c{number}", f"i{number}", "", {}, START_MS, allocations=allocations, memberships=[membership]
        )
        tape.append(CELL, claims(bid))
    state = MemoryState()
    for record in tape.records[0]:
        state.commit(fold(state, record, REGISTRY))
    told = state.get(VERDICTS, f"{CELL}\0c{MEMBERS_MAX // 64}".encode())
    assert told is not None
    assert (told.reason, told.asked, told.available) == ("group_full", 64, 0)
    row = state.get(GROUPS, f"{CELL}\0crowd".encode())
    assert row is not None
    assert sum(len(member.places) for member in row.members) == MEMBERS_MAX


# -- what cannot be meant ---------------------------------------------------------------------------------------

NEAR = {"group": "c/g", "policy": "affinity"}
APART = {"group": "c/g", "policy": "anti-affinity"}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"memberships": [NEAR, APART]}, "group c/g is named twice"),
        ({"memberships": [APART, APART]}, "group c/g is named twice"),
        ({"memberships": [NEAR, {**NEAR, "group": "d/g"}]}, "in cells c and d"),
        (
            {"memberships": [NEAR], "copies": 2, "copies_on": "distinct"},
            "distinct nodes cannot be on one node",
        ),
        ({"memberships": [{**NEAR, "max_per_node": 2}]}, "max_per_node is for anti-affinity"),
        ({"memberships": [{**APART, "max_per_node": 0}]}, "greater than or equal to 1"),
        ({"memberships": [{**APART, "group": "g"}]}, "should match pattern"),
        ({"memberships": [{**APART, "group": "c/"}]}, "should match pattern"),
        ({"memberships": [{**APART, "policy": "apart"}]}, "'affinity' or 'anti-affinity'"),
        ({"memberships": [{**APART, "group": f"c/g{n}"} for n in range(17)]}, "at most 16"),
        ({"copies": 0}, "greater than or equal to 1"),
        ({"copies": 65}, "less than or equal to 64"),
        ({"copies_on": "two"}, "'any' or 'distinct'"),
        (
            {"copies": 64, "groups": [{"name": str(n), "resources": {"VCPU": 1}} for n in range(5)]},
            "320 allocations, and a claim has 256",
        ),
    ],
)
def test_a_request_that_contradicts_itself_is_refused_with_the_reason(
    said: dict[str, object], told: str
) -> None:
    with pytest.raises(ValidationError) as error:
        RequestSpec.model_validate_json(json.dumps({"groups": [{"resources": {"VCPU": 1}}], **said}))
    assert told in str(error.value)


def test_a_cell_may_have_slashes_in_its_name() -> None:
    assert (group_cell("eu/west/web"), group_name("eu/west/web")) == ("eu/west", "web")
