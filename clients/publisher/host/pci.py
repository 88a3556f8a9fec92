"""PCI devices that can be given to an instance whole: GPUs, accelerators, network cards, NVMe disks.

They are all PCI_DEVICE, each by its address. One that the host itself lives on is kept back: handing out the card
that carries the node's own traffic, or the disk it runs from, would end the node.
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
    # The start of the class code: PCI Code and ID Assignment Specification, base class and subclass.
    {"02": "network", "03": "display", "12": "accelerator", "0108": "nvme"}
)
_ADDRESS: Final = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_NAMESPACE: Final = re.compile(r"(nvme[0-9]+)(?:c[0-9]+)?(n[0-9]+)")
_DRIVER: Final = re.compile(r"[!-~][ -~]{0,63}")
_NODE_MAX: Final = 65_535
_FUNCTIONS_MAX: Final = 65_535


class PciDevice(NamedTuple):
    """One device.

    `class_code`, `vendor` and `product` are as the card says; `driver` is bound to it, if any. `numa_node` is None
    where it is near no cell in particular. `parent` is the physical function of a virtual one (SR-IOV).
    `functions` is how many virtual functions a physical one is split into now, `functions_max` into how many it
    can be. `in_use`: the host itself uses it, as far as that can be seen.
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
        """What a request may ask of it; numbers of the PCI specification in hexadecimal digits, as lspci has them."""
        said: dict[str, JsonValue] = {
            "vendor": f"{self.vendor:04x}",
            "product": f"{self.product:04x}",
            "class": f"{self.class_code:06x}",
            "kind": self.kind,
            "driver": self.driver,
            "numa_node": self.numa_node,
            "parent": self.parent,
            "sriov_totalvfs": self.functions_max or None,
        }
        return {name: value for name, value in said.items() if value is not None}


def read_devices(proc: Path, sys: Path) -> tuple[PciDevice, ...]:
    """The devices that can be given away now, in order of address: of all that are assignable, those that the host
    does not use itself, and not more than an inventory takes."""
    mounted = _mounted(proc)
    read = (_read_device(path, mounted) for path in entries(sys / "bus/pci/devices"))
    found = {device.address: device for device in read if device}
    # A function of a function is nothing that SR-IOV knows.
    virtual = {address for address, device in found.items() if device.parent}
    parts: dict[str, list[PciDevice]] = {}
    for address, device in found.items():
        if device.parent in virtual:
            found[address] = device._replace(parent=None)
        elif device.parent:
            parts.setdefault(device.parent, []).append(device)
    free = [
        # The card says where it is for all its functions: one provider must know them all.
        device._replace(numa_node=found.get(device.parent or "", device).numa_node)
        for device in found.values()
        if not device.in_use and _can_be_whole(device, parts.get(device.address, []))
    ]
    return tuple(free[:DEVICES_MAX])


def _can_be_whole(device: PciDevice, parts: list[PciDevice]) -> bool:
    """Whether a physical function may be given away: its virtual ones go with it, so the host must use none of them,
    and must show them all. A device that is not split has none."""
    return len(parts) >= device.functions and not any(part.in_use for part in parts)


def device_inventory(devices: Iterable[PciDevice]) -> dict[str, JsonValue]:
    """These devices as an inventory of PCI_DEVICE."""
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
    """How many virtual functions there are, by the kernel's count or by its links, whichever says more."""
    links = sum(re.fullmatch(r"virtfn[0-9]+", path.name) is not None for path in entries(device))
    return max(links, read_int(device / "sriov_numvfs") or 0)


def _carries_traffic(device: Path) -> bool:
    # A virtio card has its interfaces one step further down.
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
    # With multipath the path is nvme0c1n1 and the disk that gets mounted is nvme0n1.
    name = match[1] + match[2]
    parts = [part for part in entries(block) if part.name.startswith(block.name + "p")]
    mounts = any(source == name or re.fullmatch(f"{name}p[0-9]+", source) for source in mounted)
    # Holders are what is stacked on top: LVM, RAID, encryption.
    return mounts or any(entries(place / "holders") for place in (block, *parts))


def _mounted(proc: Path) -> frozenset[str]:
    """Names of the block devices with a mounted file system or swap."""
    lines: Iterable[str] = [
        line for name in ("mounts", "swaps") for line in (read_text(proc / name) or "").splitlines()
    ]
    sources = (line.split()[0] for line in lines if line.strip())
    return frozenset(source.removeprefix("/dev/") for source in sources if source.startswith("/dev/"))
