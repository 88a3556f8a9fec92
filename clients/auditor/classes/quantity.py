"""Counted quantities: a total, what is reserved, an allocation ratio, and the units in which amounts are given."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from vacancy.clients.auditor.classes.class_auditor import (
    ROOM,
    RULE,
    ClassAuditor,
    Objection,
    Refused,
    Slot,
)
from vacancy.clients.auditor.event_schema import INTEGER_MAX

TOTAL_MAX = INTEGER_MAX // 100
RATIO_MILLI_MAX = 100_000
_RATIO_MAX, _RATIO_MIN = 3.40282e38, 4.94066e-319

_LIMITS = {
    "total": (0, TOTAL_MAX),
    "reserved": (0, TOTAL_MAX),
    "min_unit": (1, INTEGER_MAX),
    "max_unit": (1, INTEGER_MAX),
    "step_size": (1, INTEGER_MAX),
    "allocation_ratio_milli": (1, RATIO_MILLI_MAX),
}
_OVERRIDABLE = {"reserved", "allocation_ratio_milli"}


class CountedStock(NamedTuple):
    """An inventory as reported; `ratio_milli` is the allocation ratio in thousandths."""

    total: int
    reserved: int
    min_unit: int
    max_unit: int
    step_size: int
    ratio_milli: int
    listed: bool = True
    ratio: float | None = None
    """A ratio that is no whole number of 1 to 100, of an inventory that a transaction set; then `ratio_milli` does not count."""

    def withdrawn(self) -> CountedStock:
        return self._replace(total=0, reserved=0, listed=False)


class QuantityAuditor(ClassAuditor[CountedStock]):
    """A class whose allocations are amounts."""

    always_counted: ClassVar[bool] = True

    def __init__(self, name: str) -> None:
        self.name = name

    def read_inventory(self, inventory: Mapping[str, Any]) -> CountedStock:
        if "total" not in inventory or not all(_is_within(*field) for field in inventory.items()):
            raise Refused
        total = inventory["total"]
        max_unit = inventory.get("max_unit")
        stock = CountedStock(
            total,
            inventory.get("reserved", 0),
            inventory.get("min_unit", 1),
            total if max_unit is None else max_unit,
            inventory.get("step_size", 1),
            inventory.get("allocation_ratio_milli", 1000),
        )
        if stock.reserved > total or (total and stock.min_unit > stock.max_unit):
            raise Refused
        return stock

    def read_set_inventory(self, inventory: Mapping[str, Any]) -> CountedStock:
        ratio = _ratio(inventory.get("allocation_ratio", "1.0"))
        plain = {name: value for name, value in inventory.items() if name != "allocation_ratio"}
        if "allocation_ratio_milli" in plain or not all(_is_within(*field) for field in plain.items()):
            raise Refused
        if "total" not in plain or plain.get("reserved", 0) > plain["total"]:
            raise Refused
        is_whole = ratio in range(1, 101)
        max_unit = plain.get("max_unit")
        return CountedStock(
            plain["total"],
            plain.get("reserved", 0),
            plain.get("min_unit", 1),
            plain["total"] if max_unit is None else max_unit,
            plain.get("step_size", 1),
            int(ratio) * 1000 if is_whole else 0,
            ratio=None if is_whole else ratio,
        )

    def check_override(self, override: Mapping[str, Any]) -> None:
        check_quantity_override(override)

    def capacity(self, stock: CountedStock, override: Mapping[str, Any]) -> int:
        left = stock.total - int(override.get("reserved", stock.reserved))
        if stock.ratio is not None and "allocation_ratio_milli" not in override:
            return min(max(0, int(max(0, left) * stock.ratio)), INTEGER_MAX)
        return max(0, left) * int(override.get("allocation_ratio_milli", stock.ratio_milli)) // 1000

    def fits_units(self, stock: CountedStock, amount: int) -> bool:
        return stock.min_unit <= amount <= stock.max_unit and not amount % stock.step_size

    def most_reads(self, stock: CountedStock, held: Sequence[Any], ask: Any) -> int:
        return 0

    def objections(self, slot: Slot[CountedStock], asks: Sequence[Any]) -> Iterable[Objection]:
        return amount_objections(self, slot, asks)


def amount_objections(
    auditor: ClassAuditor[Any], slot: Slot[CountedStock], asks: Sequence[Any]
) -> Iterable[Objection]:
    """The reasons against asks whose amounts decide: each must be of the units, and all together must fit."""
    at, name, stock = slot.provider, auditor.name, slot.stock
    for ask in asks:
        count = auditor.count_of(ask)
        if count is None or not 1 <= count <= INTEGER_MAX:
            yield Objection(RULE, f"{ask!r} is not an amount of {name}")
        elif not slot.kept and not auditor.fits_units(stock, count):
            yield Objection(RULE, f"{count} of {name} of {at} is not from min_unit to max_unit in steps")
    total = sum(map(auditor.amount, asks))
    if not slot.kept and total > slot.free:
        yield Objection(ROOM, f"{at} has {slot.free} of {name} left, {total} asked")


def check_quantity_override(override: Mapping[str, Any]) -> None:
    """Raise `Refused` unless an override is of `reserved` and the allocation ratio, null for one that is not set."""
    if not override.keys() <= _OVERRIDABLE:
        raise Refused
    if not all(_is_within(*field) for field in override.items() if field[1] is not None):
        raise Refused


def _ratio(text: Any) -> float:
    """A ratio from its shortest decimal text. Raises `Refused` for any other text."""
    try:
        ratio = float(text) if isinstance(text, str) else math.nan
    except ValueError:
        raise Refused from None
    if not math.isfinite(ratio) or repr(ratio) != text or ratio > _RATIO_MAX or 0 < ratio <= _RATIO_MIN:
        raise Refused
    return ratio


def _is_within(name: str, value: Any) -> bool:
    if name not in _LIMITS:
        return False
    low, high = _LIMITS[name]
    return (name == "max_unit" and value is None) or (type(value) is int and low <= value <= high)
