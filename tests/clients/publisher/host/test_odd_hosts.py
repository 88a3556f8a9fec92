"""What the collector makes of unusual hosts: one small host and one expected inventory for each kind.

The kinds occur in the hosts that hwloc, util-linux and ghw test with, and in reports of operators. `!` begins a remark.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.clients.publisher.host.host_trees import build_host, shown
from tests.support.logs.node_logs import Tables, memory_log
from vacancy.clients.publisher.host import HostOptions, check_options, inspect_host
from vacancy.clients.publisher.host.devices.device_rules import DeviceRules, parse_device_rule
from vacancy.clients.publisher.host.files import format_cpu_list, parse_cpu_list
from vacancy.clients.publisher.host.memory.memory import HugepageReservation
from vacancy.clients.publisher.host.memory.numa_inventory import NumaMode
from vacancy.clients.publisher.host.remarks import Remark, RemarkPrinter
from vacancy.clients.publisher.outbox import Outbox
from vacancy.clients.publisher.publisher import Publisher
from vacancy.resources.classes.numa.numa_cell import NumaCell
from vacancy.resources.model.errors import UsageError


@dataclass(frozen=True)
class OddHost:
    """A host, the options of the collector, the inventory, and the first letters of the traits that it shows."""

    host: str
    expected: str
    options: dict[str, Any] = field(default_factory=dict)
    traits: str = ""


def cpus(*numbers: int) -> frozenset[int]:
    return frozenset(numbers)


def rules(*allow: str, deny: tuple[str, ...] = ()) -> DeviceRules:
    return DeviceRules(
        tuple(parse_device_rule(text, "test") for text in allow),
        tuple(parse_device_rule(text, "test") for text in deny),
    )


TWO_CELLS = """
online 0-3
memory 16384
core 0-1
core 2-3
cell 0 cpus=0-1 memory=8192
cell 1 cpus=2-3 memory=8192
"""

OVS = """
online 0-3
memory 16384
core 0-1
core 2-3
pages 1048576:10:5
cell 0 cpus=0-1 memory=8192 pages=1048576:8:4
cell 1 cpus=2-3 memory=8192 pages=1048576:2:1
"""

OVERLAP = """
online 0-7
memory 16384
core 0,4
core 1,5
core 2,6
core 3,7
cell 0 cpus=0-7 memory=8192
cell 1 cpus=0-7 memory=8192
"""

POWER9 = """
file proc/sys/kernel/arch ppc64le
online 0-7
memory 98304
core 0-3
core 4-7
normal 0,8
cell 0 cpus=0-3 memory=16384
cell 8 cpus=4-7 memory=16384 pages=1048576:4:4
cell 254 memory=32768
cell 255 memory=32768 pages=1048576:2:2
pages 1048576:6:6
pci 35:00.0 030200 10de:1db1 numa=8
"""

HYBRID = """
online 0-7
memory 8192
core 0-1
core 2-3
core 4
core 5
core 6
core 7
cell 0 cpus=0-7 memory=8192
file sys/devices/cpu_core/cpus 0-3
file sys/devices/cpu_atom/cpus 4-7
"""

SEV = """
online 0-1
file proc/cpuinfo flags: svm sev sev_es sev_snp
"""

QAT = """
online 0-1
memory 4096
cell 0 cpus=0-1 memory=4096
pci 6b:00.0 0b4000 8086:4940 numa=0 functions=2
pci 6b:00.1 0b4000 8086:4941 numa=0 physfn=6b:00.0
pci 6b:00.2 0b4000 8086:4941 numa=0 physfn=6b:00.0
"""

CARDS = """
online 0-1
pci 03:00.0 030000 1a03:2000
pci 17:00.0 020000 8086:1592 functions=1
pci 17:00.1 020000 8086:1889 physfn=17:00.0
pci 3b:00.0 030200 10de:2331
pci 3c:00.0 030200 10de:2331
pci 00:14.0 0c0330 8086:a1af
"""
CARDS_FREE = "17:00.0(network),17:00.1(network),3b:00.0(display),3c:00.0(display)"
BMC = "! PCI device 0000:03:00.0 (display 1a03:2000): not offered: it is the display of a console"

HOSTS = {
    "hugepages in use are offered, and said": OddHost(
        OVS,
        """
n VCPU=4 MEMORY_MB=16384-10752
numa0 pages=1048576:8
numa1 pages=1048576:2
! NUMA cell 0, hugepages of 1048576 KiB: 8 of 8 offered: 4 are in use; if guests do not use them, reserve them: --reserve-hugepages 0:1048576:4
! NUMA cell 1, hugepages of 1048576 KiB: 2 of 2 offered: 1 are in use; if guests do not use them, reserve them: --reserve-hugepages 1:1048576:1
""",
    ),
    "reserved hugepages are not offered": OddHost(
        OVS,
        """
