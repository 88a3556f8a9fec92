"""PCI devices that can be passed through to an instance: GPUs, accelerators, network cards, NVMe disks.

They are all PCI_DEVICE, each identified by its address. Devices that the host itself uses are not offered: passing
through the card of the node's own traffic, or the disk that it runs from, would break the node.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from pydantic import JsonValue

from vacancy.clients.publisher.host.files import entries, link_name, read_int, read_text
from vacancy.resources.classes.device_class import DEVICES_MAX

Kind = Literal["display", "accelerator", "network", "nvme"]

_KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    # Prefixes of the class code, base class and subclass: PCI Code and ID Assignment Specification.
    {"02": "network", "03": "display", "12": "accelerator", "0108": "nvme"}
)
_ADDRESS: Final = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_NAMESPACE: Final = re.compile(r"(nvme[0-9]+)(?:c[0-9]+)?(n[0-9]+)")
_DRIVER: Final = re.compile(r"[!-~][ -~]{0,63}")
_NODE_MAX: Final = 65_535
_FUNCTIONS_MAX: Final = 65_535


class PciDevice(NamedTuple):
    """One PCI device.

    `class_code`, `vendor` and `product` are the device's own; `driver` is the bound driver, if any. `numa_node` is None
    if it belongs to no NUMA cell. `parent` is the physical function of a virtual function (SR-IOV). `functions` is the
    current number of virtual functions of a physical function, `functions_max` the possible number. `in_use`: the host
    itself uses the device, as far as the kernel shows.
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
    in_use: bool

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


def read_devices(proc: Path, sys: Path) -> tuple[PciDevice, ...]:
    """The devices that can be offered now, sorted by address: assignable devices that the host does not use itself.

    At most as many as an inventory may have.
    """
    mounted = _mounted(proc)
    read = (_read_device(path, mounted) for path in entries(sys / "bus/pci/devices"))
    found = {device.address: device for device in read if device}
    # In SR-IOV a virtual function has no virtual functions of its own.
    virtual = {address for address, device in found.items() if device.parent}
    parts: dict[str, list[PciDevice]] = {}
    for address, device in found.items():
        if device.parent in virtual:
            found[address] = device._replace(parent=None)
        elif device.parent:
            parts.setdefault(device.parent, []).append(device)
    free = [
        # All functions of a card get the card's NUMA cell, because one provider must have all of them.
        device._replace(numa_node=found.get(device.parent or "", device).numa_node)
        for device in found.values()
        if not device.in_use and _can_be_offered(device, parts.get(device.address, []))
    ]
    return tuple(free[:DEVICES_MAX])


def _can_be_offered(device: PciDevice, parts: list[PciDevice]) -> bool:
    """Whether a physical function may be offered: its virtual functions go with it.

    The host must use none of them, and all of them must be visible. A device that is not split has none.
    """
    return len(parts) >= device.functions and not any(part.in_use for part in parts)


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
    kind = _KINDS.get(digits[:2]) or _KINDS.get(digits[:4])
    if kind is None:
        return None
    node = read_int(path / "numa_node")
    driver, parent = link_name(path / "driver"), link_name(path / "physfn")
    return PciDevice(
        address=path.name,
        kind=kind,
        class_code=code,
        vendor=vendor,
        product=product,
        driver=driver if driver and _DRIVER.fullmatch(driver) else None,
        numa_node=None if node is None or not 0 <= node <= _NODE_MAX else node,
        parent=parent if parent and parent != path.name and _ADDRESS.fullmatch(parent) else None,
        functions=_functions(path),
        functions_max=min(max(0, read_int(path / "sriov_totalvfs") or 0), _FUNCTIONS_MAX),
        in_use=_carries_traffic(path) or _holds_data(path, mounted),
    )


def _functions(device: Path) -> int:
    """The number of virtual functions: the kernel's count or the number of its links, whichever is larger."""
    links = sum(re.fullmatch(r"virtfn[0-9]+", path.name) is not None for path in entries(device))
    return max(links, read_int(device / "sriov_numvfs") or 0)


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
