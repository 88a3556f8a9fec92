"""The NUMA cells of a host: CPUs, memory and hugepages of each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

from vacancy.clients.publisher.host.files import entries, parse_cpu_list, read_text
from vacancy.clients.publisher.host.memory import Hugepages, read_hugepages, read_memory_kib

_DIRECTORY: Final = re.compile(r"node([0-9]{1,6})")


class HostNumaCell(NamedTuple):
    """One NUMA cell. `cpus` is empty if it has memory only; `memory_kib` is None if unknown."""

    number: int
    cpus: tuple[int, ...]
    memory_kib: int | None
    hugepages: Hugepages


def read_cells(sys: Path) -> tuple[HostNumaCell, ...]:
    """The NUMA cells of the host, sorted by number; empty if the kernel shows none."""
    found = []
    for directory in entries(sys / "devices/system/node"):
        match = _DIRECTORY.fullmatch(directory.name)
        if match:
            found.append(
                HostNumaCell(
                    number=int(match[1]),
                    cpus=parse_cpu_list(read_text(directory / "cpulist")),
                    memory_kib=read_memory_kib(directory / "meminfo"),
                    hugepages=read_hugepages(directory / "hugepages"),
                )
            )
    return tuple(sorted(found))
