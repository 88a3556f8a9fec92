"""What Hypothesis gives the built-in resource classes: valid inventories, asks and overrides."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.resources.classes.devices import test_device_class as devices
from tests.resources.classes.numa import test_numa_cell as numa
from tests.support.classes.ports_class import Ports
from vacancy.resources.classes.registry import Registry
from vacancy.resources.classes.resource_class import ResourceClass
from vacancy.testing import ClassUnderTest

REGISTRY = Registry()
_SMALL = st.integers(0, 12)


@st.composite
def _quantity_inventories(draw: st.DrawFn) -> dict[str, Any]:
    total = draw(_SMALL)
    least = draw(st.integers(1, 3))
    optional = {
        "reserved": st.integers(0, total),
        "min_unit": st.just(least),
        "max_unit": st.integers(least, 12),
        "step_size": st.integers(1, 3),
        "allocation_ratio_milli": st.sampled_from((500, 1000, 1500, 4000)),
    }
    found: dict[str, Any] = draw(st.fixed_dictionaries({"total": st.just(total)}, optional=optional))
    if found.get("min_unit", 1) > found.get("max_unit", total):
        found.pop("min_unit", None)
    return found


QUANTITY_OVERRIDES = st.fixed_dictionaries(
    {}, optional={"reserved": _SMALL, "allocation_ratio_milli": st.sampled_from((500, 2000))}
)
_PORTS = st.integers(1, 5)
_PORTS_ASKED = st.lists(_PORTS, min_size=1, max_size=3, unique=True)
_PINNED = st.fixed_dictionaries(
    {"pinned": st.integers(1, 2)}, optional={"threads": st.sampled_from(numa.POLICIES)}
)
_PROFILES = ("1g.6gb", "1g.6gb+me", "2g.12gb", "4g.24gb", "odd")
_OWN_PROFILES = {"1g.6gb": {"size": 1, "starts": [0, 3]}, "odd": {"size": 2, "starts": [0, 1, 2]}}
_MIG_ASKS = st.fixed_dictionaries(
    {"profile": st.sampled_from(_PROFILES)},
    optional={
        "count": st.integers(1, 3),
        "start": st.integers(0, 3),
        "where": st.sampled_from([{}, {"model": "A"}]),
        "match": st.just(["model"]),
    },
)


@st.composite
def _mig_inventories(draw: st.DrawFn) -> dict[str, Any]:
    tables: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
        [{"table": "A30-24GB"}, {"profiles": _OWN_PROFILES}]
    )
    models: st.SearchStrategy[dict[str, Any]] = st.sampled_from([{}, {"model": "A"}, {"model": "B"}])
    names = draw(st.lists(st.sampled_from(("g0", "g1", "g2")), unique=True))
    return {"devices": {name: {**draw(tables), **draw(models)} for name in names}}


_FUNCTIONS = {"pf": {}, "vf0": {"parent": "pf"}, "vf1": {"parent": "pf"}, "plain": {}}
_PORT_RANGES = st.lists(
    st.tuples(st.integers(1, 12), st.integers(0, 3)).map(lambda one: [one[0], sum(one)]),
    min_size=1,
    max_size=4,
)
_PROTOCOL = st.sampled_from(("tcp", "udp"))
_WHOLE_FUNCTION = {"count": 1, "where": {"dev_type": "type-PF"}}

STRATEGIES: dict[str, tuple[Any, Any, Any]] = {
    "VCPU": (_quantity_inventories(), st.integers(1, 8), QUANTITY_OVERRIDES),
    "PCI_DEVICE": (
        devices.inventories("PCI_DEVICE") | st.just({"devices": _FUNCTIONS}),
        devices.asks("PCI_DEVICE") | st.just(_WHOLE_FUNCTION),
        QUANTITY_OVERRIDES,
    ),
    "VGPU": (devices.inventories("VGPU"), devices.asks("VGPU"), QUANTITY_OVERRIDES),
    "GPU_SHARE": (devices.inventories("GPU_SHARE"), devices.asks("GPU_SHARE"), st.just({})),
    "MIG": (_mig_inventories(), _MIG_ASKS, st.just({})),
    "NUMA_CELL": (numa.inventories(), numa.asks() | _PINNED, st.just({})),
    "PORT": (
        st.dictionaries(_PROTOCOL, _PORT_RANGES | st.just([]), min_size=1)
        | st.just({"tcp": [[port, port] for port in range(65_535, 65_408, -2)]}),
        st.integers(1, 4)
        | st.fixed_dictionaries(
            {"count": st.integers(1, 4)}, optional={"ports": _PORT_RANGES, "protocol": _PROTOCOL}
        ),
        st.just({}),
    ),
    "PORTS": (
        st.fixed_dictionaries({"ports": st.lists(_PORTS, max_size=5)}),
        st.integers(1, 3) | st.fixed_dictionaries({"ports": _PORTS_ASKED}),
        st.just({}),
    ),
}
"""(inventories, asks, overrides) by class, one of each kind."""


def subject(name: str, resource_class: ResourceClass[Any] | None = None) -> ClassUnderTest:
    """A class with the strategies of that name; the built-in one unless another is given."""
    if resource_class is None:
        resource_class = Ports() if name == "PORTS" else REGISTRY.table(name).resource_class
    inventories, asks, overrides = STRATEGIES[name]
    return ClassUnderTest(resource_class, inventories, asks, overrides)
