"""The resource classes of a build: the standard ones, any CUSTOM_*, and those of plugins.

The version of the rules fixes the standard names (`fold.rules_versions`). They are not read from an installed package,
because all builds must judge in the same way. A plugin's class is used only on logs whose rules allow it. A build that
lacks a class that the rules allow stops with `Halt`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any
from weakref import WeakValueDictionary

from vacancy.resources.classes.devices.gpu_share import GpuShare
from vacancy.resources.classes.devices.mig import Mig
from vacancy.resources.classes.devices.vgpu import Vgpu
from vacancy.resources.classes.devices.whole_devices import Devices
from vacancy.resources.classes.numa.numa_cell import NumaCell
from vacancy.resources.classes.port import Port
from vacancy.resources.classes.quantity import Quantity
from vacancy.resources.classes.resource_class import ResourceClass
from vacancy.resources.model.errors import Halt, InvalidRecord, UsageError
from vacancy.resources.model.names import CUSTOM_PREFIX, suggest
from vacancy.resources.state.tables import CUSTOM_FAMILY, ClassTable

STANDARD_CLASSES = (
    "VCPU",
    "MEMORY_MB",
    "DISK_GB",
    "PCI_DEVICE",
    "SRIOV_NET_VF",
    "NUMA_SOCKET",
    "NUMA_CORE",
    "NUMA_THREAD",
    "NUMA_MEMORY_MB",
    "IPV4_ADDRESS",
    "VGPU",
    "VGPU_DISPLAY_HEAD",
    "NET_BW_EGR_KILOBIT_PER_SEC",
    "NET_BW_IGR_KILOBIT_PER_SEC",
    "PCPU",
    "MEM_ENCRYPTION_CONTEXT",
    "FPGA",
    "PGPU",
    "NET_PACKET_RATE_KILOPACKET_PER_SEC",
    "NET_PACKET_RATE_EGR_KILOPACKET_PER_SEC",
    "NET_PACKET_RATE_IGR_KILOPACKET_PER_SEC",
)

OWN_CLASSES = ("NUMA_CELL", "GPU_SHARE", "MIG", "PORT")
"""Classes that come with the rules and have no standard name."""

CLASSES_1 = frozenset((*STANDARD_CLASSES, "NUMA_CELL", "GPU_SHARE"))
"""The classes of rules version 1: the names of os-resource-classes 1.1, and our own. A class that comes later is added
to the tuples above, and to the set of the version that brings it."""

CLASSES_4 = CLASSES_1 | {"MIG", "PORT"}
"""The classes of rules version 4."""

ASK_FIELDS_4: Mapping[str, frozenset[str]] = dict.fromkeys(
    ("PCI_DEVICE", "SRIOV_NET_VF", "PGPU", "FPGA", "VGPU", "GPU_SHARE"), frozenset({"match"})
)
"""The fields of asks that rules version 4 allows and earlier ones do not (`ResourceClass.added_ask_fields`)."""

_KINDS: dict[str, Callable[[str], ResourceClass[Any]]] = {
    **dict.fromkeys(("PCI_DEVICE", "SRIOV_NET_VF", "PGPU", "FPGA"), Devices),
    "VGPU": Vgpu,
    "NUMA_CELL": NumaCell,
    "GPU_SHARE": GpuShare,
    "MIG": Mig,
    "PORT": Port,
}
"""The implementations of the classes that are not quantities."""


_CUSTOMS_KEPT = 1_024
"""The limit of tables of CUSTOM_* classes that a registry keeps for itself: names that come and go must not fill the
memory."""


class Registry:
    """The classes that a build supports. Its content does not change after construction, so it can be shared."""

    def __init__(self, plugins: Iterable[ResourceClass[Any]] = ()) -> None:
        self._tables: dict[str, ClassTable] = {
            name: ClassTable(_KINDS.get(name, Quantity)(name), family=name)
            for name in (*STANDARD_CLASSES, *OWN_CLASSES)
        }
        self._standard = dict(self._tables)
        self.plugins: tuple[str, ...] = ()
        for plugin in plugins:
            if plugin.name in self._tables or plugin.name.startswith(CUSTOM_PREFIX):
                raise UsageError(
                    f"plugin class {plugin.name} takes a name that is taken",
                    do=f"choose one that is neither standard nor starts with {CUSTOM_PREFIX}",
                )
            self._tables[plugin.name] = ClassTable(plugin, family=plugin.name)
            self.plugins = tuple(sorted((*self.plugins, plugin.name)))
        self._customs: dict[str, ClassTable] = {}
        # A table that is in use stays the same object: states and changes have tables as keys.
        self._in_use: WeakValueDictionary[str, ClassTable] = WeakValueDictionary()

    @property
    def families(self) -> tuple[str, ...]:
        """The column families of all classes that this build has, whatever the version of the rules."""
        return (*self._tables, CUSTOM_FAMILY)

    def families_of(self, standard: Container[str]) -> tuple[str, ...]:
        """The column families of these standard classes and of all plugins' classes. All CUSTOM_* quantities share one
        family, so that nodes cannot create families."""
        plugins = frozenset(self.plugins)
        return (*(name for name in self._tables if name in standard or name in plugins), CUSTOM_FAMILY)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all classes except CUSTOM_*."""
        return tuple(self._tables)

    def table(self, name: str) -> ClassTable:
        """The table of a class, whether the log's rules allow it or not. Raises `InvalidRecord` for an unknown class."""
        found = self._tables.get(name) or self._customs.get(name)
        if found is not None:
            return found
        if name.startswith(CUSTOM_PREFIX) and len(name) > len(CUSTOM_PREFIX):
            if len(self._customs) >= _CUSTOMS_KEPT:
                self._customs.clear()
            table = self._in_use.get(name)
            if table is None:
                table = ClassTable(Quantity(name), family=CUSTOM_FAMILY, prefix=name.encode() + b"\0")
                table = self._in_use.setdefault(name, table)
            return self._customs.setdefault(name, table)
        raise InvalidRecord(f"unknown resource class {name}")

    def allowed(self, name: str, standard: Container[str], plugins: Container[str]) -> ClassTable:
        """The table of a class on a log whose rules have these standard classes and allow these plugins' classes.

        Raises `InvalidRecord` if the rules do not allow the class, and `Halt` if they allow it and this build lacks it.
        """
        table = self._standard.get(name)
        if table is not None:
            if name not in standard:
                raise InvalidRecord(f"unknown resource class {name}")
            return table
        table = self._tables.get(name)
        if table is None:
            if name in plugins:
                raise Halt(
                    f"the log's rules allow resource class {name}, which this build does not have",
                    do="install the package that provides it, then start again",
                )
            return self.table(name)
        if name not in plugins:
            raise InvalidRecord(f"resource class {name} is not allowed by the log's rules")
        return table

    def check(self, name: str) -> ResourceClass[Any]:
        """The class with that name. Clients call it before they send a request. Raises `UsageError` with similar names."""
        try:
            return self.table(name).resource_class
        except InvalidRecord:
            raise UsageError(
                f"unknown resource class {name!r}", do=suggest(name, frozenset(self._tables))
            ) from None
