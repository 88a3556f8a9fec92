"""CPUs: which are online, which are threads of one core, and which features all of them have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from vacancy.clients.publisher.host.files import parse_cpu_list, read_text
from vacancy.clients.publisher.host.processors.cgroup import CgroupLimits
from vacancy.clients.publisher.host.processors.core_types import read_efficiency_cpus
from vacancy.clients.publisher.host.processors.kvm import kvm_traits
from vacancy.clients.publisher.host.remarks import NOT_OFFERED, Remark, cpus_remark

HYPERTHREADING: Final = "HW_CPU_HYPERTHREADING"

TRAIT_FLAGS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        # Trait -> the flags or vendor names that /proc/cpuinfo must all contain.
        "HW_ARCH_X86_64": ("lm",),
        "HW_ARCH_AARCH64": ("asimd",),
        "HW_CPU_X86_MMX": ("mmx",),
        "HW_CPU_X86_3DNOW": ("3dnow",),
        "HW_CPU_X86_SSE": ("sse",),
        "HW_CPU_X86_SSE2": ("sse2",),
        "HW_CPU_X86_SSE3": ("pni",),
        "HW_CPU_X86_SSSE3": ("ssse3",),
        "HW_CPU_X86_SSE41": ("sse4_1",),
        "HW_CPU_X86_SSE42": ("sse4_2",),
        "HW_CPU_X86_SSE4A": ("sse4a",),
        "HW_CPU_X86_XOP": ("xop",),
        "HW_CPU_X86_FMA3": ("fma",),
        "HW_CPU_X86_FMA4": ("fma4",),
        "HW_CPU_X86_F16C": ("f16c",),
        "HW_CPU_X86_CLMUL": ("pclmulqdq",),
        "HW_CPU_X86_AESNI": ("aes",),
        "HW_CPU_X86_SHA": ("sha_ni",),
        "HW_CPU_X86_ABM": ("abm",),
        "HW_CPU_X86_BMI": ("bmi1",),
        "HW_CPU_X86_BMI2": ("bmi2",),
        "HW_CPU_X86_TBM": ("tbm",),
        "HW_CPU_X86_MPX": ("mpx",),
        "HW_CPU_X86_TSX": ("rtm",),
        "HW_CPU_X86_SGX": ("sgx",),
        "HW_CPU_X86_PDPE1GB": ("pdpe1gb",),
        "HW_CPU_X86_STIBP": ("stibp",),
        "HW_CPU_X86_AVX": ("avx",),
        "HW_CPU_X86_AVX2": ("avx2",),
        "HW_CPU_X86_AVX512F": ("avx512f",),
        "HW_CPU_X86_AVX512CD": ("avx512cd",),
        "HW_CPU_X86_AVX512PF": ("avx512pf",),
        "HW_CPU_X86_AVX512ER": ("avx512er",),
        "HW_CPU_X86_AVX512VL": ("avx512vl",),
        "HW_CPU_X86_AVX512BW": ("avx512bw",),
        "HW_CPU_X86_AVX512DQ": ("avx512dq",),
        "HW_CPU_X86_AVX512VNNI": ("avx512_vnni",),
        "HW_CPU_X86_AVX512VBMI": ("avx512vbmi",),
        "HW_CPU_X86_AVX512IFMA": ("avx512ifma",),
        "HW_CPU_X86_AVX512VBMI2": ("avx512_vbmi2",),
        "HW_CPU_X86_AVX512BITALG": ("avx512_bitalg",),
        "HW_CPU_X86_AVX512VPOPCNTDQ": ("avx512_vpopcntdq",),
        # Without avx512f, these three flags mean the 256-bit forms, which CPUs without AVX-512 also have.
        "HW_CPU_X86_AVX512VAES": ("avx512f", "vaes"),
        "HW_CPU_X86_AVX512GFNI": ("avx512f", "gfni"),
        "HW_CPU_X86_AVX512VPCLMULQDQ": ("avx512f", "vpclmulqdq"),
        "HW_CPU_X86_AMXBF16": ("amx_bf16",),
        "HW_CPU_X86_AMXINT8": ("amx_int8",),
        "HW_CPU_X86_AMXTILE": ("amx_tile",),
        "HW_CPU_X86_VMX": ("vmx",),
        "HW_CPU_X86_INTEL_VMX": ("vmx",),
        "HW_CPU_X86_SVM": ("svm",),
        "HW_CPU_X86_AMD_SVM": ("svm",),
        "HW_CPU_X86_AMD_VIRT_SSBD": ("virt_ssbd",),
        "HW_CPU_X86_AMD_IBPB": ("AuthenticAMD", "ibpb"),
        "HW_CPU_X86_AMD_SSBD": ("AuthenticAMD", "ssbd"),
        "HW_CPU_X86_INTEL_SSBD": ("GenuineIntel", "ssbd"),
        "HW_CPU_X86_INTEL_PCID": ("GenuineIntel", "pcid"),
        "HW_CPU_X86_INTEL_MD_CLEAR": ("GenuineIntel", "md_clear"),
    }
)
"""Traits of `os-traits` and the kernel's flags for them. Linux 4.15 and later use these flag names."""


