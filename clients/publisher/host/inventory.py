"""Inventories of counted classes, in the format of node reports."""

from __future__ import annotations

from pydantic import JsonValue

Inventories = dict[str, dict[str, JsonValue]]


def offer(
    into: Inventories, name: str, total: int | None, *, reserved: int = 0, ratio_milli: int = 1000
) -> None:
    """Add an inventory of class `name`; do nothing if the total is 0 or unknown.

    `reserved` is limited to the total: then the node has the class but offers nothing of it.
    """
    if not total or total < 0:
        return
    inventory: dict[str, JsonValue] = {"total": total, "max_unit": total}
    if reserved > 0:
        inventory["reserved"] = min(reserved, total)
    if ratio_milli != 1000:
        inventory["allocation_ratio_milli"] = ratio_milli
    into[name] = inventory
