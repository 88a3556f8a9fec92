"""Fleets and scenarios of hardware classes: devices, shares of devices, NUMA cells."""

from __future__ import annotations

import random
from typing import Any, ClassVar

from evaluation.query.fleets import Fleet, is_rare, node_report, number_of, part, root
from evaluation.query.scenarios import Make, Scenario
from vacancy.projections.query.model import Candidate
from vacancy.resources.model.errors import VacancyError
from vacancy.resources.model.request import RequestGroup, RequestSpec

MODELS = ("A10", "A100", "T4", "V100")
RARE_MODEL = "H200"
HUGE_KIB = 1024 * 1024


class Devices(Fleet):
    """Nodes with eight PCI devices of one model each, on two NUMA nodes."""

    name = "devices"

    def node(self, number: int, sequence: int) -> bytes:
        name = root(number)
        devices = {
            f"0000:{0x10 + at:02x}:00.0": {
                "vendor": "10de",
                "product": model_of(number),
                "numa_node": at // 4,
                "firmware": f"{number % 7}.{at}",
            }
            for at in range(8)
        }
        host = part(name, None, (), VCPU=8 + number % 57, MEMORY_MB=16_384 + number % 1000 + sequence % 2)
        host["inventories"]["PCI_DEVICE"] = {"devices": devices}
        return node_report(name, sequence, [host])

    def aggregate(self, number: int) -> str | None:
        return None


class Shares(Devices):
    """Nodes with four GPUs that are allocated in thousandths."""

    name = "shares"

    def node(self, number: int, sequence: int) -> bytes:
        name = root(number)
        gpus = {f"GPU-{at}": {"total": 1000, "model": model_of(number)} for at in range(4)}
        host = part(name, None, (), VCPU=8 + number % 57, MEMORY_MB=16_384 + number % 1000 + sequence % 2)
        host["inventories"]["GPU_SHARE"] = {"devices": gpus}
        return node_report(name, sequence, [host])


class Cells(Fleet):
    """Nodes with two NUMA cells of eight cores with two threads each. One node in a thousand has 1 GiB pages."""

    name = "numa"
    size = 3
    cores: ClassVar[int] = 8

    def node(self, number: int, sequence: int) -> bytes:
        name = root(number)
        providers = [part(name, None, (), DISK_GB=500 + number % 1500 + sequence % 2)]
        for cell in range(2):
            first = cell * self.cores
            one = part(f"{name}_numa{cell}", name, ())
            pages = {"2048": 4096 + number % 100}
            if is_rare(number):
                pages[str(HUGE_KIB)] = 16
            one["inventories"]["NUMA_CELL"] = {
                "cores": [[first + at, first + at + 2 * self.cores] for at in range(self.cores)],
                "memory_mb": 16_384,
                "hugepages": pages,
                "cell": cell,
            }
            providers.append(one)
        return node_report(name, sequence, providers)

    def aggregate(self, number: int) -> str | None:
        return None


def model_of(number: int) -> str:
    """The device model of a node."""
    return RARE_MODEL if is_rare(number) else MODELS[number % len(MODELS)]


# -- requests -------------------------------------------------------------------------------------------------


def _devices(*, rare: bool) -> Make:
    def make(rng: random.Random, _fleet: Fleet) -> RequestSpec:
        model = RARE_MODEL if rare else rng.choice(MODELS)
        ask: dict[str, Any] = {
            "count": rng.randint(1, 3),
            "where": {"vendor": "10de", "product": model, "numa_node": 1},
        }
        return RequestSpec(groups=(RequestGroup(resources={"VCPU": 2, "PCI_DEVICE": ask}),))

    return make


def _shares(*, rare: bool) -> Make:
    def make(rng: random.Random, _fleet: Fleet) -> RequestSpec:
        model = RARE_MODEL if rare else rng.choice(MODELS)
        ask: dict[str, Any] = {"share": 100 * rng.randint(1, 9), "where": {"model": model}}
        return RequestSpec(groups=(RequestGroup(resources={"VCPU": 2, "GPU_SHARE": ask}),))

    return make


def _cells(*, rare: bool) -> Make:
    """Two NUMA cells with dedicated cores and hugepages in each."""

    def make(rng: random.Random, _fleet: Fleet) -> RequestSpec:
        ask: dict[str, Any] = {
            "pinned": rng.randint(1, 6),
            "threads": rng.choice(("isolate", "prefer")),
            "memory_mb": 4096,
            "page_kib": HUGE_KIB if rare else 2048,
        }
        cells = (RequestGroup(name=f"cell{at}", resources={"NUMA_CELL": dict(ask)}) for at in range(2))
        disk = RequestGroup(same_provider=False, resources={"DISK_GB": 10})
        return RequestSpec(groups=(disk, *cells), group_policy="isolate")

    return make


# -- checks ---------------------------------------------------------------------------------------------------


def _check(fleet: Fleet, spec: RequestSpec, answer: list[Candidate]) -> None:
    """Candidates are distinct; each node matches the request; each NUMA cell of the guest has its own provider."""
    numbers = [number_of(candidate.root) for candidate in answer]
    _expect(len(set(numbers)) == len(numbers), "one candidate was found twice")
    for number, candidate in zip(numbers, answer, strict=True):
        _expect(number < fleet.nodes, f"there is no node {number}")
        for group in spec.groups:
            for ask in group.resources.values():
                _expect(_has(number, ask), f"node {number} does not match the query")
        cells = [served.provider for served in candidate.allocations if "NUMA_CELL" in served.resources]
        _expect(len(set(cells)) == len(cells), f"a cell of node {number} serves two")


def _has(number: int, ask: Any) -> bool:
    if isinstance(ask, int):
        return True  # every node has enough of the counted classes
    where = ask.get("where", {})
    model = where.get("model", where.get("product"))
    return model in (None, model_of(number)) and (ask.get("page_kib") != HUGE_KIB or is_rare(number))


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise VacancyError(otherwise)


FLEETS: tuple[type[Fleet], ...] = (Devices, Shares, Cells)
SCENARIOS = (
    Scenario("devices", Devices, _devices(rare=False), _check),
    Scenario("devices_rare", Devices, _devices(rare=True), _check),
    Scenario("shares", Shares, _shares(rare=False), _check),
    Scenario("shares_rare", Shares, _shares(rare=True), _check),
    Scenario("numa", Cells, _cells(rare=False), _check),
    Scenario("numa_rare", Cells, _cells(rare=True), _check),
)
"""In `_rare` scenarios one node in a thousand matches."""
