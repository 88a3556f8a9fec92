"""Places beside others, apart from them, and for several copies: what is found is what the fold accepts."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import START_MS, Tape, claim, claims, event, provider, reported
from tests.support.models.memory_fleets import Fleet
from tests.support.queries import explain, find
from tests.support.random_logs.random_server_groups import CELL, RULES
from vacancy.projections.query.affinity.engine import memberships_of
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.model import Candidate
from vacancy.projections.query.order import Order
from vacancy.projections.ranking.orders import RANDOM, SIMPLE_ORDERS
from vacancy.projections.view.columns import Floats, Ints
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.fold.fold import fold
from vacancy.resources.model.request import RequestSpec
from vacancy.resources.state.tables import VERDICTS

RNG = np.random.default_rng(3)


class Cloud:
    """Nodes of one cell with a number of VCPU each, in racks, and who is on them."""

    def __init__(self, nodes: Mapping[str, int], racks: Mapping[str, str] | None = None) -> None:
        self.tape = Tape(2)
        self.cells = {CELL: nodes}
        for node, vcpus in nodes.items():
            self.add(CELL, node, vcpus)
        for node, rack in (racks or {}).items():
            facts = {"provider": node, "revision": 1, "facts": {"aggregates": [rack]}}
            self.tape.append(CELL, event("facts.set.v1", facts, node))
        self.numbers = itertools.count()

    def add(self, cell: str, node: str, vcpus: int) -> None:
        self.tape.append(cell, reported(node, [provider(node, VCPU=vcpus)]))

    def hold(self, node: str, group: str, rule: Mapping[str, Any]) -> str:
        id_ = f"i{next(self.numbers)}"
        bid = claim(id_, id_, node, {"VCPU": 1}, START_MS, memberships=[{"group": f"{CELL}/{group}", **rule}])
        self.tape.append(CELL, claims(bid))
        return id_

    @property
    def fleet(self) -> Fleet:
        return Fleet(self.tape.records.values())

    def view(self) -> FleetView:
        return self.fleet.view()

    def accepts(self, spec: RequestSpec, candidate: Candidate) -> str:
        """What the fold says of a claim of this candidate: '' where it is accepted."""
        allocations = [served._asdict() for served in candidate.allocations]
        memberships = [one.model_dump() for one in spec.memberships]
        bid = claim("new", "new", "", {}, START_MS, allocations=allocations, memberships=memberships)
        record = self.tape.append(candidate.cell, claims(bid))
        self.tape.records[record.partition].pop()
        changes = fold(self.fleet.states[record.partition], record, REGISTRY)
        verdict = changes[VERDICTS][f"{candidate.cell}\0new".encode()]
        return str(verdict.reason)


def spec(*memberships: Mapping[str, Any], vcpus: int = 1, **more: Any) -> RequestSpec:
    whole = {"groups": [{"resources": {"VCPU": vcpus}}], "memberships": memberships, **more}
    return RequestSpec.model_validate_json(json.dumps(whole))


def wanted(name: str, **more: Any) -> dict[str, Any]:
    return {"group": f"{CELL}/{name}", **RULES[name], **more}


def roots(view: FleetView, asked: RequestSpec, order: str = "random", limit: int = 10) -> list[str]:
    return [one.root for one in find(view, asked, limit=limit, order=SIMPLE_ORDERS[order], rng=RNG)]


def nodes_of(candidate: Candidate) -> list[str]:
    return sorted(served.provider for served in candidate.allocations)


FOUR = {"n0": 4, "n1": 4, "n2": 4, "n3": 4}
RACKS = {"n0": "rack-a", "n1": "rack-a", "n2": "rack-b"}


# -- one place ----------------------------------------------------------------------------------------------------


def test_hard_rules_leave_only_what_the_fold_accepts() -> None:
    cloud = Cloud(FOUR, RACKS)
    for node, name in (("n0", "near"), ("n1", "apart"), ("n2", "pairs"), ("n2", "cage"), ("n0", "racks")):
        cloud.hold(node, name, RULES[name])
    view = cloud.view()
    for name, expected in {
        "near": ["n0"],
        "apart": ["n0", "n2", "n3"],
        "pairs": ["n0", "n1", "n2", "n3"],
        "cage": ["n2"],
        "racks": ["n0", "n1", "n2", "n3"],
    }.items():
        assert sorted(roots(view, spec(wanted(name)))) == expected, name
    cloud.hold("n1", "racks", RULES["racks"])
    cloud.hold("n2", "pairs", RULES["pairs"])
    view = cloud.view()
    assert sorted(roots(view, spec(wanted("racks")))) == ["n2", "n3"]
    assert sorted(roots(view, spec(wanted("pairs")))) == ["n0", "n1", "n3"]
    assert roots(view, spec(wanted("near"), wanted("racks"))) == []


def test_after_a_search_all_is_open_again() -> None:
    cloud = Cloud(FOUR)
    cloud.hold("n0", "near", RULES["near"])
    view = cloud.view()
    before = view.open.copy()
    roots(view, spec(wanted("near")))
    roots(view, spec(wanted("apart"), copies=4))
    assert (view.open == before).all()
    assert not list(view.reservations)
    assert view.groups.reserved == {}


class _Unservable(Order):
    """Gives infinity to the first tree, as least_fragmentation does for trees that cannot serve a request."""

    name = "unservable"

    def trees(self, view: FleetView, request: CompiledRequest, roots: Ints) -> Floats:
        scores = np.arange(len(roots), dtype=float)
        scores[0] = np.inf
        return scores


def test_soft_rules_rank_trees_also_where_the_order_gives_infinity() -> None:
    cloud = Cloud({"n0": 8, "n1": 8, "n2": 8})
    cloud.hold("n1", "soft", {"policy": "anti-affinity", "hard": False})
    found = find(cloud.view(), spec(wanted("soft")), limit=3, order=_Unservable(), rng=RNG)
    assert [one.root for one in found] == ["n2", "n1", "n0"]


@pytest.mark.parametrize("order", SIMPLE_ORDERS)
def test_wishes_come_first_and_nobody_is_refused_for_them(order: str) -> None:
    cloud = Cloud({"n0": 9, "n1": 4, "n2": 5}, {"n0": "rack-a", "n1": "rack-a"})
    soft = {"policy": "anti-affinity", "hard": False}
    for node in ("n0", "n1", "n0"):
        cloud.hold(node, "soft", soft)
    assert roots(cloud.view(), spec(wanted("soft")), order) == ["n2", "n1", "n0"]
    near = {"policy": "affinity", "hard": False, "scope": "rack-"}
    cloud.hold("n0", "mates", near)
    found = roots(cloud.view(), spec({"group": f"{CELL}/mates", **near}), order)
    assert (sorted(found[:2]), found[2]) == (["n0", "n1"], "n2")
    assert sorted(roots(cloud.view(), spec({"group": f"{CELL}/new", **near}), order)) == ["n0", "n1", "n2"]


def test_only_the_cell_of_the_group_is_looked_at() -> None:
    cloud = Cloud(FOUR)
    other = next(cell for cell in cloud.tape.cells if cell != CELL)
    cloud.add(other, "far", 4)
    view = cloud.view()
    assert sorted(roots(view, spec(wanted("near")))) == list(FOUR)
    elsewhere = {"group": f"{other}/g", "policy": "affinity"}
    assert roots(view, spec(elsewhere)) == ["far"]
    assert roots(view, spec({"group": "nowhere/g", "policy": "affinity"})) == []
    found = find(view, spec(elsewhere), limit=9, order=RANDOM, rng=RNG, cell=CELL)
    assert found == []


def test_claims_under_way_count() -> None:
    view = Cloud(FOUR).view()
    for name, expected in (("near", 1), ("apart", 3)):
        asked = spec(wanted(name))
        (first,) = find(view, asked, limit=1, order=RANDOM, rng=RNG)
        under_way = memberships_of(view, asked, "me", first)
        view.groups.reserve(under_way)
        found = roots(view, asked)
        assert len(found) == expected
        assert (first.root in found) is (name == "near")
        view.groups.unreserve(under_way)
        assert len(roots(view, asked)) == 4


def test_why_nothing_was_found_names_groups_and_copies() -> None:
    cloud = Cloud(FOUR)
    for node in FOUR:
        cloud.hold(node, "apart", RULES["apart"])
    told = explain(cloud.view(), spec(wanted("apart")))
    assert told.left == 0
    assert {(one.constraint, one.in_order) for one in told.constraints if one.kind == "group"} == {
        (f"cell of group {CELL}/apart", 0),
        (f"anti-affinity to group {CELL}/apart", 4),
    }
    assert all(
        [one.constraint for one in tree.whole] == [f"anti-affinity to group {CELL}/apart"]
        for tree in told.nearest
    )
    told = explain(cloud.view(), spec(copies=13))
    assert (told.left, told.constraints[-1].constraint) == (0, "13 copies in one cell")
    assert explain(cloud.view(), spec(copies=12)).left == 4


# -- several copies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "places"),
    [
        ({"copies": 16}, 4),
        ({"copies": 17}, None),
        ({"copies": 4, "copies_on": "distinct"}, 4),
        ({"copies": 5, "copies_on": "distinct"}, None),
        ({"copies": 4, "memberships": [wanted("near")]}, 1),
        ({"copies": 5, "memberships": [wanted("near")]}, None),
        ({"copies": 8, "memberships": [wanted("cage")]}, 2),
        ({"copies": 9, "memberships": [wanted("cage")]}, None),
        ({"copies": 4, "memberships": [wanted("apart")]}, 4),
        ({"copies": 5, "memberships": [wanted("apart")]}, None),
        ({"copies": 8, "memberships": [wanted("pairs")]}, 4),
        ({"copies": 6, "memberships": [wanted("racks")]}, None),
        ({"copies": 16, "memberships": [wanted("soft")]}, 4),
    ],
)
def test_all_copies_or_none(more: dict[str, Any], places: int | None) -> None:
    racks = {**RACKS, "n3": "rack-b"}
    asked = spec(*more.pop("memberships", ()), **more)
    cloud = Cloud(FOUR, racks)
    found = find(cloud.view(), asked, limit=1, order=RANDOM, rng=RNG)
    if places is None:
        assert found == []
        return
    (one,) = found
    assert cloud.accepts(asked, one) == ""
    assert len(set(nodes_of(one))) == places
    assert [served.group for served in one.allocations] == [f"#{n}" for n in range(1, asked.copies + 1)]
    assert [copy.root for copy in one.copies] == [served.provider for served in one.allocations]
    assert {served.group for copy in one.copies for served in copy.allocations} == {""}


def test_copies_that_must_be_together_are_tried_elsewhere_where_the_first_place_is_too_small() -> None:
    nodes = {f"n{n}": 2 for n in range(30)} | {"big": 3}
    racks = {f"n{n}": f"rack-{n}" for n in range(30)} | {"big": "rack-big"}
    for name in ("near", "cage"):
        found = find(Cloud(nodes, racks).view(), spec(wanted(name), copies=3), limit=1, order=RANDOM, rng=RNG)
        assert [nodes_of(one) for one in found] == [["big"] * 3]


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_what_can_be_placed_is_found_and_accepted(data: st.DataObject) -> None:
    """Against all ways there are: small fleets, any members, any copies."""
    nodes = {f"n{n}": data.draw(st.integers(0, 3)) for n in range(4)}
    cloud = Cloud(nodes, {n: data.draw(st.sampled_from(["rack-a", "rack-b"])) for n in list(nodes)[:3]})
    names = data.draw(st.lists(st.sampled_from(list(RULES)), max_size=2, unique=True))
    for _ in range(data.draw(st.integers(0, 3))):
        name = data.draw(st.sampled_from(list(RULES)))
        cloud.hold(data.draw(st.sampled_from(list(nodes))), name, RULES[name])
    copies, on = data.draw(st.integers(1, 4)), data.draw(st.sampled_from(["any", "distinct"]))
    if "near" in names and copies > 1:
        on = "any"
    asked = spec(*map(wanted, names), copies=copies, copies_on=on)
    order = SIMPLE_ORDERS[data.draw(st.sampled_from(list(SIMPLE_ORDERS)))]
    found = find(cloud.view(), asked, limit=1, order=order, rng=RNG)
    possible = any(
        can_be(cloud, asked, way) for way in itertools.combinations_with_replacement(nodes, copies)
    )
    assert bool(found) == possible
    for one in found:
        assert cloud.accepts(asked, one) == ""


def can_be(cloud: Cloud, asked: RequestSpec, way: Sequence[str]) -> bool:
    if asked.copies_on == "distinct" and len(set(way)) < len(way):
        return False
    (example,) = find(Cloud({"x": 9}).view(), spec(), limit=1, order=RANDOM, rng=RNG)
    served = tuple(
        example.allocations[0]._replace(provider=node, group=f"#{number}") for number, node in enumerate(way)
    )
    return cloud.accepts(asked, example._replace(cell=CELL, allocations=served)) == ""
