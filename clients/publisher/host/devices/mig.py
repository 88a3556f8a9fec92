"""The GPUs in MIG mode, and where each places its instances, as NVIDIA's `nvidia-smi` prints it.

Neither /sys nor /proc/driver/nvidia shows the mode of a GPU without instances, or its placements: only the driver's library
knows them, and `nvidia-smi` asks it without root. It prints names (`mig -lgip`) and placements (`mig -lgipp`) by the number of
a profile, whether they are in use or not.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from pydantic import JsonValue

from vacancy.clients.publisher.host.devices.pci import PciDevice
from vacancy.clients.publisher.host.remarks import NOT_OFFERED, Remark
from vacancy.resources.classes.devices.mig_tables import TABLES, Profile
from vacancy.resources.model.errors import UsageError, VacancyError

PROGRAM: Final = "nvidia-smi"
_TIMEOUT_S: Final = 20.0
_QUERY: Final = "--query-gpu=index,uuid,pci.bus_id,mig.mode.current,name"
_NAMED = re.compile(r"^\|\s+([0-9]+)\s+MIG\s+(\S+)\s+([0-9]+)\s+[0-9]+/[0-9]+\s", re.MULTILINE)
_PLACED = re.compile(
    r"^GPU\s+([0-9]+)\s+Profile ID\s+([0-9]+)\s+Placements?\s*:\s*\{([0-9,]+)\}:([0-9]+)\s*$", re.MULTILINE
)
_UUID = re.compile(r"[A-Za-z0-9._:/@+=~-]{1,200}")


class MigGpu(NamedTuple):
    """A GPU in MIG mode. `address` is its PCI address, `profiles` are the placements of its profiles."""

    uuid: str
    address: str
    model: str
    profiles: Mapping[str, Profile]

    def device(self, pci: PciDevice) -> dict[str, JsonValue]:
        """The device as an inventory of MIG has it: the name of a known table with these placements, else the profiles."""
        known = [name for name, table in TABLES.items() if table == self.profiles]
        words = re.split(r"[^A-Za-z0-9]", self.model)
        placements: dict[str, JsonValue] = {
            "profiles": {
                name: {"size": profile.size, "starts": list(profile.starts)}
                for name, profile in self.profiles.items()
            }
        }
        if known:
            placements = {"table": next((one for one in known if one.split("-")[0] in words), known[0])}
        attributes = pci.attributes()
        found = {**placements, "model": self.model, "pci_address": self.address}
        for name in ("vendor", "product", "numa_node"):
            if name in attributes:
                found[name] = attributes[name]
        return found


class MigGpus(NamedTuple):
    """The GPUs in MIG mode by PCI address, and remarks."""

    gpus: Mapping[str, MigGpu]
    remarks: tuple[Remark, ...]


def read_mig(devices: Iterable[PciDevice], programs: str | None = None) -> MigGpus:
    """Those of the devices that are GPUs in MIG mode. `programs` is the search path for programs (default: PATH).

    Raises `UsageError` if there is no `nvidia-smi`, and `VacancyError` if it fails: a GPU whose mode is not known must not be
    offered as a whole.
    """
    program = find_program(programs)
    offered = {device.address for device in devices}
    in_mode = [one for one in _gpus(_run(program, _QUERY, "--format=csv,noheader")) if one[2] in offered]
    if not in_mode:
        return MigGpus({}, ())
    names = {(gpu, number): name for gpu, name, number in _NAMED.findall(_run(program, "mig", "-lgip"))}
    profiles: dict[str, dict[str, Profile]] = {}
    for gpu, number, starts, size in _PLACED.findall(_run(program, "mig", "-lgipp")):
        if (gpu, number) in names:
            placed = Profile(int(size), tuple(sorted({int(start) for start in starts.split(",") if start})))
            profiles.setdefault(gpu, {})[names[gpu, number]] = placed
    found, remarks = {}, []
    for index, uuid, address, model in in_mode:
        if index in profiles:
            found[address] = MigGpu(uuid, address, model, profiles[index])
        else:
            reason = f"it is in MIG mode, and {PROGRAM} prints no placements of it"
            remarks.append(Remark(f"PCI device {address}", NOT_OFFERED, reason))
            found[address] = MigGpu(uuid, address, model, {})
    return MigGpus(found, tuple(remarks))


def find_program(programs: str | None = None) -> str:
    """The path of `nvidia-smi`. Raises `UsageError` if there is none."""
    program = shutil.which(PROGRAM, path=programs)
    if program is None:
        raise UsageError(
            f"{PROGRAM} is not on the search path",
            where="--mig",
            do="install it with NVIDIA's driver, or omit --mig",
        )
    return program


def mig_inventory(
    gpus: Mapping[str, MigGpu], devices: Iterable[PciDevice]
) -> dict[str, dict[str, JsonValue]] | None:
    """The inventory of MIG with those of the devices that are in MIG mode; None if there are none."""
    offered: dict[str, JsonValue] = {
        gpu.uuid: gpu.device(device)
        for device in devices
        if (gpu := gpus.get(device.address)) is not None and gpu.profiles
    }
    return {"devices": offered} if offered else None


def _gpus(text: str) -> list[tuple[str, str, str, str]]:
    """(number, UUID, PCI address, model) of the GPUs whose MIG mode is on."""
    found = []
    for line in text.splitlines():
        words = [word.strip() for word in line.split(",", 4)]
        if len(words) == 5 and words[3] == "Enabled" and _UUID.fullmatch(words[1]):
            found.append((words[0], words[1], _pci_address(words[2]), words[4]))
    return found


def _pci_address(text: str) -> str:
    """A PCI address as the kernel writes it: 00000000:3B:00.0 is 0000:3b:00.0."""
    domain, _, rest = text.lower().partition(":")
    return f"{domain[-4:] if domain.startswith('0000') else domain}:{rest}"


def _run(program: str, *options: str) -> str:
    try:
        done = subprocess.run(
            [program, *options],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stdout", None) or getattr(error, "stderr", None) or error
        raise VacancyError(
            f"{PROGRAM} {' '.join(options)} failed: {str(said).strip()[:200]}",
            do="run it by hand; until it answers, the inventory stays as it was reported last",
        ) from None
    return done.stdout
