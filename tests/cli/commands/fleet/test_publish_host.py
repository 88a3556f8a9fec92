"""`vacancy publish` of this host and of an unusual one: what it offers, what it says, and requests that name core types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Vacancy
from tests.clients.publisher.host.host_trees import build_host
from vacancy.cli.commands.fleet.publish_loop import NodeSource, node_source
from vacancy.clients.publisher.host import collect, inspect_host
from vacancy.streams.settings import Settings

# Two performance cores with siblings, four efficiency cores.
HYBRID = """
online 0-7
memory 8192
core 0-1
core 2-3
core 4
core 5
core 6
core 7
pages 2048:512:512
cell 0 cpus=0-7 memory=8192 pages=2048:512:512
file sys/devices/cpu_core/cpus 0-3
file sys/devices/cpu_atom/cpus 4-7
"""
PINNED = "cpus=2,policy=dedicated,threads=isolate"


@pytest.fixture(scope="module")
def vacancy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vacancy]:
    """A log with a host that has cores of two types, and a worker that follows it."""
    home = tmp_path_factory.mktemp("hybrid")
    options = replace(build_host(home / "host", HYBRID), dedicated_cpus=frozenset(range(8)))
    providers = [provider.model_dump(mode="json") for provider in collect(options)]
    (home / "host.json").write_text(json.dumps(providers))
    with Vacancy(home, log=f"sqlite://{home}/log.db", store=str(home / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", 1)
        vacancy("publish", "--once", "--file", home / "host.json")
        with vacancy.worker():
            yield vacancy


def cpus(vacancy: Vacancy, *request: str, consumer: str) -> dict[str, list[int]]:
    """The CPUs that a guest gets, by provider; it gives them back."""
    grants = vacancy.json("place", *request, "--consumer", consumer)["grants"]
    vacancy("release", consumer)
    return {one["provider"]: one["grant"]["cpus"] for one in grants if one["resource_class"] == "NUMA_CELL"}


def test_a_request_names_the_type_of_its_cores(vacancy: Vacancy) -> None:
    """Without a type, `isolate` takes efficiency cores no sooner than performance cores, and never both."""
    performance, efficiency = {"n:numa0": [0, 2]}, {"n:numa0:efficiency": [4, 5]}
    for name, expected in (("performance", performance), ("efficiency", efficiency)):
        for _ in range(4):  # at random it would get the other type sometimes
            assert cpus(vacancy, "--numa", f"{PINNED},cores={name}", consumer=name) == expected
    assert cpus(vacancy, "--numa", PINNED, consumer="any") in (performance, efficiency)
    by_trait = {
        "groups": [
            {
                "name": "a",
                "resources": {"NUMA_CELL": {"pinned": 2, "threads": "isolate"}},
                "where": 'attributes.core_type == "performance"',
            }
        ]
    }
    (vacancy.home / "by-attribute.json").write_text(json.dumps(by_trait))
    request = ("--request", str(vacancy.home / "by-attribute.json"))
    assert cpus(vacancy, *request, consumer="attribute") == performance
    too_many = "cpus=3,policy=dedicated,threads=isolate,cores=performance"
    assert "no valid host" in vacancy.fails(3, "place", "--numa", too_many)


def test_efficiency_cores_with_memory_of_their_cell(vacancy: Vacancy) -> None:
    request = {
        "groups": [
            {
                "name": "cpus",
                "resources": {"NUMA_CELL": {"pinned": 4}},
                "required": ["CUSTOM_CORES_EFFICIENCY"],
            },
            {"name": "memory", "resources": {"NUMA_CELL": {"memory_mb": 512, "page_kib": 2048}}},
        ],
        "same_subtree": [["cpus", "memory"]],
    }
    (vacancy.home / "with-memory.json").write_text(json.dumps(request))
    placed = vacancy.json("place", "--request", vacancy.home / "with-memory.json", "--consumer", "both")
    vacancy("release", "both")
    grants = {one["provider"]: one["grant"] for one in placed["grants"]}
    assert grants["n:numa0:efficiency"]["cpus"] == [4, 5, 6, 7]
    assert grants["n:numa0"]["pages"] == 256


def test_a_dry_run_shows_the_inventory_without_a_log(tmp_path: Path) -> None:
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        found = vacancy.json("publish", "--dry-run", "--root", "here", "--deny-device", "class=02")
        assert found["node"] == found["providers"][0]["id"] == "here"
        assert "VCPU" in found["providers"][0]["inventories"]
        assert all(set(one) == {"subject", "outcome", "reason"} for one in found["remarks"])
        text = vacancy("publish", "--dry-run", "--root", "here")
        assert "here" in text
        assert "VCPU" in text
        assert "traits: COMPUTE_NODE" in text
        assert list(tmp_path.iterdir()) == []
        assert "--retire" in vacancy.fails(2, "publish", "--dry-run", "--retire")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (("--dedicated-cpus", "60000-60009"), "this host has no CPU 60000-60009"),
        (("--shared-cpus", "60000"), "this host has no CPU 60000"),
        (("--reserve-hugepages", "0:4"), "is not a reservation of hugepages"),
        (("--allow-device", "8086"), "a device rule has no part '8086'"),
        (("--deny-device", "vendor=intel"), "is not four hexadecimal digits"),
    ],
)
def test_options_that_this_host_cannot_have_are_refused(
    tmp_path: Path, wrong: tuple[str, ...], text: str
) -> None:
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        assert text in vacancy.fails(2, "publish", "--once", *wrong)
        assert list(tmp_path.iterdir()) == []


def test_rules_and_reservations_in_the_settings_file(tmp_path: Path) -> None:
    (tmp_path / "vacancy.toml").write_text(
        'deny_devices = ["vendor=808g"]\nallow_devices = ["class=02"]\nreserve_hugepages = ["0:1G:1"]\n'
    )
    with Vacancy(tmp_path, config=str(tmp_path / "vacancy.toml")) as vacancy:
        assert "deny_devices" in vacancy.fails(2, "publish", "--dry-run")
        # The option replaces the list of the file.
        found = vacancy.json("publish", "--dry-run", "--deny-device", "vendor=8086")
        assert "--reserve-hugepages 0:1048576:1" in {one["subject"] for one in found["remarks"]}


def test_rules_and_reservations_reach_the_collector(tmp_path: Path) -> None:
    host = """
    online 0
    pages 2048:8:8
    pci 3b:00.0 030200 10de:2331
    pci 3c:00.0 030200 1002:73a1
    """
    at = build_host(tmp_path, host)
    settings = Settings(
        log="memory://x",
        allow_devices=("class=03",),
        deny_devices=("vendor=1002",),
        reserve_hugepages=("0:2M:3",),
    )
    source = node_source(None, "n", settings, proc=at.proc, sys=at.sys, etc=at.etc, disk=at.disk)
    (node,) = source.inspect().providers
    inventories: dict[str, Any] = node.inventories
    assert list(inventories["PCI_DEVICE"]["devices"]) == ["0000:3b:00.0"]
    assert inventories["CUSTOM_HUGEPAGES_2048KB"] == {"total": 8, "max_unit": 8, "reserved": 3}


def test_the_publisher_says_what_it_leaves_out_once(tmp_path: Path) -> None:
    options = build_host(tmp_path, "online 0\npresent 0-1\npages 2048:8:4")
    said: list[str] = []
    collect_again = NodeSource("n", lambda: inspect_host(options)).collector(said.append)
    for _ in range(3):
        collect_again()
    cpu, pages = said
    assert cpu == "n: CPU 1: not offered: they are offline"
    assert pages.startswith("n: host, hugepages of 2048 KiB: 8 of 8 offered: 4 are in use; ")
    assert pages.endswith("--reserve-hugepages 0:2048:4")
    (tmp_path / "sys/devices/system/cpu/online").write_text("0-1")
    (tmp_path / "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").write_text("1")
    collect_again()
    assert len(said) == 2
    (tmp_path / "sys/devices/system/cpu/online").write_text("0")
    collect_again()
    assert said == [cpu, pages, cpu]
