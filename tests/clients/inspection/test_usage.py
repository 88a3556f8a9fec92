"""Usage adds up what consumers hold, in the units of each class's capacity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.logs.followed_log import followed_log, wait_for
from vacancy.clients.inspection.lookup import show_provider
from vacancy.clients.inspection.usage import usage
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.request import RequestGroup, RequestSpec

(CELL,) = covering_cells(1)
INVENTORIES: dict[str, Any] = {
    "VCPU": {"total": 8},
    "PCI_DEVICE": {"devices": {"0000:01:00.0": {}, "0000:02:00.0": {}, "0000:03:00.0": {}}},
    "GPU_SHARE": {"devices": {"gpu0": {"total": 1000}, "gpu1": {"total": 1000}}},
    "VGPU": {"devices": {"gpu2": {"types": {"a": 4}}}},
    "NUMA_CELL": {"cores": [[0], [1], [2], [3]], "shared_cpus": [3], "memory_mb": 4096},
}
ASKS: dict[str, Any] = {
    "VCPU": 3,
    "PCI_DEVICE": 2,
    "GPU_SHARE": {"share": 300, "count": 2},
    "VGPU": 3,
    "NUMA_CELL": {"pinned": 2, "shared": 1, "memory_mb": 1024},
}


def test_amounts_are_those_that_the_node_shows_as_used(tmp_path: Path) -> None:
    with followed_log(tmp_path) as site:
        site.report("n1", cell=CELL, **INVENTORIES)
        with site.scheduler() as scheduler:
            spec = RequestSpec(groups=(RequestGroup(resources=ASKS),))
            scheduler.place(PlacementRequest(spec, consumer="c1"))
        wait_for(site.reader, site.log.end())
        (found,) = usage(site.reader).usages
        (provider,) = show_provider(site.reader, "n1", cell=CELL).providers
    assert found.usages == {
        "GPU_SHARE": 600,
        "NUMA_CELL": 3,
        "NUMA_CELL.memory_mb": 1024,
        "PCI_DEVICE": 2,
        "VCPU": 3,
        "VGPU": 3,
    }
    of_capacity = {name: amount for name, amount in found.usages.items() if "." not in name}
    assert of_capacity == {one.resource_class: one.used for one in provider.inventories}


def test_each_class_counts_grants_in_its_own_units(tmp_path: Path) -> None:
    """Eight pinned CPUs with 16 GiB in pages of 1 GiB, 700 thousandths of a GPU, three vGPUs, and a physical function
    of which nobody else can have the four virtual ones."""
    functions: dict[str, Any] = {f"0000:81:00.{at}": {"parent": "0000:81:00.0"} for at in range(1, 5)}
    inventories: dict[str, Any] = {
        "NUMA_CELL": {"cores": [[at] for at in range(8)], "memory_mb": 4096, "hugepages": {"1048576": 16}},
        "GPU_SHARE": {"devices": {"gpu0": {"total": 1000}}},
        "VGPU": {"devices": {"gpu1": {"types": {"a": 4}}}},
        "SRIOV_NET_VF": {"devices": {"0000:81:00.0": {}, **functions}},
    }
    asks: dict[str, Any] = {
        "NUMA_CELL": {"pinned": 8, "memory_mb": 16 * 1024, "page_kib": 1_048_576},
        "GPU_SHARE": 700,
        "VGPU": 3,
        "SRIOV_NET_VF": {"count": 1, "where": {"dev_type": "type-PF"}},
    }
    with followed_log(tmp_path) as site:
        site.report("n1", cell=CELL, **inventories)
        with site.scheduler() as scheduler:
            spec = RequestSpec(groups=(RequestGroup(resources=asks),))
            scheduler.place(PlacementRequest(spec, consumer="c1"))
        wait_for(site.reader, site.log.end())
        (found,) = usage(site.reader).usages
    assert found.usages == {
        "GPU_SHARE": 700,
        "NUMA_CELL": 8,
        "NUMA_CELL.memory_mb": 16 * 1024,
        "SRIOV_NET_VF": 4,
        "VGPU": 3,
    }
