"""PCI devices that can be passed through to an instance: GPUs, accelerators, coprocessors, network cards, NVMe disks.

They are all PCI_DEVICE, each identified by its address. Devices that the host itself uses are not offered: passing
through the card of the node's own traffic, or the disk that it runs from, would break the node. Neither is the display of
its console.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from pydantic import JsonValue

from vacancy.clients.publisher.host.devices.device_rules import NO_RULES, DeviceRule, DeviceRules
from vacancy.clients.publisher.host.files import entries, link_name, read_int, read_text
from vacancy.clients.publisher.host.remarks import NOT_OFFERED, Remark
from vacancy.resources.classes.devices.device_class import DEVICES_MAX

Kind = Literal["display", "accelerator", "coprocessor", "network", "nvme", "other"]

_KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    # Prefixes of the class code, base class and subclass: PCI Code and ID Assignment Specification.
    {"02": "network", "03": "display", "0b": "coprocessor", "12": "accelerator", "0108": "nvme"}
)
_BRIDGE: Final = "06"
_CONSOLES: Final = frozenset(
    {
        # Vendors and devices (None: all) of displays that show a console, and nothing else: of the management controllers
        # of servers, and of virtual machines.
        (0x1A03, None),  # ASPEED
        (0x102B, None),  # Matrox
        (0x19E5, 0x1711),  # Huawei Hi171x
        (0x18CA, 0x0020),  # XGI Z7
        (0x1002, 0x515E),  # ATI ES1000
        (0x1234, 0x1111),  # QEMU
        (0x1013, 0x00B8),  # Cirrus, of QEMU
        (0x1B36, 0x0100),  # QXL
        (0x1AF4, 0x1050),  # virtio
        (0x15AD, 0x0405),  # VMware
        (0x1414, 0x5353),  # Hyper-V
    }
)
_SERVER_CHASSIS: Final = (17, 23, 25, 28, 29)
"""Main server, rack mount, multi-system, blade, blade enclosure: System Management BIOS specification, 7.4.1."""
_ADDRESS: Final = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_NAMESPACE: Final = re.compile(r"(nvme[0-9]+)(?:c[0-9]+)?(n[0-9]+)")
_DRIVER: Final = re.compile(r"[!-~][ -~]{0,63}")
_NODE_MAX: Final = 65_535
_FUNCTIONS_MAX: Final = 65_535


class PciDevice(NamedTuple):
    """One PCI device.

    `class_code`, `vendor` and `product` are the device's own; `driver` is the bound driver, if any. `numa_node` is None
    if it belongs to no NUMA cell. `parent` is the physical function of a virtual function (SR-IOV). `functions` is the
    current number of virtual functions of a physical function, `functions_max` the possible number. `boot_vga`: the
    firmware showed its messages there. `in_use` is how the host itself uses the device, as far as the kernel shows; None
    if it does not.
    """

    address: str
    kind: Kind
    class_code: int
    vendor: int
    product: int
    driver: str | None
    numa_node: int | None
    parent: str | None
    functions: int
    functions_max: int
    boot_vga: bool
    in_use: str | None

    def attributes(self) -> dict[str, JsonValue]:
        """The attributes for requests; PCI numbers are hexadecimal text, as in lspci."""
        found: dict[str, JsonValue] = {
            "vendor": f"{self.vendor:04x}",
            "product": f"{self.product:04x}",
            "class": f"{self.class_code:06x}",
            "kind": self.kind,
            "driver": self.driver,
            "numa_node": self.numa_node,
            "parent": self.parent,
            "sriov_totalvfs": self.functions_max or None,
        }
        return {name: value for name, value in found.items() if value is not None}

    @property
    def is_console(self) -> bool:
        """Whether it is a display that shows a console, and nothing else."""
        models = {(self.vendor, None), (self.vendor, self.product)}
        return self.kind == "display" and not models.isdisjoint(_CONSOLES)


def read_devices(
    proc: Path, sys: Path, rules: DeviceRules = NO_RULES
) -> tuple[tuple[PciDevice, ...], list[Remark]]:
    """The devices that can be offered now, sorted by address, and remarks on those that are left out.

    These are assignable devices that the host does not use itself, as the rules allow; at most as many as an inventory
    may have.
    """
    mounted = _mounted(proc)
    read = (_read_device(path, mounted) for path in entries(sys / "bus/pci/devices"))
    found = {device.address: device for device in read if device}
    # In SR-IOV a virtual function has no virtual functions of its own.
    virtual = {address for address, device in found.items() if device.parent}
    for address, device in found.items():
        if device.parent in virtual:
            found[address] = device._replace(parent=None)
    is_server = read_int(sys / "class/dmi/id/chassis_type") in _SERVER_CHASSIS
    assignable = [device for device in found.values() if _is_assignable(device, rules)]
    left_out = _left_out(assignable, rules, is_server)
    free = [
        # All functions of a card get the card's NUMA cell, because one provider must have all of them.
        device._replace(numa_node=found.get(device.parent or "", device).numa_node)
        for device in assignable
        if device.address not in left_out
    ]
    for device in free[DEVICES_MAX:]:
        left_out[device.address] = f"an inventory has {DEVICES_MAX} devices at most"
    return tuple(free[:DEVICES_MAX]), _remarks(found, left_out)


def _is_assignable(device: PciDevice, rules: DeviceRules) -> bool:
    """Whether it is of a kind that is offered, or a rule was written for it."""
    return device.kind != "other" or _is_named(device, rules)


def _is_named(device: PciDevice, rules: DeviceRules) -> bool:
    return any(rule.is_exact and _matches(device, rule) for rule in rules.allow)


def _left_out(devices: Iterable[PciDevice], rules: DeviceRules, is_server: bool) -> dict[str, str]:
    """The address of each device that is not offered -> the reason."""
    left_out: dict[str, str] = {}
    parts: dict[str, list[PciDevice]] = {}
    for device in devices:
        if device.parent:
            parts.setdefault(device.parent, []).append(device)
        if reason := _why_not(device, rules, is_server):
            left_out[device.address] = reason
    for device in devices:
        reason = _why_not_whole(device, parts.get(device.address, []), rules)
        if device.address not in left_out and reason:
            left_out[device.address] = reason
    return left_out


def _why_not(device: PciDevice, rules: DeviceRules, is_server: bool) -> str | None:
    """Why a device is not offered by itself; None if it is."""
    if denied_by := _matching(device, rules.deny):
        return f"the rule {denied_by!r} denies it"
    if rules.allow and not _matching(device, rules.allow):
        return "no rule allows it"
    if not _is_named(device, rules):
        if device.is_console:
            return "it is the display of a console"
        if device.boot_vga and is_server:
            return "it is the display of this server's console (boot_vga)"
    return device.in_use


def _matches(device: PciDevice, rule: DeviceRule) -> bool:
    addresses = (device.address,) if device.parent is None else (device.address, device.parent)
    return rule.matches(addresses, device.vendor, device.product, device.class_code)


def _matching(device: PciDevice, rules: Iterable[DeviceRule]) -> str | None:
    return next((rule.text for rule in rules if _matches(device, rule)), None)


def _why_not_whole(device: PciDevice, parts: list[PciDevice], rules: DeviceRules) -> str | None:
    """Why a physical function may not be offered: its virtual functions go with it.

    The host must use none of them, no rule may deny one, and all of them must be visible. A device that is not split has
    none.
    """
    if len(parts) < device.functions:
        return f"{device.functions} virtual functions go with it, and only {len(parts)} are visible"
    for part in parts:
        if part.in_use or _matching(part, rules.deny):
            return f"its virtual function {part.address} goes with it and is not offered"
    return None


def _remarks(found: Mapping[str, PciDevice], left_out: Mapping[str, str]) -> list[Remark]:
    """One remark for each reason, with the devices that it applies to."""
    by_reason: dict[str, list[str]] = {}
    for address, reason in left_out.items():
        device = found[address]
        text = f"{address} ({device.kind} {device.vendor:04x}:{device.product:04x})"
        by_reason.setdefault(reason, []).append(text)
    return [
        Remark(
            ("PCI device " if len(devices) == 1 else "PCI devices ") + ", ".join(devices), NOT_OFFERED, reason
        )
        for reason, devices in by_reason.items()
    ]


def device_inventory(devices: Iterable[PciDevice]) -> dict[str, JsonValue]:
    """The inventory of PCI_DEVICE with these devices."""
    return {"devices": {device.address: device.attributes() for device in devices}}


def _read_device(path: Path, mounted: frozenset[str]) -> PciDevice | None:
    code, vendor, product = (read_int(path / name, 16) for name in ("class", "vendor", "device"))
    if code is None or vendor is None or product is None or not _ADDRESS.fullmatch(path.name):
        return None
    if not (0 <= code <= 0xFFFFFF and 0 <= vendor <= 0xFFFF and 0 <= product <= 0xFFFF):
        return None
    digits = f"{code:06x}"
    if digits.startswith(_BRIDGE):
        return None
    node = read_int(path / "numa_node")
    driver, parent = link_name(path / "driver"), link_name(path / "physfn")
    return PciDevice(
        address=path.name,
        kind=_KINDS.get(digits[:2]) or _KINDS.get(digits[:4]) or "other",
        class_code=code,
        vendor=vendor,
        product=product,
        driver=driver if driver and _DRIVER.fullmatch(driver) else None,
        numa_node=None if node is None or not 0 <= node <= _NODE_MAX else node,
        parent=parent if parent and parent != path.name and _ADDRESS.fullmatch(parent) else None,
        functions=_functions(path),
        functions_max=min(max(0, read_int(path / "sriov_totalvfs") or 0), _FUNCTIONS_MAX),
        boot_vga=read_int(path / "boot_vga") == 1,
        in_use=_use(path, mounted),
    )


def _functions(device: Path) -> int:
    """The number of virtual functions: the kernel's count or the number of its links, whichever is larger."""
    links = sum(re.fullmatch(r"virtfn[0-9]+", path.name) is not None for path in entries(device))
    return max(links, read_int(device / "sriov_numvfs") or 0)


