"""Requests with alternatives and preferred relations: what they stand for, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from vacancy.resources.model.request import RequestSpec, RequestSpecV2, choices_of, oldest_form, spec_bytes

JSON = dict[str, Any]
GPU: JSON = {"name": "gpu", "resources": {"PGPU": 1}}
CPU: JSON = {"name": "cpu", "resources": {"VCPU": 4}}


def spec(**fields: Any) -> RequestSpecV2:
    return RequestSpecV2.model_validate_json(json.dumps(fields))


def test_a_request_without_alternatives_stands_for_itself() -> None:
    one = RequestSpec.model_validate_json(json.dumps({"groups": [CPU]}))
    assert choices_of(one) == (one,)
    assert oldest_form(spec(groups=[CPU])) == one
    assert spec_bytes(spec(groups=[CPU])) == spec_bytes(one)


def test_alternatives_come_in_order_and_have_the_copies_and_server_groups_of_the_request() -> None:
    member = {"group": "c1/web", "policy": "anti-affinity"}
    found = spec(
        groups=[CPU], copies=2, memberships=[member], alternatives=[{"groups": [GPU], "root_required": ["A"]}]
    ).choices
    assert [[one.name for one in choice.groups] for choice in found] == [["cpu"], ["gpu"]]
    assert [choice.root_required for choice in found] == [(), ("A",)]
    assert {choice.copies for choice in found} == {2}
    assert {choice.memberships[0].group for choice in found} == {"c1/web"}
    assert all(type(choice) is RequestSpec for choice in found)


def test_each_alternative_comes_first_with_its_preferred_relations_and_then_without() -> None:
    other = {"groups": [GPU, {"name": "cpu", "resources": {"VCPU": 2}}]}
    lone = {"groups": [GPU]}
    found = spec(groups=[CPU, GPU], prefer_same_subtree=[["cpu", "gpu"]], alternatives=[other, lone]).choices
    assert [(len(choice.groups), choice.same_subtree) for choice in found] == [
        (2, (("cpu", "gpu"),)),
        (2, ()),
        (2, (("cpu", "gpu"),)),
        (2, ()),
        (1, ()),
    ]


def test_the_first_preference_counts_most_and_required_relations_stay() -> None:
    nic = {"name": "nic", "resources": {"VCPU": 1}}
    a, b, kept = ("cpu", "gpu"), ("cpu", "nic"), ("gpu", "nic")
    found = spec(groups=[CPU, GPU, nic], same_subtree=[kept], prefer_same_subtree=[a, b]).choices
    assert [choice.same_subtree for choice in found] == [(kept, a, b), (kept, a), (kept, b), (kept,)]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"alternatives": [{"groups": []}]}, "at least 1 item"),
        ({"alternatives": [{"groups": [CPU], "copies": 2}]}, "server groups or copies"),
        ({"alternatives": [{"groups": [CPU]}] * 9}, "at most 8 items"),
        ({"prefer_same_subtree": [["cpu"]]}, "fewer than two groups"),
        ({"prefer_same_subtree": [["cpu", "gpu"]]}, "are not groups of one alternative"),
        (
            {"copies": 64, "alternatives": [{"groups": [{**CPU, "name": f"g{n}"} for n in range(5)]}]},
            "320 alloc",
        ),
        ({"alternatives": [{"groups": [CPU], "alternatives": []}]}, "Extra inputs"),
    ],
)
def test_what_is_refused(fields: JSON, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        spec(groups=[CPU], **fields)
