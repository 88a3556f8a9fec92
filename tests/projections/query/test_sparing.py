"""Of providers that serve a request equally well, the one that others need least serves it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.logs.events_json import Tape, provider, reported
from tests.support.models.memory_fleets import fleet_of, spec_of
from tests.support.queries import find
from vacancy.projections.query.order import Order
from vacancy.projections.ranking.orders import RANDOM, SIMPLE_ORDERS
from vacancy.projections.view.fleet import FleetView

CELL = {"cores": [[0], [1], [2], [3]]}
GPU, NIC = ({"kind": kind} for kind in ("gpu", "nic"))
ASK = {"NUMA_CELL": {"pinned": 2}}
ORDERED = [order for order in SIMPLE_ORDERS.values() if order is not RANDOM]


def host(*children: dict[str, Any], name: str = "n1") -> tuple[str, bytes]:
    return name, reported(name, [provider(name, VCPU=4), *children])


def view_of(*hosts: tuple[str, bytes]) -> FleetView:
    tape = Tape()
    for _, report in hosts:
        tape.append(tape.cells[0], report)
    return fleet_of(tape).view()


def served(view: FleetView, *groups: dict[str, Any], order: Order, seed: int, limit: int = 1) -> list[str]:
    """Which providers serve the last group of each candidate."""
    found = find(view, spec_of(*groups), limit=limit, order=order, rng=np.random.default_rng(seed))
    return [one.allocations[-1].provider for one in found]


def near_a_child(at: int) -> FleetView:
    """Two NUMA cells, of which one has a GPU as its child."""
    cells = [provider(f"n1:{n}", "n1", NUMA_CELL=CELL) for n in range(2)]
    gpu = provider("n1:gpu", f"n1:{at}", PGPU={"devices": {"81:00.0": GPU}})
    return view_of(host(*cells, gpu))


def near_a_device(at: int) -> FleetView:
    """Two NUMA cells, each with a network interface among its devices; one has a GPU too."""
    devices: list[dict[str, Any]] = [{"devices": {f"0{n}:00.0": NIC}} for n in range(2)]
    devices[at]["devices"]["81:00.0"] = GPU
    return view_of(
        host(*(provider(f"n1:{n}", "n1", NUMA_CELL=CELL, PCI_DEVICE=devices[n]) for n in range(2)))
    )


@pytest.mark.parametrize("order", ORDERED, ids=lambda order: order.name)
@pytest.mark.parametrize("fleet", [near_a_child, near_a_device])
@pytest.mark.parametrize("at", [0, 1])
def test_a_guest_without_a_gpu_goes_to_the_cell_without_one(order: Order, fleet: Any, at: int) -> None:
    """Alone, and beside a group that another provider serves."""
    view, other = fleet(at), f"n1:{1 - at}"
    for seed in range(8):
        assert served(view, ASK, order=order, seed=seed) == [other]
        assert served(view, {"VCPU": 1}, ASK, order=order, seed=seed) == [other]


@pytest.mark.parametrize("order", ORDERED, ids=lambda order: order.name)
def test_when_only_the_cell_with_the_gpu_is_left_it_serves(order: Order) -> None:
    view = near_a_child(1)
    assert served(view, ASK, order=order, seed=1, limit=9) == ["n1:0", "n1:1"]
    assert served(view, {"PGPU": 1}, ASK, order=order, seed=1) != []


@pytest.mark.parametrize("order", ORDERED, ids=lambda order: order.name)
def test_the_order_of_trees_comes_first(order: Order) -> None:
    """Which tree serves is the order's to say; of its providers the one that others need least serves."""
    hosts = []
    for n in range(6):
        cells = [provider(f"n{n}:{c}", f"n{n}", NUMA_CELL=CELL) for c in range(2)]
        gpu = provider(f"n{n}:gpu", f"n{n}:0", PGPU={"devices": {"81:00.0": GPU}})
        hosts.append((f"n{n}", reported(f"n{n}", [provider(f"n{n}", VCPU=4), *cells, gpu])))
    view = view_of(*hosts)
    for seed in range(8):
        assert served(view, ASK, order=order, seed=seed, limit=3)[0].endswith(":1")
    assert len(set(served(view, ASK, order=order, seed=3, limit=12))) == 12, "each once"


def test_amounts_that_all_providers_have_distinguish_none() -> None:
    """Less free memory in one cell does not keep a guest from the cell with more CPUs, which `spread` prefers."""
    cells = [provider("n1:0", "n1", VCPU=8, MEMORY_MB=900), provider("n1:1", "n1", VCPU=6, MEMORY_MB=100)]
    view = view_of(("n1", reported("n1", [provider("n1", CUSTOM_X=1), *cells])))
    spread = SIMPLE_ORDERS["spread"]
    assert served(view, {"CUSTOM_X": 1}, {"VCPU": 1}, order=spread, seed=1) == ["n1:0"]
