"""The CPUs and NUMA cells that the cgroup of a container allows, and its limit of memory.

The root of the cgroup file system that a container sees is its own cgroup. On a host it is the root of all, which allows
everything: CPUs that are missing there belong to partitions below it, in which guests may run. The CPU affinity of the
publisher's own process does not matter: guests do not inherit it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from vacancy.clients.publisher.host.files import entries, parse_cpu_list, read_int, read_text

# Version 2 of cgroups, then version 1 in its two spellings.
_CPUS: Final = ("cpuset.cpus.effective", "cpuset/cpuset.effective_cpus", "cpuset/cpuset.cpus")
_CELLS: Final = ("cpuset.mems.effective", "cpuset/cpuset.effective_mems", "cpuset/cpuset.mems")
# Only the root of all cgroups has these files, in version 2.
_OF_ROOT: Final = frozenset(("cpuset.cpus.isolated", "misc.capacity", "io.cost.qos"))
_MEMORY: Final = ("memory.max", "memory/memory.limit_in_bytes")


class CgroupLimits(NamedTuple):
    """What the cgroup allows: CPUs, numbers of NUMA cells, bytes of memory. None: not limited, or unknown."""

    cpus: frozenset[int] | None
    cells: frozenset[int] | None
    memory_bytes: int | None


def read_cgroup(sys: Path) -> CgroupLimits:
    """Read the limits of the cgroup at the root of `sys`/fs/cgroup."""
    root = sys / "fs/cgroup"
    if not _OF_ROOT.isdisjoint(path.name for path in entries(root)):
        return CgroupLimits(None, None, None)
    memory = (read_int(root / name) for name in _MEMORY)
    return CgroupLimits(
        _numbers(root, _CPUS),
        _numbers(root, _CELLS),
        next((limit for limit in memory if limit is not None), None),
    )


def _numbers(root: Path, names: tuple[str, ...]) -> frozenset[int] | None:
    for name in names:
        if found := parse_cpu_list(read_text(root / name)):
            return frozenset(found)
    return None
