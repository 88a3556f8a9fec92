"""Queries write nothing: the view is bit for bit the same after any query, also after one that raises."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.projections.query.affinity.test_solver_relations import settled
from tests.support.logs.events_json import Tape, provider, reported
from tests.support.models.memory_fleets import fleet_of, spec_of
from tests.support.queries import compiled, constraints
from tests.support.random_fleets.relations import related
from vacancy.projections.diagnostics.node_report import report_node
from vacancy.projections.diagnostics.summary import explain
from vacancy.projections.query.affinity.engine import memberships_of
from vacancy.projections.query.budget import SearchBudget
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.engine import find
from vacancy.projections.query.order import Order
from vacancy.projections.ranking.fragmentation import LeastFragmentation
from vacancy.projections.ranking.orders import RANDOM, SIMPLE_ORDERS
from vacancy.projections.ranking.workload import Workload, tally
from vacancy.projections.view.columns import Floats, Ints
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.reserved_view import ReservedView
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.request import RequestSpec, RequestSpecV2, oldest_form

MEMOS = ("derived", "_tables", "_decoded", "_answers")
"""What is kept to save time only: see `view/cache.py`. Texts and rows that were decoded are of that kind, too, and which rows
repel a request."""

GPU = "CUSTOM_GPU"


def picture(value: Any) -> Any:
    """A value and all that it consists of, in a form that is equal only if all of it is; arrays by identity, too."""
    if isinstance(value, np.ndarray):
        return id(value), value.dtype.str, value.tobytes()
    if isinstance(value, dict):
        return [(picture(key), picture(one)) for key, one in value.items()]
    if isinstance(value, list | tuple):
        return [picture(one) for one in value]
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if type(value).__module__.startswith("vacancy.projections.view") and hasattr(value, "__dict__"):
        state = {name: one for name, one in vars(value).items() if name not in MEMOS}
        return type(value).__name__, id(value), picture(state)
    return value if isinstance(value, int | str | bytes | bool | None) else id(value)


class Failing(Order):
    """An order that fails when it has been asked some times."""

    name = "failing"

    def __init__(self, times: int) -> None:
        self.times = times

    def trees(self, view: FleetView, request: CompiledRequest, roots: Ints) -> Floats:
        self.times -= 1
        if self.times < 0:
            raise RuntimeError("the order failed")
        return np.zeros(len(roots))


def an_order(rng: random.Random) -> Order:
    orders = [*SIMPLE_ORDERS.values(), LeastFragmentation(workload()), Failing(rng.randint(0, 3))]
    return rng.choice(orders)


def workload() -> Workload:
    return tally([(spec_of({"VCPU": 1}, {GPU: 1}), 1), (spec_of({GPU: 3}), 2)], GPU)


def some_query(rng: random.Random, view: FleetView, spec: RequestSpec, cell: str) -> Callable[[], Any]:
    request = compiled(spec)
    if rng.random() < 0.1:
        return lambda: find(view, CompiledRequest(spec), limit=1, order=RANDOM, rng=np.random.default_rng(1))
    if rng.random() < 0.15:
        return lambda: explain(view, request)
    if rng.random() < 0.15:
        return lambda: report_node(view, constraints(view, spec), int(view.root[0]))
    budget = rng.choice((SearchBudget(), SearchBudget(rng.randint(0, 40), rng.randint(1, 10))))
    options: dict[str, Any] = {
        "limit": rng.choice((1, 3, 100)),
        "order": an_order(rng),
        "rng": np.random.default_rng(rng.randint(0, 9)),
        "heard_since_ms": rng.choice((None, None, 0, 2**50)),
        "cell": rng.choice((None, None, cell, "elsewhere")),
        "one_a_tree": rng.random() < 0.5,
        "budget": budget,
        "avoid": rng.choice(((), ("n0",), ("n1", "unknown"))),
    }
    return lambda: find(view, request, **options)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**9))
def test_a_view_is_the_same_after_any_query(seed: int) -> None:
    rng = random.Random(seed)
    random_fleet, fleet, _ = settled(rng)
    view = fleet.view()
    for _ in range(6):
        request = related(rng, random_fleet)
        copies = rng.choice((1, 1, 2, 3, 5))
        spec = oldest_form(RequestSpecV2.model_validate_json(json.dumps({**request, "copies": copies})))
        query = some_query(rng, view, spec, random_fleet.cell)
        before = picture(view)
        try:
            found = query()
        except (UsageError, RuntimeError):
            found = []
        assert picture(view) == before
        if isinstance(found, list) and found and rng.random() < 0.5:  # go on with claims under way
            for served in found[0].allocations:
                row = view.row_of[f"{found[0].cell}\0{served.provider}".encode()]
                for name, ask in served.resources.items():
                    view.reserve(row, name, ask)
            view.groups.reserve(memberships_of(view, spec, f"c{seed}", found[0]))


def test_the_picture_of_a_view_shows_each_change() -> None:
    """The test above could not fail if it did not."""
    tape = Tape()
    for node in ("n1", "n2"):
        tape.append(tape.cells[0], reported(node, [provider(node, None, ["CUSTOM_A"], VCPU=8)]))
    view = fleet_of(tape).view()
    before = picture(view)
    changes: list[Callable[[], Any]] = [
        lambda: view.reserve(0, "VCPU", 1),
        lambda: view.open.__setitem__(0, False),
        lambda: setattr(view, "open", view.open.copy()),
        lambda: np.asarray(view.traits.arrays["CUSTOM_A"]).__setitem__(1, False),
        lambda: setattr(view, "version", view.version + 1),
        lambda: view.classes["VCPU"].grow(5_000),
    ]
    for change in changes:
        change()
        after = picture(view)
        assert after != before
        before = after


@pytest.mark.parametrize("asks", [[{"VCPU": 3}, {"VCPU": 2}], [{"PORTS": {"ports": [80]}}, {"PORTS": 1}]])
def test_a_reserved_view_is_what_the_view_would_be(asks: list[dict[str, Any]]) -> None:
    tape = Tape()
    tape.append(tape.cells[0], reported("n1", [provider("n1", VCPU=8, PORTS={"ports": [80, 81, 82]})]))
    base, expected = fleet_of(tape).view(), fleet_of(tape).view()
    for view in (base, expected):
        view.reserve(0, "VCPU", 1)
        view.reserve(0, "PORTS", {"ports": [82]})
    untouched, reserved = picture(base), ReservedView(base)
    taken = []
    for ask in asks:
        for name, wanted in ask.items():
            reserved.reserve(0, name, wanted)
            taken.append(expected.reserve(0, name, wanted))
            assert state(reserved) == state(expected)
            assert picture(base) == untouched
    reserved.unreserve_all()
    assert state(reserved) == state(base)
    assert picture(base) == untouched


def state(view: FleetView) -> Any:
    """The columns and records of the first row."""
    columns = {
        name: {column: int(array[0]) for column, array in one.arrays.items()}
        for name, one in view.classes.items()
    }
    return columns, {name: view.record(0, name) for name in view.classes}
