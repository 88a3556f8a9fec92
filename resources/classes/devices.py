"""Devices that are given out whole and by address: PCI devices, SR-IOV virtual functions, GPUs, FPGAs.

A device may have a `parent`, the physical function that it is a virtual function of. As in OpenStack Nova
(`nova/pci`), a physical function is granted whole only while none of its virtual functions is, and then they go with
it; a virtual function that is granted takes its physical function out. Every device has the attributes `address`
and `dev_type` (Nova's `type-PCI`, `type-PF`, `type-VF`, unless the node says otherwise).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from msgspec.structs import replace

from vacancy.resources.classes.device_attribute_index import Attribute, attribute
from vacancy.resources.classes.device_class import (
    PARENT,
    DeviceAsk,
    DeviceClass,
    DeviceItem,
    DeviceRecord,
    DeviceUse,
    where_of,
    whole_number,
)
from vacancy.resources.classes.resource_class import Shortfall
from vacancy.resources.model.errors import InvalidRecord

_DO: Final = 'write 1, or {"count": 1, "where": {"vendor": "10de", "memory_mb": {">=": 40000}}}'
_TYPE: Final = "dev_type"


class Devices(DeviceClass):
    """Whole devices. The grant is a list of addresses."""

    def _item(self, name: str, said: dict[str, Any]) -> DeviceItem:
        parent = said.pop(PARENT, "")
        if not isinstance(parent, str) or parent == name or len(parent) > 200:
            raise InvalidRecord(f"{self.name}: the parent of {name} is not the name of another device")
        return DeviceItem(name, (), parent)

    def _check(self, items: tuple[DeviceItem, ...]) -> tuple[DeviceItem, ...]:
        parents = {item.name: item.parent for item in items}
        physical = {item.parent for item in items if item.parent}
        for item in items:
            if item.parent and parents.get(item.parent):
                raise InvalidRecord(
                    f"{self.name}: {item.parent}, the parent of {item.name}, has a parent itself"
                )
        return tuple(replace(item, attributes=_typed(item, physical)) for item in items)

    def _fit(self, record: DeviceRecord, wanted: DeviceAsk) -> tuple[DeviceUse, ...] | Shortfall:
        names, taken = {item.name for item in record.items}, _Taken(record)
        found = [item for item in taken.left() if item.satisfies(wanted.where)]
        functions = [item for item in found if item.name not in taken.physical]
        # Of a physical function and its virtual ones, those that are asked for go: there is never less of them.
        split = {item.parent for item in functions}
        whole = [item for item in found if item.name in taken.physical and item.name not in split]
        if wanted.count > len(functions) + len(whole):
            return Shortfall("no_room", wanted.count, len(functions) + len(whole))

        def breaks(item: DeviceItem) -> tuple[bool, str, str]:
            """What is whole is broken up last, and one after the other."""
            is_first = item.parent in names and item.parent not in taken.broken
            return is_first, item.parent if is_first else "", item.name

        chosen = [*sorted(functions, key=breaks), *whole][: wanted.count]
        return tuple(
            DeviceUse(item.name, item.parent, 1) for item in sorted(chosen, key=lambda one: one.name)
        )

    def _room(self, record: DeviceRecord) -> tuple[int, ...]:
        taken = _Taken(record)
        free = sum(item.name not in taken.physical for item in taken.left())
        names = {item.name for item in record.items}
        gone = sum(use.name not in names for use in record.used)
        return free, len(names - taken.physical) + gone

    def _open(self, record: DeviceRecord) -> Iterable[tuple[Attribute, ...]]:
        return (item.attributes for item in _Taken(record).left())

    def _grant(self, uses: tuple[DeviceUse, ...]) -> Any:
        return [use.name for use in uses]

    def _back(self, record: DeviceRecord, grant: Any) -> Iterable[DeviceUse]:
        return [use for use in record.used if use.name in grant]

    def _amount_of(self, grant: Any) -> int:
        return len(grant)

    def _read(self, said: dict[str, Any]) -> DeviceAsk:
        return DeviceAsk(whole_number(said, "count", 1, do=_DO), where_of(said, do=_DO))

    def _read_number(self, amount: int) -> DeviceAsk:
        return DeviceAsk(amount)

    def column_deltas(self, ask: Any) -> Mapping[str, int] | None:
        # Which devices go decides what else goes with them, but for a mere number: that takes no physical
        # function. The index then says too much, which is allowed.
        return {"free": -ask} if self.is_amount(ask) else None


class _Taken:
    """Which devices can no longer be granted: `names` are held, of `broken` ones some function is."""

    def __init__(self, record: DeviceRecord) -> None:
        self._items = record.items
        self.names = {use.name for use in record.used}
        self.broken = {use.kind for use in record.used if use.kind}
        self.broken |= {item.parent for item in record.items if item.parent and item.name in self.names}
        self.physical = {item.parent for item in record.items if item.parent}

    def left(self) -> Iterator[DeviceItem]:
        """The devices that could be granted, each by itself."""
        for item in self._items:
            if item.name not in self.names and item.name not in self.broken and item.parent not in self.names:
                yield item


def _typed(item: DeviceItem, physical: set[str]) -> tuple[Attribute, ...]:
    if any(name == _TYPE for name, _, _ in item.attributes):
        return item.attributes
    kind = "type-VF" if item.parent else "type-PF" if item.name in physical else "type-PCI"
    return tuple(sorted((*item.attributes, attribute(_TYPE, kind)), key=lambda one: one[0]))
