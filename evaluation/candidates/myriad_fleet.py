"""The fleet of the scenario of the myriad qualities: hosts with NUMA cells, devices, network cards, shared disks and groups.

Each host is made by a rule from a seed, so that every process can compute it. An adapter loads it in the form in which its store
asks for such things best (rows, trees of providers, documents). It is beside the providers of `Fleet`, and its hosts have the trait
`MYRIAD`, which every request of the scenario requires.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Final, NamedTuple, Self

from evaluation.candidates.candidate import Json, Request

MYRIAD: Final = "CUSTOM_MYRIAD"
"""All hosts of this fleet have it, and no other provider."""

ZONES: Final = ("zone-a", "zone-b", "zone-c")
ISOLATED: Final = "licensed"
"""The aggregate of the hosts that are kept for licensed software."""

HYPERVISORS: Final = ("7.2.0", "8.0.4", "8.2.10", "9.1.0", "10.0.2")
PHYSICAL_NETWORKS: Final = ("public", "storage", "tenant")
APART: Final = "web"
"""The server group whose members are on hosts of their own."""

SPREAD: Final = "api"
"""The server group whose members are spread over the zones, with a maximum skew of 1."""


class GpuModel(NamedTuple):
    """A model of GPUs as PCI devices."""

    name: str
    vendor: str
    product: str
    memory_mb: int


MODELS: Final = (
    GpuModel("T4", "10de", "1eb8", 15_360),
    GpuModel("A100", "10de", "20b0", 40_960),
    GpuModel("H100", "10de", "2330", 81_920),
    GpuModel("MI210", "1002", "740f", 65_536),
)
DRIVERS: Final = (470, 535, 550, 570)


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU that is given to a guest as a whole. `driver`: the branch of its driver."""

    address: str
    model: str
    vendor: str
    product: str
    memory_mb: int
    driver: int


@dataclass(frozen=True, slots=True)
class SharedGpu:
    """A GPU that is given away in thousandths."""

    name: str
    model: str
    milli: int


@dataclass(frozen=True, slots=True)
class Nic:
    """A network card: its virtual functions and its bandwidth."""

    name: str
    network: str
    kilobits: int
    functions: int


@dataclass(frozen=True, slots=True)
class NumaCell:
    """A NUMA cell of a host: CPUs for pinning, memory, and what is near."""

    cpus: int
    memory_mb: int
    devices: tuple[Device, ...]
    gpus: tuple[SharedGpu, ...]
    nics: tuple[Nic, ...]


@dataclass(frozen=True, slots=True)
class Host:
    """A host. `resident`: the amounts that one consumer holds of it. `aggregates`: its zone first. `pool`: the shared disk that it
    can reach, or nothing. `group`: the server group of the resident, or nothing."""

    name: str
    totals: dict[str, int]
    resident: dict[str, int]
    traits: tuple[str, ...]
    aggregates: tuple[str, ...]
    hypervisor: str
    cells: tuple[NumaCell, ...]
    pool: str
    group: str

    @property
    def free(self) -> dict[str, int]:
        """Class -> what the resident leaves."""
        return {name: total - self.resident[name] for name, total in self.totals.items()}

    @property
    def consumer(self) -> str:
        """The name of the resident."""
        return f"in-{self.name}"

    @property
    def zone(self) -> str:
        """Its zone."""
        return self.aggregates[0]

    def as_json(self) -> Json:
        """The host as a document, with `free` in place of what the resident holds."""
        document = {name: value for name, value in asdict(self).items() if name not in ("totals", "resident")}
        return {**document, "free": self.free}


