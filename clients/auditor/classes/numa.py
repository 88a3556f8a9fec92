"""NUMA cells: whether an ask fits next to what is held, and whether a grant is right.

The store chooses which of the free CPUs it grants, and its verdict names them. Those grants determine what is free.
Whether an ask fits into that is computed here, core by core, from the documented rules.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from vacancy.clients.auditor.classes.class_auditor import (
    OPAQUE,
    ROOM,
    RULE,
    ClassAuditor,
    Objection,
    Refused,
    Slot,
)
from vacancy.clients.auditor.classes.quantity import RATIO_MILLI_MAX
from vacancy.clients.auditor.not_judged import SEVERAL_ASKS

_CPUS_MAX, _CPU_MAX = 4_096, 65_535
_MEMORY_MB_MAX, _PAGES_MAX, _PAGE_KIB_MAX = 2**43 - 1, 2**27, 2**26
_SIZE = re.compile(r"[1-9][0-9]{0,7}")
_WORDS = ("small", "large", "any")
_SMALLEST: Mapping[str, Any] = {
    "cores": [], "shared_cpus": [], "reserved_cpus": [], "cpu_ratio_milli": 1000, "memory_mb": 0, "page_kib": 4,
    "hugepages": {}, "cell": None,
}  # fmt: skip

Cell = Mapping[str, Any]
"""An inventory with all its fields."""
Grants = Sequence[Mapping[str, Any]]


class NumaStock(NamedTuple):
    """A NUMA cell as reported, as canonical JSON."""

    cell: str
    listed: bool = True

    def withdrawn(self) -> NumaStock:
        return NumaStock("{}", listed=False)


class NumaCellAuditor(ClassAuditor[NumaStock]):
    """A grant names CPUs, and counts shared vCPUs and pages."""

    def __init__(self, name: str) -> None:
        self.name = name

    def read_inventory(self, inventory: Mapping[str, Any]) -> NumaStock:
        return NumaStock(json.dumps(_read_cell(inventory), sort_keys=True))

    def items(self, inventory: Mapping[str, Any]) -> int:
        """The cores, or half of the CPUs of the cores or of those that are shared."""
        cell = _read_cell(inventory)
        cores = cell["cores"]
        return max(len(cores), sum(map(len, map(_cpus, cores))) // 2, len(_cpus(cell["shared_cpus"])) // 2)

    def count_of(self, ask: Any) -> None:
        return None

    def counted(self, stock: NumaStock | None, ask: Any, grant: Any | None) -> Mapping[str, int] | None:
        """vCPUs, and memory in pages of any size."""
        if not is_ask(ask):
            return None
        cpus, memory_mb = ask.get("pinned", 0) + ask.get("shared", 0), ask.get("memory_mb", 0)
        return {"": cpus, "memory_mb": memory_mb}

    def most_reads(self, stock: NumaStock, held: Sequence[Any], ask: Any) -> int:
        """The CPUs of the cell, and those that are held."""
        return sum(map(len, _cell(stock.cell)["cores"])) + sum(len(grant.get("cpus", ())) for grant in held)

    def objections(self, slot: Slot[NumaStock], asks: Sequence[Any]) -> Iterable[Objection]:
        """Each ask is judged as if it were the only one. Of several, it depends on which CPUs the first gets."""
        for ask in asks:
            if not is_ask(ask):
                yield Objection(RULE, f"{ask!r} is not an ask of {self.name}")
            elif why := lacking(slot.stock, slot.held, ask):
                yield Objection(ROOM, f"{slot.provider}: {why}")
        if len(asks) > 1:
            yield Objection(
                OPAQUE, SEVERAL_ASKS.format(count=len(asks), name=self.name, provider=slot.provider)
            )

    def grant_errors(
        self, slot: Slot[NumaStock], asks: Sequence[Any], grants: Sequence[Any]
    ) -> Iterable[str]:
        left, own = list(grants), list[Any]()
        for ask in filter(is_ask, asks):
            if not left:
                yield f"no grant of {self.name} is named"
                continue
            grant = left.pop(0)
            yield from _grant_errors(slot.stock, [*slot.held, *own], ask, grant)
            own.append(grant)


def _read_cell(inventory: Mapping[str, Any]) -> Cell:
    if not inventory.keys() <= _SMALLEST.keys():
        raise Refused
    cell = {**_SMALLEST, **inventory}
    shared, reserved = _cpus(cell["shared_cpus"]), _cpus(cell["reserved_cpus"])
    if not isinstance(cell["cores"], list) or not all(map(_cpus, cell["cores"])):
        raise Refused
    in_cores = _cpus([cpu for core in cell["cores"] for cpu in core])
    pages = cell["hugepages"]
    is_valid = (
        set(shared).isdisjoint(reserved)
        and len(in_cores) <= _CPUS_MAX
        and len(shared) + len(reserved) <= _CPUS_MAX
        and _is_within(cell["cpu_ratio_milli"], 1, RATIO_MILLI_MAX)
        and _is_within(cell["memory_mb"], 0, _MEMORY_MB_MAX)
        and type(cell["page_kib"]) is int
        and cell["page_kib"] in (4, 16, 64)
        and (cell["cell"] is None or _is_within(cell["cell"], 0, _CPU_MAX))
        and isinstance(pages, dict)
        and len(pages) <= 16
        and all(
            _SIZE.fullmatch(size) and _is_page(int(size)) and int(size) > cell["page_kib"] for size in pages
        )
        and all(_is_within(count, 0, _PAGES_MAX) for count in pages.values())
    )
    if not is_valid:
        raise Refused
    cores = sorted(sorted(core) for core in cell["cores"])
    return {**cell, "cores": cores, "shared_cpus": shared, "reserved_cpus": reserved}


def _cpus(value: Any) -> list[int]:
    """A list of distinct CPUs, in order."""
    if not isinstance(value, list) or not all(_is_within(cpu, 0, _CPU_MAX) for cpu in value):
        raise Refused
    if len(set(value)) < len(value):
        raise Refused
    return sorted(value)


def _is_within(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _is_page(size_kib: int) -> bool:
    return size_kib <= _PAGE_KIB_MAX and size_kib.bit_count() == 1


def is_ask(ask: Any) -> bool:
    """Whether an ask is valid."""
    if not isinstance(ask, dict) or not ask.keys() <= {
        "pinned",
        "threads",
        "shared",
        "memory_mb",
        "page_kib",
    }:
        return False
    pinned, shared, memory = ask.get("pinned", 0), ask.get("shared", 0), ask.get("memory_mb", 0)
    threads, page = ask.get("threads", "prefer"), ask.get("page_kib", "small")
    is_valid = (
        _is_within(pinned, 0, _CPUS_MAX)
        and _is_within(shared, 0, _CPUS_MAX)
        and _is_within(memory, 0, _MEMORY_MB_MAX)
        and threads in ("prefer", "isolate", "require")
        and (page in _WORDS if isinstance(page, str) else type(page) is int and page >= 4 and _is_page(page))
    )
    return (
        is_valid
        and (pinned or shared or memory) > 0
        and (threads == "prefer" or pinned > 0)
        and (page == "small" or memory > 0)
        and (isinstance(page, str) or memory * 1024 % page == 0)
    )


def lacking(stock: NumaStock, held: Grants, ask: Mapping[str, Any]) -> str:
    """What a valid ask lacks in a cell with `held` already held; '' if it fits."""
    cell = _cell(stock.cell)
    pinned, shared, memory = ask.get("pinned", 0), ask.get("shared", 0), ask.get("memory_mb", 0)
    if pinned and not _can_pin(cell, held, pinned, ask.get("threads", "prefer")):
        return f"it has no {pinned} CPUs to pin"
    if shared and (shared > len(cell["shared_cpus"]) or shared > _shared_free(cell, held)):
        return f"it has {_shared_free(cell, held)} shared vCPUs left, {shared} asked"
    if memory and not any(
        memory * 1024 % size == 0 and memory * 1024 <= _free_kib(cell, held, size)
        for size in _sizes(cell, ask)
    ):
        return f"it has no {memory} MiB in such pages"
    return ""


def _grant_errors(
    stock: NumaStock, held: Grants, ask: Mapping[str, Any], grant: Mapping[str, Any]
) -> Iterable[str]:
    """The errors in a grant for an ask, in a cell of which `held` is held."""
    cell = _cell(stock.cell)
    if grant.get("cell") != cell["cell"]:
        yield f"cell {grant.get('cell')} is not {cell['cell']}"
    for what, name in (("shared", "shared"), ("memory_mb", "memory_mb")):
        if grant.get(what, 0) != ask.get(name, 0):
            yield f"{grant.get(what, 0)} of {what} is not what was asked for"
    cpus, free = grant.get("cpus", []), _free(cell, held)
    if len(set(cpus)) != len(cpus) or len(cpus) != ask.get("pinned", 0):
        yield f"CPUs {cpus} are not the number that was asked for"
    not_free = [cpu for cpu in cpus if not any(cpu in some for some in free)]
    if not_free:
        yield f"CPU {not_free[0]} is not free"
    elif not _is_allowed(cell, free, cpus, ask.get("threads", "prefer")):
        yield f"CPUs {cpus} violate threads={ask.get('threads')}"
    # A report may leave fewer shared CPUs than are held. That does not concern an ask for none.
    if ask.get("shared", 0) and ask["shared"] > _shared_free(cell, held):
        yield f"it has {_shared_free(cell, held)} shared vCPUs left"
    if ask.get("memory_mb", 0):
        size, memory_kib = grant.get("page_kib"), ask["memory_mb"] * 1024
        if size not in _sizes(cell, ask) or memory_kib % size or memory_kib > _free_kib(cell, held, size):
            yield f"it has no {ask['memory_mb']} MiB in pages of {size} KiB"
        elif size != cell["page_kib"] and grant.get("pages", 0) * size != memory_kib:
            yield f"{grant.get('pages')} pages are not the memory that was asked for"


def _free(cell: Cell, held: Grants) -> list[set[int]]:
    """What may be pinned of each core, in the order of the cores."""
    taken = {cpu for grant in held for cpu in grant.get("cpus", ())}
    isolated = {cpu for grant in held if grant.get("threads") == "isolate" for cpu in grant.get("cpus", ())}
    kept = taken | set(cell["shared_cpus"]) | set(cell["reserved_cpus"])
    return [set() if isolated & set(core) else set(core) - kept for core in cell["cores"]]


def _is_allowed(cell: Cell, free: Sequence[set[int]], cpus: Iterable[int], threads: str) -> bool:
    of = Counter(at for cpu in cpus for at, core in enumerate(cell["cores"]) if cpu in core)
    if threads == "isolate":
        return all(n == 1 and len(free[at]) == len(cell["cores"][at]) for at, n in of.items())
    if threads == "require":
        single = sum(n == 1 for n in of.values())
        return all(len(cell["cores"][at]) > 1 for at in of) and single <= sum(of.values()) % 2
    return True


def _can_pin(cell: Cell, held: Grants, count: int, threads: str) -> bool:
    free = [len(some) for some in _free(cell, held)]
    sizes = [len(core) for core in cell["cores"]]
    if threads == "isolate":
        return count <= sum(n == size for n, size in zip(free, sizes, strict=True))
    if threads == "prefer":
        return count <= sum(free)
    # Bit n of `paired`: n CPUs can be chosen so that none is the only one of its core; of `one_single`: all but one.
    paired, one_single = 1, 0
    for n, size in zip(free, sizes, strict=True):
        if size > 1 and n:
            more, more_single = paired, one_single | paired << 1
            for together in range(2, n + 1):
                more |= paired << together
                more_single |= one_single << together
            paired, one_single = more, more_single
    return bool((paired | (one_single if count % 2 else 0)) >> count & 1)


def _shared_free(cell: Cell, held: Grants) -> int:
    capacity: int = len(cell["shared_cpus"]) * cell["cpu_ratio_milli"] // 1000
    return capacity - sum(int(grant.get("shared", 0)) for grant in held)


def _sizes(cell: Cell, ask: Mapping[str, Any]) -> list[int]:
    large = [int(size) for size in cell["hugepages"]]
    asked, small = ask.get("page_kib", "small"), cell["page_kib"]
    if asked == "small":
        return [small]
    if isinstance(asked, int):
        return [size for size in (*large, small) if size == asked]
    return large if asked == "large" else [*large, small]


def _free_kib(cell: Cell, held: Grants, size: int) -> int:
    """KiB that are free in pages of that size."""
    if size == cell["page_kib"]:
        used = sum(grant["memory_mb"] for grant in held if "memory_mb" in grant and "pages" not in grant)
        return (int(cell["memory_mb"]) - int(used)) * 1024
    pages = cell["hugepages"][str(size)] - sum(
        grant["pages"] for grant in held if grant.get("page_kib") == size and "pages" in grant
    )
    return int(pages) * size


@lru_cache(maxsize=4096)
def _cell(text: str) -> Cell:
    cell: Cell = {**_SMALLEST, **json.loads(text)}
    return cell
