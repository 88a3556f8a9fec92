"""Requests with alternatives and preferred relations: what comes first, and what comes when that is full."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.support.logs.events_json import START_MS, Tape, claim, claims, provider, reported
from tests.support.models.memory_fleets import fleet_of
from tests.support.queries import explain, find
from vacancy.projections.query.budget import SearchBudget
from vacancy.projections.query.order import Order
from vacancy.projections.ranking.orders import SIMPLE_ORDERS
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.model.request import RequestSpecV2

ORDERS = pytest.mark.parametrize("order", SIMPLE_ORDERS.values(), ids=SIMPLE_ORDERS)
SEEDS = range(8)


def spec(**fields: Any) -> RequestSpecV2:
    return RequestSpecV2.model_validate_json(json.dumps(fields))


def devices(**each: dict[str, Any]) -> dict[str, Any]:
    return {"devices": {name.replace("_", ":"): about for name, about in each.items()}}


def ask(count: int = 1, **where: Any) -> dict[str, Any]:
    return {"count": count, "where": where}


def view_of(*reports: bytes, taken: tuple[bytes, ...] = ()) -> FleetView:
    tape = Tape()
    for record in (*reports, *taken):
        tape.append(tape.cells[0], record)
    return fleet_of(tape).view()


def two_cells(name: str = "n", held: int = 0) -> tuple[bytes, ...]:
    """A node with two NUMA cells of 4 VCPU; the GPU is in the second. `held`: VCPU of the second that are taken."""
    parts = [provider(name, MEMORY_MB=64), *(provider(f"{name}:{n}", name, VCPU=4) for n in range(2))]
    gpu = provider(f"{name}:gpu", f"{name}:1", PGPU=devices(a={}, b={}))
    told: tuple[bytes, ...] = (reported(name, [*parts, gpu]),)
    if held:
        told += (claims(claim("c0", "i0", f"{name}:1", {"VCPU": held}, START_MS + 60_000)),)
    return told


NEAR = {
    "groups": [{"name": "cpu", "resources": {"VCPU": 2}}, {"name": "gpu", "resources": {"PGPU": 1}}],
    "prefer_same_subtree": [["cpu", "gpu"]],
}


def cells_of(view: FleetView, order: Order, seed: int, limit: int = 1) -> list[str]:
    """The provider of the CPUs of each candidate."""
    found = find(view, spec(**NEAR), limit=limit, order=order, rng=np.random.default_rng(seed))
    return [one.mappings["cpu"][0] for one in found]


@ORDERS
def test_the_near_cell_comes_first_and_the_far_one_when_it_is_full(order: Order) -> None:
    free, full = view_of(*two_cells()), view_of(*two_cells(held=3))
    for seed in SEEDS:
        assert cells_of(free, order, seed) == ["n:1"]
        assert cells_of(full, order, seed) == ["n:0"]


@ORDERS
def test_a_node_where_it_is_near_comes_before_one_where_it_is_far(order: Order) -> None:
    view = view_of(*two_cells("a", held=3), *two_cells("b"), *two_cells("c"))
    for seed in SEEDS:
        first, second, third, *others = cells_of(view, order, seed, limit=9)
        assert {first, second} == {"b:1", "c:1"}
        assert third == "a:0"
        assert not others  # a node is a candidate by the first of its choices only


@ORDERS
def test_a_pair_of_vendor_and_product_is_not_mixed(order: Order) -> None:
    """Launchpad 2102038: with lists of vendors and of products, 8086:f001 was taken."""
    (first, second) = (ask(vendor="8086", product="f000"), ask(vendor="15b3", product="f001"))
    wanted = spec(
        groups=[{"resources": {"PCI_DEVICE": first}}],
        alternatives=[{"groups": [{"resources": {"PCI_DEVICE": second}}]}],
    )

    def node(name: str, **each: dict[str, Any]) -> bytes:
        return reported(name, [provider(name, PCI_DEVICE=devices(**each))])

    mixed = node("mixed", a={"vendor": "8086", "product": "f001"}, b={"vendor": "15b3", "product": "f000"})
    intel = node("intel", a={"vendor": "8086", "product": "f000"})
    nvidia = node("nvidia", a={"vendor": "15b3", "product": "f001"})
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        found = find(view_of(mixed, nvidia, intel), wanted, limit=9, order=order, rng=rng)
        assert [(one.root, one.choice) for one in found] == [("intel", 0), ("nvidia", 1)]
        assert [one.allocations[0].resources["PCI_DEVICE"] for one in found] == [first, second]
        assert find(view_of(mixed), wanted, limit=9, order=order, rng=rng) == []


@ORDERS
def test_one_large_gpu_or_else_two_small_ones(order: Order) -> None:
    """Another number of devices, and of groups, in each alternative."""
    cpu = {"resources": {"VCPU": 2}}
    wanted = spec(
        groups=[cpu, {"name": "gpu", "resources": {"PGPU": ask(model="B300")}}],
        alternatives=[
            {"groups": [cpu, {"name": "gpu", "resources": {"PGPU": ask(2, model="H200")}}]},
            {"groups": [{"resources": {"VCPU": 8}}]},
        ],
    )

    def node(name: str, *models: str, vcpu: int = 4) -> bytes:
        gpus = devices(**{f"g{n}": {"model": model} for n, model in enumerate(models)})
        return reported(name, [provider(name, VCPU=vcpu), provider(f"{name}:g", name, PGPU=gpus)])

    small, one, large = node("small", "H200", "H200"), node("one", "H200"), node("large", "B300", "H200")
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        found = find(view_of(small, one, large, node("cpus", vcpu=8)), wanted, limit=9, order=order, rng=rng)
        assert [(each.root, each.choice) for each in found] == [("large", 0), ("small", 1), ("cpus", 2)]
        (first,) = find(view_of(one, small), wanted, limit=1, order=order, rng=rng)
        assert first.root == "small"


def test_copies_are_all_of_one_alternative() -> None:
    wanted = spec(
        groups=[{"resources": {"CUSTOM_A": 1}}],
        copies=2,
        alternatives=[{"groups": [{"resources": {"VCPU": 1}}]}],
    )
    rng = np.random.default_rng(1)
    view = view_of(reported("a", [provider("a", CUSTOM_A=1, VCPU=1)]), reported("b", [provider("b", VCPU=1)]))
    (found,) = find(view, wanted, limit=9, order=SIMPLE_ORDERS["random"], rng=rng)
    assert found.choice == 1
    assert [one.resources for one in found.allocations] == [{"VCPU": 1}] * 2


def test_a_search_that_is_too_long_for_one_alternative_leaves_some_for_the_next() -> None:
    """The groups of the first choice are a puzzle without solution."""
    parts = [provider(f"n:{n}", "n", VCPU=7, CUSTOM_A=1) for n in range(12)]
    view = view_of(reported("n", [provider("n", CUSTOM_B=1), *parts]))
    puzzle = [{"name": f"g{n}", "resources": {"VCPU": 2 + n % 3, "CUSTOM_A": 1}} for n in range(13)]
    wanted = spec(groups=puzzle, alternatives=[{"groups": [{"resources": {"CUSTOM_B": 1}}]}])
    budget = SearchBudget(steps=50)
    rng = np.random.default_rng(1)
    found = find(view, wanted, limit=1, order=SIMPLE_ORDERS["pack"], rng=rng, budget=budget)
    assert [one.choice for one in found] == [1]


def test_an_explanation_says_of_each_alternative_what_removes_the_nodes() -> None:
    view = view_of(*two_cells(held=4))
    wanted = spec(
        groups=[{"name": "cpu", "resources": {"VCPU": 9}}, {"name": "gpu", "resources": {"PGPU": 1}}],
        prefer_same_subtree=[["cpu", "gpu"]],
        alternatives=[{"groups": [{"resources": {"PGPU": 3}}]}],
    )
    explanation = explain(view, wanted)
    assert [one.constraint for one in explanation.constraints if one.in_order] == ["VCPU: free >= 9"]
    (other,) = explanation.alternatives
    assert [one.constraint for one in other.constraints if one.in_order] == ["PGPU: free >= 3"]
