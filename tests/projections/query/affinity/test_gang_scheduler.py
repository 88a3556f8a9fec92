"""Copies where it matters which is placed where: each of these was once missed, or offered and then rejected."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from msgspec import to_builtins

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import START_MS, Tape, event, provider, reported
from tests.support.models.memory_fleets import Fleet
from tests.support.queries import compiled, find
from tests.support.random_fleets.fleets import SHARES, bid
from vacancy.clients.scheduler.claims import predicates
from vacancy.projections.query.affinity import gang_search
from vacancy.projections.query.affinity.occupancy import occupancy_of
from vacancy.projections.query.budget import SearchBudget
from vacancy.projections.query.model import Candidate
from vacancy.projections.ranking.orders import SIMPLE_ORDERS
from vacancy.resources.fold.fold import fold
from vacancy.resources.model.record import Record
from vacancy.resources.model.request import RequestSpec
from vacancy.resources.state.tables import PROVIDERS, VERDICTS, key

NEAR = {"group": "near", "policy": "affinity"}
RACK = {"group": "rack", "policy": "affinity", "scope": "rack-"}
RACKS = {"group": "racks", "policy": "anti-affinity", "scope": "rack-"}
ROWS = {"group": "rows", "policy": "anti-affinity", "scope": "row-"}


class Site:
    """Providers of one cell: VCPU, aggregates and, after a `+`, sharing; `a/b` is b below a."""

    def __init__(self, providers: Mapping[str, tuple[int, str]]) -> None:
        self.tape = Tape()
        self.cell = self.tape.cells[0]
        trees: dict[str, list[Any]] = {}
        for name, (vcpus, _) in providers.items():
            root, _, child = name.rstrip("+").partition("/")
            traits = [SHARES] if name.endswith("+") else []
            amounts = {"VCPU": vcpus} if vcpus else {}
            part = provider(child or root, root if child else None, traits, **amounts)
            trees.setdefault(root, []).append(part)
        for root, parts in trees.items():
            self.tape.append(self.cell, reported(root, parts))
        for number, (name, (_, aggregates)) in enumerate(providers.items()):
            id_ = name.rstrip("+").rpartition("/")[2]
            facts = {"provider": id_, "revision": 1, "facts": {"aggregates": sorted(aggregates.split())}}
            self.tape.append(self.cell, event("facts.set.v1", facts, f"f{number}"))

    def member(self, consumer: str, rule: Mapping[str, Any], *ids: str) -> None:
        parts = [{"provider": id_, "resources": {"VCPU": 1}} for id_ in ids]
        self.tape.append(self.cell, bid(consumer, consumer, parts, memberships=[self._rule(rule)]))

    def spec(
        self, *rules: Mapping[str, Any], groups: Sequence[Any] = ({"resources": {"VCPU": 1}},), **more: Any
    ) -> RequestSpec:
        whole = {"groups": groups, "memberships": [self._rule(rule) for rule in rules], **more}
        return RequestSpec.model_validate_json(json.dumps(whole))

    def _rule(self, rule: Mapping[str, Any]) -> dict[str, Any]:
        return {**rule, "group": f"{self.cell}/{rule['group']}"}

    def found(self, spec: RequestSpec, seed: int) -> list[Candidate]:
        """What is found in some order; the fold accepts it."""
        fleet = Fleet(self.tape.records.values())
        view, budget = fleet.view(), SearchBudget()
        order = SIMPLE_ORDERS[sorted(SIMPLE_ORDERS)[seed % len(SIMPLE_ORDERS)]]
        rng = np.random.default_rng(seed)
        found = find(view, spec, limit=9, order=order, rng=rng, budget=budget)
        assert not budget.gave_up
        for one in found:
            parts = [served._asdict() for served in one.allocations if served.resources]
            rules = [rule.model_dump() for rule in spec.memberships]
            claim = bid(
                "c",
                "me",
                parts,
                predicates=to_builtins(predicates(compiled(spec), one, view)),
                memberships=rules,
            )
            record = Record(0, len(self.tape.records[0]), START_MS, self.cell.encode(), claim)
            verdict = fold(fleet.states[0], record, REGISTRY)[VERDICTS][key(self.cell, "c")]
            assert verdict.accepted, verdict
        return found

    def places(self, spec: RequestSpec) -> set[str]:
        """All sets of providers found in thirty tries; a try that finds nothing is ''."""
        places: set[str] = set()
        for seed in range(30):
            found = self.found(spec, seed)
            places |= {" ".join(sorted(served.provider for served in one.allocations)) for one in found}
            places |= set() if found else {""}
        return places


def test_copies_in_one_rack_where_a_node_is_in_two() -> None:
    """The first copy on the node in both does not make the two racks one."""
    site = Site({"a": (1, "rack-1 rack-2"), "b": (1, "rack-1"), "c": (1, "rack-2")})
    assert site.places(site.spec(RACK, copies=3)) == {""}
    assert site.places(site.spec(RACK, copies=2)) == {"a b", "a c"}


def test_copies_near_members_are_not_near_because_of_each_other() -> None:
    site = Site({"a": (2, "rack-1"), "b": (1, "rack-1 rack-2"), "c": (3, "rack-2")})
    site.member("m", RACK, "a")
    assert site.places(site.spec(RACK, copies=2)) == {"a b"}
    assert site.places(site.spec(RACK, copies=3)) == {""}


def test_a_node_too_small_does_not_rule_out_its_rack() -> None:
    nodes = {f"n{number}": (1, "rack-1") for number in range(9)}
    site = Site(nodes | {"big": (2, "rack-1")})
    assert site.places(site.spec(NEAR, RACK, copies=2)) == {"big big"}
    # Of devices no column says how often an ask fits.
    devices = Site({})
    for root, count in (("x", 1), ("y", 2), ("z", 1)):
        said: dict[str, Any] = {"devices": {str(number): {} for number in range(count)}}
        devices.tape.append(devices.cell, reported(root, [provider(root, PCI_DEVICE=said)]))
        facts = {"provider": root, "revision": 1, "facts": {"aggregates": ["rack-1"]}}
        devices.tape.append(devices.cell, event("facts.set.v1", facts, root))
    spec = devices.spec(NEAR, RACK, copies=2, groups=[{"resources": {"PCI_DEVICE": {"count": 1}}}])
    assert devices.places(spec) == {"y y"}


def test_copies_apart_by_racks_where_a_node_is_in_two() -> None:
    site = Site({"a": (1, "rack-1 rack-2"), "b": (1, "rack-1"), "c": (1, "rack-2")})
    assert site.places(site.spec(RACKS, copies=2)) == {"b c"}


def test_copies_apart_by_racks_and_by_rows() -> None:
    site = Site({"a": (1, "rack-1 row-1"), "b": (1, "rack-1 row-2"), "c": (1, "rack-2 row-1")})
    assert site.places(site.spec(RACKS, ROWS, copies=2)) == {"b c"}


def test_copies_of_several_groups_find_the_arrangement_that_fits() -> None:
    """Two copies of 2 and 3 on providers of 4 and 6: best fit puts the first 3 on the 4."""
    site = Site({"n": (0, ""), "n/x": (4, ""), "n/y": (6, "")})
    groups = [{"name": "s", "resources": {"VCPU": 2}}, {"name": "l", "resources": {"VCPU": 3}}]
    assert site.places(site.spec(groups=groups, copies=2)) == {"x x y y"}
    assert site.places(site.spec(groups=groups, copies=3)) == {""}


def test_copies_that_only_borrow_are_where_the_lender_is() -> None:
    """Only the pool has any: so both copies are in the pool, for any consumer."""
    site = Site({"a": (0, "x"), "b": (0, "x"), "pool+": (4, "x rack-1"), "far+": (1, "x rack-2")})
    spread = [{"resources": {"VCPU": 1}, "same_provider": False}]
    assert site.places(site.spec(groups=spread, copies=2, copies_on="distinct")) == {"far pool"}
    assert site.places(site.spec(NEAR, groups=spread, copies=2)) == {"pool pool"}
    site.member("m", RACKS, "pool")
    assert site.places(site.spec(RACKS, groups=spread)) == {"far"}
    assert site.places(site.spec(RACKS, groups=spread, copies=2)) == {""}


def test_one_copy_of_two_pools_is_in_both() -> None:
    site = Site({"a": (0, "x y"), "left+": (1, "x rack-1"), "right+": (1, "y rack-2")})
    groups = [{"name": str(number), "resources": {"VCPU": 1}} for number in range(2)]
    assert site.places(site.spec(groups=groups)) == {"left right"}
    assert site.places(site.spec(RACK, groups=groups)) == {""}


def test_a_node_of_which_nothing_is_taken_may_be_anywhere() -> None:
    site = Site({"a": (1, "x"), "b": (1, "x"), "pool+": (3, "x")})
    site.member("m", {**NEAR, "policy": "anti-affinity"}, "a")
    site.member("o", {**NEAR, "policy": "anti-affinity"}, "b")
    groups = [{"name": "g", "resources": {"VCPU": 1}}, {"name": "t", "member_of": [["x"]]}]
    assert "a pool" in site.places(site.spec({**NEAR, "policy": "anti-affinity"}, groups=groups))


def test_what_cannot_be_tried_to_the_end_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site({f"n{number}": (1, f"rack-{number} rack-{number + 1}") for number in range(8)})
    monkeypatch.setattr(gang_search, "TRIALS_MAX", 20)
    view, budget = Fleet(site.tape.records.values()).view(), SearchBudget()
    spec = site.spec(RACKS, copies=5)
    order, rng = SIMPLE_ORDERS["random"], np.random.default_rng(1)
    assert find(view, spec, limit=1, order=order, rng=rng, budget=budget) == []
    assert budget.gave_up == 1
    monkeypatch.undo()
    budget = SearchBudget()
    assert find(view, spec, limit=1, order=order, rng=rng, budget=budget) == []
    assert budget.gave_up == 0


def test_whether_racks_overlap_is_remembered_until_one_changes() -> None:
    site = Site({"a": (1, "rack-1"), "b": (1, "rack-1"), "c": (1, "rack-2")})
    fleet = Fleet(site.tape.records.values())
    view = fleet.view()
    crowd = occupancy_of(view, site.spec(RACKS).memberships[0])
    assert not crowd.overlaps()
    facts = {"provider": "a", "revision": 2, "facts": {"aggregates": ["rack-1", "rack-2"]}}
    changes = fold(fleet.states[0], site.tape.append(site.cell, event("facts.set.v1", facts, "g")), REGISTRY)
    at = key(site.cell, "a")
    view.feed(PROVIDERS.name, [at], [PROVIDERS.encode(changes[PROVIDERS][at])])
    assert crowd.overlaps()
    for number in range(100):
        assert not occupancy_of(view, site.spec({**RACKS, "scope": f"{number}-"}).memberships[0]).overlaps()
    assert crowd.overlaps()