def _use(device: Path, mounted: frozenset[str]) -> str | None:
    if _carries_traffic(device):
        return "the host uses it: its link is up"
    if _holds_data(device, mounted):
        return "the host uses it: it is mounted, used for swap, or part of another disk"
    return None


def _carries_traffic(device: Path) -> bool:
    # The interfaces of a virtio card are one directory further down.
    places = [device / "net", *(path / "net" for path in entries(device) if path.name.startswith("virtio"))]
    return any(read_text(nic / "operstate") == "up" for place in places for nic in entries(place))


def _holds_data(device: Path, mounted: frozenset[str]) -> bool:
    return any(
        _block_in_use(block, mounted) for control in entries(device / "nvme") for block in entries(control)
    )


def _block_in_use(block: Path, mounted: frozenset[str]) -> bool:
    match = _NAMESPACE.fullmatch(block.name)
    if match is None:
        return False
    # With multipath the path is nvme0c1n1 and the mounted disk is nvme0n1.
    name = match[1] + match[2]
    parts = [part for part in entries(block) if part.name.startswith(block.name + "p")]
    mounts = any(source == name or re.fullmatch(f"{name}p[0-9]+", source) for source in mounted)
    # Holders are devices stacked on top of it: LVM, RAID, encryption.
    return mounts or any(entries(place / "holders") for place in (block, *parts))


def _mounted(proc: Path) -> frozenset[str]:
    """The names of block devices with a mounted file system or active swap."""
    lines: Iterable[str] = [
        line for name in ("mounts", "swaps") for line in (read_text(proc / name) or "").splitlines()
    ]
    sources = (line.split()[0] for line in lines if line.strip())
    return frozenset(source.removeprefix("/dev/") for source in sources if source.startswith("/dev/"))
