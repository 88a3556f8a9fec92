"""NUMA cells as the auditor sees them: whether an ask fits beside what is held, and whether a grant is right.

Which of the free CPUs are granted is the store's choice, which its verdict tells. From those grants it follows what
is free; whether an ask fits into that is worked out here, core by core, from the rules and not from the fold.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from vacancy.clients.auditor.inventory import RATIO_MILLI_MAX, Refused, Stock

NUMA_CELL: Final = "NUMA_CELL"

_CPUS_MAX, _CPU_MAX = 4_096, 65_535
_MEMORY_MB_MAX, _PAGES_MAX, _PAGE_KIB_MAX = 2**43 - 1, 2**27, 2**26
_SIZE = re.compile(r"[1-9][0-9]{0,7}")
_WORDS = ("small", "large", "any")
_SMALLEST: Mapping[str, Any] = {
    "cores": [], "shared_cpus": [], "reserved_cpus": [], "cpu_ratio_milli": 1000, "memory_mb": 0, "page_kib": 4,
    "hugepages": {}, "cell": None,
}  # fmt: skip

Cell = Mapping[str, Any]
"""An inventory with everything in it."""
Grants = Sequence[Mapping[str, Any]]


def cell_stock(inventory: Mapping[str, Any]) -> Stock:
    """An inventory as reported. Raises `Refused`."""
    if not inventory.keys() <= _SMALLEST.keys():
        raise Refused
    said = {**_SMALLEST, **inventory}
    shared, reserved = _cpus(said["shared_cpus"]), _cpus(said["reserved_cpus"])
    if not isinstance(said["cores"], list) or not all(map(_cpus, said["cores"])):
        raise Refused
    in_cores = _cpus([cpu for core in said["cores"] for cpu in core])
    pages = said["hugepages"]
    fine = (
        set(shared).isdisjoint(reserved)
        and len(in_cores) <= _CPUS_MAX
        and len(shared) + len(reserved) <= _CPUS_MAX
        and _is_within(said["cpu_ratio_milli"], 1, RATIO_MILLI_MAX)
        and _is_within(said["memory_mb"], 0, _MEMORY_MB_MAX)
        and type(said["page_kib"]) is int
        and said["page_kib"] in (4, 16, 64)
        and (said["cell"] is None or _is_within(said["cell"], 0, _CPU_MAX))
        and isinstance(pages, dict)
        and len(pages) <= 16
        and all(
            _SIZE.fullmatch(size) and _is_page(int(size)) and int(size) > said["page_kib"] for size in pages
        )
        and all(_is_within(count, 0, _PAGES_MAX) for count in pages.values())
    )
    if not fine:
        raise Refused
    cores = sorted(sorted(core) for core in said["cores"])
    kept = {**said, "cores": cores, "shared_cpus": shared, "reserved_cpus": reserved}
    return Stock(0, 0, 1, 0, 1, 1000, opaque=True, devices=json.dumps(kept, sort_keys=True))


def _cpus(said: Any) -> list[int]:
    """A list of distinct CPUs, in order."""
    if not isinstance(said, list) or not all(_is_within(cpu, 0, _CPU_MAX) for cpu in said):
        raise Refused
    if len(set(said)) < len(said):
        raise Refused
    return sorted(said)


def _is_within(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _is_page(size_kib: int) -> bool:
    return size_kib <= _PAGE_KIB_MAX and size_kib.bit_count() == 1


def is_ask(ask: Any) -> bool:
    """Whether an ask can be meant."""
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
    fine = (
        _is_within(pinned, 0, _CPUS_MAX)
        and _is_within(shared, 0, _CPUS_MAX)
        and _is_within(memory, 0, _MEMORY_MB_MAX)
        and threads in ("prefer", "isolate", "require")
        and (page in _WORDS if isinstance(page, str) else type(page) is int and page >= 4 and _is_page(page))
    )
    return (
        fine
        and (pinned or shared or memory) > 0
        and (threads == "prefer" or pinned > 0)
        and (page == "small" or memory > 0)
        and (isinstance(page, str) or memory * 1024 % page == 0)
    )


def lacking(stock: Stock, held: Grants, ask: Mapping[str, Any]) -> str:
    """What an ask that can be meant does not find in a cell of which `held` is held; '' where it fits."""
    cell = _cell(stock.devices)
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


def wrong_cell_grants(
    stock_at: Callable[[str, str], Stock | None],
    held: Callable[[str, str], Iterable[Any]],
    allocations: Iterable[Mapping[str, Any]],
    grants: Iterable[Mapping[str, Any]],
) -> Iterable[str]:
    """What is wrong with what a claim was granted of NUMA cells, as `devices.wrong_grants` of devices."""
    left = [one for one in grants if one["resource_class"] == NUMA_CELL]
    own: dict[str, list[Any]] = {}
    for allocation in allocations:
        provider, ask = allocation["provider"], allocation["resources"].get(NUMA_CELL)
        stock = stock_at(provider, NUMA_CELL)
        if stock is None or not is_ask(ask):
            continue
        at = next((at for at, one in enumerate(left) if one["provider"] == provider), None)
        if at is None:
            yield f"{provider}: what it gives of {NUMA_CELL} is not told"
            continue
        grant = left.pop(at)["grant"]
        for text in _wrong(stock, [*held(provider, NUMA_CELL), *own.get(provider, ())], ask, grant):
            yield f"{provider}: {text}"
        own.setdefault(provider, []).append(grant)


def _wrong(stock: Stock, held: Grants, ask: Mapping[str, Any], grant: Mapping[str, Any]) -> Iterable[str]:
    """What is wrong with what an ask was granted of a cell of which `held` is held."""
    cell = _cell(stock.devices)
    if grant.get("cell") != cell["cell"]:
        yield f"cell {grant.get('cell')} is not {cell['cell']}"
    for what, name in (("shared", "shared"), ("memory_mb", "memory_mb")):
        if grant.get(what, 0) != ask.get(name, 0):
            yield f"{grant.get(what, 0)} of {what} is not what was asked for"
    cpus, free = grant.get("cpus", []), _free(cell, held)
    if len(set(cpus)) != len(cpus) or len(cpus) != ask.get("pinned", 0):
        yield f"CPUs {cpus} are not as many as were asked for"
    not_free = [cpu for cpu in cpus if not any(cpu in some for some in free)]
    if not_free:
        yield f"CPU {not_free[0]} is not free"
    elif not _is_allowed(cell, free, cpus, ask.get("threads", "prefer")):
        yield f"CPUs {cpus} are not what {ask.get('threads')} means"
    # A cell may be given fewer shared CPUs than are held of it: that is no harm to who asks for none.
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
    alone = {cpu for grant in held if grant.get("threads") == "isolate" for cpu in grant.get("cpus", ())}
    kept = taken | set(cell["shared_cpus"]) | set(cell["reserved_cpus"])
    return [set() if alone & set(core) else set(core) - kept for core in cell["cores"]]


def _is_allowed(cell: Cell, free: Sequence[set[int]], cpus: Iterable[int], threads: str) -> bool:
    of = Counter(at for cpu in cpus for at, core in enumerate(cell["cores"]) if cpu in core)
    if threads == "isolate":
        return all(n == 1 and len(free[at]) == len(cell["cores"][at]) for at, n in of.items())
    if threads == "require":
        alone = sum(n == 1 for n in of.values())
        return all(len(cell["cores"][at]) > 1 for at in of) and alone <= sum(of.values()) % 2
    return True


def _can_pin(cell: Cell, held: Grants, count: int, threads: str) -> bool:
    free = [len(some) for some in _free(cell, held)]
    sizes = [len(core) for core in cell["cores"]]
    if threads == "isolate":
        return count <= sum(n == size for n, size in zip(free, sizes, strict=True))
    if threads == "prefer":
        return count <= sum(free)
    # Bit n of `pairs`: n CPUs can be had of which none is alone on its core; of `one_alone`: all but one.
    pairs, one_alone = 1, 0
    for n, size in zip(free, sizes, strict=True):
        if size > 1 and n:
            more, alone_more = pairs, one_alone | pairs << 1
            for together in range(2, n + 1):
                more |= pairs << together
                alone_more |= one_alone << together
            pairs, one_alone = more, alone_more
    return bool((pairs | (one_alone if count % 2 else 0)) >> count & 1)


def _shared_free(cell: Cell, held: Grants) -> int:
    capacity: int = len(cell["shared_cpus"]) * cell["cpu_ratio_milli"] // 1000
    return capacity - sum(int(grant.get("shared", 0)) for grant in held)


def _sizes(cell: Cell, ask: Mapping[str, Any]) -> list[int]:
    large = [int(size) for size in cell["hugepages"]]
    said, small = ask.get("page_kib", "small"), cell["page_kib"]
    if said == "small":
        return [small]
    if isinstance(said, int):
        return [size for size in (*large, small) if size == said]
    return large if said == "large" else [*large, small]


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
