"""NUMA_CELL inventories: what each NUMA cell offers, and what remains for the node to offer.

Each CPU and each MiB is offered once. `split`: the NUMA cells offer the dedicated CPUs, the hugepages and a given amount
of other memory; shared CPUs and the remaining memory are VCPU and MEMORY_MB of the node. `whole`: the NUMA cells offer
everything, and the node has neither VCPU nor MEMORY_MB.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

from pydantic import JsonValue

from vacancy.clients.publisher.host.memory.numa import HostNumaCell
from vacancy.clients.publisher.host.processors.cpu import Cpu
from vacancy.clients.publisher.host.remarks import NOT_OFFERED, Remark, cpus_remark
from vacancy.resources.classes.numa.numa_cell import CPU_MAX, CPUS_MAX, MEMORY_MB_MAX, PAGE_KIB_MAX, PAGES_MAX

NumaMode = Literal["split", "whole"]

_SMALL_PAGES: Final = (4, 16, 64)


class CellInventory(NamedTuple):
    """The NUMA_CELL inventory of a NUMA cell (None if it has nothing to offer), and remarks on what is not in it."""

    inventory: dict[str, JsonValue] | None
    remarks: tuple[Remark, ...]


def page_kib() -> int:
    """The size of this host's small pages in KiB."""
    found = os.sysconf("SC_PAGE_SIZE") // 1024
    return found if found in _SMALL_PAGES else _SMALL_PAGES[0]


def cell_inventory(
    cell: HostNumaCell,
    cpu: Cpu,
    *,
    dedicated: frozenset[int],
    shared: frozenset[int],
    ratio_milli: int,
    memory_mib: int,
    hugepages: Mapping[int, int],
) -> CellInventory:
    """What the NUMA cell offers.

    `dedicated` CPUs are for pinning, if the core of each is known. `shared` CPUs are offered by the NUMA cell too (empty
    if the node offers them). `memory_mib` of the memory outside hugepages are offered, or less if there is less.
    `hugepages`: page size in KiB -> the number of pages.
    """
    dedicated = dedicated.intersection(cell.cpus)
    cores, threads = _cores(cpu, dedicated)
    here = sorted(shared.intersection(cell.cpus))[:CPUS_MAX]
    # A core with a sibling that is not for pinning here cannot be allocated as a whole.
    others = sorted(threads - dedicated - set(here))
    pages = {
        str(size): min(count, PAGES_MAX)
        for size, count in hugepages.items()
        if page_kib() < size <= PAGE_KIB_MAX and not size & (size - 1)
    }
    memory = max(0, min(memory_mib, cell.small_memory_mib, MEMORY_MB_MAX))
    remarks = _remarks(cell, cpu, dedicated - threads, len(shared.intersection(cell.cpus)))
    if not cores and not here and not memory and not pages:
        return CellInventory(None, remarks)
    inventory: dict[str, JsonValue] = {"page_kib": page_kib(), "memory_mb": memory}
    if cell.number <= CPU_MAX:
        inventory["cell"] = cell.number
    if cores:
        inventory["cores"] = [list(core) for core in cores]
    if here:
        inventory["shared_cpus"] = list[JsonValue](here)
        inventory["cpu_ratio_milli"] = ratio_milli
    if others:
        inventory["reserved_cpus"] = list[JsonValue](others)
    if pages:
        inventory["hugepages"] = dict[str, JsonValue](pages)
    return CellInventory(inventory, remarks)


def _cores(cpu: Cpu, dedicated: frozenset[int]) -> tuple[list[tuple[int, ...]], set[int]]:
    """The cores with a dedicated CPU, and all their threads. Cores that overlap others are omitted."""
    cores: list[tuple[int, ...]] = []
    threads: set[int] = set()
    for core in sorted({cpu.siblings[n] for n in dedicated if n in cpu.siblings}):
        if threads.isdisjoint(core) and len(threads) + len(core) <= CPUS_MAX:
            cores.append(core)
            threads.update(core)
    return cores, threads


def _remarks(cell: HostNumaCell, cpu: Cpu, left_out: frozenset[int], shared: int) -> tuple[Remark, ...]:
    unknown = {number for number in left_out if number not in cpu.siblings}
    remarks = cpus_remark(unknown, NOT_OFFERED, "the kernel does not show their cores")
    remarks += cpus_remark(
        left_out - unknown,
        NOT_OFFERED,
        f"the kernel's lists of siblings contradict each other, or the NUMA cell has more than {CPUS_MAX} CPUs",
    )
    if shared > CPUS_MAX:
        reason = f"an inventory has {CPUS_MAX} at most"
        remarks.append(Remark(f"{shared - CPUS_MAX} CPUs of NUMA cell {cell.number}", NOT_OFFERED, reason))
    return tuple(remarks)


def memory_after_reserve(cells: Sequence[HostNumaCell], reserved_mib: int) -> dict[int, int]:
    """The number of a NUMA cell -> its memory outside hugepages, in MiB, without its part of the memory for the host.

    The NUMA cells give equal parts, rounded up. One that has less gives what it has, and the others give more.
    """
    part, missing = 0, reserved_mib
    for at, memory_mib in enumerate(sorted(cell.small_memory_mib for cell in cells)):
        part = -(-missing // (len(cells) - at))
        if memory_mib >= part:
            break
        missing -= memory_mib
    return {cell.number: max(0, cell.small_memory_mib - part) for cell in cells}


def node_share_mib(cells: Sequence[HostNumaCell], memory_mib: int) -> int:
    """The memory, in MiB, that all NUMA cells offer together if each offers up to `memory_mib`."""
    return sum(min(memory_mib, cell.small_memory_mib) for cell in cells)