n VCPU=4 MEMORY_MB=16384-10752
numa0 pages=1048576:4
numa1 pages=1048576:0
! NUMA cell 0, hugepages of 1048576 KiB: 4 of 8 offered: 4 are reserved for the host
! NUMA cell 1, hugepages of 1048576 KiB: 0 of 2 offered: 2 are reserved for the host
""",
        {
            "reserved_hugepages": (
                HugepageReservation(0, 1048576, 4),
                HugepageReservation(1, 1048576, 2),
            )
        },
    ),
    "reserved hugepages that are not allocated yet": OddHost(
        """
online 0-1
memory 4096
cell 0 cpus=0-1 memory=4096 pages=2048:8:8
pages 2048:8:8
""",
        """
n VCPU=2 MEMORY_MB=4096-528
numa0 pages=2048:0
! NUMA cell 0, hugepages of 2048 KiB: 0 of 8 offered: 8 are reserved for the host
! --reserve-hugepages 0:2048:16: reserved as far as they exist: there are 8 hugepages of 2048 KiB in that place
! --reserve-hugepages 1:1048576:1: reserved as far as they exist: there are 0 hugepages of 1048576 KiB in that place
""",
        {"reserved_hugepages": (HugepageReservation(0, 2048, 16), HugepageReservation(1, 1048576, 1))},
    ),
    "hugepages of several sizes, one reserved": OddHost(
        """
online 0-1
memory 8192
core 0-1
pages 64:16:16,2048:512:512,1048576:2:2,16777216:0:0
cell 0 cpus=0-1 memory=8192 pages=64:16:16,2048:512:512,1048576:2:2,16777216:0:0
""",
        """
n VCPU=2 MEMORY_MB=8192-3585
numa0 pages=64:16,2048:500,1048576:2
! NUMA cell 0, hugepages of 2048 KiB: 500 of 512 offered: 12 are reserved for the host
""",
        {"reserved_hugepages": (HugepageReservation(0, 2048, 12),)},
    ),
    "hugepages of a host without NUMA cells": OddHost(
        """
online 0-1
memory 4096
pages 2048:512:500
""",
        """
n VCPU=2 MEMORY_MB=4096-1536 CUSTOM_HUGEPAGES_2048KB=512-8
! host, hugepages of 2048 KiB: 504 of 512 offered: 8 are reserved for the host; 12 are in use; if guests do not use them, reserve them: --reserve-hugepages 0:2048:12
""",
        {"reserved_hugepages": (HugepageReservation(0, 2048, 8),)},
    ),
    "NUMA cells with the same CPUs": OddHost(
        OVERLAP,
        """
n VCPU=6 MEMORY_MB=16384-512
numa0 cores=0,4
numa1
! CPUs 0-7: offered by NUMA cell 0, not by NUMA cell 1: the kernel lists them in both
""",
        {"dedicated_cpus": cpus(0, 4)},
    ),
    "NUMA cells that overlap in part, all by NUMA cell": OddHost(
        """
online 0-5
memory 6144
cell 0 cpus=0-3 memory=2048
cell 1 cpus=2-5 memory=2048
cell 2 cpus=0,5 memory=2048
""",
        """
n
numa0 shared=0-3 memory=1877
numa1 shared=4-5 memory=1877
numa2 memory=1877
! CPUs 2-3: offered by NUMA cell 0, not by NUMA cell 1: the kernel lists them in both
! CPU 0: offered by NUMA cell 0, not by NUMA cell 2: the kernel lists them in both
! CPU 5: offered by NUMA cell 1, not by NUMA cell 2: the kernel lists them in both
""",
        {"numa": "whole"},
    ),
    "a core with threads in two NUMA cells": OddHost(
        """
online 0-3
core 0,2
core 1,3
cell 0 cpus=0-1
cell 1 cpus=2-3
""",
        """
n
numa0 cores=0,2|1,3 kept=2-3
numa1 cores=0,2|1,3 kept=0-1
""",
        {"dedicated_cpus": cpus(0, 1, 2, 3)},
    ),
    "memory of GPUs": OddHost(
        POWER9,
        """
n VCPU=8 MEMORY_MB=32768-4608 HW_ARCH_PPC64LE
numa0
numa8 pages=1048576:4 pci=35:00.0(display)
! memory of NUMA cell 254, 32768 MiB: not offered: it is not normal memory of the kernel (has_normal_memory)
! memory of NUMA cell 255, 32768 MiB: not offered: it is not normal memory of the kernel (has_normal_memory)
""",
        traits="HW_ARCH",
    ),
    "the reserve is split over normal memory": OddHost(
        POWER9,
        """
