"""Resource classes that are not counted, for the solver in `brute_force`: every possible remaining stock after an ask.

Written from docs/devices.md and docs/numa.md; no code is shared with the classes themselves. The stock of a class is a
dict that is never changed in place. `out`, where there is one, are the devices that an operator excluded.
"""

from __future__ import annotations

import itertools
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

Stock = Mapping[str, Any]

_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def has(attributes: Mapping[str, Any], ask: Any) -> bool:
    """Whether a device matches an ask. Values of different types never match."""
    for name, wanted in (ask.get("where", {}) if isinstance(ask, dict) else {}).items():
        value = attributes.get(name)
        for sign, other in (wanted if isinstance(wanted, dict) else {"==": wanted}).items():
            some = [one for one in (other if sign == "in" else [other]) if type(one) is type(value)]
            if not any(_COMPARE["==" if sign == "in" else sign](value, one) for one in some):
                return False
    return True


def agree(devices: Iterable[Mapping[str, Any]], ask: Any) -> bool:
    """Whether devices have the same value of each attribute that an ask wants to match, and all of them have one."""
    values = [
        [(name, type(said.get(name)), said.get(name)) for name in ask.get("match", ())]
        if isinstance(ask, dict)
        else []
        for said in devices
    ]
    return all(one == values[0] and all(value is not None for _, _, value in one) for one in values)


def remaining_ports(stock: Stock, ask: Any) -> Iterator[Stock]:
    """The class of the tests: a number of ports, or named ports. Stock: {"free": ports}"""
    for some in itertools.combinations(
        sorted(stock["free"]), len(ask["ports"]) if isinstance(ask, dict) else ask
    ):
        if not isinstance(ask, dict) or {*some} == {*ask["ports"]}:
            yield {"free": stock["free"] - {*some}}


def remaining_devices(stock: Stock, ask: Any) -> Iterator[Stock]:
    """Whole devices. Stock: {"devices": address -> attributes, "held": addresses}"""
    devices, held = stock["devices"], stock["held"]
    parents = {said.get("parent") for said in devices.values()}
    free = []
    for address, said in sorted(devices.items()):
        kind = "type-VF" if "parent" in said else "type-PF" if address in parents else "type-PCI"
        below = {other for other, one in devices.items() if one.get("parent") == address}
        family = {address, said.get("parent"), *below}
        is_free = not (held | stock.get("out", frozenset())) & family
        if is_free and has({"address": address, "dev_type": kind, **said}, ask):
            free.append(address)
    for some in itertools.combinations(free, ask.get("count", 1) if isinstance(ask, dict) else ask):
        told = [{"address": address, **devices[address]} for address in some]
        if not any(devices[address].get("parent") in some for address in some) and agree(told, ask):
            yield {**stock, "held": held | {*some}}


def remaining_share(stock: Stock, ask: Any) -> Iterator[Stock]:
    """Shares of one device each. Stock: {"devices": name -> attributes, "free": name -> amount}"""
    wanted = ask if isinstance(ask, dict) else {"share": ask}
    free, share = stock["free"], wanted["share"]
    out = stock.get("out", ())
    able = [
        name
        for name, said in stock["devices"].items()
        if free[name] >= share and name not in out and has(said, wanted)
    ]
    for some in itertools.combinations(able, wanted.get("count", 1)):
        if not agree([stock["devices"][name] for name in some], wanted):
            continue
        yield {**stock, "free": {**free, **{name: free[name] - share for name in some}}}


def remaining_vgpu(stock: Stock, ask: Any) -> Iterator[Stock]:
    """Instances of one type. Stock: {"devices": name -> attributes with `types`, "runs": name -> (type, count)}"""
    wanted = ask if isinstance(ask, dict) else {"count": ask}
    devices, count = stock["devices"], wanted.get("count", 1)
    kinds = {kind for said in devices.values() for kind in said["types"]}
    for kind in sorted(kinds & {wanted["type"]} if wanted.get("type") else kinds):
        for amounts in itertools.product(range(count + 1), repeat=len(devices)):
            runs = dict(stock["runs"])
            for name, amount in zip(devices, amounts, strict=True):
                running, before = runs.get(name, (kind, 0))
                is_out = running != kind or name in stock.get("out", ())
                most = 0 if is_out else devices[name]["types"].get(kind, 0)
                if amount and before + amount <= most and has(devices[name], wanted):
                    runs[name] = (kind, before + amount)
                elif amount:
                    break
            else:
                on = [said for said, amount in zip(devices.values(), amounts, strict=True) if amount]
                if sum(amounts) == count and agree(on, wanted):
                    yield {**stock, "runs": runs}


def remaining_mig(stock: Stock, ask: Any) -> Iterator[Stock]:
    """MIG instances. Stock: {"devices": name -> attributes, "tables": name -> profile -> (size, starts), "held": (name, profile,
    start, size) of each instance}"""
    if not isinstance(ask, dict):
        return
    profile, free = ask["profile"], []
    for name, said in stock["devices"].items():
        size, starts = stock["tables"][name].get(profile, (0, ()))
        free += [
            (name, profile, start, size)
            for start in starts
            if ask.get("start") in (None, start)
            and name not in stock.get("out", ())
            and has(said, ask)
            and _apart([*stock["held"], (name, profile, start, size)])
        ]
    for some in itertools.combinations(free, ask.get("count", 1)):
        on = [stock["devices"][name] for name in {name for name, *_ in some}]
        if _apart([*stock["held"], *some]) and agree(on, ask):
            yield {**stock, "held": stock["held"] | {*some}}


