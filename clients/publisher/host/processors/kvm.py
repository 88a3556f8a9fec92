"""CPU features that a guest gets only if KVM has enabled them: memory encryption, nested virtualisation.

A CPU may have a feature that the firmware or the KVM module does not enable. So the parameters of the KVM modules decide,
as in OpenStack Nova. A parameter is `Y` or `1` where it is enabled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from vacancy.clients.publisher.host.files import read_text
from vacancy.clients.publisher.host.remarks import Remark

ENABLED_BY: Final[Mapping[str, tuple[str, str, str]]] = MappingProxyType(
    {
        # Trait -> the KVM module, its parameter, and the flag in /proc/cpuinfo of a CPU that could do it.
        "HW_CPU_X86_AMD_SEV": ("kvm_amd", "sev", "sev"),
        "HW_CPU_X86_AMD_SEV_ES": ("kvm_amd", "sev_es", "sev_es"),
        "HW_CPU_X86_AMD_SEV_SNP": ("kvm_amd", "sev_snp", "sev_snp"),
        "HW_CPU_X86_INTEL_TDX": ("kvm_intel", "tdx", "tdx_host_platform"),
    }
)
"""Traits that only the parameter decides."""

DISABLED_BY: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        # Trait -> the KVM module and its parameter.
        "HW_CPU_X86_SVM": ("kvm_amd", "nested"),
        "HW_CPU_X86_AMD_SVM": ("kvm_amd", "nested"),
        "HW_CPU_X86_VMX": ("kvm_intel", "nested"),
        "HW_CPU_X86_INTEL_VMX": ("kvm_intel", "nested"),
    }
)
"""Traits of the CPU's flags that a parameter can take away: guests see the feature only if nested guests are enabled."""

_NOT_REPORTED: Final = "not reported"


def kvm_traits(
    sys: Path, flags: frozenset[str], traits: frozenset[str]
) -> tuple[frozenset[str], list[Remark]]:
    """The traits of a host whose CPUs have these `flags`, with what KVM has enabled and without what it has disabled.

    The remarks name the features that the CPUs have and KVM has not enabled.
    """
    found, remarks = set(traits), []
    for trait, (module, parameter, flag) in ENABLED_BY.items():
        value = _parameter(sys, module, parameter)
        if value in ("Y", "1"):
            found.add(trait)
        elif flag in flags:
            remarks.append(
                Remark(
                    f"trait {trait}",
                    _NOT_REPORTED,
                    f"the CPUs have it, and {_state(module, parameter, value)}",
                )
            )
    for trait in sorted(traits & DISABLED_BY.keys()):
        module, parameter = DISABLED_BY[trait]
        value = _parameter(sys, module, parameter)
        if value in ("N", "0"):
            found.discard(trait)
            remarks.append(
                Remark(
                    f"trait {trait}",
                    _NOT_REPORTED,
                    f"guests do not get it: {_state(module, parameter, value)}",
                )
            )
    return frozenset(found), remarks


def _parameter(sys: Path, module: str, parameter: str) -> str | None:
    text = read_text(sys / f"module/{module}/parameters/{parameter}")
    return None if text is None else text.upper()


def _state(module: str, parameter: str, value: str | None) -> str:
    if value is None:
        return f"the module {module} is not loaded or has no parameter {parameter}"
    return f"KVM has not enabled it ({module}, parameter {parameter})"
