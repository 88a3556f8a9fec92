"""Weighers: numbers of nodes, brought to one scale, added to an order."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import Tape, provider, reported
from tests.support.models.memory_fleets import fleet_of
from tests.support.queries import find
from vacancy.clients.request_language.expressions.weigher_syntax import compile_weigher, weighed
from vacancy.clients.scheduler.order_names import order_named
from vacancy.projections.ranking.node_weights import normalised, weights
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.request import RequestSpec

AGES = (3, 1, None, 5)


@pytest.fixture(scope="module")
def view() -> FleetView:
    """Nodes n0 to n3 with 10, 20, 30 and 40 cores, n3 with 5 in a part below it; of other ages."""
    tape = Tape()
    for number, age in enumerate(AGES):
        node = provider(f"n{number}", None, ["CUSTOM_RED"] if number == 1 else [], VCPU=10 * (number + 1))
        node["attributes"] = {} if age is None else {"age": age}
        parts = [provider("n3-a", "n3", VCPU=5)] if number == 3 else []
        tape.append(tape.cells[0], reported(f"n{number}", [node, *parts]))
    return fleet_of(tape).view()


def of_nodes(view: FleetView, text: str) -> list[float]:
    roots = np.array(
        [next(r for k, r in view.row_of.items() if k.endswith(f"\0n{n}".encode())) for n in range(4)]
    )
    return [round(float(one), 6) for one in weights(view, roots, compile_weigher(text, REGISTRY))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("VCPU.free", [0, 10 / 35, 20 / 35, 1]),  # n3 has 45, with its part
        ("2.5:VCPU.capacity", [0, 25 / 35, 50 / 35, 2.5]),
        ("-1:VCPU.free", [0, -10 / 35, -20 / 35, -1]),
        ("attributes.age", [0.5, 0, 0, 1]),  # n2 has none: it weighs as the least
        ("-attributes.age", [0.5, 1, 0, 0]),
        (
            "60 / (attributes.age - 1)",
            [1, 0, 0, 0],
        ),  # 30, divided by 0, not there, 15: the least that is there
        ("12.0 / attributes.age", [round((4 - 2.4) / 9.6, 6), 1, 0, 0]),
        ('"CUSTOM_RED" in traits ? 1 : 0', [0, 1, 0, 0]),
        ("attributes.age > 2 && VCPU.free > 10 ? VCPU.free : 0", [0, 0, 0, 1]),
        ("7", [0, 0, 0, 0]),
        ("0:VCPU.free", [0, 0, 0, 0]),
        ("MEMORY_MB.free", [0, 0, 0, 0]),  # nobody has any
        ("attributes.nothing", [0, 0, 0, 0]),
        ("VCPU.free * VCPU.free - 100", [0, round(300 / 1925, 6), round(800 / 1925, 6), 1]),
    ],
)
def test_weights_are_brought_to_one_scale(view: FleetView, text: str, expected: list[float]) -> None:
    assert of_nodes(view, text) == [round(one, 6) for one in expected]


def first(view: FleetView, order: str, *weighers: str, **group: Any) -> list[str]:
    document = {"groups": [{"resources": {"VCPU": 1}, **group}]}
    spec = RequestSpec.model_validate_json(json.dumps(document))
    chosen = weighed(order_named(order), weighers, REGISTRY)
    found = find(view, spec, limit=10, order=chosen, rng=np.random.default_rng(1))
    return list(dict.fromkeys(one.root for one in found))


def test_they_order_what_matches(view: FleetView) -> None:
    assert first(view, "random", "VCPU.free") == ["n3", "n2", "n1", "n0"]
    assert first(view, "random", "-1:VCPU.free") == ["n0", "n1", "n2", "n3"]
    assert first(view, "random", "attributes.age", "0.001:VCPU.free") == ["n3", "n0", "n2", "n1"]
    assert first(view, "spread", "-2:VCPU.free") == ["n0", "n1", "n2", "n3"]
    assert first(view, "spread", "-0.1:VCPU.free") == ["n3", "n2", "n1", "n0"]
    assert first(view, "random", "VCPU.free", required=["CUSTOM_RED"]) == ["n1"]
    assert weighed(order_named("pack"), (), REGISTRY) is order_named("pack")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the expression is empty"),
        ("1:", "the expression is empty"),
        ('"a"', "this is not a number"),
        ("VCPU.free >= 4", "this is not a number"),
        ("VCPU.free % 2", "this is not a number"),
        ("true", "this is not a number"),
        ("cores", "this is not a number"),
        ("VCPU.left", "VCPU has no column left"),
        ("attributes.Cores", "this can name no attribute"),
        ('attributes.a >= "b" ? 1 : 2', "text has no order"),
        ("10000000:VCPU.free", "a multiplier is too large"),
        ("1" + "0" * 400, "this number is too large"),
        ("-" * 100 + "1", "more than 32 deep"),
    ],
)
def test_what_is_no_number_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        compile_weigher(text, REGISTRY)


def test_too_many_are_refused() -> None:
    with pytest.raises(UsageError, match="17 weighers are too many"):
        weighed(order_named("random"), ["VCPU.free"] * 17, REGISTRY)


@given(arrays.arrays(np.float64, st.integers(0, 6), elements=st.floats()))
def test_whatever_is_measured_it_weighs_from_0_to_1(values: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    found = normalised(values)
    assert ((found >= 0) & (found <= 1)).all()
    known = np.isfinite(values)
    assert (found[~known] == 0).all()
    if known.any() and values[known].max() > values[known].min():
        assert found[known].max() == 1
        assert found[values == values[known].min()].max() == 0
