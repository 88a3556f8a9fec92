"""The whole tree of this node.

    NODE             VCPU, MEMORY_MB, DISK_GB; PCI_DEVICE that are near no cell in particular; traits of its processors
    |- NODE:numa0    NUMA_CELL; PCI_DEVICE near it
    `- NODE:numa1    ...

What a cell gives out is not VCPU and MEMORY_MB of the node: see `numa_cells`. A device is given out by the cell it is
near, so that a guest asks for both in one group of its request.
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

# Ids have 200 characters; the parts of a node are named after it.
_ROOT: Final = re.compile(r"[A-Za-z0-9._:/@+=~-]{1,170}")


@dataclass(frozen=True)
class HostOptions:
    """How to read a host. Raises UsageError for a `root` that cannot name a node, or a figure out of range.

    `vcpu_ratio_milli` says how far processors are oversubscribed, in thousandths: 4000 (4.0) is what OpenStack
    Nova starts new nodes with. `memory_reserved_mib` is kept for the host itself (512, as in Nova). `disk` is
    where instances live. `proc` and `sys` are where the kernel's file systems are mounted, `etc` is
    where the system's settings are, and `programs` a search path for the hypervisor's (default: PATH).

    `dedicated_cpus` are for one guest each, by NUMA cell; `shared_cpus` (None: all others) are oversubscribed; those
    in neither are the host's own. They are Nova's cpu_dedicated_set and cpu_shared_set. With `numa` "whole" the cells
    give out all there is; with "split" they have the dedicated CPUs, the hugepages and `numa_memory_mib` each of
    other memory, and the node counts the rest.
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
                f"{self.root!r} cannot name a node",
                do="use up to 170 letters, digits and ._:/@+=~- (the host's name, say)",
            )
        ratios = (self.vcpu_ratio_milli, self.memory_ratio_milli, self.disk_ratio_milli)
        if not all(1 <= ratio <= RATIO_MILLI_MAX for ratio in ratios):
            raise UsageError(
                f"an allocation ratio of {ratios} thousandths cannot be meant",
                do=f"give 1 to {RATIO_MILLI_MAX}; 1000 offers what there is",
            )
        if min(self.memory_reserved_mib, self.disk_reserved_gib, self.numa_memory_mib) < 0:
            raise UsageError("a host cannot set aside less than nothing", do="give 0 or more")
        both = sorted(self.dedicated_cpus & (self.shared_cpus or frozenset()))
        if both:
            raise UsageError(
                f"CPU {both[0]} is both dedicated and shared", do="leave it out of one of the two lists"
            )
        if self.numa == "whole" and self.numa_memory_mib:
            raise UsageError(
                "cells that give out the whole host have all memory", do="leave the memory for cells out"
            )

    def shared(self, cpu: Cpu) -> frozenset[int]:
        """The processors that are oversubscribed."""
        online = frozenset(cpu.online)
        return online - self.dedicated_cpus if self.shared_cpus is None else online & self.shared_cpus


def collect(options: HostOptions) -> tuple[ProviderReport, ...]:
    """What this host has, as the providers of a full report: the node first, a parent before its children.

    Needs no root and never fails for what cannot be read; that is left out.
    """
    cpu = read_cpu(options.proc, options.sys)
    cells = read_cells(options.sys)
    devices = read_devices(options.proc, options.sys)
    shown = {cell.number for cell in cells}
    far = [device for device in devices if device.numa_node not in shown]
    return (
        _with_devices(_node(options, cpu, cells), far),
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
            # Memory set aside as hugepages is offered as hugepages; nothing else can use it.
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
    # What the host keeps for itself, its cells keep in equal parts.
    kept_mib = -(-options.memory_reserved_mib // cells)
    inventory = cell_inventory(
        cell,
        cpu,
        dedicated=options.dedicated_cpus.intersection(cpu.online),
        shared=options.shared(cpu) if whole else frozenset(),
        ratio_milli=options.vcpu_ratio_milli,
        memory_mib=small_memory_mib(cell) - kept_mib if whole else options.numa_memory_mib,
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
