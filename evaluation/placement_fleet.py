"""The fleets of `evaluation beside`, and what is asked of them, in the words of either system."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode
from uuid import NAMESPACE_URL, uuid5

from vacancy.clients.demo.synthetic_fleet import node_reports
from vacancy.clients.publisher.host.inventory import Inventories
from vacancy.resources.model.events import ProviderReport
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.request import RequestGroup, RequestSpec


@dataclass(frozen=True)
class PlacementFleet:
    """Nodes that are all alike, each one provider with nothing reserved and no overcommitment, and the one request
    that all schedulers make of them. `trait` is what these nodes have, and what is asked for."""

    name: str
    nodes: int
    trait: str
    totals: Mapping[str, int]
    asked: Mapping[str, int]

    @property
    def places(self) -> int:
        """How many of the requests it can serve."""
        return self.nodes * min(self.totals[name] // amount for name, amount in self.asked.items())

    def node_names(self) -> list[str]:
        """The nodes, in order."""
        return [f"{self.name}-{number:06}" for number in range(self.nodes)]

    # -- as vacancy has it --------------------------------------------------------------------------------------

    def reports(self, partitions: int) -> Iterator[NewRecord]:
        """A report of each node."""
        inventories: Inventories = {name: {"total": total} for name, total in self.totals.items()}
        trees = (
            (ProviderReport(id=node, inventories=inventories, traits=(self.trait,)),)
            for node in self.node_names()
        )
        return node_reports(trees, partitions, f"/{self.name}")

    def spec(self) -> RequestSpec:
        """The request."""
        return RequestSpec(groups=(RequestGroup(resources=dict(self.asked), required=(self.trait,)),))

    # -- as Placement has it ------------------------------------------------------------------------------------

    def inventories(self) -> dict[str, dict[str, Any]]:
        """What each node has, all fields written out."""
        return {
            name: {
                "total": total,
                "reserved": 0,
                "min_unit": 1,
                "max_unit": total,
                "step_size": 1,
                "allocation_ratio": 1.0,
            }
            for name, total in self.totals.items()
        }

    def query(self, limit: int) -> str:
        """The request, as a path with its query."""
        resources = ",".join(f"{name}:{amount}" for name, amount in self.asked.items())
        asked = {"resources": resources, "required": self.trait, "limit": limit}
        return f"/allocation_candidates?{urlencode(asked, safe=':,')}"


def provider_uuid(node: str) -> str:
    """The UUID that a node's provider has in Placement."""
    return str(uuid5(NAMESPACE_URL, node))


def plain_fleet(nodes: int) -> PlacementFleet:
    """Nodes with room for more than any run asks for, as long as there are some dozens of them."""
    return PlacementFleet(
        "node",
        nodes,
        "HW_CPU_X86_AVX2",
        MappingProxyType({"VCPU": 64, "MEMORY_MB": 1_000_000, "DISK_GB": 10_000}),
        MappingProxyType({"VCPU": 1, "MEMORY_MB": 256, "DISK_GB": 10}),
    )


def brim_fleet(nodes: int) -> PlacementFleet:
    """Small nodes, to be asked for more than they have."""
    return PlacementFleet(
        "brim", nodes, "CUSTOM_BRIM", MappingProxyType({"VCPU": 4}), MappingProxyType({"VCPU": 1})
    )
