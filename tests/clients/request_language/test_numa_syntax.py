"""A guest's NUMA topology becomes a group for each of its cells; an invalid one is an error."""

from __future__ import annotations

from typing import Any

import pytest

from vacancy.clients.request_language.numa_syntax import (
    GuestTopology,
    numa_groups,
    numa_request,
    parse_topology,
)
from vacancy.clients.request_language.placement_syntax import RequestText, parse
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.request import RequestGroup, RequestSpec

REGISTRY = Registry()


def spec(**wanted: Any) -> RequestSpec:
    return parse(RequestText(**wanted), REGISTRY).spec


def asks(text: str) -> list[Any]:
    return [group.resources["NUMA_CELL"] for group in numa_groups(parse_topology(text))]


@pytest.mark.parametrize(
    ("text", "ask"),
    [
        ("cpus=4", {"shared": 4}),
        ("cpus=4,policy=dedicated", {"pinned": 4}),
        (
            "cells=1, cpus=4, policy=dedicated, threads=require",
            {"pinned": 4, "threads": "require"},
        ),
        ("cpus=4,policy=mixed,dedicated=1,threads=isolate", {"pinned": 1, "shared": 3, "threads": "isolate"}),
        ("memory_mb=2048,page=2M", {"memory_mb": 2048, "page_kib": 2048}),
        ("memory_mb=2048,page=1G", {"memory_mb": 2048, "page_kib": 1_048_576}),
        ("memory_mb=2048,page=1GiB", {"memory_mb": 2048, "page_kib": 1_048_576}),
        ("memory_mb=2048,page_kib=2048", {"memory_mb": 2048, "page_kib": 2048}),
        ("memory_mb=2048,page=large", {"memory_mb": 2048, "page_kib": "large"}),
        ("memory_mb=2048,page=small", {"memory_mb": 2048}),
    ],
)
def test_one_cell(text: str, ask: dict[str, Any]) -> None:
    assert asks(text) == [ask]


def test_several_cells_share_evenly_and_stay_apart() -> None:
    found = spec(
        options={"numa": "cells=2,cpus=8,policy=dedicated,threads=isolate,memory_mb=16384,page=2M"},
        resources=["DISK_GB:10"],
        groups=["gpu=CUSTOM_GPU:1"],
    )
    part = {"pinned": 4, "threads": "isolate", "memory_mb": 8192, "page_kib": 2048}
    assert [(group.name, group.resources) for group in found.groups] == [
        ("", {"DISK_GB": 10}),
        ("gpu", {"CUSTOM_GPU": 1}),
        ("numa0", {"NUMA_CELL": part}),
        ("numa1", {"NUMA_CELL": part}),
    ]
    assert found.group_policy == "isolate"
    assert spec(options={"numa": "cells=1,cpus=1"}).group_policy == "none"
    assert spec(options={"numa": "cells=1,cpus=1"}, group_policy="isolate").group_policy == "isolate"


def test_the_same_from_python() -> None:
    by_text = spec(options={"numa": "cells=2,cpus=8,policy=mixed,dedicated=2,memory_mb=64,page=2M"})
    said: dict[str, Any] = {
        "cells": 2,
        "cpus": 8,
        "policy": "mixed",
        "dedicated": 2,
        "memory_mb": 64,
        "page_kib": 2048,
    }
    assert numa_request(said) == by_text
    assert numa_request(GuestTopology(**said)) == by_text
    disk = RequestGroup(resources={"DISK_GB": 1})
    assert numa_request(said, [disk]).groups == (disk, *by_text.groups)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has no ''"),
        ("cells", "has no 'cells', only cells, cpus"),
        ("sockets=2", "has no 'sockets=2'"),
        ("cpus=2,cpus=3", "cpus is given twice"),
        ("page=2M,page_kib=2048", "page_kib is given twice"),
        ("cells=0,cpus=2", ">= 1"),
        ("cells=65,cpus=65", "<= 64"),
        ("cells=two", "got `str`"),
        ("cpus=-2", "got `str`"),
        ("cpus=2,policy=pinned", "Invalid enum value 'pinned'"),
        ("cpus=2,policy=dedicated,threads=avoid", "Invalid enum value 'avoid'"),
        ("memory_mb=2,page=2T", "'2T' is not a page size"),
        ("memory_mb=2,page=3M", "are not a whole number of pages"),
        ("memory_mb=3,page=2M", "3 MiB are not a whole number of pages of 2048 KiB"),
        ("cells=2,cpus=3", r"3 \(shared\) cannot be divided by 2 cells"),
        ("cells=2,cpus=4,memory_mb=3", r"3 \(memory_mb\) cannot be divided"),
        ("cells=2,cpus=4,policy=mixed,dedicated=1", r"1 \(pinned\) cannot be divided"),
        ("cpus=4,policy=mixed", "of 4 mixed CPUs, none are dedicated"),
        ("cpus=4,policy=mixed,dedicated=4", "of 4 mixed CPUs, 4 are dedicated"),
        ("cpus=4,dedicated=2", "dedicated is given, and policy shared applies to all CPUs"),
        ("cpus=4,threads=isolate", "threads isolate applies to pinned CPUs"),
        ("cpus=4,page=2M", "page_kib needs memory_mb"),
        ("cells=2", "the ask is for nothing"),
        ("memory_mb=9007199254740992", "NUMA_CELL: Expected `int` <="),
    ],
)
def test_a_topology_that_is_invalid(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as error:
        numa_groups(parse_topology(text))
    assert error.value.do


def test_contradictions() -> None:
    with pytest.raises(UsageError, match="leave it out"):
        spec(options={"numa": "cells=2,cpus=2"}, group_policy="none")
    with pytest.raises(UsageError, match="two groups of one request have the same name"):
        spec(options={"numa": "cells=1,cpus=2"}, groups=["numa0=VCPU:1"])
    with pytest.raises(UsageError, match="two groups of one request have the same name"):
        numa_request({"cpus": 1}, [RequestGroup(name="numa0", resources={"VCPU": 1})])
    with pytest.raises(UsageError, match="given twice, by options and by --query"):
        spec(options={"numa": "cpus=2"}, query="resources=VCPU:1")
    with pytest.raises(UsageError, match="the NUMA topology is invalid"):
        numa_groups({"cpus": "4"})
