"""Quantities: the classes whose resources are counted (VCPU, MEMORY_MB, any CUSTOM_*).

The rule is OpenStack Placement's for an inventory: with capacity = (total - reserved) * allocation_ratio, an
amount fits when min_unit <= amount <= max_unit, step_size divides it, and used + amount <= capacity. Ratios are
integers in thousandths and capacity is rounded down, so that every build computes the same. An inventory that a transaction
sets may have any ratio (`allocation_ratio`).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec
from msgspec.structs import astuple, replace

from vacancy.resources.classes.allocation_ratio import (
    THOUSANDTHS_MAX,
    bounded_capacity,
    capacities,
    shown_ratio,
    stored_ratio,
)
from vacancy.resources.classes.resource_class import Exactness, Granted, ResourceClass, Shortfall, Term
from vacancy.resources.model.errors import InvalidRecord, UsageError
from vacancy.resources.model.names import AMOUNT_MAX

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RATIO_MILLI_MAX = THOUSANDTHS_MAX
TOTAL_MAX = AMOUNT_MAX // 100
"""The bound keeps total times ratio within an int64, whatever an operator overrides."""
UNSET = -1

_Total = Annotated[int, msgspec.Meta(ge=0, le=TOTAL_MAX)]
_Positive = Annotated[int, msgspec.Meta(ge=1, le=AMOUNT_MAX)]
_Ratio = Annotated[int, msgspec.Meta(ge=1, le=RATIO_MILLI_MAX)]


class QuantityInventory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A node's inventory. `max_unit` None means the total. The ratio is in thousandths: 16.0 is 16000."""

    total: _Total
    reserved: _Total = 0
    min_unit: _Positive = 1
    max_unit: _Positive | None = None
    step_size: _Positive = 1
    allocation_ratio_milli: _Ratio = 1000


class SetInventory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An inventory that a transaction sets. `allocation_ratio` is a decimal text (`allocation_ratio.stored_ratio`). As in
    Placement, `min_unit` may be more than `max_unit`: then nothing fits."""

    total: _Total
    reserved: _Total = 0
    min_unit: _Positive = 1
    max_unit: _Positive | None = None
    step_size: _Positive = 1
    allocation_ratio: str = "1.0"


class QuantityOverride(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator may override."""

    reserved: _Total | None = None
    allocation_ratio_milli: _Ratio | None = None


class QuantityRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A provider's inventory of one class, the amount in use, and the operator's overrides (-1: none). For `ratio_milli` see
    `allocation_ratio`."""

    total: int
    reserved: int
    min_unit: int
    max_unit: int
    step_size: int
    ratio_milli: int
    used: int
    reserved_override: int
    ratio_milli_override: int

    @property
    def capacity(self) -> int:
        """The amount that can be allocated, free or in use."""
        reserved = self.reserved if self.reserved_override < 0 else self.reserved_override
        ratio = self.ratio_milli if self.ratio_milli_override < 0 else self.ratio_milli_override
        return bounded_capacity(self.total - reserved, ratio)


def _override(name: str, override: Mapping[str, Any]) -> QuantityOverride:
    try:
        return msgspec.convert(override, QuantityOverride)
    except msgspec.ValidationError as error:
        raise InvalidRecord(f"override of {name}: {error}") from None


_FIELDS = len(QuantityRecord.__struct_fields__)
_LAYOUT = struct.Struct(f"<{_FIELDS}q")


class Quantity(ResourceClass[QuantityRecord]):
    """A counted class. One instance serves one name."""

    columns: ClassVar[tuple[str, ...]] = ("free", "capacity", "min_unit", "max_unit", "step_size")

    def __init__(self, name: str) -> None:
        self.name = name

    # -- write ------------------------------------------------------------------------------------------

    def report(self, inventory: Mapping[str, Any], old: QuantityRecord | None) -> QuantityRecord:
        try:
            new = msgspec.convert(inventory, QuantityInventory)
        except msgspec.ValidationError as error:
            raise InvalidRecord(f"{self.name}: {error}") from None
        total = new.total
        max_unit = total if new.max_unit is None else new.max_unit
        if new.reserved > total:
            raise InvalidRecord(f"{self.name}: reserved {new.reserved} is more than total {total}")
        if new.min_unit > max_unit and total:
            raise InvalidRecord(f"{self.name}: min_unit {new.min_unit} is more than max_unit {max_unit}")
        return QuantityRecord(
            total,
            new.reserved,
            new.min_unit,
            max_unit,
            new.step_size,
            new.allocation_ratio_milli,
            0 if old is None else old.used,
            UNSET if old is None else old.reserved_override,
            UNSET if old is None else old.ratio_milli_override,
        )

    def set_inventory(self, inventory: Mapping[str, Any], old: QuantityRecord | None) -> QuantityRecord:
        try:
            new = msgspec.convert(inventory, SetInventory)
        except msgspec.ValidationError as error:
            raise InvalidRecord(f"{self.name}: {error}") from None
        if new.reserved > new.total:
            raise InvalidRecord(f"{self.name}: reserved {new.reserved} is more than total {new.total}")
        return QuantityRecord(
            new.total,
            new.reserved,
            new.min_unit,
            new.total if new.max_unit is None else new.max_unit,
            new.step_size,
            stored_ratio(new.allocation_ratio),
            0 if old is None else old.used,
            UNSET if old is None else old.reserved_override,
            UNSET if old is None else old.ratio_milli_override,
        )

    def inventory_set(self, record: QuantityRecord) -> Mapping[str, Any]:
        reserved, ratio = record.reserved_override, record.ratio_milli_override
        return {
            "total": record.total,
            "reserved": record.reserved if reserved < 0 else reserved,
            "min_unit": record.min_unit,
            "max_unit": record.max_unit,
            "step_size": record.step_size,
            "allocation_ratio": shown_ratio(record.ratio_milli if ratio < 0 else ratio),
        }

    def check_units(self, record: QuantityRecord, ask: Any) -> Shortfall | None:
        if type(ask) is not int or ask < 1 or ask > AMOUNT_MAX:
            return None  # `claim` says it
        if ask < record.min_unit:
            return Shortfall("below_min_unit", ask, record.min_unit)
        if ask > record.max_unit:
            return Shortfall("above_max_unit", ask, record.max_unit)
        return Shortfall("off_step", ask, record.step_size) if ask % record.step_size else None

    def check_override(self, override: Mapping[str, Any]) -> None:
        _override(self.name, override)

    def override(self, record: QuantityRecord, override: Mapping[str, Any]) -> QuantityRecord:
        new = _override(self.name, override)
        return replace(
            record,
            reserved_override=UNSET if new.reserved is None else new.reserved,
            ratio_milli_override=UNSET if new.allocation_ratio_milli is None else new.allocation_ratio_milli,
        )

    def withdraw(self, record: QuantityRecord) -> QuantityRecord:
        return replace(record, total=0, reserved=0)

    def in_use(self, record: QuantityRecord) -> bool:
        return record.used > 0

    def claim(self, record: QuantityRecord, ask: Any, *, no_worse: bool = False) -> Granted | Shortfall:
        if type(ask) is not int or ask < 1 or ask > AMOUNT_MAX:
            return Shortfall("bad_amount", ask if type(ask) is int else 0, 0)
        if not no_worse:
            free = record.capacity - record.used
            if ask > free:
                return Shortfall("no_room", ask, free)
            if ask < record.min_unit:
                return Shortfall("below_min_unit", ask, record.min_unit)
            if ask > record.max_unit:
                return Shortfall("above_max_unit", ask, record.max_unit)
            if ask % record.step_size:
                return Shortfall("off_step", ask, record.step_size)
        return Granted(replace(record, used=record.used + ask), ask)

    def release(self, record: QuantityRecord, grant: Any) -> QuantityRecord:
        return replace(record, used=record.used - grant)

    def asks_no_more(self, grants: Sequence[Any], asks: Sequence[Any]) -> bool:
        return all(type(ask) is int for ask in asks) and sum(asks) <= sum(grants)

    def encode(self, record: QuantityRecord) -> bytes:
        return _LAYOUT.pack(*astuple(record))

    def decode(self, data: bytes) -> QuantityRecord:
        return QuantityRecord(*_LAYOUT.unpack(data))

    # -- amounts ----------------------------------------------------------------------------------------

    def amount_of(self, grant: Any) -> int:
        amount: int = grant
        return amount

    # -- query ------------------------------------------------------------------------------------------

    def check_ask(self, ask: Any) -> None:
        if type(ask) is not int or not 1 <= ask <= AMOUNT_MAX:
            raise UsageError(
                f"{self.name}: {ask!r} is not an amount", do=f"ask for a whole number from 1 to {AMOUNT_MAX}"
            )

    def query(self, ask: Any) -> tuple[Term, ...]:
        return (
            Term("free", ">=", ask),
            Term("max_unit", ">=", ask),
            Term("min_unit", "<=", ask),
            Term("step_size", "divides", ask),
        )

    def exactness(self, ask: Any) -> Exactness:
        return Exactness.EXACT

    def column_deltas(self, ask: Any) -> Mapping[str, int] | None:
        return {"free": -ask}

    def row(self, record: QuantityRecord) -> tuple[int, ...]:
        capacity = record.capacity
        return capacity - record.used, capacity, record.min_unit, record.max_unit, record.step_size

    def project(self, encoded: Sequence[bytes]) -> NDArray[np.int64]:
        import numpy as np

        raw = np.frombuffer(b"".join(encoded), dtype="<i8").reshape(len(encoded), _FIELDS)
        total, reserved, _, _, _, ratio, used, reserved_over, ratio_over = raw.T
        # Readers call this for each batch of a few claims, so it computes in place.
        projected = np.empty((len(self.columns), len(encoded)), dtype=np.int64)
        projected[2:] = raw.T[2:5]  # min_unit, max_unit, step_size
        free, capacity = projected[:2]
        offered = total - np.where(reserved_over < 0, reserved, reserved_over)
        capacity[:] = capacities(offered, np.where(ratio_over < 0, ratio, ratio_over))
        np.subtract(capacity, used, out=free)
        return projected

    def inventory_totals(self, encoded: Sequence[bytes]) -> NDArray[np.int64]:
        import numpy as np

        raw = np.frombuffer(b"".join(encoded), dtype="<i8").reshape(len(encoded), _FIELDS)
        total, reserved, _, _, _, _, _, reserved_over, _ = raw.T
        return np.stack((total, np.where(reserved_over < 0, reserved, reserved_over)))
