"""Twenty real requests as data, and which hosts serve them: found by looking at every host, without any store.

The names in `Request.qualities`, and what they ask for beside the amounts and traits of the host itself:

| name | value |
|---|---|
| `forbidden` | traits that the host must not have |
| `any_of` | lists of traits: the host has at least one of each |
| `member_of` | lists of aggregates: the host is in at least one of each |
| `not_member_of` | aggregates in which the host must not be |
| `hypervisor_at_least` | a version |
| `numa` | a list of `cpus` and `memory_mb`, each of one NUMA cell, and each of another one |
| `device` | `count` GPUs of one host, of a `vendor` and `product`, or with at least `memory_mb` and `driver` |
| `near` | `cpus`, `memory_mb`, a GPU of `vendor` and `product`, and a virtual function of a card, of one NUMA cell |
| `gpu_share` | `milli` of one shared GPU of a `model` |
| `bandwidth` | `kilobits` of one card on a `network` |
| `disk_gb` | of the host, or of a shared disk that it reaches |
| `apart_from` | a server `group`, and the consumers that are its `members`: a host without any of them |
| `spread` | the same with `max_skew`: a host in a zone that may have one more |
| `gang` | how many hosts, together or not at all |
| `order` | `least_vcpus_left`: the hosts with the fewest VCPUs left come first |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Final

from evaluation.candidates.candidate import Request
from evaluation.candidates.myriad_fleet import (
    APART,
    ISOLATED,
    MYRIAD,
    SPREAD,
    ZONES,
    Host,
    MyriadFleet,
    version_key,
)


@dataclass(frozen=True, slots=True)
class MyriadRequest:
    """A request with its name in the report, and who asks for such a thing."""

    name: str
    asked_by: str
    request: Request


_FLAVOR: Final = {"VCPU": 2, "MEMORY_MB": 4096}


def myriad_requests(fleet: MyriadFleet) -> list[MyriadRequest]:
    """The requests for a fleet. Those with a server group name its members, as the scheduler of a cloud knows them."""

    def ask(
        name: str,
        asked_by: str,
        *required: str,
        resources: Mapping[str, int] = _FLAVOR,
        **qualities: Any,
    ) -> MyriadRequest:
        return MyriadRequest(name, asked_by, Request(resources, (MYRIAD, *required), qualities))

    web, api = ({"group": group, "members": fleet.members(group)} for group in (APART, SPREAD))
    h100 = {"vendor": "10de", "product": "2330"}
    return [
        ask("cores, memory and disk", "any flavor", resources={**_FLAVOR, "VCPU": 8, "DISK_GB": 80}),
        ask("processor features", "Nova: trait:…=required", "HW_CPU_X86_AVX2", "HW_CPU_X86_AVX512F"),
        ask("a trait forbidden", "Nova: trait:…=forbidden", forbidden=["CUSTOM_OLD"]),
        ask(
            "one of several traits",
            "confidential guests: SEV or TDX",
            any_of=[["HW_CPU_X86_AMD_SEV", "CUSTOM_INTEL_TDX"]],
        ),
        ask("availability zones", "Nova: map_az_to_placement_aggregate", member_of=[list(ZONES[:2])]),
        ask("not on isolated hosts", "Nova: isolated aggregate filtering", not_member_of=[ISOLATED]),
        ask("hypervisor version", "Nova: img_hv_requested_version", hypervisor_at_least="8.2"),
        ask(
            "type of disk",
            "Nova: flavors with local SSDs",
            resources={**_FLAVOR, "DISK_GB": 50},
            any_of=[["CUSTOM_DISK_SSD", "CUSTOM_DISK_NVME"]],
        ),
        ask(
            "pinned CPUs on a NUMA cell",
            "Nova: hw:cpu_policy=dedicated",
            numa=[{"cpus": 8, "memory_mb": 16_384}],
        ),
        ask("two NUMA cells", "Nova: hw:numa_nodes=2", numa=[{"cpus": 8, "memory_mb": 4096}] * 2),
        ask("PCI device by product", "Nova: pci_passthrough:alias", device={"count": 1, **h100}),
        ask(
            "device by attributes",
            "Kubernetes: CEL selectors of DRA",
            device={"count": 2, "memory_mb": 40_960, "driver": 550},
        ),
        ask(
            "GPU, card and CPUs of one cell",
            "Nova: same_subtree, HPC guests",
            near={"cpus": 4, "memory_mb": 8192, **h100},
        ),
        ask("share of a GPU", "Alibaba: gpu_milli of openb", gpu_share={"milli": 300, "model": "A100"}),
        ask(
            "bandwidth of a network",
            "Neutron: minimum bandwidth",
            bandwidth={"network": "public", "kilobits": 2_000_000},
        ),
        ask("disk, also a shared one", "Placement: sharing providers", disk_gb=500),
        ask("apart from a group", "Nova: anti-affinity", apart_from=web),
        ask("spread over zones", "Kubernetes: topology spread", spread={**api, "max_skew": 1}),
        ask("a gang of hosts", "Volcano, Kueue: gangs", resources={"VCPU": 8, "MEMORY_MB": 4096}, gang=8),
        ask("least left first", "packing: Protean, MostAllocated", order="least_vcpus_left"),
    ]


# -- the answer by looking at every host ------------------------------------------------------------------------------


def matching(fleet: MyriadFleet, request: Request) -> list[Host]:
    """The hosts that serve a request; for a gang each host that can be one of it."""
    return [
        host
        for host in fleet.hosts
        if all(host.free.get(name, 0) >= amount for name, amount in request.resources.items())
        and set(request.required) <= set(host.traits)
        and all(_SERVES[name](fleet, host, value) for name, value in request.qualities.items())
    ]


def wrong_answer(fleet: MyriadFleet, request: Request, names: Sequence[str]) -> str | None:
    """The error with an answer that was to have all hosts (of a gang, some hosts); None if it is right."""
    found = matching(fleet, request)
    right, given = {host.name for host in found}, set(names)
    size = request.qualities.get("gang")
    if size:
        wanted = size if len(right) >= size else 0
        if len(given) == len(names) == wanted and given <= right:
            return None
        return f"{len(given)} hosts, {len(given - right)} of them wrong, instead of {wanted}"
    if given != right:
        return f"{len(given - right)} hosts too many, {len(right - given)} of {len(right)} missing"
    if "order" in request.qualities:
        left = {host.name: host.free["VCPU"] for host in found}
        if [left[name] for name in names] != sorted(left.values()):
            return "the hosts are in another order"
    return None


def _numa(_: MyriadFleet, host: Host, asks: list[dict[str, int]]) -> bool:
    return any(
        all(
            cell.cpus >= ask["cpus"] and cell.memory_mb >= ask["memory_mb"]
            for cell, ask in zip(cells, asks, strict=True)
        )
        for cells in permutations(host.cells, len(asks))
    )


def _device(_: MyriadFleet, host: Host, ask: dict[str, Any]) -> bool:
    fitting = [
        device
        for cell in host.cells
        for device in cell.devices
        if all(getattr(device, name) == ask[name] for name in ("vendor", "product") if name in ask)
        and all(getattr(device, name) >= ask[name] for name in ("memory_mb", "driver") if name in ask)
    ]
    return len(fitting) >= int(ask["count"])


def _near(_: MyriadFleet, host: Host, ask: dict[str, Any]) -> bool:
    return any(
        cell.cpus >= ask["cpus"]
        and cell.memory_mb >= ask["memory_mb"]
        and any((one.vendor, one.product) == (ask["vendor"], ask["product"]) for one in cell.devices)
        and any(nic.functions > 0 for nic in cell.nics)
        for cell in host.cells
    )


def _gpu_share(_: MyriadFleet, host: Host, ask: dict[str, Any]) -> bool:
    return any(
        gpu.model == ask["model"] and gpu.milli >= ask["milli"] for cell in host.cells for gpu in cell.gpus
    )


def _bandwidth(_: MyriadFleet, host: Host, ask: dict[str, Any]) -> bool:
    return any(
        nic.network == ask["network"] and nic.kilobits >= ask["kilobits"]
        for cell in host.cells
        for nic in cell.nics
    )


def _disk(fleet: MyriadFleet, host: Host, amount: int) -> bool:
    return host.free["DISK_GB"] >= amount or fleet.pools.get(host.pool, 0) >= amount


def _spread(fleet: MyriadFleet, host: Host, ask: dict[str, Any]) -> bool:
    members = Counter(dict.fromkeys({one.zone for one in fleet.hosts}, 0))
    members.update(one.zone for one in fleet.hosts if one.group == ask["group"])
    return members[host.zone] + 1 <= min(members.values()) + int(ask["max_skew"])


_SERVES: Final[Mapping[str, Callable[[MyriadFleet, Host, Any], bool]]] = {
    "forbidden": lambda _, host, names: not set(names) & set(host.traits),
    "any_of": lambda _, host, lists: all(set(names) & set(host.traits) for names in lists),
    "member_of": lambda _, host, lists: all(set(names) & set(host.aggregates) for names in lists),
    "not_member_of": lambda _, host, names: not set(names) & set(host.aggregates),
    "hypervisor_at_least": lambda _, host, least: version_key(host.hypervisor) >= version_key(least),
    "numa": _numa,
    "device": _device,
    "near": _near,
    "gpu_share": _gpu_share,
    "bandwidth": _bandwidth,
    "disk_gb": _disk,
    "apart_from": lambda _, host, ask: host.group != ask["group"],
    "spread": _spread,
    "gang": lambda *_: True,
    "order": lambda *_: True,
}
