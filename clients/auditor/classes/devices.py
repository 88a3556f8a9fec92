"""Devices as the auditor sees them: what is an inventory of them, and whether a grant is one of those that may be.

Which of several free devices are granted is the store's choice, which its verdict tells. So the auditor takes the
grants from there, and asks of each: is it reported, is it what was asked for, and was it free. A rejection of
devices cannot be judged here.
"""

from __future__ import annotations

import json
import operator
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from vacancy.clients.auditor.event_schema import INTEGER_MAX
from vacancy.clients.auditor.inventory import TOTAL_MAX, Refused, Stock, read_stock

WHOLE = frozenset({"PCI_DEVICE", "SRIOV_NET_VF", "PGPU", "FPGA"})
DEVICE_CLASSES = WHOLE | {"VGPU", "GPU_SHARE"}

Grant = Mapping[str, Any]
"""One entry of a verdict: provider, resource_class, grant."""

_NAME = re.compile(r"[A-Za-z0-9._:/@+=~-]{1,200}")
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": operator.eq,
}


def stock_of(name: str, inventory: Mapping[str, Any]) -> Stock:
    """An inventory as reported, of devices or counted. Raises `Refused`."""
    if name not in DEVICE_CLASSES or (name != "GPU_SHARE" and "devices" not in inventory):
        return read_stock(inventory)
    devices = inventory.get("devices")
    if set(inventory) != {"devices"} or not isinstance(devices, dict) or len(devices) > 4096:
        raise Refused
    if not all(_NAME.fullmatch(one) and _is_device(name, one, said) for one, said in devices.items()):
        raise Refused
    parents = {one: said.get("parent") for one, said in devices.items()} if name in WHOLE else {}
    if any(parents.get(parent) for parent in parents.values() if parent):
        raise Refused
    return Stock(0, 0, 1, 0, 1, 1000, opaque=True, devices=json.dumps(devices, sort_keys=True))


def _is_device(name: str, one: str, said: Any) -> bool:
    if not isinstance(said, dict):
        return False
    left = dict(said)
    if name == "GPU_SHARE":
        fine = _is_amount(left.pop("total", None))
    elif name == "VGPU":
        types = left.pop("types", None)
        fine = isinstance(types, dict) and 1 <= len(types) <= 64
        fine = fine and all(0 < len(kind) <= 128 and _is_amount(most) for kind, most in types.items())
    else:
        parent = left.pop("parent", "")
        fine = isinstance(parent, str) and parent != one and len(parent) <= 200
    return (
        fine
        and len(left) <= 64
        and all(0 < len(key) <= 128 and key != "address" and _is_value(value) for key, value in left.items())
    )


def _is_amount(value: Any) -> bool:
    return type(value) is int and 1 <= value <= TOTAL_MAX


def _is_value(value: Any) -> bool:
    if type(value) is str:
        return len(value) <= 1024
    return type(value) is bool or (type(value) is int and -INTEGER_MAX <= value <= INTEGER_MAX)


def counted_ask(name: str, ask: Any) -> Any:
    """The number that an ask comes to where devices have no names; the ask itself where it does not."""
    if name not in DEVICE_CLASSES or not isinstance(ask, dict):
        return ask
    particular = ask.get("where", {}) != {} or (name == "VGPU" and ask.get("type", "") != "")
    count, known = ask.get("count", 1), {"count", "where", "type"} if name == "VGPU" else {"count", "where"}
    return ask if particular or set(ask) - known or not _is_amount(count) else count


def amount_of(name: str, ask: Any) -> int:
    """How much is booked for an ask: what is not counted counts as one."""
    counted = ask.get("count", 1) if name in DEVICE_CLASSES and isinstance(ask, dict) else ask
    return counted if type(counted) is int else 1


