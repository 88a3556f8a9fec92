"""The attributes of a host: its CPU model, kernel, operating system and hypervisor.

What cannot be found is omitted: a request can test it with `has(attributes.hypervisor_type)`.
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
    """The attributes of a node. `programs` is the search path for programs (default: PATH)."""
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
    """Vendor and model, if all CPUs have the same."""
    found: dict[str, set[str]] = {}
    for line in cpuinfo.splitlines():
        label, _, value = line.partition(":")
        found.setdefault(label.strip(), set()).add(" ".join(value.split()))

    def only(label: str) -> str | None:
        values = found.get(label, set())
        return next(iter(values)) if len(values) == 1 else None

    return {"cpu_vendor": only("vendor_id"), "cpu_model": only("model name")}


def _hypervisor(machine: str, programs: str | None) -> Mapping[str, str | None]:
    """Type and version of QEMU, and the version of libvirt, from the programs. Types have OpenStack Nova's names."""
    names = (f"qemu-system-{machine}", "qemu-kvm", "/usr/libexec/qemu-kvm")
    qemu = next((path for name in names if (path := shutil.which(name, path=programs))), None)
    version = _program_version(qemu)
    return {
        "hypervisor_type": "QEMU" if version else None,
        "hypervisor_version": version,
        "libvirt_version": _program_version(shutil.which("libvirtd", path=programs)),
    }


def _program_version(program: str | None) -> str | None:
    """The version of a program; None if it cannot be found."""
    if program is None:
        return None
    try:
        return _run_version(program, Path(program).stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=16)
def _run_version(program: str, _changed_ns: int) -> str | None:
    """Run `PROGRAM --version`: once, and again after the program's file has changed."""
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
