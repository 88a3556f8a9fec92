"""Moves between cells: a claim in the destination, then its confirmation, then the release of the source.

A cell is one partition of the log, so no record can change both halves. The state of a move is in three places, and each
step comes again without effect:

* the partition of the move's id has that it was begun, and at last how it ended (this table);
* the cell of the destination has the claim, whose id is that of the move. It is a hold: unless it is confirmed, it ends by
  itself. Confirmed, the move is to be finished; withdrawn, expired or rejected, it is undone. Both are decided in this cell,
  so the record that comes first decides, and a withdrawal of a confirmed claim changes nothing;
* the cell of the source has the claim that is released last, after a confirmation that somebody has read.

So the consumer holds one half or both at any time. Any scheduler that finds an open move does its next step, and reads from the
tables of the two cells which that is. A move that nobody resumes is undone at the end of its hold, unless it was confirmed. Its row stays until
somebody has ended it, and is deleted a day after that.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from vacancy.resources.fold.claims.claims import fold_release
from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.events import (
    CellMoveBegunData,
    CellMoveEndedData,
    CellMoveWithdrawnData,
    Release,
)
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.state.rows import CellMoveRow
from vacancy.resources.state.tables import ALLOCATIONS, CELL_MOVES, DEADLINES, deadline_key
from vacancy.resources.state.transaction import Transaction

CELL_MOVE: Final = b"M"
CELL_MOVE_KEPT_MS: Final = 24 * 3600 * 1000
"""How long a move stays readable after it ended, in log time."""


def fold_begun(transaction: Transaction, data: CellMoveBegunData) -> None:
    """Record that a move was begun. Raises `InvalidRecord` where a move of this id has other content, or where its cells are
    one."""
    key = _key(transaction, data.move)
    if data.source.cell == data.destination:
        raise InvalidRecord(f"move {data.move} is not between two cells: both are {data.destination}")
    row = CellMoveRow(
        data.consumer,
        data.source.cell,
        data.source.claim,
        data.destination,
        data.deadline_ms,
        data.hold_until_ms,
        transaction.time_ms,
        data.waits,
    )
    known = transaction.get(CELL_MOVES, key)
    if known is None:
        transaction.put(CELL_MOVES, key, row)
    elif replace(known, begun_ms=row.begun_ms, outcome="") != row:
        raise InvalidRecord(f"move {data.move} was begun before with other content")


def fold_withdrawn(transaction: Transaction, data: CellMoveWithdrawnData) -> None:
    """Give up the claim of a move in this cell, unless it was confirmed. A claim that is not in the log yet is cancelled."""
    held = transaction.get(ALLOCATIONS, transaction.key(data.consumer))
    if held is not None and held.claim == data.move and not held.hold_until_ms:
        return
    fold_release(transaction, Release(consumer=data.consumer, claim=data.move, deadline_ms=data.deadline_ms))


def fold_ended(transaction: Transaction, data: CellMoveEndedData) -> None:
    """Record how a move ended. Raises `InvalidRecord` for an unknown move, and where it ended otherwise before."""
    key = _key(transaction, data.move)
    row = transaction.get(CELL_MOVES, key)
    if row is None:
        raise InvalidRecord(f"there is no move {data.move}")
    if row.outcome:
        if row.outcome != data.outcome:
            raise InvalidRecord(f"move {data.move} has ended before: it is {row.outcome}")
        return
    transaction.put(CELL_MOVES, key, replace(row, outcome=data.outcome))
    at_ms = transaction.time_ms + CELL_MOVE_KEPT_MS
    transaction.put(DEADLINES, deadline_key(at_ms, CELL_MOVE, key), b"")


def expire_cell_move(transaction: Transaction, _at_ms: int, key: bytes) -> None:
    """Delete a move that ended `CELL_MOVE_KEPT_MS` ago."""
    transaction.delete(CELL_MOVES, key)


def _key(transaction: Transaction, move: str) -> bytes:
    """The key of a move. Raises `InvalidRecord` where the record's key is not its id."""
    if transaction.cell != move:
        home = partition_for(move, transaction.partition.partitions)
        raise InvalidRecord(
            f"the record's key {transaction.cell} is not the id of move {move}, which belongs to partition {home}"
        )
    return move.encode()
