"""Which class auditor judges which resource class: the built-in ones, and those of plugins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vacancy.clients.auditor.classes.class_auditor import ClassAuditor
from vacancy.clients.auditor.classes.devices import WholeDevicesAuditor
from vacancy.clients.auditor.classes.gpu_share import GpuShareAuditor
from vacancy.clients.auditor.classes.mig import MigAuditor
from vacancy.clients.auditor.classes.numa import NumaCellAuditor
from vacancy.clients.auditor.classes.port import PortAuditor
from vacancy.clients.auditor.classes.quantity import QuantityAuditor
from vacancy.clients.auditor.classes.unjudged import Unjudged
from vacancy.clients.auditor.classes.vgpu import VgpuAuditor

BUILT_IN: Mapping[str, Callable[[str], ClassAuditor[Any]]] = {
    "VCPU": QuantityAuditor,
    "MEMORY_MB": QuantityAuditor,
    "DISK_GB": QuantityAuditor,
    "PCI_DEVICE": WholeDevicesAuditor,
    "SRIOV_NET_VF": WholeDevicesAuditor,
    "NUMA_SOCKET": QuantityAuditor,
    "NUMA_CORE": QuantityAuditor,
    "NUMA_THREAD": QuantityAuditor,
    "NUMA_MEMORY_MB": QuantityAuditor,
    "IPV4_ADDRESS": QuantityAuditor,
    "VGPU": VgpuAuditor,
    "VGPU_DISPLAY_HEAD": QuantityAuditor,
    "NET_BW_EGR_KILOBIT_PER_SEC": QuantityAuditor,
    "NET_BW_IGR_KILOBIT_PER_SEC": QuantityAuditor,
    "PCPU": QuantityAuditor,
    "MEM_ENCRYPTION_CONTEXT": QuantityAuditor,
    "FPGA": WholeDevicesAuditor,
    "PGPU": WholeDevicesAuditor,
    "NET_PACKET_RATE_KILOPACKET_PER_SEC": QuantityAuditor,
    "NET_PACKET_RATE_EGR_KILOPACKET_PER_SEC": QuantityAuditor,
    "NET_PACKET_RATE_IGR_KILOPACKET_PER_SEC": QuantityAuditor,
    "GPU_SHARE": GpuShareAuditor,
    "NUMA_CELL": NumaCellAuditor,
    "PORT": PortAuditor,
    "MIG": MigAuditor,
}
"""The classes that logs allow, most of them from rules version 1 on. Names that start with `CUSTOM_` are quantities, too."""

CLASSES_SINCE_4 = frozenset({"MIG", "PORT"})
"""Those of them that logs allow from rules version 4 on."""

_CUSTOM = "CUSTOM_"


class ClassAuditors:
    """The class auditors of an audit, by resource class."""

    def __init__(self, plugins: Iterable[ClassAuditor[Any]] = ()) -> None:
        self._built_in = {name: make(name) for name, make in BUILT_IN.items()}
        self._found: dict[str, ClassAuditor[Any]] = {one.name: one for one in plugins} | self._built_in

    def of(self, name: str) -> ClassAuditor[Any]:
        """The auditor of a class. Without one, the class is not judged (`Unjudged`)."""
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = QuantityAuditor(name) if self.is_standard(name) else Unjudged(name)
        return found

    def is_standard(self, name: str) -> bool:
        """Whether every log allows this class; others are allowed by the log's rules."""
        return name in self._built_in or (name.startswith(_CUSTOM) and name != _CUSTOM)
