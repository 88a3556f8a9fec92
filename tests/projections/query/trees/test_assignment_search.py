"""Requests that are hard to fit into a tree: decided where that is possible at all, and given up aloud where not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.logs.events_json import Tape, event, provider, reported
from tests.support.models.memory_fleets import fleet_of, spec_of
from tests.support.queries import find
from vacancy.projections.query.budget import QUERY_STEPS_MAX, SearchBudget
from vacancy.projections.query.model import Candidate
from vacancy.projections.ranking.orders import RANDOM
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.model.request import RequestGroup, RequestSpec


def fleet_with(parts: list[int], nodes: int = 1) -> FleetView:
    tape = Tape()
    for n in range(nodes):
        gpus = [provider(f"n{n}-{g}", f"n{n}", CUSTOM_GPU=size) for g, size in enumerate(parts)]
        tape.append(tape.cells[0], reported(f"n{n}", [provider(f"n{n}", VCPU=64), *gpus]))
    return fleet_of(tape).view()


def ask(view: FleetView, spec: RequestSpec, limit: int = 1, **more: Any) -> list[Candidate]:
    return find(view, spec, limit=limit, order=RANDOM, rng=np.random.default_rng(1), **more)


def gpus(*amounts: int, policy: str = "none") -> RequestSpec:
    return spec_of(*({"CUSTOM_GPU": amount} for amount in amounts), policy=policy)


@pytest.mark.parametrize(
    ("parts", "amounts", "fits"),
    [
        ([5] * 42, [3] * 42, True),
        ([5] * 42, [3] * 43, False),
        ([10] * 8, [6] * 8, True),
        ([10] * 8, [6] * 9, False),
        ([7] * 8, [4] * 8 + [3] * 8, True),
        ([7] * 8, [4] * 8 + [3] * 9, False),
        ([6] * 12, [3] * 12 + [2] * 18, True),
        ([6] * 12, [3] * 13 + [2] * 18, False),
        ([10, 10, 10], [7, 6, 5, 5, 4, 3], True),
        ([10, 10, 10], [7, 6, 5, 5, 4, 4], False),
    ],
)
def test_how_much_fits_is_decided(parts: list[int], amounts: list[int], fits: bool) -> None:
    budget = SearchBudget()
    found = ask(fleet_with(parts), gpus(*amounts), budget=budget)
    assert bool(found) == fits
    assert budget.gave_up == 0


def test_a_thousand_nodes_that_fail_alike_are_searched_once() -> None:
    view = fleet_with([7] * 8, nodes=300)
    budget = SearchBudget()
    assert not ask(view, gpus(*[4] * 8, *[3] * 9), budget=budget)
    assert budget.gave_up == 0


def test_ways_do_not_explode() -> None:
    """Six groups over eight children: 262,144 assignments in one tree; the query asks for ten."""
    view, spec = fleet_with([8] * 8), gpus(*[6] * 6)
    budget = SearchBudget()
    found = ask(view, spec, 10, budget=budget)
    assert 0 < QUERY_STEPS_MAX - budget.left < 1_000
    assert len({frozenset(one.mappings.values()) for one in found}) == 10
    assert (
        len(ask(view, spec, 1000)) == 28
    )  # eight choose six: which of the equal groups is where makes no other
    assert len(ask(view, spec, 1000, one_a_tree=True)) == 1


def test_a_search_that_is_given_up_says_so() -> None:
    """Even amounts in parts of odd size: one unit of each is lost, and too little is left, but that is not seen."""
    view = fleet_with([201] * 5, nodes=3)
    amounts = [*range(30, 68, 2), 90]
    assert 5 * 200 < sum(amounts) < 5 * 201
    budget = SearchBudget(steps=2_500, tree_steps=1_000)
    assert not ask(view, gpus(*amounts), budget=budget)
    assert budget.gave_up == 3


def test_a_pool_counts_once_and_lends_to_its_cell_only() -> None:
    tape = Tape(2)
    here, there = tape.cells[:2]
    for cell, n in ((here, 0), (here, 1), (there, 2)):
        tape.append(cell, reported(f"n{n}", [provider(f"n{n}", VCPU=8)]))
        facts = {"provider": f"n{n}", "revision": 1, "facts": {"aggregates": ["site"]}}
        tape.append(cell, event("facts.set.v1", facts))
    tape.append(here, reported("pool", [provider("pool", None, ["MISC_SHARES_VIA_AGGREGATE"], DISK_GB=10)]))
    tape.append(
        here, event("facts.set.v1", {"provider": "pool", "revision": 1, "facts": {"aggregates": ["site"]}})
    )
    view = fleet_of(tape).view()
    both = RequestSpec(groups=(RequestGroup(same_provider=False, resources={"VCPU": 1, "DISK_GB": 6}),))
    disk = RequestSpec(groups=(RequestGroup(same_provider=False, resources={"DISK_GB": 6}),))
    assert {one.root for one in ask(view, both, 9)} == {"n0", "n1"}
    assert [one.from_sharing for one in ask(view, both, 9)] == [("pool",), ("pool",)]
    assert len(ask(view, disk, 9)) == 1
    row = view.row_of[f"{here}\0pool".encode()]
    ours = view.reserve(row, "DISK_GB", 6)  # a claim of our own is under way
    assert not ask(view, both, 9)
    view.unreserve(ours)
    assert len(ask(view, both, 9)) == 2
