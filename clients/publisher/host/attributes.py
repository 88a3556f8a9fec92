"""Qualities of a host that have a value: its processor, kernel, system and hypervisor.

What cannot be found is left out: `has(attributes.hypervisor_type)` asks whether there is one.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from vacancy.clients.publisher.host.files import read_text
from vacancy.resources.model.attributes import TEXT_MAX

_VERSION: Final = re.compile(r"[0-9]+(?:\.[0-9]+)+")
_TIMEOUT_S: Final = 5.0
_OS_RELEASE: Final = re.compile(r"""^(ID|VERSION_ID)=["']?([^"'\n]*)["']?$""", re.MULTILINE)


def read_attributes(proc: Path, etc: Path, programs: str | None = None) -> dict[str, str | int | bool]:
    """The attributes of a node. `programs` is where programs are looked for (default: PATH)."""
    machine = read_text(proc / "sys/kernel/arch") or platform.machine()
    system = dict(_OS_RELEASE.findall(read_text(etc / "os-release") or ""))
    found = {
        "architecture": machine,
        **_processor(read_text(proc / "cpuinfo") or ""),
        "kernel_version": read_text(proc / "sys/kernel/osrelease"),
        "os_id": system.get("ID"),
        "os_release": system.get("VERSION_ID"),
        **_hypervisor(machine, programs),
    }
    return {name: value[:TEXT_MAX] for name, value in found.items() if value}


def _processor(cpuinfo: str) -> dict[str, str | None]:
    """Vendor and model, where all processors are of one."""
    said: dict[str, set[str]] = {}
    for line in cpuinfo.splitlines():
        label, _, value = line.partition(":")
        said.setdefault(label.strip(), set()).add(" ".join(value.split()))

    def only(label: str) -> str | None:
        values = said.get(label, set())
        return next(iter(values)) if len(values) == 1 else None

    return {"cpu_vendor": only("vendor_id"), "cpu_model": only("model name")}


def _hypervisor(machine: str, programs: str | None) -> Mapping[str, str | None]:
    """QEMU and libvirt, as they say themselves. Types are named as OpenStack Nova names them."""
    names = (f"qemu-system-{machine}", "qemu-kvm", "/usr/libexec/qemu-kvm")
    qemu = next((path for name in names if (path := shutil.which(name, path=programs))), None)
    version = _asked(qemu)
    return {
        "hypervisor_type": "QEMU" if version else None,
        "hypervisor_version": version,
        "libvirt_version": _asked(shutil.which("libvirtd", path=programs)),
    }


def _asked(program: str | None) -> str | None:
    """The version that a program tells."""
    if program is None:
        return None
    try:
        return _ask(program, Path(program).stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=16)
def _ask(program: str, _changed_ns: int) -> str | None:
    """Asked once, and again when the program is another one."""
    try:
        done = subprocess.run(
            [program, "--version"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = _VERSION.search(done.stdout)
    return found[0] if found else None
