"""Moves between cells in the simulated cloud: schedulers begin them, and any scheduler does the next step of an open one.

The steps are those of docs/moves-between-cells.md. Each may be repeated, left out, or done by another scheduler, as after a
kill. What a step is decided on is the state up to the end of the log, as `vacancy settle` reads it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from tests.support.logs.events_json import Tape, event, released
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.state.rows import CellMoveRow
from vacancy.resources.state.tables import ALLOCATIONS, CELL_MOVES, VERDICTS, key

DEADLINE_MS = 30_000
HOLD_MS = 90_000


def begun(move: str, source: tuple[str, str], claim: dict[str, Any], destination: str) -> bytes:
    """The first step. `source` is the cell and the claim that the consumer of `claim` leaves."""
    return event(
        "cell.move.begun.v1",
        {
            "move": move,
            "consumer": claim["consumer"],
            "source": {"cell": source[0], "claim": source[1]},
            "destination": destination,
            "deadline_ms": claim["deadline_ms"],
            "hold_until_ms": claim["hold_until_ms"],
        },
    )


class CellMoves:
    """The moves between cells on a tape. `settle` folds all of the log, so that `reader` shows its end."""

    def __init__(self, tape: Tape, rng: random.Random, settle: Callable[[], None]) -> None:
        self._tape, self._rng, self._settle = tape, rng, settle

    def go_on(self, reader: StoreReader) -> bool:
        """Do the next step of one of the open moves. Returns whether there is one."""
        self._settle()
        reader.catch_up()
        moves = list(_open(reader))
        if moves:
            move, row = self._rng.choice(moves)
            for cell, value in self._next(reader, move, row):
                self._tape.append(cell, value)
                if self._rng.random() < 0.2:
                    self._tape.append(cell, value)
        return bool(moves)

    def end(self, reader: StoreReader) -> None:
        """Go on with all of them until none is open."""
        while self.go_on(reader):
            self._tape.now_ms += 5_000
            for cell in self._tape.cells:
                self._tape.append(cell, event("tick.v1", {}))
        self._settle()

    def _next(self, reader: StoreReader, move: str, row: CellMoveRow) -> Iterator[tuple[str, bytes]]:
        here = reader.get(ALLOCATIONS, key(row.source, row.consumer))
        there = reader.get(ALLOCATIONS, key(row.destination, row.consumer))
        is_here = here is not None and here.claim == row.claim
        if there is not None and there.claim == move:
            if there.hold_until_ms and (not is_here or self._rng.random() < 0.2):
                yield row.destination, _withdrawn(move, row)
            elif there.hold_until_ms:
                said = {"consumer": row.consumer, "claim": move}
                yield row.destination, event("consumer.confirmed.v1", said)
            elif is_here:
                yield row.source, released(row.consumer, row.claim, None)
            else:
                yield move, _ended(move, "finished")
        elif not _is_decided(reader, move, row):
            yield row.destination, _withdrawn(move, row)
        elif there is None:
            yield move, _ended(move, "undone" if here is not None else "released")
        elif here is None:
            if not there.hold_until_ms:  # otherwise it may still end
                yield move, _ended(move, "finished")
        else:
            # It was placed again or resized meanwhile, in both cells: an operator releases one half.
            half, held = self._rng.choice(((row.source, here), (row.destination, there)))
            yield half, released(row.consumer, held.claim, None)


def _open(reader: StoreReader) -> Iterator[tuple[str, CellMoveRow]]:
    for _, name, row in reader.scan(CELL_MOVES):
        if not row.outcome:
            yield name.decode(), row


def _is_decided(reader: StoreReader, move: str, row: CellMoveRow) -> bool:
    """Whether the claim of a move that holds nothing can no longer be accepted."""
    if reader.get(VERDICTS, key(row.destination, move)) is not None:
        return True
    partition = partition_for(row.destination, reader.manifest.partitions)
    return reader.log_time_ms(partition) > row.deadline_ms


def _withdrawn(move: str, row: CellMoveRow) -> bytes:
    data = {"move": move, "consumer": row.consumer, "deadline_ms": row.deadline_ms}
    return event("cell.move.withdrawn.v1", data)


def _ended(move: str, outcome: str) -> bytes:
    return event("cell.move.ended.v1", {"move": move, "outcome": outcome})
