"""A fleet that looks like a real one, and requests that look like its users', both made from a seed.

Seven shapes of node; every request is cut to one of them, so that a mix of a few requests a node fills the fleet.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from vacancy.clients.publisher.host.inventory import Inventories, offer
from vacancy.clients.publisher.publisher import new_incarnation
from vacancy.resources.model import events
from vacancy.resources.model.partitioner import cell_for
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.request import RequestGroup, RequestSpec

GPU: Final = "CUSTOM_GPU_MILLI"
"""Thousandths of a GPU that instances may share; whole ones are `PGPU`."""

AVX512: Final = "HW_CPU_X86_AVX512F"
SSD: Final = "STORAGE_DISK_SSD"
RACKS: Final = 8

Tree = tuple[events.ProviderReport, ...]


class SyntheticNode(NamedTuple):
    """A node of the fleet: its tree, the root first, and the aggregates that operators put it in."""

    root: str
    tree: Tree
    aggregates: tuple[str, ...]


class SyntheticFleet(NamedTuple):
    """Nodes, and requests that they could serve; `requests` in the order in which they come."""

    nodes: tuple[SyntheticNode, ...]
    requests: tuple[RequestSpec, ...]

    @property
    def providers(self) -> int:
        """How many providers the trees have in all."""
        return sum(len(node.tree) for node in self.nodes)


def make_fleet(nodes: int, requests: int, seed: int) -> SyntheticFleet:
    """A fleet and its requests: the same for the same arguments."""
    rng = random.Random(f"{seed} fleet")
    made = []
    for number, shape in enumerate(rng.choices(_SHAPES, [shape.weight for shape in _SHAPES], k=nodes)):
        root = f"node-{number:05}"
        aggregates = (f"rack-{number % RACKS}", *(("premium",) if rng.random() < 0.2 else ()))
        made.append(SyntheticNode(root, shape.tree(root, rng), aggregates))
    asked = rng.choices(_SHAPES, [shape.weight for shape in _SHAPES], k=requests)
    return SyntheticFleet(tuple(made), tuple(_placed_anywhere(shape.ask(rng), rng) for shape in asked))


def _placed_anywhere(spec: RequestSpec, rng: random.Random) -> RequestSpec:
    """Most requests do not care where; some want one of a few racks, or not the premium nodes."""
    draw = rng.random()
    if draw < 0.85:
        return spec
    host = spec.groups[0]
    if draw < 0.95:
        wanted = tuple(f"rack-{rack}" for rack in sorted(rng.sample(range(RACKS), 3)))
        host = host.model_copy(update={"member_of": (wanted,)})
    else:
        host = host.model_copy(update={"not_member_of": ("premium",)})
    return spec.model_copy(update={"groups": (host, *spec.groups[1:])})


# -- as events ------------------------------------------------------------------------------------------------


def node_reports(trees: Iterable[Tree], partitions: int, source: str = "/fleet") -> Iterator[NewRecord]:
    """A full report of each tree, in the cell that its root joins by itself; each opens a new incarnation."""
    for tree in trees:
        incarnation = new_incarnation()
        data = events.NodeReportedData(root=tree[0].id, incarnation=incarnation, sequence=1, providers=tree)
        report = events.NodeReported(id=f"{incarnation}-1", source=f"{source}/{tree[0].id}", data=data)
        yield NewRecord(cell_for(tree[0].id, partitions), events.encode(report))


# -- shapes -----------------------------------------------------------------------------------------------------


class _Shape(NamedTuple):
    """A kind of node: how common it is, how to make one, and what is asked of it."""

    weight: int
    tree: Callable[[str, random.Random], Tree]
    ask: Callable[[random.Random], RequestSpec]


def _provider(
    id_: str, inventories: Inventories, traits: Iterable[str] = (), parent: str | None = None
) -> events.ProviderReport:
    return events.ProviderReport(id=id_, parent=parent, inventories=inventories, traits=tuple(sorted(traits)))


def _host(
    vcpus: int, memory_gib: int, disk_gib: int, *, vcpu_ratio_milli: int = 1000, reserved_mib: int = 1024
) -> Inventories:
    inventories: Inventories = {}
    offer(inventories, "VCPU", vcpus, ratio_milli=vcpu_ratio_milli)
    offer(inventories, "MEMORY_MB", memory_gib * 1024, reserved=reserved_mib)
    offer(inventories, "DISK_GB", disk_gib)
    return inventories


def _spec(*groups: RequestGroup, isolate: bool = False) -> RequestSpec:
    return RequestSpec(groups=groups, group_policy="isolate" if isolate else "none")


def _instance(vcpus: int, memory_gib: int, disk_gib: int, **more: tuple[str, ...]) -> RequestGroup:
    resources = {"VCPU": vcpus, "MEMORY_MB": memory_gib * 1024, "DISK_GB": disk_gib}
    return RequestGroup.model_validate({"resources": resources, **more})


def _small(root: str, rng: random.Random) -> Tree:
    ratio = rng.choice((4_000, 16_000))
    traits = {"COMPUTE_NODE", "HW_CPU_X86_AVX2"} | ({SSD} if rng.random() < 0.5 else set())
    return (_provider(root, _host(16, 64, 1_000, vcpu_ratio_milli=ratio), traits),)


def _ask_small(rng: random.Random) -> RequestSpec:
    vcpus = rng.choice((2, 4, 8, 16))
    required = (SSD,) if rng.random() < 0.3 else ()
    return _spec(_instance(vcpus, vcpus, rng.choice((20, 40, 80)), required=required))


def _large(root: str, rng: random.Random) -> Tree:
    traits = {"COMPUTE_NODE", "HW_CPU_X86_AVX2", SSD} | ({AVX512} if rng.random() < 0.7 else set())
    return (_provider(root, _host(96, 512, 4_000, vcpu_ratio_milli=4_000), traits),)


def _ask_large(rng: random.Random) -> RequestSpec:
    vcpus = rng.choice((16, 32))
    either = ((AVX512, "HW_CPU_X86_AVX2"),) if rng.random() < 0.3 else ()
    group = _instance(vcpus, 4 * vcpus, rng.choice((200, 400)))
    return _spec(group.model_copy(update={"any_traits": either}))


def _memory_heavy(root: str, rng: random.Random) -> Tree:
    """Memory is given in GiB, and at least 32 of them: small instances shall go elsewhere."""
    inventories = _host(64, rng.choice((2_048, 4_096)), 8_000, vcpu_ratio_milli=2_000, reserved_mib=16_384)
    inventories["MEMORY_MB"] |= {"min_unit": 32_768, "step_size": 1_024}
    return (_provider(root, inventories, {"COMPUTE_NODE", "CUSTOM_BIG_MEMORY"}),)


def _ask_memory(rng: random.Random) -> RequestSpec:
    return _spec(_instance(rng.choice((4, 8)), rng.choice((256, 512)), 100, required=("CUSTOM_BIG_MEMORY",)))


def _storage(root: str, rng: random.Random) -> Tree:
    """Disk is cut in extents of 16 GiB."""
    inventories = _host(32, 128, rng.choice((32_000, 64_000)))
    inventories["DISK_GB"] |= {"min_unit": 16, "step_size": 16, "max_unit": 16_000}
    return (_provider(root, inventories, {"COMPUTE_NODE", "CUSTOM_EXTENTS"}),)


def _ask_storage(rng: random.Random) -> RequestSpec:
    return _spec(_instance(4, 8, 16 * rng.randint(250, 600), required=("CUSTOM_EXTENTS",)))


def _shared_gpus(root: str, rng: random.Random) -> Tree:
    model = rng.choice(_MODELS)
    gpus = [
        _provider(f"{root}:gpu{number}", {GPU: {"total": 1000, "step_size": 10}}, {model}, root)
        for number in range(rng.choice((2, 4)))
    ]
    return (_provider(root, _host(32, 256, 2_000), {"COMPUTE_NODE"}), *gpus)


def _ask_shared_gpu(rng: random.Random) -> RequestSpec:
    milli = 10 * rng.randint(20, 60)
    wanted = (rng.choice(_MODELS),) if rng.random() < 0.5 else ()
    share = RequestGroup(name="gpu", resources={GPU: milli}, required=wanted)
    return _spec(_instance(4, 16, 50), share)


def _whole_gpus(root: str, rng: random.Random) -> Tree:
    model = rng.choice(_MODELS)
    gpus = [
        _provider(f"{root}:gpu{number}", {"PGPU": {"total": 1}}, {model}, root)
        for number in range(rng.choice((4, 8)))
    ]
    return (_provider(root, _host(128, 1_024, 8_000), {"COMPUTE_NODE", "HW_CPU_X86_AVX2"}), *gpus)


def _ask_whole_gpus(rng: random.Random) -> RequestSpec:
    gpus = [RequestGroup(name=f"gpu{n}", resources={"PGPU": 1}) for n in range(rng.choice((1, 1, 2, 4)))]
    return _spec(_instance(8 * len(gpus), 64 * len(gpus), 200), *gpus, isolate=True)


def _numa(root: str, rng: random.Random) -> Tree:
    """Cores and memory are given by cell, to instances that are pinned."""
    cores = rng.choice((24, 32))
    cells = [
        _provider(
            f"{root}:numa{number}",
            {"NUMA_CORE": {"total": cores}, "NUMA_MEMORY_MB": {"total": 196_608, "step_size": 2}},
            {"HW_NUMA_ROOT"},
            root,
        )
        for number in range(2)
    ]
    inventories: Inventories = {}
    offer(inventories, "DISK_GB", 2_000)
    return (_provider(root, inventories, {"COMPUTE_NODE"}), *cells)


def _ask_numa(rng: random.Random) -> RequestSpec:
    cores = rng.choice((4, 8))
    pinned = {"NUMA_CORE": cores, "NUMA_MEMORY_MB": 4_096 * cores}
    disk = RequestGroup(resources={"DISK_GB": 40})
    cells = [RequestGroup(name=f"numa{n}", resources=dict(pinned)) for n in range(rng.choice((1, 1, 2)))]
    return _spec(disk, *cells, isolate=True)


_MODELS: Final = ("CUSTOM_GPU_MODEL_A", "CUSTOM_GPU_MODEL_B", "CUSTOM_GPU_MODEL_C")
_SHAPES: Final = (
    _Shape(30, _small, _ask_small),
    _Shape(25, _large, _ask_large),
    _Shape(10, _memory_heavy, _ask_memory),
    _Shape(5, _storage, _ask_storage),
    _Shape(10, _shared_gpus, _ask_shared_gpu),
    _Shape(10, _whole_gpus, _ask_whole_gpus),
    _Shape(10, _numa, _ask_numa),
)
