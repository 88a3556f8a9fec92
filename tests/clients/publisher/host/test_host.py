"""The collector: on machines made of files, and on this one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import os_traits
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.logs.node_logs import Tables, memory_log
from vacancy.clients.publisher.host import HostOptions, collect
from vacancy.clients.publisher.host.files import CPU_MAX, parse_cpu_list
from vacancy.clients.publisher.host.memory.numa_inventory import NumaMode
from vacancy.clients.publisher.host.processors.cpu import HYPERTHREADING, TRAIT_FLAGS
from vacancy.clients.publisher.outbox import Outbox
from vacancy.clients.publisher.publisher import Publisher
from vacancy.resources.classes.devices.device_class import DEVICES_MAX
from vacancy.resources.classes.devices.whole_devices import Devices
from vacancy.resources.classes.numa.numa_cell import NumaCell
from vacancy.resources.classes.resource_class import Granted, Shortfall
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.events import ProviderReport

FLAGS = "fpu sse sse2 pni avx avx2 aes vmx lm"
PCI = "sys/bus/pci/devices"

MACHINE: Mapping[str, str] = {
    # Two cells of two cores with two threads each, 8 GiB a cell.
    "proc/cpuinfo": "\n\n".join(
        f"processor\t: {n}\nvendor_id\t: GenuineIntel\nflags\t\t: {FLAGS}" for n in range(8)
    ),
    "proc/meminfo": "MemTotal:       16777216 kB\nMemFree:        9000000 kB\n",
    "proc/mounts": "/dev/nvme0n1p2 / ext4 rw 0 0\nproc /proc proc rw 0 0\n",
    "proc/swaps": "Filename Type Size Used Priority\n",
    "sys/devices/system/cpu/online": "0-7\n",
    **{
        f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list": f"{n % 4},{n % 4 + 4}"
        for n in range(8)
    },
    "sys/devices/system/node/node0/cpulist": "0-1,4-5",
    "sys/devices/system/node/node0/meminfo": "Node 0 MemTotal:       8388608 kB\nNode 0 MemFree: 1 kB\n",
    "sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages": "512",
    "sys/devices/system/node/node0/hugepages/hugepages-1048576kB/nr_hugepages": "0",
    "sys/devices/system/node/node1/cpulist": "2-3,6-7",
    "sys/devices/system/node/node1/meminfo": "Node 1 MemTotal:       8388608 kB\n",
    "sys/devices/system/node/node1/hugepages/hugepages-1048576kB/nr_hugepages": "2",
    "sys/devices/system/node/possible": "0-1",
    "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": "512",
    "sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages": "2",
}


def device(address: str, code: str, vendor: str, product: str, node: int, **more: str) -> dict[str, str]:
    said = {"class": code, "vendor": vendor, "device": product, "numa_node": str(node), **more}
    return {f"{PCI}/{address}/{name}": text for name, text in said.items()}


DEVICES: Mapping[str, str] = {
    **device("0000:00:00.0", "0x060000", "0x8086", "0x0d57", 0),  # a bridge
    **device("0000:3b:00.0", "0x030200", "0x10de", "0x2331", 1),  # a GPU
    **device(
        "0000:18:00.0",
        "0x020000",
        "0x8086",
        "0x159b",
        0,
        **{"net/ens1/operstate": "down", "sriov_totalvfs": "64"},
    ),
    **device("0000:19:00.0", "0x020000", "0x8086", "0x159b", 0, **{"net/ens2/operstate": "up"}),
    **device(
        "0000:5e:00.0", "0x010802", "0x144d", "0xa80a", -1, **{"nvme/nvme0/nvme0n1/nvme0n1p2/size": "1"}
    ),
    **device("0000:5f:00.0", "0x010802", "0x144d", "0xa80a", -1, **{"nvme/nvme1/nvme1n1/size": "1"}),
    **device("0000:af:00.0", "0x120000", "0x1d0f", "0x7064", 9),  # near a cell that is not shown
}


def virtual(number: int, of: str = "0000:18:00.0", **more: str) -> dict[str, str]:
    """A virtual function of that card, and the links between the two."""
    address = f"{of[:-1]}{number + 1}"
    said = device(address, "0x020000", "0x8086", "0x1889", 0, physfn=f"->../{of}", **more)
    return {**said, f"{PCI}/{of}/virtfn{number}": f"->../{address}"}


def build(at: Path, *parts: Mapping[str, str]) -> HostOptions:
    """A machine of files; `->` makes a link."""
    for part in parts:
        for name, text in part.items():
            path = at / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text.startswith("->"):
                path.symlink_to(text.removeprefix("->"))
            else:
                path.write_text(text)
    return HostOptions(
        root="node-1", disk=at, proc=at / "proc", sys=at / "sys", etc=at / "etc", programs=str(at / "bin")
    )


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> HostOptions:
    return build(tmp_path_factory.mktemp("machine"), MACHINE)


def by_id(options: HostOptions) -> dict[str, ProviderReport]:
    found = collect(options)
    assert len({provider.id for provider in found}) == len(found)
    return {provider.id.removeprefix("node-1:"): provider for provider in found}


def test_a_machine_of_two_cells(tmp_path: Path) -> None:
    found = by_id(build(tmp_path, MACHINE))
    node = found["node-1"]
    assert node.inventories["VCPU"] == {"total": 8, "max_unit": 8, "allocation_ratio_milli": 4000}
    # 512 for the host, 1024 in pages of 2 MiB, 2048 in pages of 1 GiB.
    assert node.inventories["MEMORY_MB"] == {"total": 16384, "max_unit": 16384, "reserved": 3584}
    assert node.inventories["DISK_GB"]["total"] == psutil.disk_usage(str(tmp_path)).total >> 30
    assert set(node.traits) == {
        "COMPUTE_NODE", "HW_ARCH_X86_64", HYPERTHREADING, "HW_CPU_X86_SSE", "HW_CPU_X86_SSE2", "HW_CPU_X86_SSE3",
        "HW_CPU_X86_AVX", "HW_CPU_X86_AVX2", "HW_CPU_X86_AESNI", "HW_CPU_X86_VMX", "HW_CPU_X86_INTEL_VMX",
    }  # fmt: skip
    # No CPU is dedicated, so the cells have their hugepages and nothing else.
    assert found["numa0"] == ProviderReport(
        id="node-1:numa0",
        parent="node-1",
        inventories={
            "NUMA_CELL": {"cell": 0, "page_kib": 4, "memory_mb": 0, "hugepages": {"2048": 512}},
        },
        traits=("HW_NUMA_ROOT",),
    )
    assert found["numa1"].inventories["NUMA_CELL"]["hugepages"] == {"1048576": 2}
    assert list(found) == ["node-1", "numa0", "numa1"]


def devices(found: Mapping[str, ProviderReport]) -> dict[str, dict[str, Any]]:
    """The PCI_DEVICE inventories: what is known of each device, by provider and address."""
    inventories: dict[str, Any] = {name: provider.inventories for name, provider in found.items()}
    return {name: said["PCI_DEVICE"]["devices"] for name, said in inventories.items() if "PCI_DEVICE" in said}


def free(options: HostOptions) -> set[str]:
    return {address for said in devices(by_id(options)).values() for address in said}


def test_devices_that_can_be_given_away(tmp_path: Path) -> None:
    """Not the bridge, and not what the host uses: the card whose link is up, the disk with the root file system."""
    drivers = {
        f"{PCI}/0000:18:00.0/driver": "->../../../bus/pci/drivers/ice",
        f"{PCI}/0000:3b:00.0/driver": "->../../../bus/pci/drivers/vfio-pci",
    }
    found = by_id(build(tmp_path, MACHINE, DEVICES, drivers))
    assert devices(found) == {
        "numa0": {
            "0000:18:00.0": {
                "vendor": "8086", "product": "159b", "class": "020000", "kind": "network", "driver": "ice",
                "numa_node": 0, "sriov_totalvfs": 64,
            },
        },
        "numa1": {
            "0000:3b:00.0": {
                "vendor": "10de", "product": "2331", "class": "030200", "kind": "display", "driver": "vfio-pci",
                "numa_node": 1,
            },
        },
        "node-1": {
            "0000:5f:00.0": {"vendor": "144d", "product": "a80a", "class": "010802", "kind": "nvme"},
            # Its cell is not shown, so the node has it, and still says where it is.
            "0000:af:00.0": {
                "vendor": "1d0f", "product": "7064", "class": "120000", "kind": "accelerator", "numa_node": 9,
            },
        },
    }  # fmt: skip
    assert list(found) == ["node-1", "numa0", "numa1"]
    assert "NUMA_CELL" in found["numa0"].inventories
    assert "VCPU" in found["node-1"].inventories


@pytest.mark.parametrize(
    "more",
    [
        {f"{PCI}/0000:18:00.0/sriov_numvfs": "4"},
        {f"{PCI}/0000:18:00.0/virtfn0": "->../0000:18:00.1"},
        {f"{PCI}/0000:18:00.0/virtio3/net/eth0/operstate": "up"},
        {f"{PCI}/0000:18:00.0/nvme/nvme0/nvme0c1n1/size": "1", "proc/mounts": "/dev/nvme0n1 /srv xfs rw 0 0"},
        {f"{PCI}/0000:18:00.0/nvme/nvme7/nvme7n1/nvme7n1p1/holders/dm-0": ""},
        {f"{PCI}/0000:18:00.0/nvme/nvme7/nvme7n1/size": "1", "proc/swaps": "Filename\n/dev/nvme7n1p3 partition 1 0 -2"},
    ],
    ids=["functions not seen", "function not seen", "virtio link is up", "multipath disk mounted", "logical volume", "swap"],
)  # fmt: skip
def test_a_device_the_host_lives_on_is_kept_back(tmp_path: Path, more: Mapping[str, str]) -> None:
    assert "0000:18:00.0" in free(build(tmp_path / "before", MACHINE, DEVICES))
    assert "0000:18:00.0" not in free(build(tmp_path / "after", MACHINE, DEVICES, more))


SPLIT: Mapping[str, str] = {f"{PCI}/0000:18:00.0/sriov_numvfs": "2", **virtual(0), **virtual(1)}


def test_virtual_functions_name_their_physical_one(tmp_path: Path) -> None:
    # This one does not say that it is near cell 0. Its card does.
    nowhere = {**virtual(1), f"{PCI}/0000:18:00.2/numa_node": "-1"}
    found = devices(by_id(build(tmp_path, MACHINE, DEVICES, {**SPLIT, **nowhere})))["numa0"]
    function = {
        "vendor": "8086", "product": "1889", "class": "020000", "kind": "network", "numa_node": 0,
        "parent": "0000:18:00.0",
    }  # fmt: skip
    assert {address: said for address, said in found.items() if "parent" in said} == {
        "0000:18:00.1": function,
        "0000:18:00.2": function,
    }
    record = Devices("PCI_DEVICE").report({"devices": found}, None)
    assert [item.name for item in record.items] == ["0000:18:00.0", "0000:18:00.1", "0000:18:00.2"]
    whole = Devices("PCI_DEVICE").claim(record, {"where": {"dev_type": "type-PF"}})
    assert isinstance(whole, Granted)
    assert whole.grant == ["0000:18:00.0"]
    assert isinstance(Devices("PCI_DEVICE").claim(whole.record, 1), Shortfall)


@pytest.mark.parametrize(
    ("more", "left"),
    [
        ({}, {"0000:18:00.0", "0000:18:00.1", "0000:18:00.2"}),
        # The card carries the host's traffic, its virtual functions may still go.
        ({f"{PCI}/0000:18:00.0/net/ens1/operstate": "up"}, {"0000:18:00.1", "0000:18:00.2"}),
        # Who gets the card would get the function that the host uses.
        ({f"{PCI}/0000:18:00.1/net/ens1v0/operstate": "up"}, {"0000:18:00.2"}),
        ({f"{PCI}/0000:18:00.1/net/ens1v0/operstate": "up", f"{PCI}/0000:18:00.0/sriov_numvfs": "0"}, {"0000:18:00.2"}),
        ({f"{PCI}/0000:18:00.0/sriov_numvfs": "3"}, {"0000:18:00.1", "0000:18:00.2"}),
        # A card that the host does not show at all.
        ({f"{PCI}/0000:18:00.0/class": "0x060000"}, {"0000:18:00.1", "0000:18:00.2"}),
    ],
    ids=["all free", "card in use", "function in use", "function in use, not counted", "function not seen", "no card"],
)  # fmt: skip
def test_a_card_goes_only_with_all_its_functions(
    tmp_path: Path, more: Mapping[str, str], left: set[str]
) -> None:
    options = build(tmp_path, MACHINE, DEVICES, {**SPLIT, **more})
    assert {address for address in free(options) if address.startswith("0000:18")} == left


def test_links_that_make_no_sense_are_left_out(tmp_path: Path) -> None:
    wrong = {
        f"{PCI}/0000:18:00.0/physfn": "->../0000:18:00.0",
        f"{PCI}/0000:18:00.0/driver": "->../drivers/\u00e9\n",
        f"{PCI}/0000:3b:00.0/physfn": "->../somewhere",
        f"{PCI}/0000:5f:00.0/physfn": "a file",
        f"{PCI}/0000:5f:00.0/driver/name": "a directory",
        # A virtual function of a virtual function.
        f"{PCI}/0000:af:00.0/physfn": "->../0000:17:00.1",
        **virtual(0, of="0000:17:00.0"),
        f"{PCI}/0000:af:00.0/sriov_totalvfs": "-3",
    }
    options = build(tmp_path, MACHINE, DEVICES, wrong)
    said = {address: one for part in devices(by_id(options)).values() for address, one in part.items()}
    assert {address for address, one in said.items() if one.keys() & {"parent", "driver"}} == {"0000:17:00.1"}
    assert "sriov_totalvfs" not in said["0000:af:00.0"]


def test_not_more_devices_than_an_inventory_takes(tmp_path: Path) -> None:
    many = {}
    for number in range(DEVICES_MAX + 10):
        address = f"0000:{number // 256:02x}:{number // 8 % 32:02x}.{number % 8}"
        many.update({f"{PCI}/{address}/{name}": text for name, text in (("class", "0x020000"), ("vendor", "1"), ("device", "2"))})  # fmt: skip
    found = devices(by_id(build(tmp_path, MACHINE, many)))
    assert len(found["node-1"]) == DEVICES_MAX
    assert len(Devices("PCI_DEVICE").report({"devices": found["node-1"]}, None).items) == DEVICES_MAX


def test_without_cells_the_node_has_the_hugepages(tmp_path: Path) -> None:
    options = build(tmp_path, MACHINE, DEVICES)
    shutil.rmtree(tmp_path / "sys/devices/system/node")
    found = by_id(options)
    assert found["node-1"].inventories["CUSTOM_HUGEPAGES_2048KB"] == {"total": 512, "max_unit": 512}
    assert found["node-1"].inventories["CUSTOM_HUGEPAGES_1048576KB"] == {"total": 2, "max_unit": 2}
    assert list(found) == ["node-1"]
    assert devices(found)["node-1"].keys() == free(options) == {
        "0000:18:00.0", "0000:3b:00.0", "0000:5f:00.0", "0000:af:00.0",
    }  # fmt: skip


def numa(found: Mapping[str, ProviderReport]) -> dict[str, dict[str, object]]:
    """The NUMA_CELL inventories, without what is always the same here."""
    return {
        name: {what: value for what, value in said.items() if what not in ("cell", "page_kib")}
        for name, provider in found.items()
        if (said := provider.inventories.get("NUMA_CELL")) is not None
    }


def test_dedicated_cpus_are_the_cells_and_the_others_the_nodes(tmp_path: Path) -> None:
    options = build(tmp_path, MACHINE)
    found = by_id(replace(options, dedicated_cpus=frozenset((1, 2, 3, 5, 7, 99)), numa_memory_mib=6500))
    assert found["node-1"].inventories["VCPU"]["total"] == 3
    # The cells have 6500 MiB of 7168, and all 6144 of what is not in pages of 1 GiB.
    assert found["node-1"].inventories["MEMORY_MB"]["reserved"] == 512 + 1024 + 2048 + 6500 + 6144
    assert numa(found) == {
        "numa0": {"cores": [[1, 5]], "memory_mb": 6500, "hugepages": {"2048": 512}},
        # 6 is a sibling that others share: it keeps its core from being given whole.
        "numa1": {
            "cores": [[2, 6], [3, 7]], "reserved_cpus": [6], "memory_mb": 6144, "hugepages": {"1048576": 2},
        },
    }  # fmt: skip


def test_what_is_in_neither_list_is_the_hosts_own(tmp_path: Path) -> None:
    options = build(tmp_path, MACHINE)
    found = by_id(replace(options, dedicated_cpus=frozenset((1, 5)), shared_cpus=frozenset((2, 6))))
    assert found["node-1"].inventories["VCPU"]["total"] == 2
    assert numa(found)["numa0"]["cores"] == [[1, 5]]
    assert "cores" not in numa(found)["numa1"]


def test_cells_may_give_out_the_whole_host(tmp_path: Path) -> None:
    options = build(tmp_path, MACHINE)
    found = by_id(
        replace(options, numa="whole", dedicated_cpus=frozenset((2, 6, 7)), memory_reserved_mib=513)
    )
    assert found["node-1"].inventories.keys() == {"DISK_GB"}
    assert numa(found) == {
        "numa0": {
            "shared_cpus": [0, 1, 4, 5], "cpu_ratio_milli": 4000,
            "memory_mb": 8192 - 1024 - 257, "hugepages": {"2048": 512},
        },
        "numa1": {
            "cores": [[2, 6], [3, 7]], "shared_cpus": [3], "cpu_ratio_milli": 4000,
            "memory_mb": 8192 - 2048 - 257, "hugepages": {"1048576": 2},
        },
    }  # fmt: skip


@pytest.mark.parametrize("mode", ["split", "whole"])
@given(
    dedicated=st.frozensets(st.integers(0, 9)),
    shared=st.none() | st.frozensets(st.integers(0, 9)),
    memory=st.integers(0, 9000),
    reserved=st.integers(0, 20_000),
)
@settings(max_examples=60, deadline=None)
def test_nothing_is_offered_twice(
    mode: NumaMode, machine: HostOptions,
    dedicated: frozenset[int], shared: frozenset[int] | None, memory: int, reserved: int,
) -> None:  # fmt: skip
    options = replace(
        machine,
        numa=mode,
        dedicated_cpus=dedicated - (shared or frozenset()),
        shared_cpus=shared,
        numa_memory_mib=memory if mode == "split" else 0,
        memory_reserved_mib=reserved,
    )
    found = by_id(options)
    records = [
        NumaCell().report(p.inventories["NUMA_CELL"], None)
        for p in found.values()
        if "NUMA_CELL" in p.inventories
    ]
    pinned = [cpu for r in records for core in r.free_cores() for cpu in core.free]
    floating = [cpu for r in records for cpu in r.shared]
    at_node: dict[str, Any] = found["node-1"].inventories
    counted = at_node.get("VCPU", {}).get("total", 0)
    assert len(set(pinned + floating)) == len(pinned + floating)
    assert set(pinned) == options.dedicated_cpus & set(range(8))
    assert counted + len(floating) == len(
        set(range(8)) - dedicated if shared is None else shared & set(range(8))
    )
    by_cells = sum(record.memory_mb for record in records)
    by_node = at_node.get("MEMORY_MB", {"total": 0})
    if mode == "split":
        counted_mb = by_node["total"] - by_node.get("reserved", 0)
        assert by_cells == min(options.numa_memory_mib, 7168) + min(options.numa_memory_mib, 6144)
        assert counted_mb == max(0, 7168 + 6144 - by_cells - reserved)
    else:
        # The two parts of the reserve are rounded up.
        assert by_node["total"] == 0
        assert by_cells == max(0, 7168 + 6144 - reserved - reserved % 2)


def test_a_cell_with_memory_only(tmp_path: Path) -> None:
    meminfo = {"sys/devices/system/node/node2/cpulist": "", "sys/devices/system/node/node2/meminfo": "Node 2 MemTotal: 2048 kB"}  # fmt: skip
    options = build(tmp_path, MACHINE, meminfo)
    found = by_id(options)
    assert found["numa2"].inventories == {}
    found = by_id(replace(options, numa="whole", memory_reserved_mib=0))
    assert numa(found)["numa2"] == {"memory_mb": 2}


def test_without_topology_cores_are_not_guessed(tmp_path: Path) -> None:
    options = build(tmp_path, MACHINE)
    shutil.rmtree(tmp_path / "sys/devices/system/cpu/cpu2")
    found = by_id(replace(options, dedicated_cpus=frozenset(range(8))))
    assert numa(found)["numa0"]["cores"] == [[0, 4], [1, 5]]
    # Of CPU 2 it is not known whose sibling it is, and 6 says that it is its sibling.
    assert numa(found)["numa1"]["cores"] == [[2, 6], [3, 7]]


def test_cores_that_contradict_each_other_are_left_out(tmp_path: Path) -> None:
    wrong = {"sys/devices/system/cpu/cpu1/topology/thread_siblings_list": "0-1"}
    options = build(tmp_path, MACHINE, wrong, {"sys/devices/system/node/node70000/cpulist": "8"})
    found = by_id(replace(options, dedicated_cpus=frozenset(range(8))))
    assert numa(found)["numa0"]["cores"] == [[0, 1]]
    with memory_log() as log, Outbox(tmp_path / "outbox") as outbox:
        publisher = Publisher(log, options.root, "auto-0", outbox)
        publisher.report(collect(replace(options, numa="whole", dedicated_cpus=frozenset(range(8)))))
        publisher.flush()
        assert Tables(log).dead_letters == []


def test_without_sys_processors_are_counted_in_cpuinfo(tmp_path: Path) -> None:
    options = build(tmp_path, MACHINE)
    shutil.rmtree(tmp_path / "sys")
    (node,) = collect(options)
    assert node.inventories["VCPU"]["total"] == 8
    assert HYPERTHREADING not in node.traits


def test_a_trait_is_what_all_processors_can_do(tmp_path: Path) -> None:
    mixed = f"processor: 0\nflags: {FLAGS}\n\nprocessor: 1\nflags: {FLAGS} avx512f vaes".replace(
        " vmx", "", 1
    )
    (node,) = collect(build(tmp_path, {"proc/cpuinfo": mixed}))
    assert "HW_CPU_X86_AVX2" in node.traits
    assert not {"HW_CPU_X86_AVX512F", "HW_CPU_X86_AVX512VAES", "HW_CPU_X86_VMX"} & set(node.traits)


@pytest.mark.parametrize("flags", ["vaes gfni vpclmulqdq", "avx512f vaes gfni vpclmulqdq"])
def test_the_narrow_forms_are_no_avx512(tmp_path: Path, flags: str) -> None:
    (node,) = collect(build(tmp_path, {"proc/cpuinfo": f"processor: 0\nflags: {flags}"}))
    assert ("HW_CPU_X86_AVX512VAES" in node.traits) is flags.startswith("avx512f")


def test_nothing_known_is_a_node_with_its_disk(tmp_path: Path) -> None:
    (node,) = collect(build(tmp_path))
    assert node.inventories.keys() <= {"DISK_GB"}
    assert node.traits == ("COMPUTE_NODE",)
    (node,) = collect(
        HostOptions(root="n", disk=tmp_path / "gone", proc=tmp_path / "no", sys=tmp_path / "no")
    )
    assert node.inventories == {}


def test_nonsense_is_left_out(tmp_path: Path) -> None:
    nonsense = dict.fromkeys((*MACHINE, *DEVICES), "\x00\xff what? 7-,:")
    assert [provider.inventories.keys() - {"DISK_GB"} for provider in collect(build(tmp_path, nonsense))] == [
        set(),  # the node, and two cells that are known to be there
        set(),
        set(),
    ]


def test_directories_in_the_place_of_files_are_left_out(tmp_path: Path) -> None:
    options = build(tmp_path, MACHINE, DEVICES)
    for name in (
        "proc/meminfo",
        "proc/cpuinfo",
        "sys/devices/system/node/node1/meminfo",
        f"{PCI}/0000:3b:00.0/class",
    ):
        (tmp_path / name).unlink()
        (tmp_path / name).mkdir()
    found = by_id(options)
    assert found["node-1"].inventories.keys() == {"VCPU", "DISK_GB", "PCI_DEVICE"}
    assert numa(by_id(replace(options, numa="whole")))["numa1"]["memory_mb"] == 0
    assert free(options) == {"0000:18:00.0", "0000:5f:00.0", "0000:af:00.0"}


def test_the_traits_exist() -> None:
    named = {*TRAIT_FLAGS, HYPERTHREADING, "COMPUTE_NODE", "HW_NUMA_ROOT"}
    assert named <= set(os_traits.get_traits())


@pytest.mark.parametrize(
    "wrong",
    [
        {"root": ""},
        {"root": "a host"},
        {"root": "n" * 171},
        {"root": "n", "vcpu_ratio_milli": 0},
        {"root": "n", "disk_ratio_milli": 10**9},
        {"root": "n", "memory_reserved_mib": -1},
        {"root": "n", "numa_memory_mib": -1},
        {"root": "n", "dedicated_cpus": frozenset((1, 2)), "shared_cpus": frozenset((2, 3))},
        {"root": "n", "numa": "whole", "numa_memory_mib": 1024},
    ],
)
def test_invalid_options(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        HostOptions(**wrong)  # type: ignore[arg-type]


@given(st.sets(st.integers(0, CPU_MAX), max_size=30))
def test_cpu_lists_are_read_as_the_kernel_writes_them(cpus: set[int]) -> None:
    ranges: list[tuple[int, int]] = []
    for cpu in sorted(cpus):
        ranges = (
            [*ranges[:-1], (ranges[-1][0], cpu)]
            if ranges and ranges[-1][1] == cpu - 1
            else [*ranges, (cpu, cpu)]
        )
    text = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)
    assert parse_cpu_list(text) == tuple(sorted(cpus))


@given(st.text(alphabet="0123456789-, x", max_size=40))
def test_any_cpu_list_is_read_without_failing(text: str) -> None:
    assert len(parse_cpu_list(text)) <= CPU_MAX + 1


def test_this_host_as_psutil_sees_it() -> None:
    node, *parts = collect(HostOptions())
    assert node.parent is None
    assert node.inventories["VCPU"]["total"] == psutil.cpu_count(logical=True)
    memory = node.inventories["MEMORY_MB"]["total"]
    assert isinstance(memory, int)
    # The memory of a virtual machine may grow and shrink while it runs.
    assert abs(memory - (psutil.virtual_memory().total >> 20)) <= 0.1 * memory
    assert node.inventories["DISK_GB"]["total"] == psutil.disk_usage("/").total >> 30
    assert all(part.parent in {provider.id for provider in (node, *parts)} for part in parts)
    _, *parts = collect(HostOptions(numa="whole"))
    cells: list[Any] = [p.inventories["NUMA_CELL"] for p in parts if "NUMA_CELL" in p.inventories]
    if cells:
        assert sum(len(cell["shared_cpus"]) for cell in cells) == psutil.cpu_count(logical=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="every other test here runs without root already")
def test_reading_needs_no_root() -> None:
    as_root = collect(HostOptions())
    os.seteuid(65534)
    try:
        as_nobody = collect(HostOptions())
    finally:
        os.seteuid(0)
    assert [provider.id for provider in as_nobody] == [provider.id for provider in as_root]
    assert [provider.inventories.keys() for provider in as_nobody] == [
        provider.inventories.keys() for provider in as_root
    ]


def test_the_fold_takes_what_the_collector_says(tmp_path: Path) -> None:
    with memory_log() as log:
        for cell, options in (
            ("auto-0", HostOptions(root="here")),
            ("auto-1", build(tmp_path, MACHINE, DEVICES, SPLIT)),
            ("auto-2", replace(build(tmp_path, MACHINE), root="pinned", dedicated_cpus=frozenset((0, 1, 4)))),
            ("auto-3", replace(build(tmp_path, MACHINE), root="whole", numa="whole")),
        ):
            with Outbox(tmp_path / cell) as outbox:
                publisher = Publisher(log, options.root, cell, outbox)
                publisher.report(collect(options))
                publisher.flush()
        assert Tables(log).dead_letters == []


QUALITIES: Mapping[str, str] = {
    "proc/cpuinfo": "\n\n".join(
        f"processor\t: {n}\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 7713  64-Core Processor"
        for n in range(2)
    ),
    "proc/sys/kernel/osrelease": "6.1.0-21-amd64\n",
    "proc/sys/kernel/arch": "x86_64\n",
    "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n',
    "bin/qemu-system-x86_64": "#!/bin/sh\necho 'QEMU emulator version 8.2.2 (Debian 1:8.2.2+ds-0)'\n",
    "bin/libvirtd": "#!/bin/sh\necho 'libvirtd (libvirt) 10.0.0'\n",
}


def test_a_host_tells_qualities_that_have_a_value(tmp_path: Path) -> None:
    options = build(tmp_path, QUALITIES)
    (tmp_path / "bin/libvirtd").chmod(0o755)
    without = {
        "architecture": "x86_64",
        "cpu_vendor": "AuthenticAMD",
        "cpu_model": "AMD EPYC 7713 64-Core Processor",
        "kernel_version": "6.1.0-21-amd64",
        "os_id": "debian",
        "os_release": "12",
        "libvirt_version": "10.0.0",
    }
    assert collect(options)[0].attributes == without
    (tmp_path / "bin/qemu-system-x86_64").chmod(0o755)
    hypervisor = {"hypervisor_type": "QEMU", "hypervisor_version": "8.2.2"}
    assert collect(options)[0].attributes == {**without, **hypervisor}


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho none\n", "no program at all"])
def test_what_a_hypervisor_does_not_say_is_left_out(tmp_path: Path, script: str) -> None:
    """Nor is a model where processors are of several."""
    cpuinfo = "model name: one\n\nmodel name: other\n"
    options = build(tmp_path, {**QUALITIES, "bin/qemu-system-x86_64": script, "proc/cpuinfo": cpuinfo})
    (tmp_path / "bin/qemu-system-x86_64").chmod(0o755)
    assert set(collect(options)[0].attributes) == {"architecture", "kernel_version", "os_id", "os_release"}
