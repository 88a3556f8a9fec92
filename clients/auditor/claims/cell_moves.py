"""Moves between cells as the auditor keeps them: own books of what was begun, what was confirmed, and what ended how.

Written from docs/moves-between-cells.md. Whether what is held adds up is decided at the end of the log, when the books of all
partitions are known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from vacancy.clients.auditor.claims.consumers import Consumers, Key
from vacancy.clients.auditor.classes.class_auditor import Refused

CELL_MOVE_KEPT_MS: Final = 24 * 3_600_000
"""How long a move is kept after it ended."""

HeldBy = Callable[[str, str], str | None]
"""(cell, consumer) -> the claim by which it holds something there, or None."""


class AuditedMove(NamedTuple):
    """A move: `where` it was begun, what was said then, and how it ended ('': it is open)."""

    where: str
    begun: Mapping[str, Any]
    outcome: str = ""


@dataclass(slots=True)
class AuditedCellMoves:
    """The moves whose ids are of one partition, and the consumers that held something there that was not only a hold."""

    known: dict[str, AuditedMove] = field(default_factory=dict)
    """The moves that a store has now: one is forgotten a day after it ended."""
    all: dict[str, AuditedMove] = field(default_factory=dict)
    settled: set[Key] = field(default_factory=set)
    """(cell, consumer) of what was held without a hold, or with one that was confirmed."""

    def begin(self, cell: str, data: Mapping[str, Any], where: str) -> None:
        """A move is begun. Raises `Refused`."""
        move = data["move"]
        if cell != move or data["source"]["cell"] == data["destination"]:
            raise Refused
        if move not in self.known:
            self.known[move] = self.all[move] = AuditedMove(where, data)

    def end(self, cell: str, data: Mapping[str, Any]) -> bool:
        """A move ends. Returns whether it was open until now. Raises `Refused`."""
        move = data["move"]
        known = self.known.get(move)
        if cell != move or known is None:
            raise Refused
        if known.outcome:
            return False
        self.known[move] = self.all[move] = known._replace(outcome=data["outcome"])
        return True


def held_by(partitions: Mapping[int, Consumers]) -> HeldBy:
    """What consumers hold at the end of the log."""
    claims: dict[Key, str] = {}
    for consumers in partitions.values():
        claims.update((key, held.claim) for key, held in consumers.items())
    return lambda cell, consumer: claims.get((cell, consumer))


def move_errors(partitions: Mapping[int, AuditedCellMoves], claim_of: HeldBy) -> Iterator[tuple[str, str]]:
    """(place in the log, error) of each move that ended and does not add up."""
    settled = set().union(*(moves.settled for moves in partitions.values()))
    for id_, move in _all(partitions):
        begun, what = move.begun, _text(id_, move)
        here = claim_of(begun["source"]["cell"], begun["consumer"]) == begun["source"]["claim"]
        there = claim_of(begun["destination"], begun["consumer"]) == id_
        if move.outcome and here and there:
            yield move.where, f"{what} is {move.outcome}, but both halves are held"
        elif move.outcome == "finished" and here:
            yield move.where, f"{what} is finished, but its source is held"
        elif move.outcome == "finished" and (begun["destination"], begun["consumer"]) not in settled:
            # Its own claim, the one of a resize meanwhile, or that of another move to the same cell.
            yield move.where, f"{what} is finished, but nothing that the consumer held there was confirmed"
        elif move.outcome == "undone" and there:
            yield move.where, f"{what} is undone, but its claim is held"
        elif move.outcome == "released" and (here or there):
            yield move.where, f"{what} is released, but one half is held"


def open_moves(partitions: Mapping[int, AuditedCellMoves], claim_of: HeldBy) -> list[str]:
    """The moves that are open at the end of the log, with the cells in which their consumers hold something."""
    found = []
    for id_, move in _all(partitions):
        if not move.outcome:
            begun = move.begun
            cells = [
                cell
                for cell in (begun["source"]["cell"], begun["destination"])
                if claim_of(cell, begun["consumer"]) is not None
            ]
            held = f"held in {' and '.join(cells)}" if cells else "held nowhere"
            found.append(f"{_text(id_, move)} is open: {held}")
    return found


def _all(partitions: Mapping[int, AuditedCellMoves]) -> Iterator[tuple[str, AuditedMove]]:
    for _, moves in sorted(partitions.items()):
        yield from moves.all.items()


def _text(id_: str, move: AuditedMove) -> str:
    begun = move.begun
    return f"move {id_} of {begun['consumer']} from cell {begun['source']['cell']} to cell {begun['destination']}"
