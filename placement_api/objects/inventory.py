"""Stands in for `placement.objects.inventory`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from vacancy.placement_api.state import backend, unit_of_work


class Inventory:
    """An inventory as Placement's handlers use it."""

    def __init__(
        self,
        id: Any = None,
        resource_provider: Any = None,
        resource_class: Any = None,
        total: Any = None,
        reserved: Any = 0,
        min_unit: Any = 1,
        max_unit: Any = 1,
        step_size: Any = 1,
        allocation_ratio: Any = 1.0,
        updated_at: Any = None,
        created_at: Any = None,
        **kwargs: Any,
    ) -> None:
        if not math.isfinite(allocation_ratio):  # JSON of Python has NaN; Placement would answer 500
            raise ValueError("allocation_ratio is not a finite number")
        self.id = id
        self.resource_provider = resource_provider
        self.resource_class = resource_class
        self.total = total
        self.reserved = reserved
        self.min_unit = min_unit
        self.max_unit = max_unit
        self.step_size = step_size
        self.allocation_ratio = allocation_ratio
        self.updated_at = updated_at
        self.created_at = created_at

    @property
    def capacity(self) -> int:
        """What can be allocated, rounded down."""
        return int((self.total - self.reserved) * self.allocation_ratio)


def to_row(one: Any) -> backend.Inventory:
    """Placement's object as a row; the backend sets its times."""
    return backend.Inventory(
        total=one.total,
        reserved=one.reserved,
        min_unit=one.min_unit,
        max_unit=one.max_unit,
        step_size=one.step_size,
        allocation_ratio=float(one.allocation_ratio),
    )


def find(inventories: Iterable[Any], res_class: str) -> Any:
    """The inventory of a class in a list, or None."""
    if not isinstance(res_class, str):
        raise ValueError
    return next((one for one in inventories if one.resource_class == res_class), None)


def get_all_by_resource_provider(context: Any, rp: Any) -> list[Inventory]:
    """All inventories of a provider; none if it is gone."""
    row = unit_of_work.view(context).providers.get(rp.id)
    if row is None:
        return []
    return [
        Inventory(
            resource_provider=rp,
            resource_class=name,
            total=one.total,
            reserved=one.reserved,
            min_unit=one.min_unit,
            max_unit=one.max_unit,
            step_size=one.step_size,
            allocation_ratio=one.allocation_ratio,
            updated_at=one.updated_at,
            created_at=one.created_at,
        )
        for name, one in row.inventories.items()
    ]
