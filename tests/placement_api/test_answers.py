"""Answers that differed from real Placement's in runs with random requests, or that say more than Placement's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.placement_api.api_process import Api, api_process

ONE = "6d2f2a3b-9b53-4f2c-8f7e-6f1e3a0f2b11"


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    """With one provider that has no inventory."""
    with api_process("sqlite") as found:
        assert found.request("POST", "/resource_providers", {"name": "a", "uuid": ONE}).status == 200
        yield found


def inventories_of(api: Api) -> Any:
    return api.request("GET", f"/resource_providers/{ONE}/inventories").body


@pytest.mark.parametrize("inventory", [1, None, [], "x", {}, {"total": "x"}, {"total": 1, "step_size": None}])
def test_an_inventory_under_an_impossible_name_is_checked(api: Api, inventory: Any) -> None:
    """Placement answers 500."""
    before = inventories_of(api)
    generation = before["resource_provider_generation"]
    all_ = {"resource_provider_generation": generation, "inventories": {"a": inventory}}
    assert api.request("PUT", f"/resource_providers/{ONE}/inventories", all_).status == 400
    body = {"inventories": {ONE: all_}, "allocations": {}}
    assert api.request("POST", "/reshaper", body).status == 400
    assert inventories_of(api) == before


def test_a_complete_inventory_under_an_impossible_name_has_an_unknown_class(api: Api) -> None:
    """As Placement answers it."""
    all_ = {"resource_provider_generation": 0, "inventories": {"a": {"total": 1}}}
    answer = api.request("PUT", f"/resource_providers/{ONE}/inventories", all_)
    assert (answer.status, "No such resource class a" in answer.body["errors"][0]["detail"]) == (400, True)


def test_an_inventory_that_is_there_is_named(api: Api) -> None:
    """Placement answers with the text of its SQL here, and this API once answered "Update conflict: None"."""
    path = f"/resource_providers/{ONE}/inventories"
    body = {"resource_provider_generation": 0, "resource_class": "VCPU", "total": 1}
    assert api.request("POST", path, body).status == 201
    answer = api.request("POST", path, body)
    assert answer.status == 409
    detail = answer.body["errors"][0]["detail"]
    assert f"Update conflict: resource provider {ONE} has an inventory of VCPU already" in detail
    assert answer.body["errors"][0]["code"] == "placement.concurrent_update"


def test_a_filter_after_one_that_leaves_no_provider_is_not_looked_at(api: Api) -> None:
    """As Placement answers it: an unknown name is refused only where it is looked up."""
    aggregate = "member_of=7f2b1c58-6a9b-4f0e-9a51-0d7c3e8f4a22"
    for query, status in (
        ("required=CUSTOM_NOBODY", 400),
        (f"required=CUSTOM_NOBODY&{aggregate}", 400),
        (f"required=!CUSTOM_NOBODY&{aggregate}", 400),
        ("required=HW_CPU_X86_AVX,!CUSTOM_NOBODY", 200),
        (f"resources=CUSTOM_NOBODY:1&{aggregate}", 200),
        ("resources=CUSTOM_NOBODY:1", 400),
    ):
        assert api.request("GET", f"/resource_providers?{query}").status == status, query


@pytest.mark.parametrize("kind", ["placement", "sqlite"])
def test_a_reshape_names_all_classes_that_a_provider_lacks(kind: str) -> None:
    consumer = {
        "allocations": {ONE: {"resources": {"DISK_GB": 1, "VGPU": 1}}},
        "consumer_generation": None,
        "consumer_type": "INSTANCE",
        "project_id": "p",
        "user_id": "u",
    }
    with api_process(kind) as found:
        assert found.request("POST", "/resource_providers", {"name": "a", "uuid": ONE}).status == 200
        all_ = {"resource_provider_generation": 0, "inventories": {"VCPU": {"total": 1}}}
        body = {"inventories": {ONE: all_}, "allocations": {ONE: consumer}}
        answer = found.request("POST", "/reshaper", body)
    assert answer.status == 409
    detail = answer.body["errors"][0]["detail"]
    assert re.search(
        rf"Inventory for '(DISK_GB, VGPU|VGPU, DISK_GB)' on resource provider '{ONE}' invalid", detail
    )
