"""Whether a full or disabled node has the qualities of a request, whatever is free."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.logs.events_json import Tape, claim, claims, event, provider, reported
from tests.support.models.memory_fleets import fleet_of
from tests.support.queries import compiled
from vacancy.projections.diagnostics.node_report import report_node
from vacancy.projections.diagnostics.qualities import QualityConstraints
from vacancy.projections.diagnostics.summary import explain_qualities
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.model.request import RequestGroup, RequestSpec
from vacancy.resources.state.tables import key


@pytest.fixture
def view() -> FleetView:
    """`host1` is full and disabled, `host2` empty. Both have a GPU; that of host1 is an A100. `gone` is retired."""
    tape = Tape()
    cell = tape.cells[0]
    gpu = provider("host1-gpu", "host1", ["CUSTOM_A100"], CUSTOM_GPU=1)
    host1 = provider("host1", None, ["HW_CPU_X86_AVX2"], VCPU=2, MEMORY_MB=4096)
    tape.append(cell, reported("host1", [{**host1, "attributes": {"cores": 2}}, gpu]))
    full = claim("c1", "vm-1", "host1", {"VCPU": 2, "MEMORY_MB": 4096}, tape.now_ms)
    tape.append(cell, claims(full, claim("c2", "vm-2", "host1-gpu", {"CUSTOM_GPU": 1}, tape.now_ms)))
    facts = {"status": "disabled", "aggregates": ["rack"]}
    tape.append(cell, event("facts.set.v1", {"provider": "host1", "revision": 1, "facts": facts}))
    tape.append(
        cell, reported("host2", [provider("host2", VCPU=8), provider("host2-gpu", "host2", CUSTOM_GPU=4)])
    )
    return fleet_of(tape).view()


def asking(*groups: dict[str, Any], **wide: Any) -> RequestSpec:
    """A request; a group without a name may be served by several providers, and may ask for nothing."""
    made = tuple(RequestGroup(**{"same_provider": bool(group.get("name")), **group}) for group in groups)
    return RequestSpec.model_construct(groups=made, **wide)


@pytest.mark.parametrize(
    ("spec", "able"),
    [
        (asking({"resources": {"VCPU": 64, "MEMORY_MB": 1}}), ["host1"]),
        (asking({"resources": {"VCPU": 1}}), ["host1", "host2"]),
        (asking({"resources": {"VCPU": 1}, "required": ("HW_CPU_X86_AVX2",)}), ["host1"]),
        (asking({"required": ("HW_CPU_X86_AVX2", "CUSTOM_A100")}), ["host1"]),
        (asking({"any_traits": (("CUSTOM_Z", "CUSTOM_A100"),)}), ["host1"]),
        (asking({"required": ("CUSTOM_Z",)}), []),
        (asking({"member_of": (("rack",),)}), ["host1"]),
        (asking({"in_tree": "host2-gpu"}), ["host2"]),
        (asking({"where": "attributes.cores == 2"}), ["host1"]),
        (asking({"name": "gpu", "resources": {"CUSTOM_GPU": 2}, "required": ("CUSTOM_A100",)}), ["host1"]),
        (asking({"name": "gpu", "resources": {"CUSTOM_GPU": 2}, "required": ("HW_CPU_X86_AVX2",)}), []),
        (asking({"resources": {"DISK_GB": 1}}), []),
        (asking({}, root_required=("HW_CPU_X86_AVX2",)), ["host1"]),
        (asking({}, root_forbidden=("HW_CPU_X86_AVX2",)), ["host2"]),
        (asking({"resources": {"VCPU": 1}}, copies=9), ["host1", "host2"]),
    ],
)
def test_qualities_count_and_room_does_not(view: FleetView, spec: RequestSpec, able: list[str]) -> None:
    rows, told = explain_qualities(view, compiled(spec))
    assert sorted(view.name(row)[1] for row in rows) == able
    assert (told.nodes, told.left) == (2, len(able))
    assert told.nodes == told.left + sum(one.in_order for one in told.constraints)
    asked = QualityConstraints(view, compiled(spec))
    cell = view.name(0)[0]
    trees = [report_node(view, asked, view.row_of[key(cell, root)]) for root in ("host1", "host2")]
    assert [tree.root for tree in trees if tree.fits] == able
    assert all(list(tree.misses) for tree in trees if not tree.fits)


def test_what_is_lacking_is_named(view: FleetView) -> None:
    spec = asking({"resources": {"VCPU": 1, "DISK_GB": 1}, "required": ("CUSTOM_Z", "HW_CPU_X86_AVX2")})
    tree = report_node(
        view, QualityConstraints(view, compiled(spec)), view.row_of[key(view.name(0)[0], "host1")]
    )
    assert [(at, one.constraint) for _, at, one in tree.misses] == [
        ("host1", "DISK_GB: any"),
        ("host1", "required trait CUSTOM_Z"),
    ]
