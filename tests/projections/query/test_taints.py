"""Candidates and taints: what repels a request, and what only puts a node behind others."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.support.logs.events_json import Tape, event, provider, reported
from tests.support.models.memory_fleets import Fleet
from tests.support.queries import constraints, explain, find
from vacancy.projections.query.order import Order
from vacancy.projections.ranking.orders import RANDOM, SIMPLE_ORDERS
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.request import RequestSpec, RequestSpecV2, oldest_form
from vacancy.resources.state.tables import PROVIDERS, key

CPU = {"groups": [{"resources": {"VCPU": 1}}]}


def spec(*tolerated: str, **fields: Any) -> RequestSpec:
    named = [dict(zip(("key", "value"), one.split("="), strict=False)) for one in tolerated]
    return oldest_form(RequestSpecV2.model_validate_json(json.dumps({**CPU, **fields, "tolerations": named})))


def taints(provider_: str, *said: str) -> bytes:
    """`dedicated=db`, or `~old` for one that only orders candidates."""
    named = []
    for one in said:
        name, _, value = one.removeprefix("~").partition("=")
        soft = {"effect": "prefer_no_schedule"} if one[0] == "~" else {}
        named.append({"key": name, "value": value, **soft})
    return event("facts.set.v2", {"provider": provider_, "revision": 1, "facts": {"taints": named}})


def fleet(*records: bytes) -> Fleet:
    tape = Tape(version=RULES_VERSIONS.newest.version)
    for record in records:
        tape.append(tape.cells[0], record)
    return Fleet(tape.records.values())


def roots(view: FleetView, wanted: RequestSpec, limit: int = 99, order: Order = RANDOM) -> list[str]:
    found = find(view, wanted, limit=limit, order=order, rng=np.random.default_rng(1))
    return [one.root for one in found]


def nodes(count: int) -> list[bytes]:
    return [reported(f"n{number}", [provider(f"n{number}", VCPU=8)]) for number in range(count)]


@pytest.mark.parametrize("order", SIMPLE_ORDERS.values(), ids=SIMPLE_ORDERS)
def test_every_taint_has_to_be_tolerated(order: Order) -> None:
    view = fleet(*nodes(4), taints("n1", "a=x"), taints("n2", "a=x", "b")).view()
    assert sorted(roots(view, spec(), order=order)) == ["n0", "n3"]
    assert sorted(roots(view, spec("a"), order=order)) == ["n0", "n1", "n3"]
    assert sorted(roots(view, spec("a=x", "b"), order=order)) == ["n0", "n1", "n2", "n3"]
    assert sorted(roots(view, spec("a=y", "b"), order=order)) == ["n0", "n3"]
    copies = spec("a=x", copies=3, copies_on="distinct")
    (one,) = find(view, copies, limit=1, order=order, rng=np.random.default_rng(1))
    assert sorted(copy.root for copy in one.copies) == ["n0", "n1", "n3"]
    assert roots(view, spec(copies=3, copies_on="distinct"), order=order) == []


@pytest.mark.parametrize("order", SIMPLE_ORDERS.values(), ids=SIMPLE_ORDERS)
@pytest.mark.parametrize("limit", [1, 2, 3, 9])
def test_what_prefers_others_comes_last(order: Order, limit: int) -> None:
    view = fleet(*nodes(4), taints("n1", "~old=x"), taints("n2", "~old", "hard")).view()
    found = roots(view, spec(), limit, order)
    assert set(found[:2]) <= {"n0", "n3"}
    assert found[2:] == ["n1"][: limit - 2 if limit > 2 else 0]
    tolerant = [roots(view, spec("old"), 1, order)[0] for _ in range(3)]
    assert set(tolerant) <= {"n0", "n1", "n3"}
    assert sorted(roots(view, spec("old", "hard"), 9, order)) == ["n0", "n1", "n2", "n3"]


def test_a_preferred_provider_of_a_tree_comes_before_the_others_of_it() -> None:
    parts = [provider("n"), *(provider(f"n:{number}", "n", CUSTOM_GPU=1) for number in range(3))]
    view = fleet(reported("n", parts), taints("n:0", "~old"), taints("n:2", "hard")).view()
    wanted = spec(groups=[{"name": "gpu", "resources": {"CUSTOM_GPU": 1}}])
    found = find(view, wanted, limit=9, order=RANDOM, rng=np.random.default_rng(1))
    assert [one.mappings["gpu"] for one in found] == [("n:1",), ("n:0",)]
    two = spec(groups=[{"name": name, "resources": {"CUSTOM_GPU": 1}} for name in "ab"])
    assert [one.root for one in find(view, two, limit=1, order=RANDOM, rng=np.random.default_rng(1))] == ["n"]


def test_a_sharing_provider_may_be_tainted_itself() -> None:
    shares = {"aggregates": ["s"]}
    records = [
        reported("n", [provider("n", VCPU=8)]),
        reported("pool", [provider("pool", traits=["MISC_SHARES_VIA_AGGREGATE"], DISK_GB=99)]),
        event("facts.set.v1", {"provider": "n", "revision": 1, "facts": shares}),
    ]
    wanted = {"groups": [{"same_provider": False, "resources": {"VCPU": 1, "DISK_GB": 1}}]}
    tainted = [{"key": "archive"}]
    for facts, found in ((shares, ["n"]), ({**shares, "taints": tainted}, [])):
        settings = event("facts.set.v2", {"provider": "pool", "revision": 1, "facts": facts})
        view = fleet(*records, settings).view()
        assert roots(view, spec(**wanted)) == found
        assert roots(view, spec("archive", **wanted)) == ["n"]


def test_a_view_follows_taints() -> None:
    """Loaded and fed views agree, while taints come and go, parts join, and rows are used again."""
    tape = Tape(version=RULES_VERSIONS.newest.version)
    steps = [
        *nodes(3),
        taints("n1", "a"),
        reported("n1", [provider("n1", VCPU=8), provider("n1:x", "n1", VCPU=4)], sequence=2),
        taints("n1:x", "b"),
        event("facts.set.v1", {"provider": "n1", "revision": 2, "facts": {}}),
        event("node.retired.v2", {"root": "n1", "incarnation": f"{1:016x}"}),
        reported("n9", [provider("n9", VCPU=8)]),
        taints("n0", "~c"),
        event("facts.set.v1", {"provider": "n0", "revision": 2, "facts": {}}),
    ]
    view = fleet().view()
    for step in steps:
        tape.append(tape.cells[0], step)
        loaded = Fleet(tape.records.values())
        state = loaded.states[0]
        fresh = loaded.view()
        view._read = fresh._read
        for table, name, data in state.items():
            if table in ("providers", "nodes", "VCPU"):
                view.feed(table, [name], [data])
        kept = {name for table, name, _ in state.items() if table == "providers"}
        gone = [name for name in view.row_of if name not in kept]
        view.feed("providers", gone, [None] * len(gone))
        for tolerated in ((), ("a",), ("a", "b"), ("b",)):
            assert sorted(roots(view, spec(*tolerated))) == sorted(roots(fresh, spec(*tolerated)))
    assert key(tape.cells[0], "n1") not in view.row_of
    assert PROVIDERS.name == "providers"
    assert view.taints.of_row == {}


def test_many_taints_are_explained_in_few_lines() -> None:
    records = [taints(f"n{number}", f"owner=team-{number}") for number in range(12)]
    view = fleet(*nodes(12), *records).view()
    answer = explain(view, spec())
    assert answer.left == 0
    texts = [one.constraint for one in answer.constraints if one.kind == "taint"]
    assert len(texts) == 9
    assert texts[-1] == "tolerates 4 other taints"
    assert len([one for part in constraints(view, spec("owner")).parts for one in part.conditions]) == 5
    assert explain(view, spec("owner")).left == 12
