"""The fleets of the query benchmark. They are made by a rule, so that answers can be checked without the tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from evaluation.statistics import report
from vacancy.resources.model import events
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord

COMMON, RARE, SHARES = "HW_CPU_X86_AVX2", "CUSTOM_RARE", "MISC_SHARES_VIA_AGGREGATE"
RARE_EVERY = 1_000
AGGREGATES = 10
GPU = "CUSTOM_GPU"
CPU_MODELS = ("Milan", "Rome", "Icelake", "Genoa")


def root(number: int) -> str:
    """The name of a node."""
    return f"node-{number:07}"


def number_of(provider: str) -> int:
    """The number of the node in whose tree a provider is."""
    return int(provider.removeprefix("node-").partition("_")[0])


def is_rare(number: int) -> bool:
    """Whether a node has the rare trait: one node in a thousand has it."""
    return number % RARE_EVERY == 7


class Fleet:
    """A fleet of `providers` providers, in nodes of `size` providers each. Subclasses define the reports of a node."""

    name = "plain"
    size = 1

    def __init__(self, providers: int) -> None:
        self.providers = providers
        self.nodes = max(1, providers // self.size)

    def node(self, number: int, sequence: int) -> bytes:
        """The full report of a node. Half of the nodes have a common trait; the amounts differ slightly."""
        traits = (["CUSTOM_RACK"] if number % 3 else []) + ([COMMON] if number % 2 else [])
        if is_rare(number):
            traits.append(RARE)
        return report(
            root(number),
            sequence,
            vcpu=8 + number % 57,
            memory=16_384 + number % 1000 * 100 + sequence % 2,
            disk=500 + number % 1500,
            traits=sorted(traits),
        )

    def aggregate(self, number: int) -> str | None:
        """The aggregate of a node; None if it has none."""
        return f"rack-{number // 2 % AGGREGATES}"

    def entries(self) -> Iterator[NewRecord]:
        """The entries of the log: reports and aggregates of a thousand nodes at a time, then `more`."""
        cell = covering_cells(1)[0]
        for start in range(0, self.nodes, 1000):
            numbers = range(start, min(start + 1000, self.nodes))
            yield from (NewRecord(cell, self.node(number, 1)) for number in numbers)
            for number in numbers:
                name = self.aggregate(number)
                if name is not None:
                    yield NewRecord(cell, aggregate_event(root(number), name))
        yield from (NewRecord(cell, value) for value in self.more())

    def more(self) -> Iterator[bytes]:
        """Records of providers that are not nodes."""
        return iter(())


class Nested(Fleet):
    """Nodes with two NUMA cells, each with cores and memory, and a GPU below each."""

    name = "nested"
    size = 5

    def node(self, number: int, sequence: int) -> bytes:
        name = root(number)
        traits = [RARE] if is_rare(number) else []
        providers = [part(name, None, traits, DISK_GB=500 + number % 1500 + sequence % 2)]
        for cell in range(2):
            numa = f"{name}_numa{cell}"
            providers.append(part(numa, name, (), VCPU=4 + number % 29, MEMORY_MB=8192 + number % 1000 * 50))
            providers.append(part(f"{name}_gpu{cell}", numa, (), **{GPU: 1 + number % 8}))
        return node_report(name, sequence, providers)

    def aggregate(self, number: int) -> str | None:
        return None


class Sharing(Fleet):
    """Nodes without disks, and a hundred storage pools that share their disk with the nodes of their sites."""

    name = "sharing"
    pools = 100

    def node(self, number: int, sequence: int) -> bytes:
        traits = [*([COMMON] if number % 2 else []), *([RARE] if is_rare(number) else [])]
        memory = 16_384 + number % 1000 * 100 + sequence % 2
        only = part(root(number), None, traits, VCPU=8 + number % 57, MEMORY_MB=memory)
        return node_report(root(number), sequence, [only])

    def aggregate(self, number: int) -> str | None:
        return f"site-{number % self.pools}"

    def more(self) -> Iterator[bytes]:
        for number in range(self.pools):
            name = f"pool-{number}"
            yield node_report(name, 1, [part(name, None, [SHARES], DISK_GB=10**9)])
            yield aggregate_event(name, f"site-{number}")


class Wide(Fleet):
    """Nodes with eight GPUs of eight units each: the number of possible candidates is largest here."""

    name = "wide"
    size = 9

    def node(self, number: int, sequence: int) -> bytes:
        name = root(number)
        traits = [RARE] if is_rare(number) else []
        host = part(name, None, (), VCPU=8 + number % 57, MEMORY_MB=16_384 + number % 1000 + sequence % 2)
        gpus = [part(f"{name}_gpu{at}", name, traits, **{GPU: 8}) for at in range(8)]
        return node_report(name, sequence, [host, *gpus])

    def aggregate(self, number: int) -> str | None:
        return None


class Valued(Fleet):
    """Plain nodes with ten attributes each. One value of the attribute site is rare."""

    name = "valued"

    def node(self, number: int, sequence: int) -> bytes:
        (only,) = json.loads(super().node(number, sequence))["data"]["providers"]
        only["attributes"] = {
            "architecture": "x86_64",
            "cores": 8 + number % 57,
            "cpu_model": CPU_MODELS[number % len(CPU_MODELS)],
            "cpu_vendor": "AuthenticAMD",
            "hypervisor_type": "QEMU",
            "hypervisor_version": f"8.{number // 12 % 12}.{number % 7}",
            "kernel_version": f"6.{number % 10}.{number % 97}-amd64",
            "row": number % 40,
            "secure_boot": number // 5 % 3 == 0,
            "site": "rare" if is_rare(number) else f"site-{number % 50}",
        }
        return node_report(root(number), sequence, [only])


FLEETS: tuple[type[Fleet], ...] = (Fleet, Valued, Nested, Sharing, Wide)


def part(id_: str, parent: str | None, traits: Any, **totals: int) -> dict[str, Any]:
    """A provider of a report."""
    inventories = {name: {"total": total} for name, total in sorted(totals.items())}
    return {"id": id_, "parent": parent, "inventories": inventories, "traits": list(traits)}


def node_report(name: str, sequence: int, providers: list[dict[str, Any]]) -> bytes:
    """A full report."""
    data = {"root": name, "incarnation": f"{170:016x}", "sequence": sequence, "providers": providers}
    return events.encode_plain("vacancy.node.reported.v1", f"{name}-{sequence}", f"/node/{name}", data)


def aggregate_event(provider: str, aggregate: str) -> bytes:
    """The event with which an operator adds a provider to an aggregate."""
    data = {"provider": provider, "revision": 1, "facts": {"aggregates": [aggregate]}}
    return events.encode_plain("vacancy.facts.set.v1", f"facts-{provider}", "/evaluation", data)


def first_report(fleet: Fleet, number: int) -> list[dict[str, Any]]:
    """The providers of a node's first report, as JSON."""
    found: list[dict[str, Any]] = json.loads(fleet.node(number, 1))["data"]["providers"]
    return found