n
numa0 shared=0-3 memory=15884
numa8 shared=4-7 memory=11788 pages=1048576:4 pci=35:00.0(display)
! memory of NUMA cell 254, 32768 MiB: not offered: it is not normal memory of the kernel (has_normal_memory)
! memory of NUMA cell 255, 32768 MiB: not offered: it is not normal memory of the kernel (has_normal_memory)
""",
        {"numa": "whole", "memory_reserved_mib": 1000},
    ),
    "CXL memory that may go, and CXL memory that is normal": OddHost(
        """
online 0-3
memory 14336
normal 0-2
cell 0 cpus=0-1 memory=4096
cell 1 cpus=2-3 memory=4096
cell 2 memory=2048
cell 3 memory=4096
""",
        """
n
numa0 shared=0-1 memory=3840
numa1 shared=2-3 memory=3840
numa2 memory=1792
! memory of NUMA cell 3, 4096 MiB: not offered: it is not normal memory of the kernel (has_normal_memory)
""",
        {"numa": "whole", "memory_reserved_mib": 768},
    ),
    "a NUMA cell with less than its part of the reserve": OddHost(
        """
online 0-3
memory 4196
cell 0 cpus=0-1 memory=100
cell 1 cpus=2-3 memory=4096
""",
        """
n
numa0 shared=0-1
numa1 shared=2-3 memory=3196
""",
        {"numa": "whole", "memory_reserved_mib": 1000},
    ),
    "CPUs with memory that is not normal": OddHost(
        """
online 0-3
memory 8192
normal 0
cell 0 cpus=0-1 memory=4096
cell 1 cpus=2-3 memory=4096
""",
        """
n VCPU=4 MEMORY_MB=4096-512
numa0
numa1
! memory of NUMA cell 1, 4096 MiB: not offered: it is not normal memory of the kernel (has_normal_memory)
""",
    ),
    "CPUs of an offline NUMA cell, with some dedicated": OddHost(
        """
online 4-20
present 0-20
memory 8192
core 4
core 5
core 20
cell 1 cpus=12-20 memory=8192
""",
        """
n VCPU=14 MEMORY_MB=8192-512
numa1 cores=20
! CPUs 0-3: not offered: they are offline
! CPUs 6-11: offered by the node as VCPU, by no NUMA cell: no NUMA cell that is online lists them
! CPUs 4-5: not offered: no NUMA cell that is online lists them
""",
        {"dedicated_cpus": cpus(4, 5, 20)},
    ),
    "CPUs of an offline NUMA cell, all by NUMA cell": OddHost(
        """
online 0-3
memory 4096
cell 1 cpus=2-3 memory=4096
""",
        """
n
numa1 shared=2-3 memory=3584
! CPUs 0-1: not offered: no NUMA cell that is online lists them
""",
        {"numa": "whole"},
    ),
    "SMT is off": OddHost(
        """
online 0-1
present 0-3
memory 4096
core 0
core 1
cell 0 cpus=0-1 memory=4096
file sys/devices/system/cpu/smt/control off
""",
        """
n MEMORY_MB=4096-512
numa0 cores=0|1
! CPUs 2-3: not offered: they are offline (SMT is off)
""",
        {"dedicated_cpus": cpus(0, 1, 2)},
        traits="HW_CPU_HYPER",
    ),
    "sparse numbers of CPUs and NUMA cells": OddHost(
        """
online 0,8,64,72
present 0-127
memory 8192
core 0,8
core 64,72
cell 0 cpus=0,8 memory=4096
cell 17 cpus=64,72 memory=4096
""",
        """
n VCPU=2 MEMORY_MB=8192-512 HW_CPU_HYPERTHREADING
numa0 cores=0,8 kept=8
numa17 cores=64,72 kept=72
! CPUs 1-7,9-63,65-71,73-127: not offered: they are offline
""",
        {"dedicated_cpus": cpus(0, 64)},
        traits="HW_CPU_HYPER",
    ),
    "books of s390x, with CPUs in reserve": OddHost(
        """
file proc/sys/kernel/arch s390x
file proc/cpuinfo vendor_id : IBM/S390
online 0-3
present 0-5
memory 4096
core 0-1
core 2-3
file sys/devices/system/cpu/cpu0/topology/book_id 1
file sys/devices/system/cpu/cpu0/topology/drawer_id 0
cell 0 cpus=0-3 memory=4096
""",
        """
