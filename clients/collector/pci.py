"""PCI devices that can be given to an instance whole: GPUs, accelerators, network cards, NVMe disks.

A device that the host itself lives on is shown, but kept back: handing out the card that carries the node's
own traffic, or the disk it runs from, would end the node.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from vacancy.clients.collector.files import entries, read_int, read_text

Kind = Literal["display", "accelerator", "network", "nvme"]

_KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    # The start of the class code: PCI Code and ID Assignment Specification, base class and subclass.
    {"02": "network", "03": "display", "12": "accelerator", "0108": "nvme"}
)
_ADDRESS: Final = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_NAMESPACE: Final = re.compile(r"(nvme[0-9]+)(?:c[0-9]+)?(n[0-9]+)")


class Device(NamedTuple):
    """One device. `numa_node` is None where it is near no cell in particular.

    `in_use`: the host itself uses it, as far as that can be seen. `virtual_functions_max` is above 0 for a
    card that can be split (SR-IOV).
    """

    address: str
    kind: Kind
    vendor: int
    product: int
    numa_node: int | None
    in_use: bool
    virtual_functions_max: int

    @property
    def resource_class(self) -> str:
        """The class of all devices of this vendor and product: `CUSTOM_PCI_10DE_2331`."""
        return f"CUSTOM_PCI_{self.vendor:04X}_{self.product:04X}"


def read_devices(proc: Path, sys: Path) -> tuple[Device, ...]:
    """The assignable devices in order of address."""
    mounted = _mounted(proc)
    found = (_read_device(path, mounted) for path in entries(sys / "bus/pci/devices"))
    return tuple(device for device in found if device)


def _read_device(path: Path, mounted: frozenset[str]) -> Device | None:
    code, vendor, product = (read_int(path / name, 16) for name in ("class", "vendor", "device"))
    if code is None or vendor is None or product is None or not _ADDRESS.fullmatch(path.name):
        return None
    digits = f"{code:06x}"
    kind = _KINDS.get(digits[:2]) or _KINDS.get(digits[:4])
    if kind is None:
        return None
    node = read_int(path / "numa_node")
    # A card that is split gives its parts away; given away whole, it would take them from their owners.
    split = (read_int(path / "sriov_numvfs") or 0) > 0
    return Device(
        address=path.name,
        kind=kind,
        vendor=vendor,
        product=product,
        numa_node=None if node is None or node < 0 else node,
        in_use=split or _carries_traffic(path) or _holds_data(path, mounted),
        virtual_functions_max=read_int(path / "sriov_totalvfs") or 0,
    )


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
