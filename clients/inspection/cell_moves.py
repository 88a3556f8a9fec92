"""Moves between cells as the tables show them: which are open, where their consumers hold something, what they wait for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model import events
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.state.rows import CellMoveRow
from vacancy.resources.state.tables import ALLOCATIONS, CELL_MOVES, PARTITION, PARTITION_KEY, key

Status = Literal["finished", "undone", "released", "open"]


@dataclass(frozen=True, slots=True)
class CellMove:
    """A move between cells, and how far it is.

    `finished`, `undone` and `released` are as in `events.CellMoveEndedData`. Of an `open` one, `reason` has what it waits
    for. `held_in` are the cells in which the consumer holds something, as of the newest commit.
    """

    id: str
    consumer: str
    source: str
    claim: str
    destination: str
    status: Status
    held_in: tuple[str, ...]
    reason: str = ""


def has_cell_moves(reader: StoreReader) -> bool:
    """Whether the rules of the log have moves between cells."""
    rows = [
        reader.get(PARTITION, PARTITION_KEY, cell=cell) for cell in covering_cells(reader.manifest.partitions)
    ]
    return all(
        row is not None and events.CellMoveBegun in reader.versions.of(row.rules_version).event_models
        for row in rows
    )


def cell_moves(reader: StoreReader, consumer: str | None = None, *, ended: bool = False) -> list[CellMove]:
    """The open moves, or with `ended` all that the tables have: of one consumer, or of all, by consumer and id."""
    reader.catch_up()
    if not has_cell_moves(reader):
        return []
    found = [
        described(reader, id_.decode(), row)
        for _, id_, row in reader.scan(CELL_MOVES)
        if consumer in (None, row.consumer) and (ended or not row.outcome)
    ]
    return sorted(found, key=lambda one: (one.consumer, one.id))


def described(reader: StoreReader, id_: str, row: CellMoveRow, reason: str = "") -> CellMove:
    held = tuple(
        cell
        for cell in (row.source, row.destination)
        if reader.get(ALLOCATIONS, key(cell, row.consumer)) is not None
    )
    status: Status = cast(Status, row.outcome) if row.outcome else "open"
    return CellMove(
        id_,
        row.consumer,
        row.source,
        row.claim,
        row.destination,
        status,
        held,
        reason or _waits_for(reader, id_, row),
    )


def _waits_for(reader: StoreReader, id_: str, row: CellMoveRow) -> str:
    """What an open move waits for; '' if it has ended."""
    if row.outcome:
        return ""
    there = reader.get(ALLOCATIONS, key(row.destination, row.consumer))
    if there is not None and there.claim == id_:
        if there.hold_until_ms:
            return f"the claim in {row.destination} is not confirmed"
        return f"what it held in {row.source} is not released"
    if there is not None:
        return f"what it holds in {row.destination} was resized or placed again meanwhile"
    return f"it has no claim in {row.destination}"
