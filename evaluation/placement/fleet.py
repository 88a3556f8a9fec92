"""The fleets of `evaluation beside` and their requests, in the formats of both systems."""

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
    """A fleet of identical nodes, and the one request that all schedulers send.

    Each node is one provider, nothing is reserved, allocation ratios are 1. `trait`: a trait that the nodes have and the
    request requires. `requested`: amounts of the request.
    """

    name: str
    nodes: int
    trait: str
    totals: Mapping[str, int]
    requested: Mapping[str, int]

    @property
    def places(self) -> int:
        """How many requests the fleet can serve."""
        return self.nodes * min(self.totals[name] // amount for name, amount in self.requested.items())

    def node_names(self) -> list[str]:
        """The names of the nodes, in order."""
        return [f"{self.name}-{number:06}" for number in range(self.nodes)]

    # -- for vacancy --------------------------------------------------------------------------------------------

    def reports(self, partitions: int) -> Iterator[NewRecord]:
        """One report per node."""
        inventories: Inventories = {name: {"total": total} for name, total in self.totals.items()}
        trees = (
            (ProviderReport(id=node, inventories=inventories, traits=(self.trait,)),)
            for node in self.node_names()
        )
        return node_reports(trees, partitions, f"/{self.name}")

    def spec(self) -> RequestSpec:
        """The request."""
        return RequestSpec(groups=(RequestGroup(resources=dict(self.requested), required=(self.trait,)),))

    # -- for Placement ------------------------------------------------------------------------------------------

    def inventories(self) -> dict[str, dict[str, Any]]:
        """The inventories of a node, with all fields."""
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
        """The request as an HTTP path with a query string."""
        resources = ",".join(f"{name}:{amount}" for name, amount in self.requested.items())
        parameters = {"resources": resources, "required": self.trait, "limit": limit}
        return f"/allocation_candidates?{urlencode(parameters, safe=':,')}"


def provider_uuid(node: str) -> str:
    """The UUID of a node's provider in Placement."""
    return str(uuid5(NAMESPACE_URL, node))


def plain_fleet(nodes: int) -> PlacementFleet:
    """Nodes with more capacity than a run requests, if there are at least some dozens of them."""
    return PlacementFleet(
        "node",
        nodes,
        "HW_CPU_X86_AVX2",
        MappingProxyType({"VCPU": 64, "MEMORY_MB": 1_000_000, "DISK_GB": 10_000}),
        MappingProxyType({"VCPU": 1, "MEMORY_MB": 256, "DISK_GB": 10}),
    )


def brim_fleet(nodes: int) -> PlacementFleet:
    """Small nodes, from which more is requested than they have."""
    return PlacementFleet(
        "brim", nodes, "CUSTOM_BRIM", MappingProxyType({"VCPU": 4}), MappingProxyType({"VCPU": 1})
    )
