"""What the auditor takes for an inventory, an operator's facts and a tree; anything else is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from vacancy.clients.auditor.event_schema import INTEGER_MAX

TOTAL_MAX = INTEGER_MAX // 100
RATIO_MILLI_MAX = 100_000
STANDARD_CLASSES = frozenset(
    {
        "VCPU",
        "MEMORY_MB",
        "DISK_GB",
        "PCI_DEVICE",
        "SRIOV_NET_VF",
        "NUMA_SOCKET",
        "NUMA_CORE",
        "NUMA_THREAD",
        "NUMA_MEMORY_MB",
        "IPV4_ADDRESS",
        "VGPU",
        "VGPU_DISPLAY_HEAD",
        "NET_BW_EGR_KILOBIT_PER_SEC",
        "NET_BW_IGR_KILOBIT_PER_SEC",
        "PCPU",
        "MEM_ENCRYPTION_CONTEXT",
        "FPGA",
        "PGPU",
        "NET_PACKET_RATE_KILOPACKET_PER_SEC",
        "NET_PACKET_RATE_EGR_KILOPACKET_PER_SEC",
        "NET_PACKET_RATE_IGR_KILOPACKET_PER_SEC",
        "GPU_SHARE",
        "NUMA_CELL",
    }
)
"""Those of the rules, version 1."""

_LIMITS = {
    "total": (0, TOTAL_MAX),
    "reserved": (0, TOTAL_MAX),
    "min_unit": (1, INTEGER_MAX),
    "max_unit": (1, INTEGER_MAX),
    "step_size": (1, INTEGER_MAX),
    "allocation_ratio_milli": (1, RATIO_MILLI_MAX),
}


class Refused(Exception):
    """The rules make this event a dead letter: nothing of it counts."""


class Stock(NamedTuple):
    """An inventory as reported. Not `listed`: the node no longer has it, and someone still holds some."""

    total: int
    reserved: int
    min_unit: int
    max_unit: int
    step_size: int
    ratio_milli: int
    listed: bool = True
    opaque: bool = False
    devices: str = ""
    """Devices with names, or a NUMA cell, as JSON; such an inventory is opaque where amounts are summed up."""

    def withdrawn(self) -> Stock:
        """What stays of it once it is no longer listed and someone holds some."""
        return self._replace(total=0, reserved=0, listed=False, devices=self.devices and "{}")


class AuditedSettings(NamedTuple):
    """What the operator says of a provider. `overrides`: class -> (reserved, ratio), each None if not said."""

    revision: int = 0
    enabled: bool = True
    aggregates: frozenset[str] = frozenset()
    traits: frozenset[str] = frozenset()
    overrides: Mapping[str, tuple[int | None, int | None]] = {}
    attributes: Mapping[str, Any] = {}


NO_FACTS = AuditedSettings()


def read_stock(inventory: Mapping[str, Any]) -> Stock:
    """An inventory as reported. Raises `Refused`."""
    if "total" not in inventory or not all(_is_within(*said) for said in inventory.items()):
        raise Refused
    total = inventory["total"]
    max_unit = inventory.get("max_unit")
    stock = Stock(
        total,
        inventory.get("reserved", 0),
        inventory.get("min_unit", 1),
        total if max_unit is None else max_unit,
        inventory.get("step_size", 1),
        inventory.get("allocation_ratio_milli", 1000),
    )
    if stock.reserved > total or (total and stock.min_unit > stock.max_unit):
        raise Refused
    return stock


def read_settings(data: Mapping[str, Any], knows: Callable[[str], bool]) -> AuditedSettings:
    """The facts that are set. Raises `Refused` where they override what is unknown or out of range."""
    facts = data["facts"]
    overrides = {}
    for name, override in facts.get("overrides", {}).items():
        said = {limit: value for limit, value in override.items() if value is not None}
        if not knows(name) or not override.keys() <= {"reserved", "allocation_ratio_milli"}:
            raise Refused
        if override and name in ("GPU_SHARE", "NUMA_CELL"):
            raise Refused
        if not all(_is_within(*one) for one in said.items()):
            raise Refused
        overrides[name] = said.get("reserved"), said.get("allocation_ratio_milli")
    return AuditedSettings(
        data["revision"],
        facts.get("status", "enabled") == "enabled",
        frozenset(facts.get("aggregates", ())),
        frozenset(facts.get("traits", ())),
        overrides,
        facts.get("attributes", {}),
    )


def _is_within(name: str, value: Any) -> bool:
    if name not in _LIMITS:
        return False
    low, high = _LIMITS[name]
    return (name == "max_unit" and value is None) or (type(value) is int and low <= value <= high)


def check_tree(root: str, parents: Mapping[str, str | None]) -> None:
    """One root, every parent known, no cycle: everybody reaches the root in at most so many steps."""
    if parents.get(root, "") is not None:
        raise Refused
    sound = {root}
    for id_ in parents:
        path = [id_]
        while path[-1] not in sound:
            parent = parents.get(path[-1])
            if parent is None or parent in path:
                raise Refused
            path.append(parent)
        sound.update(path)


def check_types(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Within a life of its node an attribute keeps its type. Raises `Refused`."""
    if any(type(old.get(name, value)) is not type(value) for name, value in new.items()):
        raise Refused


def typed(attributes: Mapping[str, Any]) -> frozenset[tuple[str, str, Any]]:
    """Attributes to be compared: 1 is not true."""
    return frozenset((name, type(value).__name__, value) for name, value in attributes.items())