n VCPU=4 MEMORY_MB=4096-512 HW_ARCH_S390X HW_CPU_HYPERTHREADING
numa0 HW_NUMA_ROOT
! CPUs 4-5: not offered: they are offline
""",
        traits="HW_",
    ),
    "s390x without sysfs": OddHost(
        """
file proc/sys/kernel/arch s390x
file proc/cpuinfo processor 3: version = FF, identification = 012345, machine = 3906
memory 4096
""",
        "n VCPU=1 MEMORY_MB=4096-512",
    ),
    "performance and efficiency cores": OddHost(
        HYBRID,
        """
n VCPU=1 MEMORY_MB=8192-512
numa0 cores=0-1|2-3 CUSTOM_CORES_PERFORMANCE core_type:performance
numa0:efficiency cores=4|5|6 CUSTOM_CORES_EFFICIENCY core_type:efficiency
""",
        {"dedicated_cpus": cpus(0, 1, 2, 3, 4, 5, 6)},
        traits="CUSTOM",
    ),
    "performance and efficiency cores, all by NUMA cell": OddHost(
        HYBRID,
        """
n
numa0 cores=0-1 shared=2-3 memory=7680 CUSTOM_CORES_PERFORMANCE core_type:performance
numa0:efficiency shared=4-7 CUSTOM_CORES_EFFICIENCY core_type:efficiency
""",
        {"dedicated_cpus": cpus(0, 1), "numa": "whole"},
        traits="CUSTOM",
    ),
    "types of cores in directories, low-power cores": OddHost(
        """
online 0-3
core 0
core 1
core 2
core 3
cell 0 cpus=0-3
file sys/devices/system/cpu/types/intel_core_0/cpulist 0-1
file sys/devices/system/cpu/types/intel_atom_0/cpulist 2
file sys/devices/system/cpu/types/intel_atom_1/cpulist 3
""",
        """
n VCPU=1
numa0 cores=0|1 CUSTOM_CORES_PERFORMANCE core_type:performance
numa0:efficiency cores=2 CUSTOM_CORES_EFFICIENCY core_type:efficiency
""",
        {"dedicated_cpus": cpus(0, 1, 2)},
        traits="CUSTOM",
    ),
    "big and little cores of ARM, one NUMA cell each": OddHost(
        """
online 0-3
core 0
core 1
core 2
core 3
cell 0 cpus=0-1
cell 1 cpus=2-3
file sys/devices/system/cpu/cpu0/cpu_capacity 381
file sys/devices/system/cpu/cpu1/cpu_capacity 381
file sys/devices/system/cpu/cpu2/cpu_capacity 1002
file sys/devices/system/cpu/cpu3/cpu_capacity 1024
""",
        """
n VCPU=2
numa0 cores=1 CUSTOM_CORES_EFFICIENCY core_type:efficiency
numa1 cores=2 CUSTOM_CORES_PERFORMANCE core_type:performance
""",
        {"dedicated_cpus": cpus(1, 2)},
        traits="CUSTOM",
    ),
    "cores of one type with small differences": OddHost(
        """
online 0-1
core 0
core 1
cell 0 cpus=0-1
file sys/devices/system/cpu/cpu0/cpu_capacity 1024
file sys/devices/system/cpu/cpu1/cpu_capacity 981
""",
        "n\nnuma0 cores=0|1",
        {"dedicated_cpus": cpus(0, 1)},
        traits="CUSTOM",
    ),
    "SEV of the CPU that KVM has not enabled": OddHost(
        SEV
        + """
file sys/module/kvm_amd/parameters/sev N
file sys/module/kvm_amd/parameters/sev_es 0
file sys/module/kvm_amd/parameters/nested 1
""",
        """
n VCPU=2 HW_CPU_X86_AMD_SVM HW_CPU_X86_SVM
! trait HW_CPU_X86_AMD_SEV: not reported: the CPUs have it, and KVM has not enabled it (kvm_amd, parameter sev)
! trait HW_CPU_X86_AMD_SEV_ES: not reported: the CPUs have it, and KVM has not enabled it (kvm_amd, parameter sev_es)
! trait HW_CPU_X86_AMD_SEV_SNP: not reported: the CPUs have it, and the module kvm_amd is not loaded or has no parameter sev_snp
""",
        traits="HW_CPU",
    ),
    "SEV and SEV-ES that KVM has enabled, SNP not": OddHost(
        SEV
        + """
file sys/module/kvm_amd/parameters/sev Y
file sys/module/kvm_amd/parameters/sev_es 1
file sys/module/kvm_amd/parameters/sev_snp N
""",
        """
