"""The conditions of a group: named for people, and together what the filter says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from tests.projections.query.test_engine import specs
from tests.support.logs.events_json import Tape, provider, reported
from tests.support.models.memory_fleets import fleet_of, spec_of
from tests.support.queries import compiled
from tests.support.random_logs.strategies import logs
from vacancy.projections.query.conditions.filter import Filter, IndexedAttribute, Never, filter_of
from vacancy.projections.view.cache import REQUESTS_MAX
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.sharing import sharing_providers
from vacancy.resources.classes.resource_class import Term
from vacancy.resources.model.request import RequestSpec


def one_node() -> FleetView:
    tape = Tape()
    tape.append(tape.cells[0], reported("n1", [provider("n1", None, ["CUSTOM_A", "CUSTOM_B"], VCPU=8)]))
    return fleet_of(tape).view()


@pytest.mark.parametrize(
    ("said", "kind", "text", "holds"),
    [
        ({"required": ["CUSTOM_A"]}, "trait", "required trait CUSTOM_A", True),
        ({"required": ["CUSTOM_C"]}, "trait", "required trait CUSTOM_C", False),
        ({"forbidden": ["CUSTOM_A"]}, "forbidden_trait", "forbidden trait CUSTOM_A", False),
        ({"any_traits": [["CUSTOM_A", "CUSTOM_B"]]}, "trait", "required trait CUSTOM_A or CUSTOM_B", True),
        ({"any_traits": [["CUSTOM_A", "CUSTOM_C"]]}, "trait", "required trait CUSTOM_A or CUSTOM_C", True),
        ({"member_of": [["rack-1", "rack-2"]]}, "aggregate", "member of rack-1 or rack-2", False),
        ({"in_tree": "n1"}, "in_tree", "in tree of n1", True),
        ({"in_tree": "n2"}, "in_tree", "in tree of n2", False),
        ({"resources": {"VCPU": 9}}, "resources", "VCPU: free >= 9", False),
        ({"resources": {"VCPU": 8}}, "resources", "VCPU: step_size divides 8", True),
        ({"resources": {"DISK_GB": 1}}, "resources", "DISK_GB: any", False),
    ],
)
def test_each_says_what_it_asks_for(said: dict[str, Any], kind: str, text: str, holds: bool) -> None:
    view = one_node()
    found = Filter(view, spec_of({"resources": {"VCPU": 1}, **said}).groups[0])
    (one,) = [one for one in found.conditions if one.text == text]
    assert one.kind == kind
    assert one.holds(np.array([0])).tolist() == [holds]


def test_a_node_is_heard_or_it_is_not() -> None:
    view = one_node()
    heard_ms = int(view.heard_ms[0])
    for since_ms, holds in ((heard_ms, True), (heard_ms + 1, False)):
        one = Filter(view, spec_of({"VCPU": 1}).groups[0], heard_since_ms=since_ms).conditions[-1]
        assert one.kind == "heard"
        assert one.text.startswith("heard since 20")
        assert (one.asked, one.value(0)) == (since_ms, heard_ms)
        assert one.holds(np.array([0])).tolist() == [holds]


@settings(max_examples=100, deadline=None)
@given(logs(partitions=2, length=25), specs())
def test_together_they_say_what_the_filter_says(tape: Tape, spec: RequestSpec) -> None:
    view = fleet_of(tape).view()
    rows = np.arange(view.size)
    for group in spec.groups:
        made = Filter(view, group, heard_since_ms=tape.now_ms - 1)
        expected = view.open[: view.size].copy()
        for one in made.conditions:
            assert one.holds(slice(0, view.size)).tolist() == one.holds(rows).tolist()
            expected &= one.holds(rows)
        assert made.everywhere(view.open).tolist() == np.flatnonzero(expected).tolist()
        assert made.among(rows[::-1], view.open).tolist() == np.flatnonzero(expected)[::-1].tolist()
        assert made.impossible == any(isinstance(one, Never) for one in made.conditions)


def test_what_was_made_of_old_requests_is_forgotten_one_by_one() -> None:
    view = one_node()
    sharing = sharing_providers(view)
    requests = [compiled(spec_of({"resources": {"VCPU": n + 1}})) for n in range(REQUESTS_MAX + 9)]
    made = [filter_of(view, one) for one in requests]
    assert len(view.derived._of_requests) == REQUESTS_MAX
    assert sharing_providers(view) is sharing
    assert [filter_of(view, one) for one in requests[:10:-1]] == made[:10:-1]
    assert filter_of(view, requests[0]) is not made[0]


def test_requests_that_ask_for_the_same_share_a_filter() -> None:
    view = one_node()
    one, other = (compiled(spec_of({"VCPU": 1})) for _ in range(2))
    assert one.spec is not other.spec
    assert filter_of(view, one) is filter_of(view, other)
    assert filter_of(view, one) is not filter_of(view, one, cell="c0")


def test_of_an_index_the_rarest_term_is_asked_first_and_the_answer_is_the_same() -> None:
    rng = np.random.default_rng(1)
    columns = {name: rng.integers(0, high, 5_000) for name, high in (("a", 2), ("b", 400), ("c", 3))}
    for wanted in ((1, 399, 2), (0, 0, 0), (0, 399, 0), (2, 1, 1)):
        terms = [
            (Term(name, ">=", least), columns[name]) for name, least in zip(columns, wanted, strict=True)
        ]
        expected = np.logical_and.reduce([column >= term.value for term, column in terms])
        asked = IndexedAttribute("PCI_DEVICE", terms)
        assert asked.holds(slice(0, 5_000)).tolist() == expected.tolist()
        rows = rng.integers(0, 5_000, 300)
        assert asked.holds(rows).tolist() == expected[rows].tolist()
