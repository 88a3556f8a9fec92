"""The fleet of the recorded race: the synthetic one, and nodes with devices and NUMA cells.

Some requests belong to a server group, so that there are members to keep apart as well.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from vacancy.clients.demo.race_plan import Arrival
from vacancy.clients.demo.synthetic_fleet import SyntheticFleet, Tree, make_fleet
from vacancy.resources.model.events import ProviderReport
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.request import RequestSpec

MODELS: Final = ("A100", "T4")
RELEASED: Final = 0.1
GROUPED: Final = 0.1
"""These shares of the requests are released again, or belong to a server group."""


class Kind(NamedTuple):
    """A kind of node, and what is asked of it; `room`: how many requests fill one node, at the least."""

    room: int
    tree: Callable[[str, random.Random], Tree]
    ask: Callable[[random.Random], dict[str, Any]]


class RaceFleet(NamedTuple):
    """All trees, who is in which rack by its root, and what arrives."""

    trees: tuple[Tree, ...]
    aggregates: dict[str, tuple[str, ...]]
    arrivals: tuple[Arrival, ...]


def race_fleet(counted: int, itemised: int, partitions: int, seed: int) -> RaceFleet:
    """A number of nodes of the synthetic fleet, a number of each kind of hardware, and requests for more than they have."""
    rng = random.Random(f"{seed} race")
    fleet: SyntheticFleet = make_fleet(counted, 12 * counted, seed)
    trees = [node.tree for node in fleet.nodes]
    aggregates = {node.root: node.aggregates for node in fleet.nodes}
    specs = [_grouped(spec, partitions, rng) for spec in fleet.requests]
    for name, kind in KINDS.items():
        for number in range(itemised):
            root = f"{name}-{number:03}"
            trees.append(kind.tree(root, rng))
            aggregates[root] = (f"rack-{number % 4}",)
        asked = [kind.ask(rng) for _ in range(2 * kind.room * itemised)]
        specs += [RequestSpec.model_validate_json(json.dumps(one)) for one in asked]
    rng.shuffle(specs)
    return RaceFleet(tuple(trees), aggregates, tuple(_arrivals(specs, rng)))


def _arrivals(specs: Sequence[RequestSpec], rng: random.Random) -> list[Arrival]:
    return [
        Arrival(spec, number + rng.randint(20, 200) if rng.random() < RELEASED else None)
        for number, spec in enumerate(specs)
    ]


def _grouped(spec: RequestSpec, partitions: int, rng: random.Random) -> RequestSpec:
    if rng.random() >= GROUPED:
        return spec
    group = f"{rng.choice(covering_cells(partitions))}/service-{rng.randrange(10)}"
    near = group.endswith("0")
    more: dict[str, Any] = {} if near else {"max_per_node": 2}
    one = {"group": group, "policy": "affinity" if near else "anti-affinity", "hard": not near, **more}
    said = spec.model_dump(mode="json") | {"memberships": [one]}
    return RequestSpec.model_validate_json(json.dumps(said))


def _provider(id_: str, parent: str | None, **inventories: dict[str, Any]) -> ProviderReport:
    return ProviderReport(id=id_, parent=parent, inventories=inventories, traits=("COMPUTE_NODE",))


def _host(root: str, **more: dict[str, Any]) -> ProviderReport:
    return _provider(root, None, VCPU={"total": 32}, MEMORY_MB={"total": 65_536, "reserved": 512}, **more)


def _instance(**resources: Any) -> dict[str, Any]:
    return {"resources": {"VCPU": 1, "MEMORY_MB": 1_024, **resources}}


# -- the kinds of nodes ---------------------------------------------------------------------------------------


def _devices(root: str, rng: random.Random) -> Tree:
    """PCI devices, FPGAs, and cards with virtual functions."""
    pci = {
        f"0000:{n:02x}:00.0": {"vendor": "10de", "model": rng.choice(MODELS), "numa_node": n // 4}
        for n in range(6)
    }
    nics: dict[str, dict[str, Any]] = {f"0000:8{card}:00.0": {"vendor": "8086"} for card in range(2)}
    nics |= {f"0000:8{n // 4}:01.{n % 4}": {"parent": f"0000:8{n // 4}:00.0"} for n in range(8)}
    fpga = {f"fpga{n}": {"family": rng.choice(("agilex", "versal"))} for n in range(2)}
    return (_host(root, PCI_DEVICE={"devices": pci}, SRIOV_NET_VF={"devices": nics}, FPGA={"devices": fpga}),)


def _ask_devices(rng: random.Random) -> dict[str, Any]:
    asks: tuple[dict[str, Any], ...] = (
        {"PCI_DEVICE": {"count": rng.randint(1, 2), "where": {"model": rng.choice(MODELS)}}},
        {"PCI_DEVICE": {"where": {"vendor": "10de", "numa_node": {"<=": rng.randint(0, 1)}}}},
        {"SRIOV_NET_VF": rng.randint(1, 2)},
        {"SRIOV_NET_VF": {"where": {"dev_type": "type-PF"}}},
        {"FPGA": {"where": {"family": {"in": ["agilex", "versal"]}}}, "SRIOV_NET_VF": 1},
    )
    return {"groups": [_instance(**rng.choice(asks))]}


def _shares(root: str, rng: random.Random) -> Tree:
    gpus = {f"GPU-{n}": {"total": 1000, "model": rng.choice(MODELS)} for n in range(4)}
    return (_host(root, GPU_SHARE={"devices": gpus}),)


def _ask_share(rng: random.Random) -> dict[str, Any]:
    share = 50 * rng.randint(4, 14)
    asks = (share, {"share": share, "where": {"model": rng.choice(MODELS)}}, {"share": 300, "count": 2})
    return {"groups": [_instance(GPU_SHARE=rng.choice(asks))]}


def _vgpus(root: str, rng: random.Random) -> Tree:
    """GPUs in a provider of their own, below the host."""
    types = {"nvidia-35": 4, "nvidia-36": 2}
    gpus = {f"gpu{n}": {"types": types, "model": rng.choice(MODELS)} for n in range(2)}
    return _host(root), _provider(f"{root}:gpus", root, VGPU={"devices": gpus})


def _ask_vgpu(rng: random.Random) -> dict[str, Any]:
    kinds = ("nvidia-35", "nvidia-36")
    asks = (1, {"type": rng.choice(kinds)}, {"type": "nvidia-35", "count": 2})
    return {"groups": [_instance(), {"name": "gpu", "resources": {"VGPU": rng.choice(asks)}}]}


def _cells(root: str, rng: random.Random) -> Tree:
    """Two NUMA cells, each with devices near it."""
    cells = []
    for cell in range(2):
        cpus = range(8 * cell, 8 * cell + 8)
        inventory = {
            "cell": cell,
            "cores": [[cpu, cpu + 16] for cpu in cpus],
            "shared_cpus": [cpus[-1], cpus[-1] + 16],
            "cpu_ratio_milli": 4000,
            "memory_mb": 16_384,
            "hugepages": {"2048": 2_048, "1048576": 4},
        }
        nic = {"devices": {f"0000:a{cell}:00.{n}": {"vendor": "8086"} for n in range(2)}}
        cells.append(_provider(f"{root}:numa{cell}", root, NUMA_CELL=inventory, PCI_DEVICE=nic))
    return _provider(root, None, DISK_GB={"total": 2_000}), *cells


def _ask_cells(rng: random.Random) -> dict[str, Any]:
    ask = {"pinned": rng.randint(1, 4), "threads": rng.choice(("isolate", "require", "prefer"))}
    memory = rng.choice(
        ({"memory_mb": 2_048, "page_kib": 2_048}, {"memory_mb": 1_024, "page_kib": 1_048_576})
    )
    shared = {"shared": 2, "memory_mb": 512, "page_kib": "small"}
    cell = {"NUMA_CELL": rng.choice(({**ask, **memory}, {**ask, "memory_mb": 1_024}, shared))}
    near = {"PCI_DEVICE": 1} if rng.random() < 0.3 else {}
    groups = [{"name": f"numa{n}", "resources": {**cell, **near}} for n in range(rng.choice((1, 1, 2)))]
    return {"groups": [{"resources": {"DISK_GB": 10}}, *groups], "group_policy": "isolate"}


KINDS: Final = {
    "devices": Kind(8, _devices, _ask_devices),
    "shares": Kind(7, _shares, _ask_share),
    "vgpus": Kind(6, _vgpus, _ask_vgpu),
    "cells": Kind(7, _cells, _ask_cells),
}