@dataclass(frozen=True)
class MyriadFleet:
    """`size` hosts, and the disks that they share."""

    size: int
    seed: int = 1

    def _host(self, number: int) -> Host:
        draw = random.Random(f"{self.seed}-{number}")
        vcpus = draw.choice((16, 32, 64, 96))
        totals = {"VCPU": vcpus, "MEMORY_MB": vcpus * 4096, "DISK_GB": draw.choice((100, 400, 1200))}
        share = draw.randrange(10, 100)
        resident = {name: max(1, total * share // 100) for name, total in totals.items()}
        traits = [MYRIAD, draw.choice(("CUSTOM_DISK_HDD", "CUSTOM_DISK_SSD", "CUSTOM_DISK_NVME"))]
        traits += [name for name in ("HW_CPU_X86_AVX2", "HW_CPU_X86_AVX512F") if draw.random() < 0.6]
        traits += [
            name for name in ("HW_CPU_X86_AMD_SEV", "CUSTOM_INTEL_TDX", "CUSTOM_OLD") if draw.random() < 0.15
        ]
        zone = draw.choice(ZONES)
        aggregates = [zone, f"rack-{number // 20}", *([ISOLATED] if draw.random() < 0.2 else ())]
        name = f"host-{number:05}"
        kind = draw.choice(("plain", "whole", "shared"))
        return Host(
            name,
            totals,
            resident,
            tuple(traits),
            tuple(aggregates),
            draw.choice(HYPERVISORS),
            tuple(_cell(name, cell, kind, draw) for cell in range(2)),
            f"pool-{zone}" if draw.random() < 0.4 else "",
            draw.choice((APART, SPREAD, *("",) * 8)),
        )

    @cached_property
    def hosts(self) -> tuple[Host, ...]:
        """All hosts. Residents are in the group that is spread as far as its rule allows, in the order of the hosts."""
        found = []
        members = dict.fromkeys(ZONES, 0)
        for host in map(self._host, range(self.size)):
            if host.group == SPREAD:
                if members[host.zone] > min(members.values()):
                    host = replace(host, group="")
                else:
                    members[host.zone] += 1
            found.append(host)
        return tuple(found)

    @property
    def pools(self) -> dict[str, int]:
        """Shared disk -> what is free of it, in GB. One is nearly full."""
        return {f"pool-{zone}": 200 if zone == ZONES[-1] else 20_000 for zone in ZONES}

    def members(self, group: str) -> list[str]:
        """The consumers that are in a server group."""
        return [host.consumer for host in self.hosts if host.group == group]

    def as_json(self) -> Json:
        """The fleet as a JSON object."""
        return {"size": self.size, "seed": self.seed}

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """The fleet of a JSON object."""
        return cls(data["size"], data["seed"])


def _cell(host: str, cell: int, kind: str, draw: random.Random) -> NumaCell:
    devices: list[Device] = []
    gpus: list[SharedGpu] = []
    for number in range(draw.randrange(3)):
        model = draw.choice(MODELS)
        if kind == "whole":
            address = f"0000:{cell * 64 + number + 1:02x}:00.0"
            devices.append(Device(address, *model, draw.choice(DRIVERS)))
        elif kind == "shared":
            gpus.append(
                SharedGpu(f"{host}_n{cell}_g{number}", model.name, draw.choice((100, 250, 700, 1000)))
            )
    nics = [
        Nic(
            f"{host}_n{cell}_e{number}",
            draw.choice(PHYSICAL_NETWORKS),
            draw.choice((1_000_000, 10_000_000, 25_000_000)),
            draw.choice((1, 8, 64)),
        )
        for number in range(draw.randrange(1, 3))
    ]
    cpus, memory_mb = draw.choice((2, 8, 16)), draw.choice((4096, 16_384, 65_536))
    return NumaCell(cpus, memory_mb, tuple(devices), tuple(gpus), tuple(nics))


def is_myriad(request: Request) -> bool:
    """Whether a request is for this fleet."""
    return MYRIAD in request.required


def version_key(text: str) -> tuple[int, ...]:
    """A version as numbers, to be compared."""
    return tuple(map(int, text.split(".")))


SAMPLE: Final = MyriadFleet(30)
"""A few hosts, over which the code of a filter runs when its lines are counted."""
