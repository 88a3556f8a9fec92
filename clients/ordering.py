"""Orders by name: what options say, as the objects that the query engine works with."""

from __future__ import annotations

from typing import Final

from vacancy.projections.orders import SIMPLE_ORDERS, Order
from vacancy.resources.errors import UsageError

ORDERS: Final = tuple(SIMPLE_ORDERS)
"""All names there are."""


def order_named(order: Order | str) -> Order:
    """The order of that name; an order is its own. Raises `UsageError` where there is none."""
    if isinstance(order, Order):
        return order
    if order not in SIMPLE_ORDERS:
        raise UsageError(f"unknown order {order!r}", do=f"choose one of {', '.join(ORDERS)}")
    return SIMPLE_ORDERS[order]
