"""Retire a node for an operator, from any host: in the cell where it is, and in its present incarnation.

The event retires the incarnation that is known now, and not one that is opened meanwhile. Before rules version 4 it is the
node's own event: it has the next sequence number.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import uuid4

from vacancy.clients.admin.operator import SOURCE
from vacancy.clients.inspection.answers import HoldingAnswer
from vacancy.clients.inspection.lookup import NotFound, find, provider_cell, show_provider
from vacancy.clients.runtime.folded_log import FoldedLog
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model import events
from vacancy.resources.model.errors import UsageError, VacancyError
from vacancy.resources.model.record import NewRecord
from vacancy.resources.state.tables import NODES, PARTITION, PARTITION_KEY, PROVIDERS, key
from vacancy.streams.log import Log

_SHOWN = 5


class StillHeld(VacancyError):
    """A node holds allocations, so it is not retired without `force`. Operator action: move or release them."""


class RetiredNode(NamedTuple):
    """A node that is retired. `held` is what consumers still hold of it: it stays until it is released. `changed` is False
    if it was retired already and nothing was sent, `applied` if nobody waited for the store."""

    provider: str
    cell: str
    held: list[HoldingAnswer]
    changed: bool = True
    applied: bool = True


def retire(
    log: Log,
    reader: StoreReader,
    node: str,
    *,
    cell: str | None = None,
    force: bool = False,
    timeout_s: float = 10.0,
    wait: bool = True,
) -> RetiredNode:
    """Retire a node: it takes no new claims, and what is held of it stays until it is released.

    `cell` selects one of two cells. Raises `NotFound`, `UsageError` for a provider that is not a node or that is in two
    cells, `StillHeld` where it holds allocations and not `force`, `VacancyError` where the node reported again at the same
    time, and as `FoldedLog` does.
    """
    folded = FoldedLog(log, reader, timeout_s=timeout_s, wait=wait)
    cell = cell or _cell_of(reader, node)
    row, provider = reader.get(NODES, key(cell, node)), reader.get(PROVIDERS, key(cell, node))
    if provider is not None and provider.root != node:
        raise UsageError(
            f"{node} is a part of node {provider.root}, and only nodes are retired",
            where=f"cell {cell}",
            do=f"retire {provider.root}, or disable {node} with `vacancy provider disable {node}`",
        )
    if row is None:
        raise NotFound(f"there is no node {node!r} in cell {cell}", do="omit --cell, or give another cell")
    held = held_of(reader, cell, node)
    if row.retired:
        return RetiredNode(node, cell, held, changed=False)
    if not force:
        check_not_held(cell, node, held)
    event = _retirement(reader, cell, node, *row.incarnations[0])
    subject, look = f"the retirement of {node}", f"`vacancy show provider {node}`"
    folded.write([NewRecord(cell, events.encode(event))], subject, look)
    if wait:
        now = reader.get(NODES, key(cell, node))
        if now is not None and not now.retired:
            raise VacancyError(
                f"node {node} was not retired: it reported at the same time, so its publisher runs",
                where=f"cell {cell}, incarnation {now.incarnations[0][0]}",
                do="stop its publisher, or retire it there: `vacancy publish --retire`",
            )
    return RetiredNode(node, cell, held, applied=wait)


def _retirement(
    reader: StoreReader, cell: str, node: str, incarnation: str, sequence: int
) -> events.NodeRetired | events.NodeRetiredV2:
    """The event that retires this incarnation, in the newest form that the rules in force have."""
    partition = reader.get(PARTITION, PARTITION_KEY, cell=cell)
    rules = reader.versions.of(partition.rules_version if partition else 1)
    id_ = uuid4().hex
    if events.NodeRetiredV2 in rules.handlers:
        retired = events.RetirementData(root=node, incarnation=incarnation)
        return events.NodeRetiredV2(id=id_, source=SOURCE, data=retired)
    if sequence >= events.SEQUENCE_MAX:
        raise VacancyError(
            f"incarnation {incarnation} of node {node} has no sequence number left",
            where=f"cell {cell}",
            do=f"open another one, and retire that: `vacancy publish --retire --root {node} --cell {cell}`",
        )
    data = events.NodeData(root=node, incarnation=incarnation, sequence=sequence + 1)
    return events.NodeRetired(id=id_, source=SOURCE, data=data)


def held_of(reader: StoreReader, cell: str, node: str) -> list[HoldingAnswer]:
    """What consumers hold of a node, [] if the cell does not have it."""
    if reader.get(PROVIDERS, key(cell, node)) is None:
        return []
    return show_provider(reader, node, cell=cell).holdings


def check_not_held(cell: str, node: str, held: list[HoldingAnswer]) -> None:
    """Raise `StillHeld` if something of a node is held."""
    if held:
        raise StillHeld(
            f"node {node} is not retired: {held_text(held)}",
            where=f"cell {cell}",
            do="move or release them first, or give --force: they then keep what they hold of it until they are released",
        )


def held_text(held: list[HoldingAnswer]) -> str:
    """Which consumers hold something of a node, and how much of it, in one line."""
    parts: dict[str, list[str]] = {}
    for one in held:
        grant = f"{one.grant} " if isinstance(one.grant, int) else ""
        parts.setdefault(one.consumer, []).append(f"{grant}{one.resource_class} of {one.provider}")
    shown = [f"{consumer} ({', '.join(some)})" for consumer, some in list(parts.items())[:_SHOWN]]
    if len(parts) > _SHOWN:
        shown.append(f"{len(parts) - _SHOWN} more")
    consumers = "1 consumer holds" if len(parts) == 1 else f"{len(parts)} consumers hold"
    return f"{consumers} something of it: {', '.join(shown)}"


def _cell_of(reader: StoreReader, node: str) -> str:
    """The cell of a node; of one that is gone, the cell that still knows it. Raises as `provider_cell` does."""
    known = [cell for cell, row in find(reader, NODES, node) if not row.retired]
    if len(known) == 1:
        return known[0]
    gone = [] if known else find(reader, NODES, node)
    if len(gone) == 1:
        return gone[0][0]
    return provider_cell(reader, node)
