"""Amounts of devices on the command line, and the errors for invalid ones."""

from __future__ import annotations

from typing import Any

import pytest

from vacancy.clients.request_language.placement_syntax import RequestText, parse, parse_group, parse_query
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import UsageError

REGISTRY = Registry()


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("PCI_DEVICE:2", {"PCI_DEVICE": 2}),
        ("PCI_DEVICE:2[vendor=10de]", {"PCI_DEVICE": {"count": 2, "where": {"vendor": "10de"}}}),
        (
            "VCPU:4,PCI_DEVICE:1[vendor=10de, memory_mb>=40000,memory_mb<90000] , MEMORY_MB:1",
            {
                "VCPU": 4,
                "PCI_DEVICE": {
                    "count": 1,
                    "where": {"vendor": "10de", "memory_mb": {">=": 40000, "<": 90000}},
                },
                "MEMORY_MB": 1,
            },
        ),
        ("PGPU:1[model=A100|H100]", {"PGPU": {"count": 1, "where": {"model": {"in": ["A100", "H100"]}}}}),
        ("PGPU:1[vendor=1002]", {"PGPU": {"count": 1, "where": {"vendor": {"in": [1002, "1002"]}}}}),
        ('PGPU:1[vendor="1002"]', {"PGPU": {"count": 1, "where": {"vendor": "1002"}}}),
        (
            "PGPU:1[vendor!=1002,hot=true]",
            {"PGPU": {"count": 1, "where": {"vendor": {"!=": 1002}, "hot": True}}},
        ),
        ("GPU_SHARE:300[model=A 100]", {"GPU_SHARE": {"share": 300, "where": {"model": "A 100"}}}),
        (
            "VGPU:1[type=nvidia-35,model=A40]",
            {"VGPU": {"count": 1, "type": "nvidia-35", "where": {"model": "A40"}}},
        ),
        (
            "PCI_DEVICE:1[address=0000:81:00.0]",
            {"PCI_DEVICE": {"count": 1, "where": {"address": "0000:81:00.0"}}},
        ),
    ],
)
def test_amounts_with_attributes(text: str, asks: dict[str, Any]) -> None:
    assert parse(RequestText(resources=[text]), REGISTRY).spec.groups[0].resources == asks
    assert parse_group(f"g={text};required=CUSTOM_X", REGISTRY).resources == asks
    assert parse_query(f"resources={text.replace('&', '%26')}", REGISTRY).spec.groups[0].resources == asks


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("VCPU:1[model=A100]", "VCPU has no attributes to choose by .*; write VCPU:1"),
        ("PGPU:0[model=A100]", "'PGPU:0.*' is not an amount"),
        ("PGPU:1[model=A100", "is not an amount"),
        ("PGPU:1[]", "'' is not a comparison"),
        ("PGPU:1[model]", "'model' is not a comparison"),
        ("PGPU:1[model=A,model=B]", "model is compared twice by =="),
        ("PGPU:1[model!=A|B]", "only = takes several values"),
        ("PGPU:1[hot<true]", "true and false have no order"),
        ("PGPU:1[model=A100],PGPU:1", "PGPU is given twice"),
        ("VGPU:1[type>3],", "a list has an empty item"),
        ("PGPU:2[match:]", "'match:' names no attribute"),
        ("PGPU:2[match:nvlink,]", "'' is not a comparison"),
    ],
)
def test_what_is_invalid(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse(RequestText(resources=[text]), REGISTRY)


def test_attributes_that_all_devices_have_in_common() -> None:
    resources = parse_group(
        "g=PGPU:2[model=H100,match:nvlink,match: numa_node],VGPU:2[match:d]", REGISTRY
    ).resources
    assert resources == {
        "PGPU": {"count": 2, "where": {"model": "H100"}, "match": ["nvlink", "numa_node"]},
        "VGPU": {"count": 2, "where": {}, "match": ["d"]},
    }
