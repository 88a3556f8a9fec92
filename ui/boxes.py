"""Pictures of records: one box for each CPU of a NUMA cell, one line for each device, and who holds it.

It looks at the fields of a record, not at the name of its class: so classes of plugins with such fields get pictures as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vacancy.clients.inspection.answers import (
    ExcludedAnswer,
    HoldingAnswer,
    InventoryAnswer,
    ProviderAnswer,
    TreeAnswer,
)

Use = Literal["free", "used", "shared", "reserved"]


@dataclass(frozen=True, slots=True)
class CpuBox:
    """One CPU. `holder` is the consumer that it is pinned for, or ''."""

    cpu: int
    use: Use
    holder: str


@dataclass(frozen=True, slots=True)
class DeviceBox:
    """One device. `out` is why nobody gets it, or ''. `holders` are the consumers that hold it or a part of it."""

    name: str
    details: str
    holders: list[str]
    out: str


@dataclass(frozen=True, slots=True)
class Amount:
    """The bar of one inventory: shares of the whole bar in percent, and the numbers beside it."""

    resource_class: str
    total: int
    reserved: int
    capacity: int
    used: int
    free: int
    used_percent: float
    reserved_percent: float
    ratio: float
    limits: dict[str, int]


@dataclass(frozen=True, slots=True)
class ProviderPicture:
    """One provider of a tree. `depth` is 0 for the root."""

    provider: ProviderAnswer
    depth: int
    amounts: list[Amount]
    cores: list[tuple[str, list[list[CpuBox]]]]
    devices: list[tuple[str, list[DeviceBox]]]


def pictures(tree: TreeAnswer) -> list[ProviderPicture]:
    """The providers of a tree, a parent before its children."""
    depths: dict[str, int] = {}
    held_of, out_of = defaultdict(list), defaultdict(list)
    for held in tree.holdings:
        held_of[held.provider].append(held)
    for device in tree.excluded:
        out_of[device.provider].append(device)
    found = []
    for one in tree.providers:
        depths[one.id] = depths.get(one.parent or "", -1) + 1
        holdings, out = held_of[one.id], out_of[one.id]
        found.append(
            ProviderPicture(
                one,
                depths[one.id],
                [amount(inventory) for inventory in one.inventories],
                [
                    (inventory.resource_class, _cores(inventory, holdings))
                    for inventory in one.inventories
                    if _has_cores(inventory.record)
                ],
                [
                    (inventory.resource_class, list(_devices(inventory, holdings, out)))
                    for inventory in one.inventories
                    if isinstance(inventory.record.get("items"), list | tuple)
                    and (inventory.record["items"] or inventory.record.get("withheld"))
                ],
            )
        )
    return found


def _has_cores(record: Mapping[str, Any]) -> bool:
    """Whether it says which CPUs are on which core: lists of numbers. A class of a plugin may mean something else by `cores`."""
    cores = record.get("cores")
    return isinstance(cores, list | tuple) and all(isinstance(one, list | tuple) for one in cores)


def amount(inventory: InventoryAnswer) -> Amount:
    """The bar of an inventory: what is used, and what is reserved, of all there is."""
    record = inventory.record
    total = record.get("total", inventory.capacity)
    reserved = record.get("reserved", 0)
    total = total if isinstance(total, int) else inventory.capacity
    reserved = reserved if isinstance(reserved, int) else 0
    override = record.get("reserved_override", -1)
    reserved = override if isinstance(override, int) and override >= 0 else reserved
    ratio = inventory.capacity / (total - reserved) if total > reserved and inventory.capacity else 1.0
    whole = max(inventory.capacity + reserved * ratio, inventory.used, 1)
    return Amount(
        inventory.resource_class,
        total,
        reserved,
        inventory.capacity,
        inventory.used,
        inventory.free,
        round(100 * inventory.used / whole, 2),
        round(100 * reserved * ratio / whole, 2),
        round(ratio, 3),
        inventory.limits,
    )


def _cores(inventory: InventoryAnswer, holdings: Iterable[HoldingAnswer]) -> list[list[CpuBox]]:
    record = inventory.record
    holders = {
        cpu: held.consumer
        for held in holdings
        if held.resource_class == inventory.resource_class and isinstance(held.grant, Mapping)
        for cpu in held.grant.get("cpus", ())
    }
    used, shared, reserved = (set(record.get(name, ())) for name in ("used", "shared", "reserved"))

    def box(cpu: int) -> CpuBox:
        if cpu in holders or cpu in used:
            return CpuBox(cpu, "used", holders.get(cpu, ""))
        use: Use = "reserved" if cpu in reserved else "shared" if cpu in shared else "free"
        return CpuBox(cpu, use, "")

    return [[box(cpu) for cpu in core] for core in record["cores"]]


def _devices(
    inventory: InventoryAnswer, holdings: Sequence[HoldingAnswer], out: Iterable[ExcludedAnswer]
) -> Iterator[DeviceBox]:
    mine = [one for one in holdings if one.resource_class == inventory.resource_class]
    reasons = {
        one.name: f"{'disabled' if one.by == 'operator' else 'unhealthy'}{f': {one.reason}' if one.reason else ''}"
        for one in out
        if one.resource_class == inventory.resource_class
    }
    seen = set()
    for item in (*inventory.record["items"], *(inventory.record.get("withheld") or ())):
        name = str(item[0] if isinstance(item, list | tuple) and item else item)
        if name in seen:
            continue
        seen.add(name)
        holders = sorted({one.consumer for one in mine if _names(one.grant, name)})
        yield DeviceBox(name, _details(item), holders, reasons.get(name, ""))


def _details(item: Any) -> str:
    """The attributes of a device as text."""
    if not isinstance(item, list | tuple) or len(item) < 2 or not isinstance(item[1], list | tuple):
        return ""
    shown = []
    for one in item[1]:
        if isinstance(one, list | tuple) and len(one) >= 2:
            value = one[-1]
            shown.append(f"{one[0]} {value}")
    return ", ".join(shown)


def _names(grant: Any, name: str) -> bool:
    """Whether a grant names a device, wherever in it."""
    if isinstance(grant, str):
        return grant == name
    if isinstance(grant, Mapping):
        return name in grant or any(_names(one, name) for one in grant.values())
    return isinstance(grant, list | tuple) and any(_names(one, name) for one in grant)