n VCPU=2 HW_CPU_X86_AMD_SEV HW_CPU_X86_AMD_SEV_ES HW_CPU_X86_AMD_SVM HW_CPU_X86_SVM
! trait HW_CPU_X86_AMD_SEV_SNP: not reported: the CPUs have it, and KVM has not enabled it (kvm_amd, parameter sev_snp)
""",
        traits="HW_CPU",
    ),
    "TDX that KVM has enabled, nested guests not": OddHost(
        """
online 0-1
file proc/cpuinfo flags: vmx tdx_host_platform
file sys/module/kvm_intel/parameters/tdx Y
file sys/module/kvm_intel/parameters/nested N
""",
        """
n VCPU=2 HW_CPU_X86_INTEL_TDX
! trait HW_CPU_X86_INTEL_VMX: not reported: guests do not get it: KVM has not enabled it (kvm_intel, parameter nested)
! trait HW_CPU_X86_VMX: not reported: guests do not get it: KVM has not enabled it (kvm_intel, parameter nested)
""",
        traits="HW_CPU",
    ),
    "a coprocessor and its virtual functions": OddHost(
        QAT,
        """
n VCPU=2 MEMORY_MB=4096-512
numa0 pci=6b:00.0(coprocessor),6b:00.1(coprocessor),6b:00.2(coprocessor)
""",
    ),
    "displays of consoles": OddHost(
        """
online 0-1
file sys/class/dmi/id/chassis_type 23
pci 01:00.0 030000 102b:0538
pci 02:00.0 030000 1a03:2000
pci 03:00.0 030000 1002:6613 boot_vga
pci 81:00.0 030000 10de:2230
pci 82:00.0 120000 1da3:1020
""",
        """
n VCPU=2 pci=81:00.0(display),82:00.0(accelerator)
! PCI devices 0000:01:00.0 (display 102b:0538), 0000:02:00.0 (display 1a03:2000): not offered: it is the display of a console
! PCI device 0000:03:00.0 (display 1002:6613): not offered: it is the display of this server's console (boot_vga)
""",
    ),
    "the only GPU of a workstation": OddHost(
        """
online 0-1
file sys/class/dmi/id/chassis_type 3
pci 01:00.0 030000 10de:2684 boot_vga
""",
        "n VCPU=2 pci=01:00.0(display)",
    ),
    "devices without rules": OddHost(CARDS, f"n VCPU=2 pci={CARDS_FREE}\n{BMC}"),
    "only one model, and one address": OddHost(
        CARDS,
        """
n VCPU=2 pci=17:00.1(network),3b:00.0(display)
! PCI devices 0000:03:00.0 (display 1a03:2000), 0000:17:00.0 (network 8086:1592), 0000:3c:00.0 (display 10de:2331): not offered: no rule allows it
""",
        {"devices": rules("vendor=8086,product=1889", "address=0000:3b:00.0")},
    ),
    "a denied virtual function keeps its card": OddHost(
        CARDS,
        f"""
n VCPU=2 pci=3b:00.0(display)
{BMC}
! PCI device 0000:17:00.1 (network 8086:1889): not offered: the rule 'vendor=8086,product=1889' denies it
! PCI device 0000:3c:00.0 (display 10de:2331): not offered: the rule 'address=3c:*' denies it
! PCI device 0000:17:00.0 (network 8086:1592): not offered: its virtual function 0000:17:00.1 goes with it and is not offered
""",
        {"devices": rules(deny=("vendor=8086,product=1889", "address=3c:*"))},
    ),
    "rules that name a class or a console": OddHost(
        CARDS,
        """
n VCPU=2 pci=00:14.0(other),03:00.0(display)
! PCI devices 0000:17:00.0 (network 8086:1592), 0000:17:00.1 (network 8086:1889), 0000:3b:00.0 (display 10de:2331), 0000:3c:00.0 (display 10de:2331): not offered: no rule allows it
""",
        {"devices": rules("class=0c03", "vendor=1a03,product=2000")},
    ),
    "a rule never offers what the host uses": OddHost(
        """
online 0-1
pci 17:00.0 020000 8086:1592 up
""",
        """
n VCPU=2
! PCI device 0000:17:00.0 (network 8086:1592): not offered: the host uses it: its link is up
""",
        {"devices": rules("address=0000:17:00.0")},
    ),
    "a container with a cpuset": OddHost(
        TWO_CELLS
        + """
allowed 0,2
allowed-cells 0
file sys/fs/cgroup/memory.max 1073741824
""",
        """
