"""Orders by name: what options say, as the objects that the query engine works with."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import ValidationError

from vacancy.projections.query.order import Order
from vacancy.projections.ranking.fragmentation import LeastFragmentation
from vacancy.projections.ranking.orders import SIMPLE_ORDERS, Drawn
from vacancy.projections.ranking.workload import TYPICAL_MAX, Workload, tally
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.canonical_bytes import read_spec
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.request import Ask, RequestGroup, RequestSpec
from vacancy.resources.state.rows import AllocationRow
from vacancy.resources.state.tables import ALLOCATIONS, REQUESTS

ORDERS: Final = (*SIMPLE_ORDERS, LeastFragmentation.name)
"""All names there are."""

AMONG_MAX: Final = 1000


def order_named(order: Order | str, typical: Workload | Path | None = None) -> Order:
    """The order of that name; an order is its own. `NAME:N` is the order by which a claim goes to one of the best N
    (see `Order.among`). `typical`, or a file of it (see `load_typical`), is what `least_fragmentation` goes by.
    Raises `UsageError` where there is no such order, or it lacks that."""
    if isinstance(order, Order):
        return order
    name, colon, number = order.partition(":")
    if not colon:
        return _plain(name, typical)
    if not (number.isascii() and number.isdigit() and 1 <= int(number[:5]) <= AMONG_MAX):
        raise UsageError(
            f"the order {order!r} does not say among how many of the best to draw",
            do=f"write {name}:N with N from 1 to {AMONG_MAX}",
        )
    return Drawn(_plain(name, typical), int(number))


def _plain(order: str, typical: Workload | Path | None) -> Order:
    if order == LeastFragmentation.name:
        if typical is None:
            raise UsageError(
                f"the order {order} goes by what is typically asked for",
                do="give --typical FILE; `vacancy typical` makes one of what is held now",
            )
        return LeastFragmentation(load_typical(typical) if isinstance(typical, Path) else typical)
    if order not in SIMPLE_ORDERS:
        raise UsageError(f"unknown order {order!r}", do=f"choose one of {', '.join(ORDERS)}")
    return SIMPLE_ORDERS[order]


def load_typical(path: str | Path) -> Workload:
    """Typical requests from a JSON file. Raises `UsageError` where it cannot be read or meant."""
    try:
        return Workload.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise UsageError(
            f"the file of typical requests cannot be read: {error.strerror}",
            where=str(path),
            do="name another",
        ) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(
            f"typical requests that cannot be meant: {where + ': ' if where else ''}{first['msg']}",
            where=str(path),
            do="mend the file; docs/queries.md shows one",
        ) from None


def learn_typical(reader: StoreReader, device: str, limit: int = TYPICAL_MAX) -> Workload:
    """What is typical, learnt of what is held now: the requests of all who hold anything, alike ones counted.

    Where a request is no longer known, what its consumer holds stands for it. Raises `UsageError` where nobody
    holds any of the device class.
    """
    reader.catch_up()
    specs = (_request_of(reader, row) for _, _, row in reader.scan(ALLOCATIONS))
    try:
        return tally(((spec, 1) for spec in specs if spec is not None), device, limit)
    except ValidationError:
        raise UsageError(
            f"nobody holds an amount of {device}, so nothing can be learnt of it",
            where=f"store {reader.path}",
            do="check the name of the class, or write the file by hand; docs/queries.md shows one",
        ) from None


def _request_of(reader: StoreReader, row: AllocationRow) -> RequestSpec | None:
    known = None if row.request is None else reader.get(REQUESTS, row.request.encode())
    if known is not None:
        return read_spec(known.spec)
    groups: dict[tuple[str, str], dict[str, Ask]] = {}
    for part in row.parts:
        if reader.registry.table(part.resource_class).resource_class.is_amount(part.grant):
            groups.setdefault((part.provider, part.group), {})[part.resource_class] = part.grant
    if not groups:
        return None
    named = (RequestGroup(name=str(n), resources=asks) for n, asks in enumerate(groups.values()))
    isolate = len({provider for provider, _ in groups}) == len(groups) > 1
    return RequestSpec(groups=tuple(named), group_policy="isolate" if isolate else "none")
