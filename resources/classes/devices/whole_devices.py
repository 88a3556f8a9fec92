"""Devices that are granted as a whole and by address: PCI devices, SR-IOV virtual functions, GPUs, FPGAs.

A device may have a `parent`: the physical function of a virtual function. As in OpenStack Nova (`nova/pci`), a
physical function is granted only while none of its virtual functions is granted, and its virtual functions are then
unavailable. While a virtual function is granted, its physical function is unavailable. Every device has the attributes
`address` and `dev_type` (Nova's `type-PCI`, `type-PF`, `type-VF`, unless the node reports another value).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final

from msgspec.structs import replace

from vacancy.resources.classes.devices.device_attribute_index import Attribute, attribute
from vacancy.resources.classes.devices.device_class import (
    PARENT,
    DeviceAsk,
    DeviceClass,
    DeviceItem,
    DeviceRecord,
    DeviceUse,
    domains,
    match_of,
    where_of,
    whole_number,
)
from vacancy.resources.classes.resource_class import Shortfall
from vacancy.resources.model.errors import InvalidRecord

_DO: Final = 'write 1, or {"count": 1, "where": {"vendor": "10de", "memory_mb": {">=": 40000}}}'
_TYPE: Final = "dev_type"


class Devices(DeviceClass):
    """Whole devices. The grant is a list of addresses."""

    amounts_need_record: ClassVar[bool] = True

    def _item(self, name: str, fields: dict[str, Any]) -> DeviceItem:
        parent = fields.pop(PARENT, "")
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

    def _choose(self, record: DeviceRecord, wanted: DeviceAsk) -> tuple[DeviceUse, ...] | Shortfall:
        names, taken = {item.name for item in record.items}, _Unavailable(record)
        best: tuple[int, list[DeviceItem], list[DeviceItem]] | None = None
        most = 0
        for found in domains(((item, item) for item in taken.available()), wanted):
            functions = [item for item in found if item.name not in taken.physical]
            # Where the ask matches a physical function and its virtual functions, only the virtual ones count: there
            # are at least as many of them.
            split = {item.parent for item in functions}
            whole = [item for item in found if item.name in taken.physical and item.name not in split]
            count = len(functions) + len(whole)
            most = max(most, count)
            # Of devices that match, those of which the fewest are left: so the most stay together.
            if wanted.count <= count and (best is None or count < best[0]):
                best = count, functions, whole
        if best is None:
            return Shortfall("no_room", wanted.count, most)

        def breaks(item: DeviceItem) -> tuple[bool, str, str]:
            """Sorts virtual functions of physical functions that are still whole last, one physical function after
            the other."""
            is_first = item.parent in names and item.parent not in taken.broken
            return is_first, item.parent if is_first else "", item.name

        _, functions, whole = best
        chosen = [*sorted(functions, key=breaks), *whole][: wanted.count]
        return tuple(
            DeviceUse(item.name, item.parent, 1) for item in sorted(chosen, key=lambda one: one.name)
        )

    def _own_columns(self, record: DeviceRecord) -> tuple[int, ...]:
        taken = _Unavailable(record)
        free = sum(item.name not in taken.physical for item in taken.available())
        names = {item.name for item in record.items}
        gone = sum(use.name not in names for use in record.used)
        return free, len(names - taken.physical) + gone

    def _available(self, record: DeviceRecord) -> Iterable[tuple[Attribute, ...]]:
        return (item.attributes for item in _Unavailable(record).available())

    def _grant(self, uses: tuple[DeviceUse, ...]) -> Any:
        return [use.name for use in uses]

    def _uses_held(self, grant: Any) -> Iterable[DeviceUse]:
        return [DeviceUse(name, "", 1) for name in grant]

    def _uses_of(self, record: DeviceRecord, grant: Any) -> Iterable[DeviceUse]:
        names = frozenset(grant)
        return [use for use in record.used if use.name in names]

    def _amount_of(self, grant: Any) -> int:
        return len(grant)

    def amounts_of(self, grant: Any, record: DeviceRecord | None = None) -> Mapping[str, int]:
        """A physical function counts as its virtual functions, which nobody else can have: so does `capacity`."""
        if record is None or self.is_amount(grant):
            return super().amounts_of(grant)
        functions = Counter(item.parent for item in record.reported if item.parent)
        return {"": sum(functions[name] or 1 for name in grant)}

    def _parse_object(self, fields: dict[str, Any]) -> DeviceAsk:
        count, match = whole_number(fields, "count", 1, do=_DO), match_of(fields, do=_DO)
        return DeviceAsk(count, where_of(fields, do=_DO), match=match)

    def _parse_amount(self, amount: int) -> DeviceAsk:
        return DeviceAsk(amount)

    def column_deltas(self, ask: Any) -> Mapping[str, int] | None:
        # A plain amount takes no physical function, so nothing else becomes unavailable with it. Other asks may. The
        # index columns keep the attributes of what was taken: they may let through too many providers.
        return {"free": -ask} if self.is_amount(ask) else None


class _Unavailable:
    """The devices that cannot be granted: `names` are held; of `broken` physical functions a virtual one is held.
    `physical` are all physical functions."""

    def __init__(self, record: DeviceRecord) -> None:
        self._items = record.items
        self.names = {use.name for use in record.used}
        self.broken = {use.kind for use in record.used if use.kind}
        self.broken |= {item.parent for item in record.items if item.parent and item.name in self.names}
        self.physical = {item.parent for item in record.items if item.parent}

    def available(self) -> Iterator[DeviceItem]:
        """The devices of which each could be granted."""
        for item in self._items:
            if item.name not in self.names and item.name not in self.broken and item.parent not in self.names:
                yield item


def _typed(item: DeviceItem, physical: set[str]) -> tuple[Attribute, ...]:
    if any(name == _TYPE for name, _, _ in item.attributes):
        return item.attributes
    kind = "type-VF" if item.parent else "type-PF" if item.name in physical else "type-PCI"
    return tuple(sorted((*item.attributes, attribute(_TYPE, kind)), key=lambda one: one[0]))
