"""Whole devices: PCI devices, virtual functions, GPUs and FPGAs. A part of another device shares its fate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vacancy.clients.auditor.classes.class_auditor import Refused
from vacancy.clients.auditor.classes.device_class import (
    DeviceClassAuditor,
    Devices,
    NamedDevices,
    as_devices,
)
from vacancy.clients.auditor.classes.quantity import CountedStock


class WholeDevicesAuditor(DeviceClassAuditor):
    """A grant is a list of addresses. A device with functions is free only while all of these are, and they only
    while it is."""

    adds_up = True

    def takes_own_fields(self, address: str, device: dict[str, Any]) -> bool:
        parent = device.pop("parent", "")
        return isinstance(parent, str) and parent != address and len(parent) <= 200

    def check_devices(self, devices: Devices) -> None:
        parents = {address: device.get("parent") for address, device in devices.items()}
        if any(parents.get(parent) for parent in parents.values() if parent):
            raise Refused

    def attributes_of(self, address: str, devices: Devices) -> Mapping[str, Any]:
        attributes = super().attributes_of(address, devices)
        if not attributes.get("parent"):
            attributes = {name: value for name, value in attributes.items() if name != "parent"}
        if "dev_type" in attributes:
            return attributes
        has_parts = any(device.get("parent") == address for device in devices.values())
        of_type = "type-VF" if attributes.get("parent") else "type-PF" if has_parts else "type-PCI"
        return {**attributes, "dev_type": of_type}

    def counted(
        self, stock: CountedStock | NamedDevices | None, ask: Any, grant: Any | None
    ) -> Mapping[str, int] | None:
        """A device with functions counts as these."""
        devices = as_devices(stock.devices) if isinstance(stock, NamedDevices) else {}
        functions = Counter(device["parent"] for device in devices.values() if device.get("parent"))
        if grant is not None:
            return {"": sum(functions[one] or 1 for one in grant)}
        return None if functions else super().counted(stock, ask, grant)

    def is_unsure(self, stock: CountedStock | NamedDevices, held: Sequence[Any], used: int) -> bool:
        """Where devices were granted by number, or a held function that is not reported now may be one of a device."""
        if isinstance(stock, CountedStock):
            return False
        names = [name for grant in held for name in grant]
        return used > len(names) or not as_devices(stock.devices).keys() >= set(names)

    def most(
        self, devices: Devices, some: Sequence[str], fields: Mapping[str, Any], held: Sequence[Any]
    ) -> int:
        """Of a device with functions either it counts or those of its functions that are free, whichever are more."""
        taken = {address for grant in held for address in grant}
        split = {devices[one].get("parent") for one in taken if one in devices} - {"", None}
        parents = {device.get("parent") for device in devices.values()} - {"", None}
        free = {
            one
            for one in some
            if one not in taken and one not in split and devices[one].get("parent", "") not in taken
        }
        functions = free - parents
        whole = (free & parents) - {devices[one].get("parent") for one in functions}
        return len(functions) + len(whole)

    def share_errors(
        self, devices: Devices, fields: Mapping[str, Any], grant: Any, others: Sequence[Any]
    ) -> Iterable[str]:
        if len(set(grant)) != len(grant) or len(grant) != fields.get("count", 1):
            yield f"{grant} is not the number of devices that was asked for"
        taken = {address for other in others for address in other}
        for one in grant:
            parts = {part for part, device in devices.items() if device.get("parent") == one}
            if ({one, devices[one].get("parent")} | parts) & taken or parts & set(grant):
                yield f"{one} is not free"
