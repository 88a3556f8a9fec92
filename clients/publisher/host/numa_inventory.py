"""NUMA_CELL inventories: what each NUMA cell offers, and what remains for the node to offer.

Each CPU and each MiB is offered once. `split`: the NUMA cells offer the dedicated CPUs, the hugepages and a given amount
of other memory; shared CPUs and the remaining memory are VCPU and MEMORY_MB of the node. `whole`: the NUMA cells offer
everything, and the node has neither VCPU nor MEMORY_MB.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final, Literal

from pydantic import JsonValue

from vacancy.clients.publisher.host.cpu import Cpu
from vacancy.clients.publisher.host.memory import hugepages_mib
from vacancy.clients.publisher.host.numa import HostNumaCell
from vacancy.resources.classes.numa_cell import CPU_MAX, CPUS_MAX, MEMORY_MB_MAX, PAGE_KIB_MAX, PAGES_MAX

NumaMode = Literal["split", "whole"]

_SMALL_PAGES: Final = (4, 16, 64)


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
) -> dict[str, JsonValue] | None:
    """The NUMA_CELL inventory of a NUMA cell; None if it has nothing to offer.

    `dedicated` CPUs are for pinning, if the core of each is known. `shared` CPUs are offered by the NUMA cell too (empty
    if the node offers them). `memory_mib` of the memory outside hugepages are offered, or less if there is less.
    """
    cores, threads = _cores(cell, cpu, dedicated)
    here = sorted(n for n in cell.cpus if n in shared)[:CPUS_MAX]
    # A core with a sibling that is not for pinning cannot be allocated as a whole.
    others = sorted(threads - dedicated - set(here))
    pages = {
        str(size): min(count, PAGES_MAX)
        for size, count in cell.hugepages.items()
        if page_kib() < size <= PAGE_KIB_MAX and not size & (size - 1)
    }
    memory = max(0, min(memory_mib, small_memory_mib(cell), MEMORY_MB_MAX))
    if not cores and not here and not memory and not pages:
        return None
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
    return inventory


def _cores(cell: HostNumaCell, cpu: Cpu, dedicated: frozenset[int]) -> tuple[list[tuple[int, ...]], set[int]]:
    """The cores of a NUMA cell with a dedicated CPU, and all their threads. Cores that overlap others are omitted."""
    cores: list[tuple[int, ...]] = []
    threads: set[int] = set()
    for core in sorted({cpu.siblings[n] for n in cell.cpus if n in dedicated and n in cpu.siblings}):
        if threads.isdisjoint(core) and len(threads) + len(core) <= CPUS_MAX:
            cores.append(core)
            threads.update(core)
    return cores, threads


def small_memory_mib(cell: HostNumaCell) -> int:
    """The memory of a NUMA cell outside hugepages, in MiB; 0 if unknown."""
    return max(0, (cell.memory_kib or 0) // 1024 - hugepages_mib(cell.hugepages))


def node_share_mib(cells: Sequence[HostNumaCell], memory_mib: int) -> int:
    """The memory, in MiB, that all NUMA cells offer together if each offers up to `memory_mib`."""
    return sum(min(memory_mib, small_memory_mib(cell)) for cell in cells)
