"""The text and JSON of an inventory that is not published: `vacancy publish --dry-run`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vacancy.cli.output import attributes_text, emit, emit_json, emit_table

if TYPE_CHECKING:
    from vacancy.clients.publisher.host import HostInventory
    from vacancy.resources.model.events import ProviderReport


def show_inventory(node: str, inventory: HostInventory, *, as_json: bool) -> None:
    """Print the providers of a node, and what they leave out and why."""
    if as_json:
        providers = [provider.model_dump(mode="json") for provider in inventory.providers]
        emit_json({"node": node, "providers": providers, "remarks": inventory.remarks})
        return
    emit_table(("PROVIDER", "CLASS", "INVENTORY"), [row for one in inventory.providers for row in _rows(one)])
    for provider in inventory.providers:
        if provider.traits or provider.attributes:
            emit()
            emit(provider.id)
        if provider.traits:
            emit(f"  traits: {' '.join(provider.traits)}")
        if provider.attributes:
            emit(f"  attributes: {attributes_text(provider.attributes)}")
    if inventory.remarks:
        emit()
        emit_table(("SUBJECT", "OUTCOME", "REASON"), inventory.remarks)


def _rows(provider: ProviderReport) -> Iterator[tuple[str, str, str]]:
    """A row for each class, and for each device of a class of devices."""
    for name, inventory in provider.inventories.items():
        devices = inventory.get("devices")
        if isinstance(devices, dict):
            for address, attributes in devices.items():
                yield provider.id, name, f"{address} {_compact(attributes)}"
        else:
            yield provider.id, name, _compact(inventory)


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
