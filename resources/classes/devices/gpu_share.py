"""Shares of devices: an ask is for a share of one device, or for the same share of each of several devices.

A node reports the total of each device in any unit, such as thousandths. A share of one device is taken by best fit:
from the device that has the least left of those with enough, the first by name. Shares of several devices are taken by
best fit too, unless that leaves distinct devices for fewer asks of the same kind than another choice (see `_distinct`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final

from vacancy.resources.classes.devices.device_attribute_index import INDEX_COLUMNS, Attribute
from vacancy.resources.classes.devices.device_class import (
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
from vacancy.resources.classes.quantity import TOTAL_MAX
from vacancy.resources.classes.resource_class import Shortfall, Term
from vacancy.resources.model.errors import InvalidRecord

_DO: Final = 'write 300, or {"share": 300, "count": 1, "where": {"model": "A100"}}'


class GpuShare(DeviceClass):
    """Shares of GPUs. The grant maps a device to how much of it is given."""

    columns: ClassVar[tuple[str, ...]] = ("free", "capacity", "largest", *INDEX_COLUMNS)
    consumable_columns: ClassVar[tuple[str, ...]] = ("free", "largest")
    countable: ClassVar[bool] = False

    def _item(self, name: str, fields: dict[str, Any]) -> DeviceItem:
        total = fields.pop("total", None)
        if type(total) is not int or not 1 <= total <= TOTAL_MAX:
            raise InvalidRecord(f"{self.name}: the total of {name} is not a number from 1 to {TOTAL_MAX}")
        return DeviceItem(name, (), "", total)

    def _choose(self, record: DeviceRecord, wanted: DeviceAsk) -> tuple[DeviceUse, ...] | Shortfall:
        of_devices = ((item, (left, item.name)) for left, item in _left(record))
        best: list[tuple[int, str]] = []
        most = largest = 0
        for found in domains(of_devices, wanted):
            fitting = sorted(one for one in found if one[0] >= wanted.share)
            largest = max([largest, *(left for left, _ in found)])
            most = max(most, len(fitting))
            if len(fitting) >= wanted.count:
                if wanted.count == 1:
                    fitting = fitting[:1]
                # Of one share that with the least left, of several those of which the fewest are left.
                best = (
                    min(fitting, best, key=lambda some: some if wanted.count == 1 else len(some))
                    if best
                    else fitting
                )
        if not best:
            if wanted.count == 1:
                return Shortfall("no_room", wanted.share, largest)
            return Shortfall("no_room", wanted.count, most)
        chosen = best if wanted.count == 1 else _distinct(best, wanted)
        return tuple(DeviceUse(name, "", wanted.share) for _, name in chosen)

    def _own_columns(self, record: DeviceRecord) -> tuple[int, ...]:
        left = [left for left, _ in _left(record)]
        return sum(left), sum(left) + record.held, max(left, default=0)

    def _available(self, record: DeviceRecord) -> Iterable[tuple[Attribute, ...]]:
        return (item.attributes for left, item in _left(record) if left)

    def _grant(self, uses: tuple[DeviceUse, ...]) -> Any:
        return {use.name: use.amount for use in uses}

    def _uses_of(self, record: DeviceRecord, grant: Any) -> Iterable[DeviceUse]:
        return self._uses_held(grant)

    def _uses_held(self, grant: Any) -> Iterable[DeviceUse]:
        return [DeviceUse(name, "", amount) for name, amount in grant.items()]

    def _amount_of(self, grant: Any) -> int:
        return sum(grant.values())

    def _parse_object(self, fields: dict[str, Any]) -> DeviceAsk:
        share = whole_number(fields, "share", None, do=_DO)
        count, match = whole_number(fields, "count", 1, do=_DO), match_of(fields, do=_DO)
        return DeviceAsk(count, where_of(fields, do=_DO), share, match=match)

    def _parse_amount(self, amount: int) -> DeviceAsk:
        return DeviceAsk(1, (), amount)

    def _amount_terms(self, wanted: DeviceAsk) -> Iterator[Term]:
        yield Term("largest", ">=", wanted.share)
        if wanted.count > 1:
            yield Term("free", ">=", wanted.share * wanted.count)

    def column_deltas(self, ask: Any) -> Mapping[str, int] | None:
        return None  # the largest that is left depends on the record


def _left(record: DeviceRecord) -> list[tuple[int, DeviceItem]]:
    """How much is left of each device; 0 of a device of which more is held than it has."""
    used = Counter[str]()
    for use in record.used:
        used[use.name] += use.amount
    return [(max(0, item.total - used[item.name]), item) for item in record.items]


def _distinct(fitting: list[tuple[int, str]], wanted: DeviceAsk) -> list[tuple[int, str]]:
    """`wanted.count` of these devices: those with the least left, as far as just as many asks like this one fit
    after it as after any other choice.

    `most` such asks fit if the devices together give `most * count` shares, each at most `most`. After this ask,
    `most - 1` must still fit: shares that are taken from devices with fewer than `most` shares reduce what they can
    give, by at most `spare` in all.
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