def wrong_grants(
    stock_at: Callable[[str, str], Stock | None],
    held: Callable[[str, str], Iterable[Any]],
    allocations: Iterable[Mapping[str, Any]],
    grants: Sequence[Grant],
    kept: Collection[tuple[str, str]] = (),
) -> Iterable[str]:
    """What is wrong with what a claim was granted. `stock_at(provider, class)` is what is reported there, `held` the
    grants that others hold of it. What its consumer held by count, and asks no more of (`kept`), may stay so."""
    left = list(grants)
    own: dict[tuple[str, str], list[Any]] = {}
    for allocation in allocations:
        for name, ask in allocation["resources"].items():
            at = (allocation["provider"], name)
            stock = stock_at(*at)
            if name not in DEVICE_CLASSES or stock is None or not stock.devices:
                continue
            found = next((one for one in left if (one["provider"], one["resource_class"]) == at), None)
            if at in kept and (found is None or _size(found["grant"]) != counted_ask(name, ask)):
                continue
            if found is None:
                yield f"{at[0]}: no {name} is named"
                continue
            left.remove(found)
            grant, others = found["grant"], [*held(*at), *own.get(at, ())]
            own.setdefault(at, []).append(grant)
            devices = _devices(stock.devices)
            for text in _wrong(name, devices, ask, grant, others):
                yield f"{at[0]}: {text}"


def _size(grant: Any) -> int:
    """How many devices, or instances of a type, a grant is of."""
    return sum(sum(of.values()) for of in grant.values()) if isinstance(grant, dict) else len(grant)


def _wrong(
    name: str, devices: Mapping[str, Any], ask: Any, grant: Collection[str], others: Sequence[Any]
) -> Iterable[str]:
    unknown = [one for one in grant if one not in devices]
    if unknown:
        yield f"{name} {unknown[0]} is not reported"
        return
    number = "share" if name == "GPU_SHARE" else "count"
    said: Mapping[str, Any] = {number: ask} if isinstance(ask, int) else ask
    where = said.get("where", {})
    for one in grant:
        if not isinstance(where, dict) or not _satisfies(name, one, devices, where):
            yield f"{name} {one} is not what was asked for"
    check = _wrong_shares if name == "GPU_SHARE" else _wrong_types if name == "VGPU" else _wrong_whole
    yield from check(devices, said, grant, others)


def _wrong_whole(
    devices: Mapping[str, Any], said: Mapping[str, Any], grant: Any, others: Sequence[Any]
) -> Iterable[str]:
    if len(set(grant)) != len(grant) or len(grant) != said.get("count", 1):
        yield f"{grant} is not the number of devices that was asked for"
    taken = {one for other in others for one in other}
    for one in grant:
        parts = {part for part, of in devices.items() if of.get("parent") == one}
        if ({one, devices[one].get("parent")} | parts) & taken or parts & set(grant):
            yield f"{one} is not free"


def _wrong_shares(
    devices: Mapping[str, Any], said: Mapping[str, Any], grant: Any, others: Sequence[Any]
) -> Iterable[str]:
    if len(grant) != said.get("count", 1) or set(grant.values()) != {said.get("share")}:
        yield f"{grant} is not the shares that were asked for"
    for one, share in grant.items():
        free = devices[one]["total"] - sum(other.get(one, 0) for other in others)
        if share > free:
            yield f"{one} has {free} left, and gives {share}"


def _wrong_types(
    devices: Mapping[str, Any], said: Mapping[str, Any], grant: Any, others: Sequence[Any]
) -> Iterable[str]:
    kinds = {kind for of in grant.values() for kind in of}
    if len(kinds) != 1 or said.get("type") not in (None, "", *kinds):
        yield f"{grant} is not of the one type that was asked for"
    if sum(amount for of in grant.values() for amount in of.values()) != said.get("count", 1):
        yield f"{grant} is not the number that was asked for"
    for one in grant:
        running = Counter[str]()
        for other in (*others, grant):
            running.update(other.get(one, {}))
        if len(running) > 1 or any(n > devices[one]["types"].get(kind, 0) for kind, n in running.items()):
            yield f"{one} cannot run {dict(running)}"


def _satisfies(name: str, one: str, devices: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    values = {**devices[one], "address": one}
    if name in WHOLE and "dev_type" not in values:
        split = any(of.get("parent") == one for of in devices.values())
        values["dev_type"] = "type-VF" if values.get("parent") else "type-PF" if split else "type-PCI"
    for key, said in where.items():
        for comparison, wanted in (said if isinstance(said, dict) else {"==": said}).items():
            if comparison not in _COMPARE:
                return False
            choices = wanted if isinstance(wanted, list) else [wanted]
            compare, value = _COMPARE[comparison], values.get(key)
            if not any(type(value) is type(choice) and compare(value, choice) for choice in choices):
                return False
    return True


@lru_cache(maxsize=4096)
def _devices(text: str) -> Mapping[str, Any]:
    devices: Mapping[str, Any] = json.loads(text)
    return devices
