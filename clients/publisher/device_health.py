"""Reports for logs whose rules do not know unhealthy devices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import JsonValue

from vacancy.resources.classes.resource_class import UNHEALTHY
from vacancy.resources.model.events import ProviderReport


def without_unhealthy(providers: Iterable[ProviderReport]) -> tuple[ProviderReport, ...]:
    """The providers without their unhealthy devices, and without the functions that go with these: earlier rules than version
    4 refuse an inventory that says that a device is unhealthy."""
    return tuple(
        provider.model_copy(
            update={
                "inventories": {name: _healthy(inventory) for name, inventory in provider.inventories.items()}
            }
        )
        if any(UNHEALTHY in inventory for inventory in provider.inventories.values())
        else provider
        for provider in providers
    )


def _healthy(inventory: Mapping[str, JsonValue]) -> dict[str, Any]:
    left: dict[str, Any] = dict(inventory)
    out, devices = left.pop(UNHEALTHY, None), left.get("devices")
    if not isinstance(out, Mapping) or not isinstance(devices, Mapping):
        return dict(inventory)
    parents = {name: of.get("parent") for name, of in devices.items() if isinstance(of, Mapping)}
    whole = {parents.get(name) for name in out}
    left["devices"] = {
        name: device
        for name, device in devices.items()
        if name not in out and name not in whole and parents.get(name) not in out
    }
    return left