def _apart(instances: Iterable[tuple[str, str, int, int]]) -> bool:
    """Whether no two instances take the same slot of a GPU, or its media extensions."""
    taken = [
        (name, what)
        for name, profile, start, size in instances
        for what in (*range(start, start + size), *(["media"] if profile.endswith("+me") else []))
    ]
    return len({*taken}) == len(taken)


def remaining_port(stock: Stock, ask: Any) -> Iterator[Stock]:
    """Ports of one protocol. Stock: {"free": (protocol, port) of each}"""
    wanted = ask if isinstance(ask, dict) else {"count": ask}
    protocol, ranges = wanted.get("protocol", "tcp"), wanted.get("ports", [[1, 65535]])
    able = [
        (spoken, port)
        for spoken, port in sorted(stock["free"])
        if spoken == protocol and any(first <= port <= last for first, last in ranges)
    ]
    for some in itertools.combinations(able, wanted.get("count", 1)):
        yield {"free": stock["free"] - {*some}}


def remaining_cell(stock: Stock, ask: Any) -> Iterator[Stock]:
    """A part of a NUMA cell.

    Stock: {"cores": CPUs of each core, "free": CPUs to pin, "closed": CPUs of isolated cores, "shared": free vCPUs,
    "max_shared": maximum of one guest, "small_kib": size of small pages, "mb": page size in KiB -> free MiB}
    """
    shared, memory, page = ask.get("shared", 0), ask.get("memory_mb", 0), ask.get("page_kib", "small")
    if shared > min(stock["shared"], stock["max_shared"]):
        return
    after = {**stock, "shared": stock["shared"] - shared}
    small = stock["small_kib"]
    meant = {"small": {small}, "large": {*stock["mb"]} - {small}, "any": {*stock["mb"]}}
    sizes = meant.get(page, {page}) & {*stock["mb"]} if memory else {small}
    for size in sizes:
        if memory * 1024 % size == 0 and memory <= stock["mb"][size]:
            left = {**stock["mb"], size: stock["mb"][size] - memory}
            for cpus in _pinned(stock, ask.get("pinned", 0), ask.get("threads", "prefer")):
                closed = stock["closed"] | (
                    {other for core in stock["cores"] if cpus & {*core} for other in core}
                    if ask.get("threads") == "isolate"
                    else set[int]()
                )
                yield {**after, "mb": left, "free": stock["free"] - cpus, "closed": closed}


def _pinned(stock: Stock, count: int, threads: str) -> Iterator[set[int]]:
    """All sets of CPUs that a thread policy allows."""
    for some in itertools.combinations(sorted(stock["free"] - stock["closed"]), count):
        on = [({*core}, {*core} & {*some}) for core in stock["cores"] if {*core} & {*some}]
        alone = sum(len(mine) == 1 for _, mine in on)
        if threads == "isolate":
            fits = alone == len(on) and all(core <= stock["free"] for core, _ in on)
        elif threads == "require":
            fits = all(len(core) > 1 for core, _ in on) and alone <= count % 2
        else:
            fits = True
        if fits:
            yield {*some}


REMAINING = {
    "PORTS": remaining_ports,
    "PCI_DEVICE": remaining_devices,
    "GPU_SHARE": remaining_share,
    "VGPU": remaining_vgpu,
    "MIG": remaining_mig,
    "PORT": remaining_port,
    "NUMA_CELL": remaining_cell,
}
"""Class -> a function that yields every possible remaining stock after an ask."""


def without(name: str, stock: Stock, grant: Any) -> Stock:
    """The remaining stock after the fold granted `grant`."""
    if name == "PORTS":
        return {"free": stock["free"] - {*grant}}
    if name == "PORT":
        return {"free": stock["free"] - {(grant["protocol"], port) for port in grant["ports"]}}
    if name == "PCI_DEVICE":
        return {**stock, "held": stock["held"] | {*grant}}
    if name == "GPU_SHARE":
        free = {device: left - grant.get(device, 0) for device, left in stock["free"].items()}
        return {**stock, "free": free}
    if name == "MIG":
        placed = {
            (device, *kind.rpartition("@")[::2], size)
            for device, of in grant.items()
            for kind, size in of.items()
        }
        return {
            **stock,
            "held": stock["held"] | {(one, kind, int(at), size) for one, kind, at, size in placed},
        }
    if name == "NUMA_CELL":
        page, cpus = grant.get("page_kib", stock["small_kib"]), {*grant.get("cpus", ())}
        isolated = [core for core in stock["cores"] if grant.get("threads") == "isolate" and cpus & {*core}]
        return {
            **stock,
            "shared": stock["shared"] - grant.get("shared", 0),
            "mb": {**stock["mb"], page: stock["mb"][page] - grant.get("memory_mb", 0)},
            "free": stock["free"] - cpus,
            "closed": stock["closed"].union(*isolated),
        }
    runs = dict(stock["runs"])
    for device, of in grant.items():
        ((kind, amount),) = of.items()
        runs[device] = (kind, runs.get(device, (kind, 0))[1] + amount)
    return {**stock, "runs": runs}


def units(name: str, stock: Stock) -> Counter[Any]:
    """What is taken of a stock, but for a constant: after a grant there are more of these units, those of the grant."""
    found = Counter[Any]()
    if name in ("PORTS", "PORT"):
        found.subtract(stock["free"])
    elif name in ("PCI_DEVICE", "MIG"):
        found.update(stock["held"])
    elif name == "GPU_SHARE":
        found.subtract(stock["free"])
    elif name == "VGPU":
        found.update({(device, kind): count for device, (kind, count) in stock["runs"].items()})
    elif name == "NUMA_CELL":
        found.subtract(stock["free"])
        found.subtract({"shared": stock["shared"], **stock["mb"]})
    else:
        found["free"] -= stock["free"]
    return found
