"""The NUMA cells of a host: CPUs, memory and hugepages of each, without what guests cannot be given."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from vacancy.clients.publisher.host.files import entries, parse_cpu_list, read_text
from vacancy.clients.publisher.host.memory.memory import (
    HugepagePool,
    Hugepages,
    hugepages_mib,
    read_hugepages,
    read_memory_kib,
)
from vacancy.clients.publisher.host.processors.cgroup import CgroupLimits
from vacancy.clients.publisher.host.remarks import NOT_OFFERED, Remark, cpus_remark

_DIRECTORY: Final = re.compile(r"node([0-9]{1,6})")


class HostNumaCell(NamedTuple):
    """One NUMA cell. `cpus` is empty if it has memory only; `memory_kib` is None if unknown."""

    number: int
    cpus: tuple[int, ...]
    memory_kib: int | None
    hugepages: Hugepages

    @property
    def small_memory_mib(self) -> int:
        """The memory outside hugepages, in MiB; 0 if unknown."""
        return max(0, (self.memory_kib or 0) // 1024 - hugepages_mib(self.hugepages))


class HostNumaCells(NamedTuple):
    """The NUMA cells of a host, sorted by number, each CPU in one at most.

    The memory of `without_memory` cells is not offered: there `memory_kib` is 0 and there are no hugepages. The host's
    total of memory includes `excluded_kib` of such memory, and `excluded_pages`.
    """

    cells: tuple[HostNumaCell, ...]
    excluded_kib: int
    excluded_pages: Hugepages
    remarks: tuple[Remark, ...]


def read_cells(sys: Path, limits: CgroupLimits) -> HostNumaCells:
    """The NUMA cells of the host; none if the kernel shows none.

    Only normal memory is offered. Memory of other cells belongs to devices, such as the GPUs of POWER9, or is memory that
    the kernel may take away, such as CXL memory.
    """
    directory = sys / "devices/system/node"
    cells, remarks = _exclusive_cpus(_read(directory))
    normal = parse_cpu_list(read_text(directory / "has_normal_memory"))
    kept, excluded = [], []
    for cell in cells:
        reason = _why_no_memory(cell, normal, limits)
        if reason is None:
            kept.append(cell)
            continue
        excluded.append(cell)
        if cell.memory_kib:
            remarks.append(
                Remark(
                    f"memory of NUMA cell {cell.number}, {cell.memory_kib // 1024} MiB", NOT_OFFERED, reason
                )
            )
        if cell.cpus:
            kept.append(cell._replace(memory_kib=0, hugepages={}))
    return HostNumaCells(
        tuple(kept),
        sum(cell.memory_kib or 0 for cell in excluded),
        _add_pages(cell.hugepages for cell in excluded),
        tuple(remarks),
    )


def without_pages(pages: Hugepages, excluded: Hugepages) -> Hugepages:
    """The hugepages of the host without those of some NUMA cells."""
    left = {}
    for size, pool in pages.items():
        gone = excluded.get(size, HugepagePool(0, 0))
        free = None if pool.free is None else max(0, pool.free - (gone.free or 0))
        if pool.total > gone.total:
            left[size] = HugepagePool(pool.total - gone.total, free)
    return left


def _read(directory: Path) -> list[HostNumaCell]:
    found = []
    for entry in entries(directory):
        match = _DIRECTORY.fullmatch(entry.name)
        if match:
            found.append(
                HostNumaCell(
                    number=int(match[1]),
                    cpus=parse_cpu_list(read_text(entry / "cpulist")),
                    memory_kib=read_memory_kib(entry / "meminfo"),
                    hugepages=read_hugepages(entry / "hugepages"),
                )
            )
    return sorted(found, key=lambda cell: cell.number)


def _exclusive_cpus(cells: list[HostNumaCell]) -> tuple[list[HostNumaCell], list[Remark]]:
    """The cells with each CPU in one of them: in the one with the lowest number, if the kernel lists it in several."""
    taken: dict[int, int] = {}
    exclusive: list[HostNumaCell] = []
    remarks: list[Remark] = []
    for cell in cells:
        others: dict[int, list[int]] = {}
        for cpu in cell.cpus:
            owner = taken.setdefault(cpu, cell.number)
            if owner != cell.number:
                others.setdefault(owner, []).append(cpu)
        for owner, cpus in others.items():
            remarks += cpus_remark(
                cpus,
                f"offered by NUMA cell {owner}, not by NUMA cell {cell.number}",
                "the kernel lists them in both",
            )
        exclusive.append(cell._replace(cpus=tuple(cpu for cpu in cell.cpus if taken[cpu] == cell.number)))
    return exclusive, remarks


def _why_no_memory(cell: HostNumaCell, normal: tuple[int, ...], limits: CgroupLimits) -> str | None:
    """Why the memory of a cell cannot be offered; None if it can be."""
    if normal and cell.number not in normal:
        return "it is not normal memory of the kernel (has_normal_memory)"
    if limits.cells is not None and cell.number not in limits.cells:
        return "the cgroup of this container does not allow this NUMA cell"
    return None


def _add_pages(pools: Iterable[Hugepages]) -> Hugepages:
    total: dict[int, HugepagePool] = {}
    for pages in pools:
        for size, pool in pages.items():
            before = total.get(size, HugepagePool(0, 0))
            total[size] = HugepagePool(before.total + pool.total, (before.free or 0) + (pool.free or 0))
    return total
