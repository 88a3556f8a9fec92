"""Hosts as short texts: each line becomes files of /proc and /sys, and an inventory becomes lines to compare.

The lines of a host:

    online 0-7                      also present, possible, allowed (the cgroup's cpuset), allowed-cells, normal (memory)
    memory 16384                    MiB of the host
    core 0,4                        two threads of a core
    cell 0 cpus=0-3 memory=8192 pages=1048576:8:4,2048:512:512
                                    a NUMA cell; pages are size in KiB : all : free
    pages 2048:512:512              hugepages of the host as a whole
    pci 3b:00.0 0b4000 8086:37c8 numa=0 physfn=3b:00.1 up functions=2 boot_vga
    file sys/some/file text         any other file
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from vacancy.clients.publisher.host import HostInventory, HostOptions
from vacancy.clients.publisher.host.files import format_cpu_list, parse_cpu_list

_CPU, _CELL, _PCI = "sys/devices/system/cpu", "sys/devices/system/node", "sys/bus/pci/devices"
_LISTS = {
    "online": f"{_CPU}/online",
    "present": f"{_CPU}/present",
    "possible": f"{_CPU}/possible",
    "normal": f"{_CELL}/has_normal_memory",
    "allowed": "sys/fs/cgroup/cpuset.cpus.effective",
    "allowed-cells": "sys/fs/cgroup/cpuset.mems.effective",
}


def build_host(at: Path, text: str) -> HostOptions:
    """Make the files below `at`, and the options that read them."""
    for line in text.strip().splitlines():
        for name, content in _files(line.split("#")[0].split()):
            path = at / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content.startswith("->"):
                path.symlink_to(content.removeprefix("->"))
            else:
                path.write_text(content + "\n")
    return HostOptions(
        root="n", disk=at / "none", proc=at / "proc", sys=at / "sys", etc=at / "etc", programs=str(at / "bin")
    )


def _files(words: list[str]) -> Iterator[tuple[str, str]]:
    if not words:
        return
    kind, *rest = words
    if kind == "memory":
        yield "proc/meminfo", f"MemTotal: {int(rest[0]) * 1024} kB"
    elif kind in _LISTS:
        yield _LISTS[kind], " ".join(rest)
    elif kind == "core":
        for cpu in parse_cpu_list(rest[0]):
            yield f"{_CPU}/cpu{cpu}/topology/core_cpus_list", rest[0]
    elif kind == "pages":
        yield from _pages("sys/kernel/mm", rest[0])
    elif kind == "cell":
        yield from _cell(rest[0], dict(word.split("=") for word in rest[1:]))
    elif kind == "pci":
        yield from _pci(*rest)
    else:
        assert kind == "file", kind
        yield rest[0], " ".join(rest[1:])


def _pages(directory: str, text: str) -> Iterator[tuple[str, str]]:
    for pool in text.split(","):
        size, total, free = pool.split(":")
        yield f"{directory}/hugepages/hugepages-{size}kB/nr_hugepages", total
        yield f"{directory}/hugepages/hugepages-{size}kB/free_hugepages", free


def _cell(number: str, said: dict[str, str]) -> Iterator[tuple[str, str]]:
    directory = f"{_CELL}/node{number}"
    yield f"{directory}/cpulist", said.get("cpus", "")
    if "memory" in said:
        yield f"{directory}/meminfo", f"Node {number} MemTotal: {int(said['memory']) * 1024} kB"
    if "pages" in said:
        yield from _pages(directory, said["pages"])


def _pci(address: str, code: str, model: str, *more: str) -> Iterator[tuple[str, str]]:
    directory = f"{_PCI}/0000:{address}"
    vendor, product = model.split(":")
    yield f"{directory}/class", f"0x{code}"
    yield f"{directory}/vendor", f"0x{vendor}"
    yield f"{directory}/device", f"0x{product}"
    for word in more:
        name, _, value = word.partition("=")
        if name == "numa":
            yield f"{directory}/numa_node", value
        elif name == "physfn":
            yield f"{directory}/physfn", f"->../0000:{value}"
        elif name == "functions":
            yield f"{directory}/sriov_numvfs", value
        elif name == "boot_vga":
            yield f"{directory}/boot_vga", "1"
        else:
            assert name == "up", name
            yield f"{directory}/net/eth0/operstate", "up"


def shown(inventory: HostInventory, traits: str = "") -> str:
    """The inventory, a provider a line, and its remarks. Of the traits, those that begin with `traits`."""
    lines = []
    for provider in inventory.providers:
        parts = [provider.id.removeprefix("n:")]
        for name, said in provider.inventories.items():
            if name == "NUMA_CELL":
                parts += _numa(said)
            elif name == "PCI_DEVICE":
                parts.append("pci=" + ",".join(_devices(said)))
            else:
                reserved = f"-{said['reserved']}" if "reserved" in said else ""
                parts.append(f"{name}={said['total']}{reserved}")
        parts += [trait for trait in provider.traits if traits and trait.startswith(traits)]
        parts += [
            f"{name}:{provider.attributes[name]}" for name in ("core_type",) if name in provider.attributes
        ]
        lines.append(" ".join(parts))
    return "\n".join([*lines, *(f"! {remark}" for remark in inventory.remarks)])


def _numa(said: Mapping[str, object]) -> Iterator[str]:
    for name, short in (("cores", "cores"), ("shared_cpus", "shared"), ("reserved_cpus", "kept")):
        value = said.get(name)
        if isinstance(value, list):
            yield f"{short}=" + (
                "|".join(format_cpu_list(core) for core in value)
                if name == "cores"
                else format_cpu_list(value)
            )
    if said["memory_mb"]:
        yield f"memory={said['memory_mb']}"
    pages = said.get("hugepages")
    if isinstance(pages, dict):
        yield "pages=" + ",".join(f"{size}:{count}" for size, count in pages.items())


def _devices(said: Mapping[str, object]) -> Iterator[str]:
    devices = said["devices"]
    assert isinstance(devices, dict)
    for address, attributes in devices.items():
        yield f"{address.removeprefix('0000:')}({attributes['kind']})"
