"""Orders by name: the `Order` objects for the names that options and arguments use."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import ValidationError

from vacancy.projections.query.order import Order
from vacancy.projections.ranking.fragmentation import LeastFragmentation
from vacancy.projections.ranking.orders import SIMPLE_ORDERS, Drawn
from vacancy.projections.ranking.workload import TYPICAL_MAX, Workload, tally
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.encoding.canonical_bytes import read_spec
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.request import Ask, RequestGroup, RequestSpec, RequestSpecV2
from vacancy.resources.state.rows import AllocationRow
from vacancy.resources.state.tables import ALLOCATIONS, REQUESTS

ORDERS: Final = (*SIMPLE_ORDERS, LeastFragmentation.name)
"""The names of all orders."""

AMONG_MAX: Final = 1000


def order_named(order: Order | str, typical: Workload | Path | None = None) -> Order:
    """The order of that name; an `Order` is returned as it is. `NAME:N` is the order by which a claim goes to one of the
    best N (see `Order.among`). `typical`, a workload or its file (see `load_typical`), is needed by `least_fragmentation`.
    Raises `UsageError` for an unknown name, and where the workload is missing."""
    if isinstance(order, Order):
        return order
    name, colon, number = order.partition(":")
    if not colon:
        return _plain(name, typical)
    if not (number.isascii() and number.isdigit() and 1 <= int(number[:5]) <= AMONG_MAX):
        raise UsageError(
            f"the order {order!r} is invalid: after the colon comes the number of best nodes to choose from",
            do=f"write {name}:N with N from 1 to {AMONG_MAX}",
        )
    return Drawn(_plain(name, typical), int(number))


def _plain(order: str, typical: Workload | Path | None) -> Order:
    if order == LeastFragmentation.name:
        if typical is None:
            raise UsageError(
                f"the order {order} needs the typical requests",
                do="give --typical FILE; `vacancy typical` makes one from the current allocations",
            )
        return LeastFragmentation(load_typical(typical) if isinstance(typical, Path) else typical)
    if order not in SIMPLE_ORDERS:
        raise UsageError(f"unknown order {order!r}", do=f"choose one of {', '.join(ORDERS)}")
    return SIMPLE_ORDERS[order]


def load_typical(path: str | Path) -> Workload:
    """Typical requests from a JSON file. Raises `UsageError` where it cannot be read or is invalid."""
    try:
        return Workload.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise UsageError(
            f"the file of typical requests cannot be read: {error.strerror}",
            where=str(path),
            do="check its name and its permissions",
        ) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(
            f"the typical requests are invalid: {where + ': ' if where else ''}{first['msg']}",
            where=str(path),
            do="correct the file; docs/queries.md has an example",
        ) from None


def learn_typical(reader: StoreReader, device: str, limit: int = TYPICAL_MAX) -> Workload:
    """The typical requests of the current allocations: the requests of all consumers, equal ones counted.

    Where a request is no longer stored, the allocation of its consumer takes its place. Raises `UsageError` where no
    consumer holds any of the device class.
    """
    reader.catch_up()
    specs = (_request_of(reader, row) for _, _, row in reader.scan(ALLOCATIONS))
    try:
        return tally(((spec, 1) for spec in specs if spec is not None), device, limit)
    except ValidationError:
        raise UsageError(
            f"no consumer holds an amount of {device}, so there are no typical requests",
            where=f"store {reader.path}",
            do="check the name of the class, or write the file by hand; docs/queries.md has an example",
        ) from None


def _request_of(reader: StoreReader, row: AllocationRow) -> RequestSpec | None:
    known = None if row.request is None else reader.get(REQUESTS, row.request.encode())
    if known is not None:
        spec = read_spec(known.spec)
        return spec.choices[spec.alternative_choices[0]] if isinstance(spec, RequestSpecV2) else spec
    groups: dict[tuple[str, str], dict[str, Ask]] = {}
    for part in row.parts:
        if reader.registry.table(part.resource_class).resource_class.is_amount(part.grant):
            groups.setdefault((part.provider, part.group), {})[part.resource_class] = part.grant
    if not groups:
        return None
    named = (RequestGroup(name=str(n), resources=asks) for n, asks in enumerate(groups.values()))
    isolate = len({provider for provider, _ in groups}) == len(groups) > 1
    return RequestSpec(groups=tuple(named), group_policy="isolate" if isolate else "none")
