"""The provider tree of this node.

    NODE             VCPU, MEMORY_MB, DISK_GB; PCI_DEVICE without a NUMA cell; traits of its CPUs
    |- NODE:numa0    NUMA_CELL; PCI_DEVICE of this NUMA cell
    `- NODE:numa1    ...

VCPU and MEMORY_MB of the node do not include what its NUMA cells offer: see `numa_inventory`. The NUMA cell of a device
offers the device, so that a guest requests both in one group.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from vacancy.clients.publisher.host.attributes import read_attributes
from vacancy.clients.publisher.host.cpu import Cpu, read_cpu
from vacancy.clients.publisher.host.disk import read_disk_gib
from vacancy.clients.publisher.host.inventory import Inventories, offer
from vacancy.clients.publisher.host.memory import (
    hugepages_class,
    hugepages_mib,
    read_hugepages,
    read_memory_kib,
)
from vacancy.clients.publisher.host.numa import HostNumaCell, read_cells
from vacancy.clients.publisher.host.numa_inventory import (
    NumaMode,
    cell_inventory,
    node_share_mib,
    small_memory_mib,
)
from vacancy.clients.publisher.host.pci import PciDevice, device_inventory, read_devices
from vacancy.resources.classes.quantity import RATIO_MILLI_MAX
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.events import ProviderReport

# Ids have up to 200 characters; the ids of a node's providers start with the node's id.
_ROOT: Final = re.compile(r"[A-Za-z0-9._:/@+=~-]{1,170}")


@dataclass(frozen=True)
class HostOptions:
    """How to collect the inventory of a host. Raises UsageError for an invalid `root` or a number out of range.

    `vcpu_ratio_milli` is the allocation ratio of CPUs in thousandths: 4000 (4.0) is OpenStack Nova's initial ratio.
    `memory_reserved_mib` is reserved for the host itself (512, as in Nova). `disk` is a directory on the file system of
    the instances. `proc` and `sys` are the mount points of the kernel's file systems, `etc` is the directory of the
    system's settings, `programs` the search path for the hypervisor's programs (default: PATH).

    `dedicated_cpus` are used by one guest each and offered by the NUMA cells; `shared_cpus` (None: all others) are
    oversubscribed; CPUs in neither set stay with the host. They are Nova's cpu_dedicated_set and cpu_shared_set. With
    `numa` "whole" the NUMA cells offer all CPUs and memory. With "split" they offer the dedicated CPUs, the hugepages
    and `numa_memory_mib` of other memory each, and the node offers the rest.
    """

    root: str = field(default_factory=socket.gethostname)
    vcpu_ratio_milli: int = 4000
    memory_ratio_milli: int = 1000
    memory_reserved_mib: int = 512
    disk: Path = Path("/")
    disk_ratio_milli: int = 1000
    disk_reserved_gib: int = 0
    numa: NumaMode = "split"
    dedicated_cpus: frozenset[int] = frozenset()
    shared_cpus: frozenset[int] | None = None
    numa_memory_mib: int = 0
    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    etc: Path = Path("/etc")
    programs: str | None = None

    def __post_init__(self) -> None:
        if not _ROOT.fullmatch(self.root):
            raise UsageError(
                f"{self.root!r} is not a valid node id",
                do="use up to 170 letters, digits and ._:/@+=~-, for example the host's name",
            )
        ratios = (self.vcpu_ratio_milli, self.memory_ratio_milli, self.disk_ratio_milli)
        if not all(1 <= ratio <= RATIO_MILLI_MAX for ratio in ratios):
            raise UsageError(
                f"an allocation ratio in {ratios} (thousandths) is out of range",
                do=f"give 1 to {RATIO_MILLI_MAX}; 1000 offers the physical amount",
            )
        if min(self.memory_reserved_mib, self.disk_reserved_gib, self.numa_memory_mib) < 0:
            raise UsageError("a reserved amount is negative", do="give 0 or more")
        both = sorted(self.dedicated_cpus & (self.shared_cpus or frozenset()))
        if both:
            raise UsageError(
                f"CPU {both[0]} is both dedicated and shared", do="remove it from one of the two lists"
            )
        if self.numa == "whole" and self.numa_memory_mib:
            raise UsageError("--numa whole offers all memory by NUMA cells already", do="omit --numa-memory")

    def shared(self, cpu: Cpu) -> frozenset[int]:
        """The CPUs that are oversubscribed."""
        online = frozenset(cpu.online)
        return online - self.dedicated_cpus if self.shared_cpus is None else online & self.shared_cpus


def collect(options: HostOptions) -> tuple[ProviderReport, ...]:
    """The providers of a full report of this host: the node first, parents before their children.

    It needs no root permissions. What cannot be read is omitted; it raises nothing.
    """
    cpu = read_cpu(options.proc, options.sys)
    cells = read_cells(options.sys)
    devices = read_devices(options.proc, options.sys)
    numbers = {cell.number for cell in cells}
    without_cell = [device for device in devices if device.numa_node not in numbers]
    return (
        _with_devices(_node(options, cpu, cells), without_cell),
        *(
            _with_devices(
                _cell(options, cell, cpu, len(cells)),
                [device for device in devices if device.numa_node == cell.number],
            )
            for cell in cells
        ),
    )


def _node(options: HostOptions, cpu: Cpu, cells: tuple[HostNumaCell, ...]) -> ProviderReport:
    inventories: Inventories = {}
    pages = read_hugepages(options.sys / "kernel/mm/hugepages")
    if not cells or options.numa == "split":
        offer(inventories, "VCPU", len(options.shared(cpu)), ratio_milli=options.vcpu_ratio_milli)
        memory_kib = read_memory_kib(options.proc / "meminfo")
        offer(
            inventories,
            "MEMORY_MB",
            None if memory_kib is None else memory_kib // 1024,
            # Memory allocated to hugepages is offered as hugepages; nothing else can use it.
            reserved=options.memory_reserved_mib
            + hugepages_mib(pages)
            + node_share_mib(cells, options.numa_memory_mib),
            ratio_milli=options.memory_ratio_milli,
        )
    offer(
        inventories,
        "DISK_GB",
        read_disk_gib(options.disk),
        reserved=options.disk_reserved_gib,
        ratio_milli=options.disk_ratio_milli,
    )
    if not cells:
        offer(inventories, "PCPU", len(options.dedicated_cpus.intersection(cpu.online)))
        for size_kib, count in pages.items():
            offer(inventories, hugepages_class(size_kib), count)
    return ProviderReport(
        id=options.root,
        inventories=inventories,
        traits=("COMPUTE_NODE", *cpu.traits),
        attributes=read_attributes(options.proc, options.etc, options.programs),
    )


def _cell(options: HostOptions, cell: HostNumaCell, cpu: Cpu, cells: int) -> ProviderReport:
    whole = options.numa == "whole"
    # The memory reserved for the host is taken from its NUMA cells in equal parts.
    reserved_mib = -(-options.memory_reserved_mib // cells)
    inventory = cell_inventory(
        cell,
        cpu,
        dedicated=options.dedicated_cpus.intersection(cpu.online),
        shared=options.shared(cpu) if whole else frozenset(),
        ratio_milli=options.vcpu_ratio_milli,
        memory_mib=small_memory_mib(cell) - reserved_mib if whole else options.numa_memory_mib,
    )
    return ProviderReport(
        id=_cell_id(options.root, cell.number),
        parent=options.root,
        inventories={} if inventory is None else {"NUMA_CELL": inventory},
        traits=("HW_NUMA_ROOT",),
    )


def _with_devices(provider: ProviderReport, devices: list[PciDevice]) -> ProviderReport:
    if not devices:
        return provider
    inventories = {**provider.inventories, "PCI_DEVICE": device_inventory(devices)}
    return provider.model_copy(update={"inventories": inventories})


def _cell_id(root: str, number: int) -> str:
    return f"{root}:numa{number}"
