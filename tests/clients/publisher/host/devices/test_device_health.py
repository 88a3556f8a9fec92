"""Devices that do not work, as the kernel shows it and as a monitor says it, and what reports say of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clients.publisher.host.host_trees import build_host
from vacancy.clients.publisher.device_health import without_unhealthy
from vacancy.clients.publisher.host import HostInventory, inspect_host
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.events import ProviderReport

HOST = """
online 0-3
cell 0 cpus=0-3 memory=4096
pci 3b:00.0 020000 8086:1592 numa=0
pci 3b:01.0 020000 8086:1889 physfn=3b:00.0
pci 81:00.0 030200 10de:20b0 numa=0
pci 82:00.0 030200 10de:20b0
"""
DEVICES = "sys/bus/pci/devices/0000:"


def looked_at(at: Path, *files: tuple[str, bytes], **options: Any) -> HostInventory:
    made = build_host(at, HOST)
    for name, content in files:
        (at / f"{DEVICES}{name}").write_bytes(content)
    return inspect_host(made if not options else type(made)(**{**vars(made), **options}))


def unhealthy(found: HostInventory) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for provider in found.providers:
        said |= provider.inventories.get("PCI_DEVICE", {}).get("unhealthy", {})  # type: ignore[arg-type]
    return said


def remarks(found: HostInventory) -> list[str]:
    return [str(one) for one in found.remarks if "PCI device" in str(one) or "device " in str(one)]


def test_a_healthy_host_says_nothing_of_health(tmp_path: Path) -> None:
    found = looked_at(tmp_path, ("81:00.0/config", b"\xde\x10\xb0\x20"), ("81:00.0/power_state", b"D0\n"))
    assert unhealthy(found) == {}
    assert not any(
        "unhealthy" in one for provider in found.providers for one in provider.inventories.values()
    )
    assert remarks(found) == []


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([("81:00.0/config", b"\xff" * 64)], "it does not answer: its configuration space reads as ones"),
        ([("81:00.0/power_state", b"error\n")], "its power state is an error"),
        # It is asleep, and would be woken by the question.
        ([("81:00.0/config", b"\xff" * 64), ("81:00.0/power_state", b"D3cold\n")], None),
        # Without a driver its state is not known: so it waits for a guest.
        ([("81:00.0/config", b"\xde\x10\xb0\x20"), ("81:00.0/power_state", b"unknown\n")], None),
    ],
)
def test_what_the_kernel_shows(tmp_path: Path, files: list[tuple[str, bytes]], reason: str | None) -> None:
    assert unhealthy(looked_at(tmp_path, *files)) == ({"0000:81:00.0": reason} if reason else {})


def test_virtual_functions_always_show_ones(tmp_path: Path) -> None:
    assert unhealthy(looked_at(tmp_path, ("3b:01.0/config", b"\xff" * 64))) == {}


def test_fatal_errors_are_said_and_make_nothing_unhealthy(tmp_path: Path) -> None:
    """The kernel's counters never go back, and a link that was reset works again."""
    counts = b"Undefined 0\nDLP 2\nTOTAL_ERR_FATAL 2\n"
    found = looked_at(
        tmp_path, ("81:00.0/aer_dev_fatal", counts), ("82:00.0/aer_dev_fatal", b"TOTAL_ERR_FATAL 0")
    )
    assert unhealthy(found) == {}
    assert remarks(found) == [
        "PCI device 0000:81:00.0: offered: the kernel counted 2 fatal errors (aer_dev_fatal) since it found the device"
    ]


def test_what_a_monitor_says(tmp_path: Path) -> None:
    file = tmp_path / "health.json"
    file.write_text(json.dumps({"81:00.0": "ECC errors", "0000:82:00.0": "", "0000:99:00.0": "gone"}))
    found = looked_at(tmp_path / "host", device_health=file)
    assert unhealthy(found) == {"0000:81:00.0": "ECC errors", "0000:82:00.0": ""}
    assert remarks(found) == [
        "PCI device 0000:81:00.0: unhealthy, granted to nobody: ECC errors",
        "PCI device 0000:82:00.0: unhealthy, granted to nobody: no reason given",
        "device 0000:99:00.0: not called unhealthy: no such device is offered",
    ]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"81:00.0": 1}', json.dumps({"81:00.0": "x" * 1001})])
def test_a_monitor_that_cannot_be_read_stops_the_report(tmp_path: Path, content: str | None) -> None:
    """Otherwise the broken device would be offered."""
    file = tmp_path / "health.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UsageError, match="the health of devices"):
        looked_at(tmp_path / "host", device_health=file)


def test_older_rules_get_a_report_without_what_is_unhealthy() -> None:
    devices = {"p": {}, "p1": {"parent": "p"}, "p2": {"parent": "p"}, "q": {}, "q1": {"parent": "q"}, "r": {}}

    def left(*out: str) -> list[str]:
        inventory: Any = {"devices": devices, "unhealthy": dict.fromkeys(out, "")}
        node = ProviderReport(id="n", inventories={"PGPU": inventory, "VCPU": {"total": 1}})
        (got,) = without_unhealthy([node])
        assert got.inventories["VCPU"] == {"total": 1}
        assert "unhealthy" not in got.inventories["PGPU"]
        return list(got.inventories["PGPU"]["devices"])  # type: ignore[arg-type]

    assert left() == list(devices)
    assert left("r", "p1") == ["p2", "q", "q1"]
    assert left("q") == ["p", "p1", "p2", "r"]