n VCPU=2 MEMORY_MB=8192-512
numa0
numa1
! CPUs 1,3: not offered: the cgroup of this container does not allow them
! memory of NUMA cell 1, 8192 MiB: not offered: the cgroup of this container does not allow this NUMA cell
! memory: offered as far as the host has it: the cgroup of this container allows 1024 MiB only; if guests run in this container, reserve the rest: --memory-reserved
""",
    ),
    "a host with a partition of CPUs for guests": OddHost(
        TWO_CELLS + "allowed 0-1\nfile sys/fs/cgroup/cpuset.cpus.isolated 2-3",
        "n VCPU=4 MEMORY_MB=16384-512\nnuma0\nnuma1",
    ),
    "a container with a cpuset, and CPUs that an option names": OddHost(
        TWO_CELLS
        + """
file sys/fs/cgroup/cpuset/cpuset.effective_cpus 0
file sys/fs/cgroup/memory.max max
""",
        """
n VCPU=2 MEMORY_MB=16384-512
numa0
numa1 cores=2-3 kept=2
! CPU 2: not offered: the cgroup of this container does not allow them
! CPUs 1,3: offered, because an option names them: the cgroup of this container does not allow them
""",
        {"dedicated_cpus": cpus(3), "shared_cpus": cpus(0, 1)},
    ),
    "eight threads a core, two cores in one NUMA cell": OddHost(
        """
file proc/sys/kernel/arch ppc64le
online 0-15
memory 8192
core 0-7
core 8-15
cell 0 cpus=0-15 memory=8192
""",
        """
n VCPU=8 MEMORY_MB=8192-512 HW_CPU_HYPERTHREADING
numa0 cores=0-7
""",
        {"dedicated_cpus": cpus(*range(8))},
        traits="HW_CPU_HYPER",
    ),
    "four threads a core, of which the host keeps some": OddHost(
        """
online 0-7
memory 4096
core 0,2,4,6
core 1,3,5,7
cell 0 cpus=0-7 memory=4096
""",
        """
n VCPU=2 MEMORY_MB=4096-512
numa0 cores=0,2,4,6|1,3,5,7 kept=1,6-7
""",
        {"dedicated_cpus": cpus(2, 3, 4, 5, 0), "shared_cpus": cpus(6, 7)},
    ),
    "more CPUs than one byte of APIC ids can number": OddHost(
        """
online 0-383
memory 16384
core 0,192
core 191,383
cell 0 cpus=0-95,192-287 memory=8192
cell 1 cpus=96-191,288-383 memory=8192
""",
        """
n VCPU=380 MEMORY_MB=16384-512
numa0 cores=0,192
numa1 cores=191,383
""",
        {"dedicated_cpus": cpus(0, 191, 192, 383)},
    ),
    "an offline CPU in the middle, whose sibling goes on": OddHost(
        """
online 0-2,4-7
present 0-7
memory 4096
core 0,4
core 1,5
core 2,6
core 7
cell 0 cpus=0-2,4-7 memory=4096
""",
        """
n VCPU=4 MEMORY_MB=4096-512
numa0 cores=0,4|1,5|7 kept=0-1
! CPU 3: not offered: they are offline
""",
        {"dedicated_cpus": cpus(3, 4, 5, 7)},
    ),
    "cores of three types in one NUMA cell": OddHost(
        """
file proc/sys/kernel/arch aarch64
online 0-7
memory 8192
core 0
core 1
core 2
core 3
core 4
core 5
core 6
core 7
cell 0 cpus=0-7 memory=8192
file sys/devices/system/cpu/cpu0/cpu_capacity 325
file sys/devices/system/cpu/cpu1/cpu_capacity 325
file sys/devices/system/cpu/cpu2/cpu_capacity 325
file sys/devices/system/cpu/cpu3/cpu_capacity 325
file sys/devices/system/cpu/cpu4/cpu_capacity 828
file sys/devices/system/cpu/cpu5/cpu_capacity 828
file sys/devices/system/cpu/cpu6/cpu_capacity 828
file sys/devices/system/cpu/cpu7/cpu_capacity 1024
""",
        """
n VCPU=4 MEMORY_MB=8192-512
numa0 cores=6|7 CUSTOM_CORES_PERFORMANCE core_type:performance
numa0:efficiency cores=0|1 CUSTOM_CORES_EFFICIENCY core_type:efficiency
""",
        {"dedicated_cpus": cpus(0, 1, 6, 7)},
        traits="CUSTOM",
    ),
    "hugepages of a NUMA cell without CPUs": OddHost(
        """
