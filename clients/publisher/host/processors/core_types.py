"""Hosts with cores of two types: performance cores and efficiency cores.

The kernel shows them in one of three ways: Intel's performance counters list the CPUs of each type; newer kernels have a
directory for each type of core; on ARM each CPU has a capacity, relative to the fastest one.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from vacancy.clients.publisher.host.files import entries, parse_cpu_list, read_int, read_text

_EFFICIENCY_COUNTERS: Final = ("cpu_atom", "cpu_lowpower")


def read_efficiency_cpus(sys: Path, online: Iterable[int]) -> frozenset[int]:
    """The online CPUs on efficiency cores; empty if all online CPUs are of one type, or if the types are unknown."""
    cpus = frozenset(online)
    for found in (_by_counters(sys), _by_type(sys), _by_capacity(sys, cpus)):
        here = found & cpus
        if here and here < cpus:
            return here
    return frozenset()


def _by_counters(sys: Path) -> frozenset[int]:
    return frozenset(
        cpu
        for name in _EFFICIENCY_COUNTERS
        for cpu in parse_cpu_list(read_text(sys / f"devices/{name}/cpus"))
    )


def _by_type(sys: Path) -> frozenset[int]:
    """Directories such as `intel_atom_0` and `intel_core_0`."""
    return frozenset(
        cpu
        for directory in entries(sys / "devices/system/cpu/types")
        if "atom" in directory.name
        for name in ("cpulist", "cpus")
        for cpu in parse_cpu_list(read_text(directory / name))
    )


def _by_capacity(sys: Path, cpus: frozenset[int]) -> frozenset[int]:
    """CPUs with less than three quarters of the highest capacity. Cores of one type may differ by their clock."""
    capacities = {
        cpu: capacity
        for cpu in cpus
        if (capacity := read_int(sys / f"devices/system/cpu/cpu{cpu}/cpu_capacity")) is not None
    }
    highest = max(capacities.values(), default=0)
    return frozenset(cpu for cpu, capacity in capacities.items() if 4 * capacity < 3 * highest)
