"""Answers that differed from real Placement's in runs with random requests, or that say more than Placement's."""

from __future__ import annotations

from tests.placement_api.api_process import api_process


def test_an_inventory_that_is_there_is_named() -> None:
    """Placement answers with the text of its SQL here, and this API once answered "Update conflict: None"."""
    one = "6d2f2a3b-9b53-4f2c-8f7e-6f1e3a0f2b11"
    path = f"/resource_providers/{one}/inventories"
    body = {"resource_provider_generation": 0, "resource_class": "VCPU", "total": 1}
    with api_process("sqlite") as api:
        assert api.request("POST", "/resource_providers", {"name": "a", "uuid": one}).status == 200
        assert api.request("POST", path, body).status == 201
        answer = api.request("POST", path, body)
    assert answer.status == 409
    detail = answer.body["errors"][0]["detail"]
    assert f"Update conflict: resource provider {one} has an inventory of VCPU already" in detail
    assert answer.body["errors"][0]["code"] == "placement.concurrent_update"
