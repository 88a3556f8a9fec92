"""Which PCI devices do not work: what the kernel shows without root, and what a monitor of the site says in a file.

By itself the collector calls a device unhealthy only where nobody could use it:

* it does not answer: the first bytes of its configuration space are all ones. So does a device that has fallen off the bus
  (PCI Local Bus Specification, 6.1; NVIDIA's Xid 79). Virtual functions always show ones there (SR-IOV 1.1, 3.4.1.1), and a
  device that is powered off (D3cold) would be woken by the question: neither is asked;
* its `power_state` is `error`: the kernel could not bring it into the state that it needs.

Counters of errors do not make a device unhealthy: they never go back, and most errors are corrected or recovered. Fatal ones
(`aer_dev_fatal`) are said. A device without a driver is healthy: that is how it waits for a guest. What else a site knows (ECC
errors, temperatures, wear) its monitor writes into the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from pydantic import JsonValue

from vacancy.clients.publisher.host.devices.pci import PciDevice
from vacancy.clients.publisher.host.files import read_text
from vacancy.clients.publisher.host.remarks import Remark
from vacancy.resources.classes.devices.device_class import REASON_MAX
from vacancy.resources.classes.resource_class import UNHEALTHY
from vacancy.resources.model.errors import UsageError

_NO_ANSWER: Final = b"\xff\xff\xff\xff"
_TOTAL: Final = "TOTAL_ERR_FATAL"


class DeviceHealth(NamedTuple):
    """The unhealthy ones of some devices (address -> reason), and remarks."""

    unhealthy: Mapping[str, str]
    remarks: tuple[Remark, ...]


def read_health(
    sys: Path,
    devices: Iterable[PciDevice],
    file: Path | None = None,
    names: Mapping[str, str] = MappingProxyType({}),
) -> DeviceHealth:
    """The health of these devices. `file` is the monitor's: device -> reason, as JSON; `names` are other names of devices than
    their addresses. Raises `UsageError` if it cannot be read: without it a broken device could be offered."""
    monitor = {} if file is None else read_monitor(file)
    said = {names.get(name, name): reason for name, reason in monitor.items()}
    unhealthy: dict[str, str] = {}
    remarks: list[Remark] = []
    for device in devices:
        path = sys / "bus/pci/devices" / device.address
        reason = said.pop(device.address, None)
        if reason is None:
            reason = _fault(path, device)
        if reason is not None:
            unhealthy[device.address] = reason
            remarks.append(
                Remark(
                    f"PCI device {device.address}",
                    "unhealthy, granted to nobody",
                    reason or "no reason given",
                )
            )
        elif fatal := _fatal_errors(path):
            found = f"the kernel counted {fatal} fatal errors (aer_dev_fatal) since it found the device"
            remarks.append(Remark(f"PCI device {device.address}", "offered", found))
    remarks += [
        Remark(f"device {address}", "not called unhealthy", "no such device is offered")
        for address in sorted(said)
    ]
    return DeviceHealth(unhealthy, tuple(remarks))


def with_unhealthy(inventory: Mapping[str, JsonValue], unhealthy: Mapping[str, str]) -> dict[str, JsonValue]:
    """The inventory with its unhealthy devices; unchanged if there are none, because earlier rules do not know them."""
    return {**inventory, **({UNHEALTHY: dict(unhealthy)} if unhealthy else {})}


def _fault(path: Path, device: PciDevice) -> str | None:
    state = read_text(path / "power_state")
    if state == "error":
        return "its power state is an error"
    if state == "D3cold" or device.parent is not None:
        return None
    try:
        with (path / "config").open("rb") as file:
            answers = file.read(len(_NO_ANSWER)) != _NO_ANSWER
    except OSError:
        return None
    return None if answers else "it does not answer: its configuration space reads as ones"


def _fatal_errors(path: Path) -> int:
    for line in (read_text(path / "aer_dev_fatal") or "").splitlines():
        name, _, count = line.partition(" ")
        if name == _TOTAL and count.strip().isdecimal():
            return int(count)
    return 0


def read_monitor(file: Path) -> dict[str, str]:
    """The unhealthy devices that a monitor names: address -> reason. Raises `UsageError` if the file cannot be read."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the health of devices cannot be read: {error}", where=str(file), do="correct the file"
        ) from None
    if not isinstance(found, dict) or not all(
        isinstance(reason, str) and len(reason) <= REASON_MAX for reason in found.values()
    ):
        raise UsageError(
            "the health of devices is an object: address -> reason",
            where=str(file),
            do=f'write {{"0000:81:00.0": "ECC errors"}}; a reason has up to {REASON_MAX} characters',
        )
    return {_full(address): reason for address, reason in found.items()}


def _full(address: str) -> str:
    """An address with its domain: 81:00.0 is 0000:81:00.0."""
    return f"0000:{address}" if address.count(":") == 1 else address
