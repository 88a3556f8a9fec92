"""Hosts with many qualities in vacancy: a tree of providers for each host, and a RequestSpec for each request.

All hosts, the shared disks and the server groups are in one cell of the log. A host reports its tree; an operator sets the aggregates;
the residents are claims, with their server groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from evaluation.candidates.candidate import Json, NotOffered, Request
from evaluation.candidates.myriad_fleet import APART, SPREAD, Host, MyriadFleet
from vacancy.clients.request_language.expressions.weigher_syntax import weighed
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.scheduler.order_names import order_named
from vacancy.projections.query.order import Order
from vacancy.resources.model import events
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.request import RequestGroup, RequestSpecV2
from vacancy.resources.model.server_group import ServerGroupMembershipV2

if TYPE_CHECKING:
    from vacancy.resources.model.encoding.event_encoding import ClaimWire

CELL: Final = "auto-0"
_INCARNATION: Final = f"{171:016x}"
_ZONE_KIND: Final = "zone-"
_POLICIES: Final[Mapping[str, Json]] = {
    APART: {"policy": "anti-affinity"},
    SPREAD: {"policy": "spread", "scope": _ZONE_KIND, "max_skew": 1},
}


# -- the fleet as events ------------------------------------------------------------------------------------------------


def myriad_records(fleet: MyriadFleet, deadline_ms: int) -> Iterator[NewRecord]:
    """The reports, then the settings of operators, then the claims of the residents."""
    for host in fleet.hosts:
        yield _report(host.name, _tree(host))
    for name, free in fleet.pools.items():
        pool = {"id": name, "parent": None, "inventories": {"DISK_GB": {"total": free}}}
        yield _report(name, [{**pool, "traits": ["MISC_SHARES_VIA_AGGREGATE"]}])
        yield _settings(name, [f"reach-{name}"])
    for host in fleet.hosts:
        yield _settings(host.name, [*host.aggregates, *([f"reach-{host.pool}"] if host.pool else [])])
    yield from _claims(fleet, deadline_ms)


def _report(root: str, providers: list[Json]) -> NewRecord:
    data = {"root": root, "incarnation": _INCARNATION, "sequence": 1, "providers": providers}
    return NewRecord(
        CELL, events.encode_plain("vacancy.node.reported.v1", f"{root}-1", f"/node/{root}", data)
    )


def _settings(provider: str, aggregates: list[str]) -> NewRecord:
    data = {"provider": provider, "revision": 1, "facts": {"aggregates": aggregates}}
    return NewRecord(CELL, events.encode_plain("vacancy.facts.set.v1", f"set-{provider}", "/operator", data))


def _tree(host: Host) -> list[Json]:
    """The providers of a host: itself, its NUMA cells with their devices, and below them its shared GPUs and network cards."""
    tree: list[Json] = [
        {
            "id": host.name,
            "parent": None,
            "inventories": {name: {"total": total} for name, total in host.totals.items()},
            "traits": list(host.traits),
            "attributes": {"hypervisor": host.hypervisor},
        }
    ]
    first = 0
    for number, cell in enumerate(host.cells):
        name = f"{host.name}_n{number}"
        cores = [[first + one] for one in range(cell.cpus)]
        first += cell.cpus
        inventories: Json = {"NUMA_CELL": {"cores": cores, "memory_mb": cell.memory_mb, "cell": number}}
        if cell.devices:
            inventories["PCI_DEVICE"] = {"devices": {one.address: _attributes(one) for one in cell.devices}}
        tree.append({"id": name, "parent": host.name, "inventories": inventories})
        for gpu in cell.gpus:
            milli = {"CUSTOM_GPU_MILLI": {"total": gpu.milli}}
            tree.append(
                {"id": gpu.name, "parent": name, "inventories": milli, "traits": [f"CUSTOM_{gpu.model}"]}
            )
        for nic in cell.nics:
            card = {
                "NET_BW_EGR_KILOBIT_PER_SEC": {"total": nic.kilobits},
                "SRIOV_NET_VF": {"total": nic.functions},
            }
            tree.append(
                {"id": nic.name, "parent": name, "inventories": card, "traits": [_network(nic.network)]}
            )
    return tree


def _attributes(device: Any) -> Json:
    return {name: getattr(device, name) for name in ("vendor", "product", "memory_mb", "driver")}


def _network(name: str) -> str:
    return f"CUSTOM_PHYSNET_{name.upper()}"


def _claims(fleet: MyriadFleet, deadline_ms: int) -> Iterator[NewRecord]:
    from vacancy.resources.model.encoding.event_encoding import (
        AllocationWire,
        ClaimWire,
        MembershipWire,
        encode_claims,
    )

    def claim(host: Host) -> ClaimWire:
        memberships = []
        if host.group:
            memberships.append(MembershipWire(group=f"{CELL}/{host.group}", **_POLICIES[host.group]))
        allocations = [AllocationWire(host.name, host.resident)]
        return ClaimWire(
            f"claim-{host.name}", host.consumer, deadline_ms, allocations, memberships=memberships
        )

    hosts = iter(fleet.hosts)
    while some := list(islice(hosts, events.BATCH_MAX)):
        yield NewRecord(CELL, encode_claims(f"residents-{some[0].name}", "/fill", list(map(claim, some))))


# -- requests -------------------------------------------------------------------------------------------------------------


def myriad_spec(request: Request) -> RequestSpecV2:
    """A request as a RequestSpec. Raises `NotOffered` for a quality that is not known."""
    unknown = [name for name in request.qualities if name not in _QUALITIES]
    if unknown:
        raise NotOffered(f"the adapter does not know {', '.join(unknown)}")
    host: Json = {"resources": dict(request.resources), "required": request.required}
    spec: Json = {"groups": [host]}
    for name, value in request.qualities.items():
        _QUALITIES[name](value, host, spec)
    return RequestSpecV2(**{**spec, "groups": tuple(RequestGroup(**group) for group in spec["groups"])})


def myriad_order(request: Request) -> Order | None:
    """The order that a request asks for; None for the order of the scheduler."""
    if "order" not in request.qualities:
        return None
    return weighed(order_named("random"), ["-1:VCPU.free"], installed_registry())


def _forbidden(names: list[str], host: Json, _: Json) -> None:
    host["forbidden"] = tuple(names)


def _any_of(lists: list[list[str]], host: Json, _: Json) -> None:
    host["any_traits"] = tuple(map(tuple, lists))


def _member_of(lists: list[list[str]], host: Json, _: Json) -> None:
    host["member_of"] = tuple(map(tuple, lists))


def _not_member_of(names: list[str], host: Json, _: Json) -> None:
    host["not_member_of"] = tuple(names)


def _hypervisor_at_least(text: str, host: Json, _: Json) -> None:
    host["where"] = f'attributes.hypervisor >= version("{text}")'


def _numa_cell(ask: Json) -> Json:
    return {"pinned": ask["cpus"], "memory_mb": ask["memory_mb"]}


def _numa(asks: list[Json], _: Json, spec: Json) -> None:
    for number, ask in enumerate(asks):
        spec["groups"].append({"name": f"numa{number}", "resources": {"NUMA_CELL": _numa_cell(ask)}})
    spec["group_policy"] = "isolate"


def _pci(ask: Json, count: int) -> Json:
    where: Json = {name: ask[name] for name in ("vendor", "product") if name in ask}
    where.update({name: {">=": ask[name]} for name in ("memory_mb", "driver") if name in ask})
    return {"count": count, "where": where}


def _device(ask: Json, _: Json, spec: Json) -> None:
    """Devices of any NUMA cells, so each has a group."""
    for number in range(ask["count"]):
        spec["groups"].append({"name": f"gpu{number}", "resources": {"PCI_DEVICE": _pci(ask, 1)}})


def _near(ask: Json, _: Json, spec: Json) -> None:
    product = {"vendor": ask["vendor"], "product": ask["product"]}
    spec["groups"] += [
        {"name": "cell", "resources": {"NUMA_CELL": _numa_cell(ask), "PCI_DEVICE": _pci(product, 1)}},
        {"name": "nic", "resources": {"SRIOV_NET_VF": 1}},
    ]
    spec["same_subtree"] = (("cell", "nic"),)


def _gpu_share(ask: Json, _: Json, spec: Json) -> None:
    resources = {"CUSTOM_GPU_MILLI": ask["milli"]}
    spec["groups"].append({"name": "gpu", "resources": resources, "required": (f"CUSTOM_{ask['model']}",)})


def _bandwidth(ask: Json, _: Json, spec: Json) -> None:
    resources = {"NET_BW_EGR_KILOBIT_PER_SEC": ask["kilobits"]}
    spec["groups"].append({"name": "net", "resources": resources, "required": (_network(ask["network"]),)})


def _disk_gb(amount: int, _: Json, spec: Json) -> None:
    spec["groups"].append({"name": "disk", "resources": {"DISK_GB": amount}, "same_provider": False})


def _server_group(ask: Json, _: Json, spec: Json) -> None:
    membership = ServerGroupMembershipV2(group=f"{CELL}/{ask['group']}", **_POLICIES[ask["group"]])
    spec["memberships"] = (membership,)


def _gang(size: int, _: Json, spec: Json) -> None:
    spec.update(copies=size, copies_on="distinct")


def _order(_value: str, _: Json, _spec: Json) -> None:
    """See `myriad_order`."""


_QUALITIES: Final[Mapping[str, Callable[[Any, Json, Json], None]]] = {
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
    "apart_from": _server_group,
    "spread": _server_group,
    "gang": _gang,
    "order": _order,
}
