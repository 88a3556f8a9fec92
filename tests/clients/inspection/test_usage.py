"""Usage adds up what consumers hold, in the units of each class's capacity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.followed_log import followed_log, wait_for
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
    assert found.usages == {"GPU_SHARE": 600, "NUMA_CELL": 3, "PCI_DEVICE": 2, "VCPU": 3, "VGPU": 3}
    assert found.usages == {one.resource_class: one.used for one in provider.inventories}
