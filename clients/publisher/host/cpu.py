"""CPUs: which are online, which are threads of one core, and which features all of them have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from vacancy.clients.publisher.host.files import parse_cpu_list, read_text

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
        "HW_CPU_X86_AMD_SEV": ("sev",),
        "HW_CPU_X86_AMD_SEV_ES": ("sev_es",),
        "HW_CPU_X86_AMD_SEV_SNP": ("sev_snp",),
        "HW_CPU_X86_AMD_VIRT_SSBD": ("virt_ssbd",),
        "HW_CPU_X86_AMD_IBPB": ("AuthenticAMD", "ibpb"),
        "HW_CPU_X86_AMD_SSBD": ("AuthenticAMD", "ssbd"),
        "HW_CPU_X86_INTEL_SSBD": ("GenuineIntel", "ssbd"),
        "HW_CPU_X86_INTEL_PCID": ("GenuineIntel", "pcid"),
        "HW_CPU_X86_INTEL_MD_CLEAR": ("GenuineIntel", "md_clear"),
        "HW_CPU_X86_INTEL_TDX": ("tdx_host_platform",),
    }
)
"""Traits of `os-traits` and the kernel's flags for them. Linux 4.15 and later use these flag names."""


class Cpu(NamedTuple):
    """The CPUs of a host. `siblings` maps a CPU to all threads of its core, if known."""

    online: tuple[int, ...]
    siblings: Mapping[int, tuple[int, ...]]
    traits: tuple[str, ...]


def read_cpu(proc: Path, sys: Path) -> Cpu:
    """Read the CPUs from `proc`/cpuinfo and `sys`/devices/system/cpu."""
    cpuinfo = read_text(proc / "cpuinfo") or ""
    directory = sys / "devices/system/cpu"
    online = parse_cpu_list(read_text(directory / "online")) or _processors(cpuinfo)
    siblings = {cpu: threads for cpu in online if (threads := _siblings(directory / f"cpu{cpu}/topology"))}
    shown = _common_flags(cpuinfo)
    traits = [trait for trait, needed in TRAIT_FLAGS.items() if shown.issuperset(needed)]
    if any(len(threads) > 1 for threads in siblings.values()):
        traits.append(HYPERTHREADING)
    return Cpu(online, siblings, tuple(sorted(traits)))


def _processors(cpuinfo: str) -> tuple[int, ...]:
    numbers = (
        line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("processor")
    )
    return tuple(sorted({int(number) for number in numbers if number.isdecimal()}))


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
