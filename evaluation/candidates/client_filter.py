"""The qualities of hosts as a filter in the scheduler, for stores that do not know them: over a copy of the hosts' documents.

A document is a host as `Host.as_json` has it. `Hosts` keeps the documents of one scheduler, with the indexes that a query needs.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import permutations
from typing import Any, Final

from evaluation.candidates.candidate import Expression, Json, NotOffered, Request
from evaluation.candidates.myriad_fleet import SAMPLE, version_key


def expressed_by_filter(request: Request) -> Expression:
    """How a candidate that has copies expresses a request. It runs the filter over a few hosts."""
    documents = [host.as_json() for host in SAMPLE.hosts]
    Hosts(documents, SAMPLE.pools).find(request, 1, random.Random(0))
    return Expression("filter in the client", "a filter over the documents of all hosts")


class Hosts:
    """The documents that a scheduler has, and the shared disks: name -> what is free of it."""

    def __init__(self, documents: Iterable[Json] = (), pools: Mapping[str, int] | None = None) -> None:
        self.pools = dict(pools or {})
        self.documents: dict[str, Json] = {}
        self.host_of: dict[str, str] = {}
        for document in documents:
            self.put(document)

    def put(self, document: Json) -> None:
        """Take over a document, with sets for what is compared."""
        self.documents[document["name"]] = {
            **document,
            "traits": frozenset(document["traits"]),
            "aggregates": frozenset(document["aggregates"]),
            "hypervisor": version_key(document["hypervisor"]),
            "zone": document["aggregates"][0],
        }
        self.host_of[f"in-{document['name']}"] = document["name"]

    def find(self, request: Request, limit: int, draw: random.Random) -> list[str]:
        """Up to `limit` hosts that serve a request: from a random one on, or in the order that it asks for."""
        serves = _compiled(request, self)
        documents = list(self.documents.values())
        if "order" in request.qualities:
            found = [one for one in documents if serves(one)]
            found.sort(key=lambda one: one["free"]["VCPU"])
            return [one["name"] for one in found[:limit]]
        size = request.qualities.get("gang", 0)
        most, names = size or limit, []
        start = draw.randrange(len(documents)) if documents else 0
        for number in range(start - len(documents), start):
            if serves(documents[number]):
                names.append(documents[number]["name"])
                if len(names) == most:
                    break
        return [] if len(names) < size else names


Serves = Callable[[Json], bool]


def _compiled(request: Request, hosts: Hosts) -> Serves:
    """A function that says whether a document serves a request. Raises `NotOffered` for a quality that is not known."""
    unknown = [name for name in request.qualities if name not in _QUALITIES]
    if unknown:
        raise NotOffered(f"the filter has no code for {', '.join(unknown)}")
    amounts, required = tuple(request.resources.items()), frozenset(request.required)
    conditions = [_QUALITIES[name](value, hosts) for name, value in request.qualities.items()]

    def serves(one: Json) -> bool:
        free = one["free"]
        return (
            all(free[name] >= amount for name, amount in amounts)
            and required <= one["traits"]
            and all(condition(one) for condition in conditions)
        )

    return serves


def _forbidden(names: list[str], _: Hosts) -> Serves:
    return lambda one: one["traits"].isdisjoint(names)


def _any_of(lists: list[list[str]], _: Hosts) -> Serves:
    return lambda one: not any(one["traits"].isdisjoint(names) for names in lists)


def _member_of(lists: list[list[str]], _: Hosts) -> Serves:
    return lambda one: not any(one["aggregates"].isdisjoint(names) for names in lists)


def _not_member_of(names: list[str], _: Hosts) -> Serves:
    return lambda one: one["aggregates"].isdisjoint(names)


def _hypervisor_at_least(text: str, _: Hosts) -> Serves:
    least = version_key(text)
    return lambda one: one["hypervisor"] >= least


def _numa(asks: list[dict[str, int]], _: Hosts) -> Serves:
    return lambda one: any(
        all(
            cell["cpus"] >= ask["cpus"] and cell["memory_mb"] >= ask["memory_mb"]
            for cell, ask in zip(cells, asks, strict=True)
        )
        for cells in permutations(one["cells"], len(asks))
    )


def _fits(device: Json, ask: Json) -> bool:
    equal = all(device[name] == ask[name] for name in ("vendor", "product") if name in ask)
    return equal and all(device[name] >= ask[name] for name in ("memory_mb", "driver") if name in ask)


def _device(ask: Json, _: Hosts) -> Serves:
    return lambda one: (
        sum(_fits(device, ask) for cell in one["cells"] for device in cell["devices"]) >= ask["count"]
    )


def _near(ask: Json, _: Hosts) -> Serves:
    product = {"vendor": ask["vendor"], "product": ask["product"]}
    return lambda one: any(
        cell["cpus"] >= ask["cpus"]
        and cell["memory_mb"] >= ask["memory_mb"]
        and any(_fits(device, product) for device in cell["devices"])
        and any(nic["functions"] for nic in cell["nics"])
        for cell in one["cells"]
    )


def _gpu_share(ask: Json, _: Hosts) -> Serves:
    return lambda one: any(
        gpu["model"] == ask["model"] and gpu["milli"] >= ask["milli"]
        for cell in one["cells"]
        for gpu in cell["gpus"]
    )


def _bandwidth(ask: Json, _: Hosts) -> Serves:
    return lambda one: any(
        nic["network"] == ask["network"] and nic["kilobits"] >= ask["kilobits"]
        for cell in one["cells"]
        for nic in cell["nics"]
    )


def _disk_gb(amount: int, hosts: Hosts) -> Serves:
    return lambda one: one["free"]["DISK_GB"] >= amount or hosts.pools.get(one["pool"], 0) >= amount


def _apart_from(ask: Json, hosts: Hosts) -> Serves:
    taken = {hosts.host_of.get(member) for member in ask["members"]}
    return lambda one: one["name"] not in taken


def _spread(ask: Json, hosts: Hosts) -> Serves:
    counts = Counter(dict.fromkeys({one["zone"] for one in hosts.documents.values()}, 0))
    there = [hosts.host_of[member] for member in ask["members"] if member in hosts.host_of]
    counts.update(hosts.documents[name]["zone"] for name in there)
    most = min(counts.values()) + ask["max_skew"]
    return lambda one: counts[one["zone"]] < most


def _anything(_ask: Any, _: Hosts) -> Serves:
    return lambda _one: True


_QUALITIES: Final[Mapping[str, Callable[[Any, Hosts], Serves]]] = {
    "forbidden": _forbidden,
    "any_of": _any_of,
    "member_of": _member_of,
    "not_member_of": _not_member_of,
    "hypervisor_at_least": _hypervisor_at_least,
    "numa": _numa,
    "device": _device,
    "near": _near,
    "gpu_share": _gpu_share,
    "bandwidth": _bandwidth,
    "disk_gb": _disk_gb,
    "apart_from": _apart_from,
    "spread": _spread,
    "gang": _anything,
    "order": _anything,
}