online 0-1
memory 16384
core 0-1
normal 0-1
pages 1048576:6:6
cell 0 cpus=0-1 memory=8192 pages=1048576:2:2
cell 1 memory=8192 pages=1048576:4:4
""",
        """
n VCPU=2 MEMORY_MB=16384-6656
numa0 pages=1048576:2
numa1 pages=1048576:3
! NUMA cell 1, hugepages of 1048576 KiB: 3 of 4 offered: 1 are reserved for the host
""",
        {"reserved_hugepages": (HugepageReservation(1, 1048576, 1),)},
    ),
    "several L3 caches, and one NUMA cell for each": OddHost(
        """
online 0-7
memory 16384
core 0,4
core 1,5
core 2,6
core 3,7
cell 0 cpus=0,4 memory=4096
cell 1 cpus=1,5 memory=4096
cell 2 cpus=2,6 memory=4096
cell 3 cpus=3,7 memory=4096
file sys/devices/system/cpu/cpu0/cache/index3/shared_cpu_list 0,4
""",
        """
n
numa0 cores=0,4 memory=3968
numa1 shared=1,5 memory=3968
numa2 shared=2,6 memory=3968
numa3 cores=3,7 memory=3968
""",
        {"dedicated_cpus": cpus(0, 3, 4, 7), "numa": "whole"},
    ),
    "virtual functions, some with a guest's driver, of a card whose link is up": OddHost(
        """
online 0-1
memory 4096
cell 0 cpus=0-1 memory=4096
pci 3b:00.0 020000 15b3:101d numa=0 up functions=3
pci 3b:00.1 020000 15b3:101e numa=0 physfn=3b:00.0
pci 3b:00.2 020000 15b3:101e numa=0 physfn=3b:00.0
pci 3b:00.3 020000 15b3:101e numa=0 physfn=3b:00.0 up
file sys/bus/pci/devices/0000:3b:00.1/driver ->../vfio-pci
""",
        """
n VCPU=2 MEMORY_MB=4096-512
numa0 pci=3b:00.1(network),3b:00.2(network)
! PCI devices 0000:3b:00.0 (network 15b3:101d), 0000:3b:00.3 (network 15b3:101e): not offered: the host uses it: its link is up
""",
    ),
    "virtual functions of which sysfs lists one of two": OddHost(
        """
online 0-1
memory 4096
pci 3b:00.0 020000 15b3:101d functions=2
pci 3b:00.1 020000 15b3:101e physfn=3b:00.0
""",
        """
n VCPU=2 MEMORY_MB=4096-512 pci=3b:00.1(network)
! PCI device 0000:3b:00.0 (network 15b3:101d): not offered: 2 virtual functions go with it, and only 1 are visible
""",
    ),
    "siblings that contradict each other, and a CPU without a core": OddHost(
        """
online 0-3
core 0-1
core 2
file sys/devices/system/cpu/cpu1/topology/core_cpus_list 1-2
cell 0 cpus=0-3
""",
        """
n
numa0 cores=0-1|2
! CPU 3: not offered: the kernel does not show their cores
""",
        {"dedicated_cpus": cpus(0, 1, 2, 3)},
    ),
    "NUMA cells that list CPUs that do not exist": OddHost(
        """
online 0-1
memory 4096
cell 0 cpus=0-3 memory=4096
""",
        """
