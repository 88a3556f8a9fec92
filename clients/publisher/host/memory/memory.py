"""Memory and hugepages of the host or of one NUMA cell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from vacancy.clients.publisher.host.files import entries, parse_kib, read_int, read_text
from vacancy.clients.publisher.host.remarks import Remark
from vacancy.resources.model.errors import UsageError

_DIRECTORY: Final = re.compile(r"hugepages-([0-9]{1,12})kB")
_RESERVATION: Final = re.compile(r"([0-9]{1,6}):([0-9]{1,12})([KMG]?):([0-9]{1,12})")
_UNITS: Final[Mapping[str, int]] = {"": 1, "K": 1, "M": 1024, "G": 1024 * 1024}


class HugepagePool(NamedTuple):
    """Hugepages of one size: how many there are, and how many are free (None: unknown)."""

    total: int
    free: int | None = None


Hugepages = Mapping[int, HugepagePool]
"""Page size in KiB -> the hugepages of that size."""


class HugepageReservation(NamedTuple):
    """Hugepages of a NUMA cell that programs of the host use: by the cell's number, the size in KiB, and the number."""

    cell: int
    size_kib: int
    pages: int

    def __str__(self) -> str:
        return ":".join(map(str, self))


def parse_reservation(text: str, where: str) -> HugepageReservation:
    """Parse `CELL:KIB:PAGES`, for example `0:1048576:4`, or `0:1G:4`; `where` names the option. Raises `UsageError`."""
    match = _RESERVATION.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"{text!r} is not a reservation of hugepages",
            where=where,
            do="write the NUMA cell, the size in KiB and the number of pages: 0:1048576:4",
        )
    return HugepageReservation(int(match[1]), int(match[2]) * _UNITS[match[3]], int(match[4]))


def read_memory_kib(meminfo: Path) -> int | None:
    """The total memory in KiB; None if the file does not have it."""
    return parse_kib(read_text(meminfo), "MemTotal")


def read_hugepages(directory: Path) -> Hugepages:
    """The hugepages by size, from a `hugepages` directory of the host or of a NUMA cell."""
    found: dict[int, HugepagePool] = {}
    for entry in entries(directory):
        match = _DIRECTORY.fullmatch(entry.name)
        pages = read_int(entry / "nr_hugepages") if match else None
        if match and pages and pages > 0:
            found[int(match[1])] = HugepagePool(pages, read_int(entry / "free_hugepages"))
    return dict(sorted(found.items()))


def hugepages_mib(pages: Hugepages) -> int:
    """The memory of `pages` in MiB, rounded up."""
    return -(-sum(size_kib * pool.total for size_kib, pool in pages.items()) // 1024)


def offered_hugepages(
    pages: Hugepages, cell: int, reservations: Iterable[HugepageReservation]
) -> dict[int, int]:
    """Page size in KiB -> how many hugepages of the NUMA cell are offered: all but the reserved ones."""
    reserved = {one.size_kib: one.pages for one in reservations if one.cell == cell}
    return {size: max(0, pool.total - reserved.get(size, 0)) for size, pool in pages.items()}


def hugepages_remarks(
    pages: Hugepages, cell: int, place: str, reservations: Iterable[HugepageReservation]
) -> list[Remark]:
    """Remarks on reserved hugepages, and on those that are in use and not reserved.

    Pages in use are offered: the collector cannot know which of them belong to guests, whose claims count them already.
    """
    remarks = []
    offered = offered_hugepages(pages, cell, reservations)
    for size, pool in pages.items():
        reserved = pool.total - offered[size]
        in_use = 0 if pool.free is None else pool.total - max(0, pool.free)
        reasons = [f"{reserved} are reserved for the host"] if reserved else []
        if in_use > reserved:
            option = HugepageReservation(cell, size, in_use)
            reasons.append(
                f"{in_use} are in use; if guests do not use them, reserve them: --reserve-hugepages {option}"
            )
        if reasons:
            subject = f"{place}, hugepages of {size} KiB"
            remarks.append(Remark(subject, f"{offered[size]} of {pool.total} offered", "; ".join(reasons)))
    return remarks


def hugepages_class(size_kib: int) -> str:
    """The resource class of hugepages of one size, for example `CUSTOM_HUGEPAGES_2048KB`."""
    return f"CUSTOM_HUGEPAGES_{size_kib}KB"
