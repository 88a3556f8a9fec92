"""The provider tree of this node.

    NODE                            VCPU, MEMORY_MB, DISK_GB; PCI_DEVICE and MIG without a NUMA cell; traits of its CPUs
    |- NODE:numa0                   NUMA_CELL; PCI_DEVICE and MIG of this NUMA cell
    |  `- NODE:numa0:efficiency     NUMA_CELL with the efficiency cores, where a NUMA cell has performance cores too
    `- NODE:numa1                   ...

VCPU and MEMORY_MB of the node do not include what its NUMA cells offer: see `numa_inventory`. The NUMA cell of a device
offers the device, so that a guest requests both in one group. Cores of two types are in two providers, so that a request
can name the type, and `isolate` does not prefer efficiency cores because they have no siblings.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from vacancy.clients.publisher.host.attributes import read_attributes
from vacancy.clients.publisher.host.devices.device_health import (
    DeviceHealth,
    read_health,
    read_monitor,
    with_unhealthy,
)
from vacancy.clients.publisher.host.devices.device_rules import NO_RULES, DeviceRules
from vacancy.clients.publisher.host.devices.mig import MigGpu, MigGpus, find_program, mig_inventory, read_mig
from vacancy.clients.publisher.host.devices.pci import PciDevice, device_inventory, read_devices
from vacancy.clients.publisher.host.disk import read_disk_gib
from vacancy.clients.publisher.host.files import format_cpu_list
from vacancy.clients.publisher.host.inventory import Inventories, offer
from vacancy.clients.publisher.host.memory.memory import (
    HugepagePool,
    HugepageReservation,
    Hugepages,
    hugepages_class,
    hugepages_mib,
    hugepages_remarks,
    offered_hugepages,
    read_hugepages,
    read_memory_kib,
)
from vacancy.clients.publisher.host.memory.numa import HostNumaCell, HostNumaCells, read_cells, without_pages
from vacancy.clients.publisher.host.memory.numa_inventory import (
    CellInventory,
    NumaMode,
    cell_inventory,
    memory_after_reserve,
    node_share_mib,
)
from vacancy.clients.publisher.host.processors.cgroup import CgroupLimits, read_cgroup
from vacancy.clients.publisher.host.processors.cpu import Cpu, read_cpu
from vacancy.clients.publisher.host.remarks import NOT_OFFERED, Remark, cpus_remark
from vacancy.resources.classes.quantity import RATIO_MILLI_MAX
from vacancy.resources.model.core_types import CORE_TYPE, CORE_TYPE_TRAITS, CoreType
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.events import ProviderReport

# Ids have up to 200 characters; the ids of a node's providers start with the node's id.
_ROOT: Final = re.compile(r"[A-Za-z0-9._:/@+=~-]{1,170}")
_NO_CELL: Final = "no NUMA cell that is online lists them"


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
    and `numa_memory_mib` of other memory each, and the node offers the rest. `reserved_hugepages` are not offered; a host
    without NUMA cells counts as NUMA cell 0. `devices` are the rules for PCI devices, `device_health` is the file of a monitor
    that says which of them do not work, and with `mig` the GPUs in MIG mode are offered as class MIG.
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
    reserved_hugepages: tuple[HugepageReservation, ...] = ()
    devices: DeviceRules = NO_RULES
    device_health: Path | None = None
    mig: bool = False
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
        if any(one.pages < 0 for one in self.reserved_hugepages):
            raise UsageError("a number of reserved hugepages is negative", do="give 0 or more")
        places = [one[:2] for one in self.reserved_hugepages]
        if len(set(places)) < len(places):
            raise UsageError(
                "hugepages of one size and NUMA cell are reserved twice", do="add up the two numbers"
            )
        if self.numa == "whole" and self.numa_memory_mib:
            raise UsageError("--numa whole offers all memory by NUMA cells already", do="omit --numa-memory")

    def shared(self, cpu: Cpu) -> frozenset[int]:
        """The CPUs that are oversubscribed."""
        if self.shared_cpus is None:
            return cpu.usable - self.dedicated_cpus
        return self.shared_cpus.intersection(cpu.online)

    def dedicated(self, cpu: Cpu) -> frozenset[int]:
        """The CPUs for pinning."""
        return self.dedicated_cpus.intersection(cpu.online)


class HostInventory(NamedTuple):
    """The providers of a full report of a host, parents before their children, and remarks on what they do not offer."""

    providers: tuple[ProviderReport, ...]
    remarks: tuple[Remark, ...]


def check_options(options: HostOptions) -> None:
    """Raise UsageError if the options name CPUs that this host does not have, or what is needed for devices is missing.

    CPUs that exist and are offline are no error: they are offered when they are online. Neither are reserved hugepages that
    do not exist, because they may be allocated later.
    """
    present = read_cpu(options.proc, options.sys, read_cgroup(options.sys)).present
    for option, named in (
        ("--dedicated-cpus", options.dedicated_cpus),
        ("--shared-cpus", options.shared_cpus),
    ):
        missing = format_cpu_list((named or frozenset()).difference(present))
        if missing and present:
            raise UsageError(
                f"this host has no CPU {missing}",
                where=option,
                do=f"name CPUs of {format_cpu_list(present)}",
            )
    if options.device_health is not None:
        read_monitor(options.device_health)
    if options.mig:
        find_program(options.programs)


def collect(options: HostOptions) -> tuple[ProviderReport, ...]:
    """The providers of `inspect_host`."""
    return inspect_host(options).providers


def inspect_host(options: HostOptions) -> HostInventory:
    """The full report of this host: the node first, parents before their children; and what is left out, and why.

    It needs no root permissions. What cannot be read is omitted. Raises `VacancyError` only where options name what cannot be
    read: `read_health`, `read_mig`.
    """
    limits = read_cgroup(options.sys)
    cpu = read_cpu(options.proc, options.sys, limits)
    numa = read_cells(options.sys, limits)
    offered = _devices(options)
    numbers = {cell.number for cell in numa.cells}
    without_cell = [device for device in offered.devices if device.numa_node not in numbers]
    providers = [_with_devices(_node(options, cpu, numa), without_cell, offered)]
    memory = memory_after_reserve(numa.cells, options.memory_reserved_mib)
    more: list[Remark] = []
    for cell in numa.cells:
        of_cell, left_out = _cell(options, cell, cpu, memory[cell.number])
        here = [device for device in offered.devices if device.numa_node == cell.number]
        providers += [_with_devices(of_cell[0], here, offered), *of_cell[1:]]
        more += left_out
    return HostInventory(
        tuple(providers),
        (
            *cpu.remarks,
            *_cpu_remarks(options, cpu, numa),
            *numa.remarks,
            *more,
            *_host_remarks(options, numa, limits),
            *offered.remarks,
        ),
    )


class _OfferedDevices(NamedTuple):
    """The PCI devices of a host that it may offer, which of them do not work, which are GPUs in MIG mode, and remarks."""

    devices: tuple[PciDevice, ...]
    health: DeviceHealth
    mig: Mapping[str, MigGpu]
    remarks: tuple[Remark, ...]


def _devices(options: HostOptions) -> _OfferedDevices:
    devices, remarks = read_devices(options.proc, options.sys, options.devices)
    mig = read_mig(devices, options.programs) if options.mig else MigGpus({}, ())
    uuids = {gpu.uuid: address for address, gpu in mig.gpus.items()}
    health = read_health(options.sys, devices, options.device_health, uuids)
    return _OfferedDevices(devices, health, mig.gpus, (*remarks, *health.remarks, *mig.remarks))


def _node(options: HostOptions, cpu: Cpu, numa: HostNumaCells) -> ProviderReport:
    inventories: Inventories = {}
    pages = _host_pages(options, numa)
    if not numa.cells or options.numa == "split":
        offer(inventories, "VCPU", len(options.shared(cpu)), ratio_milli=options.vcpu_ratio_milli)
        memory_kib = read_memory_kib(options.proc / "meminfo")
        offer(
            inventories,
            "MEMORY_MB",
            None if memory_kib is None else (memory_kib - numa.excluded_kib) // 1024,
            # Memory allocated to hugepages is offered as hugepages; nothing else can use it.
            reserved=options.memory_reserved_mib
            + hugepages_mib(pages)
            + node_share_mib(numa.cells, options.numa_memory_mib),
            ratio_milli=options.memory_ratio_milli,
        )
    offer(
        inventories,
        "DISK_GB",
        read_disk_gib(options.disk),
        reserved=options.disk_reserved_gib,
        ratio_milli=options.disk_ratio_milli,
    )
    if not numa.cells:
        offer(inventories, "PCPU", len(options.dedicated(cpu)))
        for size_kib, count in offered_hugepages(pages, 0, options.reserved_hugepages).items():
            total = pages[size_kib].total
            offer(inventories, hugepages_class(size_kib), total, reserved=total - count)
    return ProviderReport(
        id=options.root,
        inventories=inventories,
        traits=("COMPUTE_NODE", *cpu.traits),
        attributes=read_attributes(options.proc, options.etc, options.programs),
    )


def _host_pages(options: HostOptions, numa: HostNumaCells) -> Hugepages:
    return without_pages(read_hugepages(options.sys / "kernel/mm/hugepages"), numa.excluded_pages)


def _cell(
    options: HostOptions, cell: HostNumaCell, cpu: Cpu, memory_mib: int
) -> tuple[list[ProviderReport], list[Remark]]:
    """The provider of a NUMA cell, that of its efficiency cores if it has cores of both types, and remarks.

    `memory_mib` is the memory of the cell without the part for the host.
    """
    is_whole = options.numa == "whole"
    offered = partial(
        cell_inventory,
        cpu=cpu,
        dedicated=options.dedicated(cpu),
        shared=options.shared(cpu) if is_whole else frozenset(),
        ratio_milli=options.vcpu_ratio_milli,
    )
    efficiency = tuple(n for n in cell.cpus if n in cpu.efficiency)
    rest = tuple(n for n in cell.cpus if n not in cpu.efficiency)
    has_both = bool(efficiency and rest)
    main = offered(
        cell._replace(cpus=rest) if has_both else cell,
        memory_mib=memory_mib if is_whole else options.numa_memory_mib,
        hugepages=offered_hugepages(cell.hugepages, cell.number, options.reserved_hugepages),
    )
    core_type: CoreType | None = None
    if cpu.efficiency and cell.cpus:
        core_type = "performance" if rest else "efficiency"
    name = f"{options.root}:numa{cell.number}"
    providers = [_cell_report(name, options.root, main, core_type, "HW_NUMA_ROOT")]
    remarks = list(main.remarks)
    if has_both:
        second = offered(cell._replace(cpus=efficiency), memory_mib=0, hugepages={})
        remarks += second.remarks
        if second.inventory is not None:
            providers.append(_cell_report(f"{name}:efficiency", name, second, "efficiency"))
    return providers, remarks


def _cell_report(
    name: str, parent: str, offered: CellInventory, core_type: CoreType | None, *traits: str
) -> ProviderReport:
    return ProviderReport(
        id=name,
        parent=parent,
        inventories={} if offered.inventory is None else {"NUMA_CELL": offered.inventory},
        traits=traits if core_type is None else (*traits, CORE_TYPE_TRAITS[core_type]),
        attributes={} if core_type is None else {CORE_TYPE: core_type},
    )


def _with_devices(
    provider: ProviderReport, devices: list[PciDevice], offered: _OfferedDevices
) -> ProviderReport:
    """The provider with these devices: GPUs in MIG mode as MIG, and neither they nor their functions as PCI devices."""
    if not devices:
        return provider
    inventories = dict(provider.inventories)
    whole = [one for one in devices if offered.mig.keys().isdisjoint((one.address, one.parent))]
    unhealthy = offered.health.unhealthy
    if whole:
        inventories["PCI_DEVICE"] = with_unhealthy(
            device_inventory(whole),
            {one.address: unhealthy[one.address] for one in whole if one.address in unhealthy},
        )
    if mig := mig_inventory(offered.mig, devices):
        bad = {gpu.uuid: unhealthy[at] for at, gpu in offered.mig.items() if at in unhealthy}
        devices_of = mig["devices"]
        inventories["MIG"] = with_unhealthy(
            mig, {uuid: reason for uuid, reason in bad.items() if uuid in devices_of}
        )
    return provider.model_copy(update={"inventories": inventories})


def _cpu_remarks(options: HostOptions, cpu: Cpu, numa: HostNumaCells) -> list[Remark]:
    """Remarks on CPUs that the cgroup forbids, and on CPUs and NUMA cells that do not match."""
    online, offered = frozenset(cpu.online), options.shared(cpu) | options.dedicated(cpu)
    forbidden = online - cpu.usable
    remarks = cpus_remark(
        forbidden - offered, NOT_OFFERED, "the cgroup of this container does not allow them"
    )
    remarks += cpus_remark(
        forbidden & offered,
        "offered, because an option names them",
        "the cgroup of this container does not allow them",
    )
    in_cells = frozenset(number for cell in numa.cells for number in cell.cpus)
    remarks += cpus_remark(
        in_cells.difference(cpu.present),
        NOT_OFFERED,
        "NUMA cells list them, and they do not exist or are offline",
    )
    if not numa.cells:
        return remarks
    lost = offered - in_cells
    at_node = options.shared(cpu) & lost if options.numa == "split" else frozenset[int]()
    remarks += cpus_remark(at_node, "offered by the node as VCPU, by no NUMA cell", _NO_CELL)
    return remarks + cpus_remark(lost - at_node, NOT_OFFERED, _NO_CELL)


def _host_remarks(options: HostOptions, numa: HostNumaCells, limits: CgroupLimits) -> list[Remark]:
    """Remarks on hugepages and on the memory of the host."""
    places = {cell.number: (f"NUMA cell {cell.number}", cell.hugepages) for cell in numa.cells}
    if not numa.cells:
        places[0] = "host", _host_pages(options, numa)
    remarks = [
        remark
        for number, (place, pages) in places.items()
        for remark in hugepages_remarks(pages, number, place, options.reserved_hugepages)
    ]
    for one in options.reserved_hugepages:
        pool = places.get(one.cell, ("", {}))[1].get(one.size_kib, HugepagePool(0))
        if one.pages > pool.total:
            reason = f"there are {pool.total} hugepages of {one.size_kib} KiB in that place"
            remarks.append(Remark(f"--reserve-hugepages {one}", "reserved as far as they exist", reason))
    memory_kib = read_memory_kib(options.proc / "meminfo")
    if limits.memory_bytes is not None and memory_kib is not None and limits.memory_bytes < memory_kib * 1024:
        remarks.append(
            Remark(
                "memory",
                "offered as far as the host has it",
                f"the cgroup of this container allows {limits.memory_bytes >> 20} MiB only; if guests run in this"
                " container, reserve the rest: --memory-reserved",
            )
        )
    return remarks
