"""Shares of a device: an ask fits on one device, or on several distinct ones whole shares each.

A node reports how much each device has, in whatever unit (thousandths, say); best fit: the device with least left
that has enough, the first by name. Of several distinct ones, best fit as far as it costs no other ask of that kind: for
those there must be so many distinct ones again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final

from vacancy.resources.classes.device_attribute_index import INDEX_COLUMNS, Attribute
from vacancy.resources.classes.device_class import (
    DeviceAsk,
    DeviceClass,
    DeviceItem,
    DeviceRecord,
    DeviceUse,
    where_of,
    whole_number,
)
from vacancy.resources.classes.quantity import TOTAL_MAX
from vacancy.resources.classes.resource_class import Shortfall, Term
from vacancy.resources.model.errors import InvalidRecord

_DO: Final = 'write 300, or {"share": 300, "count": 1, "where": {"model": "A100"}}'


class GpuShare(DeviceClass):
    """Shares of GPUs. The grant maps a device to how much of it is given."""

    columns: ClassVar[tuple[str, ...]] = ("free", "capacity", "largest", *INDEX_COLUMNS)
    consumable_columns: ClassVar[tuple[str, ...]] = ("free", "largest")
    countable: ClassVar[bool] = False

    def _item(self, name: str, said: dict[str, Any]) -> DeviceItem:
        total = said.pop("total", None)
        if type(total) is not int or not 1 <= total <= TOTAL_MAX:
            raise InvalidRecord(f"{self.name}: the total of {name} is not a number from 1 to {TOTAL_MAX}")
        return DeviceItem(name, (), "", total)

    def _fit(self, record: DeviceRecord, wanted: DeviceAsk) -> tuple[DeviceUse, ...] | Shortfall:
        found = [(left, item.name) for left, item in _left(record) if item.satisfies(wanted.where)]
        fitting = sorted(one for one in found if one[0] >= wanted.share)
        if len(fitting) < wanted.count:
            if wanted.count == 1:
                return Shortfall("no_room", wanted.share, max((left for left, _ in found), default=0))
            return Shortfall("no_room", wanted.count, len(fitting))
        chosen = fitting[:1] if wanted.count == 1 else _distinct(fitting, wanted)
        return tuple(DeviceUse(name, "", wanted.share) for _, name in chosen)

    def _room(self, record: DeviceRecord) -> tuple[int, ...]:
        left = [left for left, _ in _left(record)]
        return sum(left), sum(left) + record.held, max(left, default=0)

    def _open(self, record: DeviceRecord) -> Iterable[tuple[Attribute, ...]]:
        return (item.attributes for left, item in _left(record) if left)

    def _grant(self, uses: tuple[DeviceUse, ...]) -> Any:
        return {use.name: use.amount for use in uses}

    def _back(self, record: DeviceRecord, grant: Any) -> Iterable[DeviceUse]:
        return [DeviceUse(name, "", amount) for name, amount in grant.items()]

    def _amount_of(self, grant: Any) -> int:
        return sum(grant.values())

    def _read(self, said: dict[str, Any]) -> DeviceAsk:
        share = whole_number(said, "share", None, do=_DO)
        return DeviceAsk(whole_number(said, "count", 1, do=_DO), where_of(said, do=_DO), share)

    def _read_number(self, amount: int) -> DeviceAsk:
        return DeviceAsk(1, (), amount)

    def _amounts(self, wanted: DeviceAsk) -> Iterator[Term]:
        yield Term("largest", ">=", wanted.share)
        if wanted.count > 1:
            yield Term("free", ">=", wanted.share * wanted.count)

    def column_deltas(self, ask: Any) -> Mapping[str, int] | None:
        return None  # the largest that is left depends on the record


def _left(record: DeviceRecord) -> list[tuple[int, DeviceItem]]:
    """How much is left of each device; nothing of one that holds more than it has."""
    used = Counter[str]()
    for use in record.used:
        used[use.name] += use.amount
    return [(max(0, item.total - used[item.name]), item) for item in record.items]


def _distinct(fitting: list[tuple[int, str]], wanted: DeviceAsk) -> list[tuple[int, str]]:
    """So many of these devices, those with least left as far as no fewer asks like this one fit after it.

    `most` such asks fit if the devices give `most` times the count, each at most `most` shares. The same must hold
    for one less after this one: what is taken of devices with fewer shares than that is lost to them.
    """
    count = wanted.count
    shares = [left // wanted.share for left, _ in fitting]
    low, most = 1, sum(shares) // count
    while low < most:
        middle = (low + most + 1) // 2
        low, most = (middle, most) if _sum(shares, middle) >= middle * count else (low, middle - 1)
    spare = _sum(shares, most - 1) - (most - 1) * count
    few = [one for one, has in zip(fitting, shares, strict=True) if has < most][:spare]
    many = [one for one, has in zip(fitting, shares, strict=True) if has >= most]
    return sorted([*few, *many])[:count]


def _sum(shares: list[int], at_most: int) -> int:
    return sum(min(has, at_most) for has in shares)
