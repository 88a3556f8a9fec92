"""The synthetic fleet: equal for equal seeds, varied, with requests that some node can serve."""

from __future__ import annotations

from itertools import chain

from vacancy.clients.demo.synthetic_fleet import make_fleet, node_reports
from vacancy.clients.request_language.request_compiler import check_spec
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.resources.model.events import NodeReported, parse
from vacancy.resources.model.names import check_trait
from vacancy.resources.model.partitioner import cell_for

FLEET = make_fleet(200, 1000, seed=1)
PROVIDERS = list(chain.from_iterable(node.tree for node in FLEET.nodes))


def test_a_seed_makes_the_same_fleet_again_and_another_makes_another() -> None:
    assert make_fleet(200, 1000, seed=1) == FLEET
    assert make_fleet(200, 1000, seed=2) != FLEET
    assert FLEET.providers == len(PROVIDERS)


def test_it_has_the_variety_that_real_fleets_have() -> None:
    inventories = [inventory for one in PROVIDERS for inventory in one.inventories.values()]
    ratios = {inventory.get("allocation_ratio_milli", 1000) for inventory in inventories}
    assert {1000, 4000, 16000} <= ratios
    assert any("min_unit" in inventory for inventory in inventories)
    assert any("step_size" in inventory for inventory in inventories)
    assert {"CUSTOM_GPU_MILLI", "PGPU", "NUMA_CORE", "NUMA_MEMORY_MB"} <= {
        name for one in PROVIDERS if one.parent for name in one.inventories
    }
    for trait in {trait for one in PROVIDERS for trait in one.traits}:
        check_trait(trait)
    assert {"rack-0", "premium"} <= {name for node in FLEET.nodes for name in node.aggregates}


def test_requests_have_several_groups_traits_and_aggregates_and_can_be_meant() -> None:
    for spec in FLEET.requests:
        check_spec(spec, installed_registry())
    groups = [group for spec in FLEET.requests for group in spec.groups]
    assert max(len(spec.groups) for spec in FLEET.requests) > 2
    assert any(spec.group_policy == "isolate" for spec in FLEET.requests)
    for kind in ("required", "any_traits", "member_of", "not_member_of"):
        assert any(getattr(group, kind) for group in groups), kind


def test_each_tree_is_reported_in_the_cell_that_its_root_joins() -> None:
    reports = list(node_reports((node.tree for node in FLEET.nodes), 4))
    assert len(reports) == 200
    for entry, node in zip(reports, FLEET.nodes, strict=True):
        event = parse(entry.value)
        assert isinstance(event, NodeReported)
        assert event.data.providers == node.tree
        assert entry.key == cell_for(node.root, 4)