n VCPU=2 MEMORY_MB=4096-512
numa0
! CPUs 2-3: not offered: NUMA cells list them, and they do not exist or are offline
""",
    ),
}


@pytest.mark.parametrize("odd", HOSTS.values(), ids=HOSTS.keys())
def test_odd_hosts(tmp_path: Path, odd: OddHost) -> None:
    """The inventory, the remarks, and that the fold accepts the report."""
    options = replace(build_host(tmp_path / "host", odd.host), **odd.options)
    found = inspect_host(options)
    assert shown(found, odd.traits) == odd.expected.strip()
    with memory_log() as log, Outbox(tmp_path / "outbox") as outbox:
        publisher = Publisher(log, "n", "auto-0", outbox)
        publisher.report(found.providers)
        publisher.flush()
        assert Tables(log).dead_letters == []


SOME_CPUS = st.frozensets(st.integers(0, 9), max_size=10)


@st.composite
def hosts(draw: st.DrawFn) -> str:
    """Hosts whose files contradict each other: any CPUs in any NUMA cells, cores and types."""
    lines = [
        "memory 8192",
        f"online {format_cpu_list(draw(SOME_CPUS) | {0})}",
        f"present {draw(st.integers(0, 9))}",
    ]
    for number in range(draw(st.integers(0, 3))):
        cpus_of_cell = format_cpu_list(draw(SOME_CPUS))
        lines.append(f"cell {number} cpus={cpus_of_cell} memory={draw(st.integers(0, 3000))} pages=2048:9:9")
    for cpu in draw(SOME_CPUS):
        core = format_cpu_list(draw(SOME_CPUS) | {cpu})
        lines.append(f"file sys/devices/system/cpu/cpu{cpu}/topology/core_cpus_list {core}")
    names = draw(st.sets(st.sampled_from(("devices/cpu_atom/cpus", "fs/cgroup/cpuset.cpus.effective"))))
    lines += [f"file sys/{name} {format_cpu_list(draw(SOME_CPUS))}" for name in sorted(names)]
    if draw(st.booleans()):
        lines.append(f"normal {format_cpu_list(draw(SOME_CPUS))}")
    return "\n".join(lines)


@given(
    host=hosts(),
    dedicated=SOME_CPUS,
    shared=st.none() | SOME_CPUS,
    mode=st.sampled_from(("split", "whole")),
    reserved=st.integers(0, 5000),
)
@settings(max_examples=100, deadline=None)
def test_nothing_is_offered_twice_on_any_host(
    host: str, dedicated: frozenset[int], shared: frozenset[int] | None, mode: NumaMode, reserved: int
) -> None:
    """Each CPU and each MiB once; what is not offered is remarked on."""
    with TemporaryDirectory() as directory:
        options = replace(
            build_host(Path(directory), host),
            dedicated_cpus=dedicated - (shared or frozenset()),
            shared_cpus=shared,
            numa=mode,
            memory_reserved_mib=reserved,
        )
        found = inspect_host(options)
        online = set(parse_cpu_list((options.sys / "devices/system/cpu/online").read_text()))
    records = [
        NumaCell().report(provider.inventories["NUMA_CELL"], None)
        for provider in found.providers
        if "NUMA_CELL" in provider.inventories
    ]
    at_node: dict[str, Any] = found.providers[0].inventories
    pinned = [cpu for record in records for core in record.free_cores() for cpu in core.free]
    floating = [cpu for record in records for cpu in record.shared]
    counted = sum(at_node.get(name, {}).get("total", 0) for name in ("VCPU", "PCPU"))
    assert len({*pinned, *floating}) == len(pinned) + len(floating)
    assert {*pinned, *floating} <= online
    assert len(pinned) + len(floating) + counted <= len(online)
    wanted = online if shared is None else online & (shared | dedicated)
    if len(pinned) + len(floating) + counted < len(wanted):
        assert any(remark.subject.startswith("CPU") for remark in found.remarks)
    memory = at_node.get("MEMORY_MB", {"total": 0})
    free_mb = memory["total"] - memory.get("reserved", 0) + sum(record.memory_mb for record in records)
    assert free_mb <= max(0, max(8192, 9000) - reserved)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"dedicated_cpus": cpus(*range(90, 100))}, "this host has no CPU 90-99"),
        ({"dedicated_cpus": cpus(3, 4)}, "this host has no CPU 4"),
        ({"shared_cpus": cpus(0, 9)}, "this host has no CPU 9"),
    ],
)
def test_options_that_this_host_cannot_have(tmp_path: Path, wrong: dict[str, Any], text: str) -> None:
    options = build_host(tmp_path, OVS)
    check_options(options)
    with pytest.raises(UsageError, match=text):
        check_options(replace(options, **wrong))


def test_options_may_name_offline_cpus_and_an_unknown_host(tmp_path: Path) -> None:
    """A CPU that is offline is offered when it is online again. Where no CPU is known, none is refused."""
    offline = build_host(tmp_path / "offline", "online 0\npresent 0-1")
    check_options(replace(offline, dedicated_cpus=cpus(1)))
    check_options(replace(build_host(tmp_path / "empty", ""), dedicated_cpus=cpus(1)))


@pytest.mark.parametrize(
    "wrong", [(HugepageReservation(0, 2048, -1),), (HugepageReservation(0, 2048, 1),) * 2], ids=str
)
def test_invalid_reservations(wrong: tuple[HugepageReservation, ...]) -> None:
    with pytest.raises(UsageError):
        HostOptions(root="n", reserved_hugepages=wrong)


def test_a_remark_is_said_when_it_appears() -> None:
    said: list[str] = []
    printer = RemarkPrinter(said.append)
    one, other = (
        Remark("CPU 1", "not offered", "it is offline"),
        Remark("CPU 2", "not offered", "it is offline"),
    )
    printer.show([one])
    printer.show([one._replace(reason="SMT is off"), other])
    printer.show([])
    printer.show([one])
    assert said == [str(one), str(other), str(one)]