ARCHITECTURE_TRAITS: Final[Mapping[str, str]] = MappingProxyType(
    {"ppc64le": "HW_ARCH_PPC64LE", "ppc64": "HW_ARCH_PPC64", "s390x": "HW_ARCH_S390X"}
)
"""Architectures that no flag tells, by the kernel's name of them."""

_SMT_OFF: Final = ("off", "forceoff")
_PROCESSOR: Final = re.compile(r"processor\s*(?::\s*([0-9]{1,5})$|([0-9]{1,5}):)")


class Cpu(NamedTuple):
    """The CPUs of a host.

    `present` are all that exist, `online` those that run, `usable` the online ones that the container's cgroup allows.
    `siblings` maps a CPU to all threads of its core, if known. `efficiency` are the online CPUs on efficiency cores, on a
    host that has performance cores too.
    """

    present: tuple[int, ...]
    online: tuple[int, ...]
    usable: frozenset[int]
    siblings: Mapping[int, tuple[int, ...]]
    efficiency: frozenset[int]
    traits: tuple[str, ...]
    remarks: tuple[Remark, ...]


def read_cpu(proc: Path, sys: Path, limits: CgroupLimits) -> Cpu:
    """Read the CPUs from `proc`/cpuinfo and `sys`/devices/system/cpu."""
    cpuinfo = read_text(proc / "cpuinfo") or ""
    directory = sys / "devices/system/cpu"
    online = parse_cpu_list(read_text(directory / "online")) or _processors(cpuinfo)
    present = tuple(sorted({*online, *parse_cpu_list(read_text(directory / "present"))}))
    usable = frozenset(online if limits.cpus is None else limits.cpus.intersection(online))
    siblings = {cpu: threads for cpu in online if (threads := _siblings(directory / f"cpu{cpu}/topology"))}
    flags = _common_flags(cpuinfo)
    shown = {trait for trait, needed in TRAIT_FLAGS.items() if flags.issuperset(needed)}
    shown.update(filter(None, [ARCHITECTURE_TRAITS.get(read_text(proc / "sys/kernel/arch") or "")]))
    if any(len(threads) > 1 for threads in siblings.values()):
        shown.add(HYPERTHREADING)
    traits, remarks = kvm_traits(sys, flags, frozenset(shown))
    smt_off = read_text(directory / "smt/control") in _SMT_OFF
    offline = "they are offline" + (" (SMT is off)" if smt_off else "")
    return Cpu(
        present,
        online,
        usable,
        siblings,
        read_efficiency_cpus(sys, online),
        tuple(sorted(traits)),
        (*cpus_remark(set(present).difference(online), NOT_OFFERED, offline), *remarks),
    )


def _processors(cpuinfo: str) -> tuple[int, ...]:
    """The numbers in lines such as `processor : 3`, or `processor 3: version = ...` on s390x."""
    found = filter(None, map(_PROCESSOR.match, cpuinfo.splitlines()))
    return tuple(sorted({int(match[1] or match[2]) for match in found}))


def _siblings(topology: Path) -> tuple[int, ...]:
    # `core_cpus_list` is the newer name of `thread_siblings_list` (Linux 5.3).
    text = read_text(topology / "core_cpus_list") or read_text(topology / "thread_siblings_list")
    return parse_cpu_list(text)


def _common_flags(cpuinfo: str) -> frozenset[str]:
    """The flags and the vendor that all CPUs have in common: an instance may run on any of them."""
    lines = {line for line in cpuinfo.splitlines() if line.startswith(("flags", "Features"))}
    vendors = {line for line in cpuinfo.splitlines() if line.startswith("vendor_id")}
    common = [frozenset(line.partition(":")[2].split()) for line in lines]
    vendor = next(iter(vendors)).partition(":")[2].split() if len(vendors) == 1 else []
    return frozenset.intersection(*common).union(vendor) if common else frozenset()
