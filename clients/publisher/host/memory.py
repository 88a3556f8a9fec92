"""Memory and hugepages of the host or of one NUMA cell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from vacancy.clients.publisher.host.files import entries, parse_kib, read_int, read_text

_DIRECTORY: Final = re.compile(r"hugepages-([0-9]{1,12})kB")

Hugepages = Mapping[int, int]
"""Page size in KiB -> number of hugepages of that size."""


def read_memory_kib(meminfo: Path) -> int | None:
    """The total memory in KiB; None if the file does not have it."""
    return parse_kib(read_text(meminfo), "MemTotal")


def read_hugepages(directory: Path) -> Hugepages:
    """The number of hugepages by size, from a `hugepages` directory of the host or of a NUMA cell."""
    found: dict[int, int] = {}
    for entry in entries(directory):
        match = _DIRECTORY.fullmatch(entry.name)
        pages = read_int(entry / "nr_hugepages") if match else None
        if match and pages:
            found[int(match[1])] = pages
    return dict(sorted(found.items()))


def hugepages_mib(pages: Hugepages) -> int:
    """The memory of `pages` in MiB, rounded up."""
    return -(-sum(size_kib * count for size_kib, count in pages.items()) // 1024)


def hugepages_class(size_kib: int) -> str:
    """The resource class of hugepages of one size, for example `CUSTOM_HUGEPAGES_2048KB`."""
    return f"CUSTOM_HUGEPAGES_{size_kib}KB"
