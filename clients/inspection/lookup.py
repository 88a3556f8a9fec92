"""Look up providers, nodes, consumers, claims and requests in a store, as plain data.

Nothing here writes. Each function calls the reader's `catch_up` first, and its answer is as of that position.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from vacancy.clients.inspection.answers import (
    ConsumerAnswer,
    ContestedAnswer,
    ExcludedAnswer,
    HoldingAnswer,
    InventoryAnswer,
    NodeAnswer,
    ProviderAnswer,
    RequestAnswer,
    State,
    TreeAnswer,
    VerdictAnswer,
)
from vacancy.clients.inspection.contested import contested_node, same_machine_text
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.classes.resource_class import EXCLUDED
from vacancy.resources.fold.nodes.provider_tree import path_to_root
from vacancy.resources.model.encoding.canonical_bytes import spec_json
from vacancy.resources.model.errors import UsageError, VacancyError
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.state.rows import (
    AllocationRow,
    ClassRow,
    NodeRow,
    OperatorSettingsRow,
    ProviderRow,
    VerdictRow,
    why_closed,
)
from vacancy.resources.state.tables import (
    ALLOCATIONS,
    FACTS,
    NODES,
    PROVIDERS,
    REQUESTS,
    VERDICTS,
    Table,
    key,
    split_key,
)

Row = TypeVar("Row")

_NAMES_COMPARED = 20_000
"""How many names are searched for one that is similar to an unknown one; more would take too long."""


class NotFound(VacancyError):
    """The store has nothing of that name, at its position."""


# -- cells ----------------------------------------------------------------------------------------------------


def provider_cells(reader: StoreReader, provider: str) -> list[str]:
    """The cells that have a provider of that id: one, unless it moved or two nodes report the same id."""
    return [cell for cell in _cells(reader) if reader.get(PROVIDERS, key(cell, provider)) is not None]


def check_nodes(reader: StoreReader, names: Iterable[str]) -> None:
    """Raise `UsageError` for a name that is not a node of any cell. Without this a misspelt name would leave out no node."""
    for name in names:
        roots = [row.root for _, row in find(reader, PROVIDERS, name)]
        if name not in roots:
            raise UsageError(
                f"{name} is a part of node {roots[0]}" if roots else f"{name!r} is not a node",
                where=_where(reader),
                do=f"name {roots[0]}" if roots else "see `vacancy show nodes`",
            )


def provider_cell(reader: StoreReader, provider: str) -> str:
    """The cell of a provider. Raises `NotFound`, or `UsageError` if it is in two cells."""
    cells = provider_cells(reader, provider)
    if not cells:
        raise NotFound(
            f"there is no provider {provider!r}",
            where=_where(reader),
            do=_near(provider, (split_key(name)[1] for name in reader.view.row_of)),
        )
    if len(cells) > 1:
        raise UsageError(
            f"provider {provider!r} is in cells {' and '.join(cells)}",
            where=_where(reader),
            do="choose one with --cell; retire the node in the cell that it left",
        )
    return cells[0]


def _cells(reader: StoreReader) -> list[str]:
    return sorted(cell.decode() for cell in reader.view.cells)


def find(reader: StoreReader, table: Table[Row], id_: str) -> list[tuple[str, Row]]:
    """(cell, row) of an id in any cell: first in cells with providers, otherwise in all."""
    found = [(c, row) for c in _cells(reader) if (row := reader.get(table, key(c, id_))) is not None]
    if found:
        return found
    return [(split_key(k)[0], row) for _, k, row in reader.scan(table) if split_key(k)[1] == id_]


def _where(reader: StoreReader) -> str:
    at = " ".join(f"{partition}:{offset}" for partition, offset in reader.position.items())
    return f"store {reader.path} at {at}"


def _near(wrong: str, names: Iterator[str]) -> str:
    known = [name for _, name in zip(range(_NAMES_COMPARED), names, strict=False)]
    near = difflib.get_close_matches(wrong, known, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else "see `vacancy show nodes`"


# -- providers and nodes --------------------------------------------------------------------------------------


def show_provider(reader: StoreReader, provider: str, *, cell: str | None = None) -> TreeAnswer:
    """A provider and its descendants. Raises `NotFound`, or `UsageError` if it is in two cells."""
    reader.catch_up()
    cell = cell or provider_cell(reader, provider)
    row = reader.get(PROVIDERS, key(cell, provider))
    if row is None:
        raise NotFound(
            f"there is no provider {provider!r} in cell {cell}",
            where=_where(reader),
            do="omit --cell, or give another cell",
        )
    root = reader.get(PROVIDERS, key(cell, row.root))
    rows = {member: reader.get(PROVIDERS, key(cell, member)) for member in (root.members if root else ())}
    rows[provider] = row
    paths = {id_: tuple(path_to_root(id_, lambda at: _parent(rows.get(at)))) for id_ in rows}
    below = [(id_, one) for id_, one in rows.items() if one is not None and provider in paths[id_]]
    # Sorted from the root down: a parent before its children, siblings together.
    below.sort(key=lambda item: paths[item[0]][::-1])
    ids = frozenset(id_ for id_, _ in below)
    node = reader.get(NODES, key(cell, row.root))
    holdings = [part for part in _holdings_in(reader, cell) if part.provider in ids]
    return TreeAnswer(
        id=provider,
        cell=cell,
        partition=partition_for(cell, reader.manifest.partitions),
        root=row.root,
        node=None if node is None else _node(reader, cell, row.root, node),
        providers=[_provider(reader, cell, id_, one) for id_, one in below],
        holdings=holdings,
        excluded=[one for id_, row in below for one in _excluded(reader, cell, id_, row, holdings)],
        as_of=reader.position,
    )


def nodes(reader: StoreReader) -> Iterator[NodeAnswer]:
    """All nodes, by partition and cell."""
    reader.catch_up()
    for _, name, row in reader.scan(NODES):
        cell, root = split_key(name)
        yield _node(reader, cell, root, row)


def _parent(row: ProviderRow | None) -> str | None:
    return None if row is None else row.parent


def node_of(reader: StoreReader, cell: str, root: str) -> NodeAnswer | None:
    """A node, or None if the tables do not have it."""
    row = reader.get(NODES, key(cell, root))
    return None if row is None else _node(reader, cell, root, row)


def _node(reader: StoreReader, cell: str, root: str, row: NodeRow) -> NodeAnswer:
    incarnation, sequence = row.incarnations[0]
    contested = contested_node(reader, cell, root)
    return NodeAnswer(
        root,
        cell,
        partition_for(cell, reader.manifest.partitions),
        _state(reader, cell, root, row, contested),
        row.heard_ms,
        incarnation,
        sequence,
        contested,
    )


def _state(
    reader: StoreReader, cell: str, root: str, row: NodeRow, contested: ContestedAnswer | None
) -> State:
    provider = reader.get(PROVIDERS, key(cell, root))
    closed = None if provider is None else why_closed(row, provider, provider)
    if row.retired or (closed is not None and closed.reason == "unreported"):
        return "retired"
    if root in reader.view.clashes:
        return "in two cells"
    if same_machine_text(reader, cell, root):
        return "two names"
    if closed is None:
        return "open"
    if closed.reason == "incomplete":
        return "contested" if contested is not None and contested.closed else "incomplete"
    settings = reader.get(FACTS, key(cell, root))
    return "draining" if settings is not None and settings.status == "draining" else "disabled"


def _provider(reader: StoreReader, cell: str, id_: str, row: ProviderRow) -> ProviderAnswer:
    settings = reader.get(FACTS, key(cell, id_))
    overrides = {} if settings is None else settings.overrides
    inventories = []
    without_effect = {}
    generation = row.changed
    for name in row.classes:
        table = reader.registry.table(name)
        held = reader.get(table, table.prefix + key(cell, id_), cell=cell)
        if held is not None:
            inventories.append(_inventory(reader, name, held))
            fields = table.resource_class.without_effect(held.record, overrides.get(name, {}))
            if fields:
                without_effect[name] = list(fields)
            generation = max(generation, held.changed)
    return ProviderAnswer(
        id=id_,
        parent=row.parent,
        generation=generation,
        reported=row.reported,
        disabled=row.disabled,
        traits=list(row.reported_traits),
        operator_traits=list(row.operator_traits),
        aggregates=list(row.aggregates),
        attributes=dict(row.reported_attributes),
        operator_attributes=dict(row.operator_attributes),
        inventories=inventories,
        facts=None
        if settings is None
        else {**settings_shown(settings), "overrides_without_effect": without_effect},
    )


def excluded_devices(reader: StoreReader) -> list[ExcludedAnswer]:
    """The devices of all nodes that nobody gets, by cell and provider. Rows without such devices are not decoded."""
    places: dict[tuple[str, str], None] = {}
    for class_name in reader.registry.names:
        table = reader.registry.table(class_name)
        may_withhold = table.resource_class.may_withhold
        if not table.resource_class.excludes_items:
            continue
        for partition in reader.position:
            for name, data in reader.raw(partition, table.family):
                if name.startswith(table.prefix) and may_withhold(data[table.HEAD_BYTES :]):
                    places[split_key(name[len(table.prefix) :])] = None
    found: list[ExcludedAnswer] = []
    holdings: dict[str, list[HoldingAnswer]] = {}
    for cell, id_ in sorted(places):
        row = reader.get(PROVIDERS, key(cell, id_))
        if row is not None:
            if cell not in holdings:
                holdings[cell] = list(_holdings_in(reader, cell))
            found += _excluded(reader, cell, id_, row, holdings[cell])
    return found


def excluded_text(one: ExcludedAnswer) -> str:
    """Why nobody gets a device, for people."""
    said = "excluded by the operator" if one.by == "operator" else "unhealthy, as its host says"
    return f"device {one.name} is {said}{f': {one.reason}' if one.reason else ''}"


def excluded_at(reader: StoreReader, cell: str, provider: str) -> list[ExcludedAnswer]:
    """The devices of a provider that nobody gets, without their holders."""
    row = reader.get(PROVIDERS, key(cell, provider))
    return [] if row is None else list(_excluded(reader, cell, provider, row, ()))


def _excluded(
    reader: StoreReader, cell: str, id_: str, provider: ProviderRow, holdings: Sequence[HoldingAnswer]
) -> Iterator[ExcludedAnswer]:
    settings = reader.get(FACTS, key(cell, id_))
    overrides = {} if settings is None else settings.overrides
    for class_name in sorted({*provider.classes, *overrides}):
        table = reader.registry.table(class_name)
        of = table.resource_class
        row = reader.get(table, table.prefix + key(cell, id_), cell=cell) if of.excludes_items else None
        if row is None:
            continue
        there = [one for one in holdings if (one.provider, one.resource_class) == (id_, class_name)]
        said: Mapping[str, str] = overrides.get(class_name, {}).get(EXCLUDED, {})
        plain = of.override(row.record, {})
        out = [(name, reason, "operator") for name, reason in sorted(said.items())]
        out += [(name, reason, "host") for name, reason in sorted(of.unhealthy(row.record).items())]
        for name, reason, by in out:
            if by == "operator":
                alone = of.override(of.set_unhealthy(plain, {}), {EXCLUDED: {name: reason}})
            else:
                alone = of.set_unhealthy(plain, {name: reason})
            held = sorted({one.consumer for one in there if of.withheld(alone, one.grant)})
            yield ExcludedAnswer(
                id_, class_name, name, reason, held, "operator" if by == "operator" else "host", cell
            )


def _inventory(reader: StoreReader, name: str, row: ClassRow) -> InventoryAnswer:
    resource_class = reader.registry.table(name).resource_class
    columns = dict(zip(resource_class.columns, resource_class.row(row.record), strict=True))
    for column in resource_class.index_columns:
        del columns[column]
    capacity, free = columns.pop("capacity"), columns.pop("free")
    record = row.record
    fields = msgspec.structs.asdict(record) if isinstance(record, msgspec.Struct) else {"record": record}
    return InventoryAnswer(
        name, capacity, capacity - free, free, columns, msgspec.to_builtins(fields), row.changed, row.taken
    )


def settings_shown(row: OperatorSettingsRow) -> dict[str, Any]:
    """Operator settings as plain data."""
    return {
        "revision": row.revision,
        "status": row.status,
        "reason": row.reason,
        "aggregates": list(row.aggregates),
        "traits": list(row.traits),
        "overrides": dict(row.overrides),
        "attributes": dict(row.attributes),
        "taints": [one._asdict() for one in row.taints],
    }


# -- consumers, claims, requests ------------------------------------------------------------------------------


def show_consumer(reader: StoreReader, consumer: str) -> list[ConsumerAnswer]:
    """What a consumer holds, one entry per cell, usually one. Raises `NotFound` if it holds nothing."""
    reader.catch_up()
    found = [_consumer(reader, cell, consumer, row) for cell, row in find(reader, ALLOCATIONS, consumer)]
    if not found:
        raise NotFound(
            f"consumer {consumer!r} holds nothing",
            where=_where(reader),
            do="see `vacancy show claim` or `vacancy show request` for the reason",
        )
    return found


def _consumer(reader: StoreReader, cell: str, consumer: str, row: AllocationRow) -> ConsumerAnswer:
    return ConsumerAnswer(
        consumer=consumer,
        cell=cell,
        partition=partition_for(cell, reader.manifest.partitions),
        claim=row.claim,
        generation=row.generation,
        consumer_type=row.consumer_type,
        project=row.project,
        user=row.user,
        request=row.request,
        offset=row.offset,
        hold_until_ms=row.hold_until_ms,
        holdings=list(_holdings(consumer, row)),
    )


def _holdings(consumer: str, row: AllocationRow) -> Iterator[HoldingAnswer]:
    for part in row.parts:
        yield HoldingAnswer(
            consumer,
            part.provider,
            part.resource_class,
            part.group,
            part.grant,
            row.claim,
            row.hold_until_ms,
        )


def _holdings_in(reader: StoreReader, cell: str) -> Iterator[HoldingAnswer]:
    partition = partition_for(cell, reader.manifest.partitions)
    for name, data in reader.raw(partition, ALLOCATIONS.family):
        cell_of, consumer = split_key(name)
        if cell_of == cell:
            yield from _holdings(consumer, ALLOCATIONS.decode(data))


def show_claim(reader: StoreReader, claim: str) -> VerdictAnswer:
    """A claim's verdict. Raises `NotFound` if there is none, or it was deleted."""
    reader.catch_up()
    for cell, row in find(reader, VERDICTS, claim):
        return _verdict(reader, cell, claim, row)
    raise NotFound(
        f"there is no verdict on claim {claim!r}",
        where=_where(reader),
        do="it was not judged yet, or its deadline has passed; see `vacancy show consumer`",
    )


def _verdict(reader: StoreReader, cell: str, claim: str, row: VerdictRow) -> VerdictAnswer:
    return VerdictAnswer(
        claim=claim,
        cell=cell,
        partition=partition_for(cell, reader.manifest.partitions),
        offset=row.offset,
        accepted=row.accepted,
        reason=row.reason,
        consumer=row.consumer,
        provider=row.provider,
        resource_class=row.resource_class,
        asked=row.asked,
        available=row.available,
        taken=row.taken,
        deadline_ms=row.deadline_ms,
        group=row.group,
        other=row.other,
    )


def show_request(reader: StoreReader, request: str) -> RequestAnswer:
    """A request and its outcome. Raises `NotFound`."""
    reader.catch_up()
    row = reader.get(REQUESTS, request.encode())
    if row is None:
        raise NotFound(
            f"there is no request {request!r}",
            where=_where(reader),
            do="requests are kept for a day of log time; check the id",
        )
    return RequestAnswer(
        id=request,
        spec=spec_json(row.spec),
        received_ms=row.received_ms,
        outcome=row.outcome,
        claim=row.claim,
        cell=row.cell,
        as_of=dict(row.as_of),
        in_flight=list(row.in_flight),
        reason=row.reason,
    )
