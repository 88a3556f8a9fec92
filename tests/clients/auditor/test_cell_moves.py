"""The auditor on moves between cells: what has ended adds up, and what is open is named. Each error is made by hand, in a log that
the fold would not make."""

from __future__ import annotations

import pytest

from vacancy.clients.auditor.claims.cell_moves import AuditedCellMoves, move_errors, open_moves
from vacancy.clients.auditor.classes.class_auditor import Refused

BEGUN = {
    "move": "m1",
    "consumer": "vm-1",
    "source": {"cell": "a", "claim": "c1"},
    "destination": "b",
    "deadline_ms": 1,
    "hold_until_ms": 1,
}
MOVE = "move m1 of vm-1 from cell a to cell b"


@pytest.mark.parametrize(
    ("outcome", "confirmed", "held", "error"),
    [
        ("finished", True, {"b": "m1"}, ""),
        ("finished", True, {"b": "resized-since"}, ""),
        ("finished", True, {}, ""),
        ("finished", True, {"a": "c1", "b": "m1"}, "is finished, but both halves are held"),
        ("finished", True, {"a": "c1"}, "is finished, but its source is held"),
        (
            "finished",
            False,
            {"b": "m1"},
            "is finished, but nothing that the consumer held there was confirmed",
        ),
        ("undone", False, {"a": "c1"}, ""),
        ("undone", True, {"a": "c1"}, ""),
        ("undone", True, {"b": "m1"}, "is undone, but its claim is held"),
        ("undone", False, {"a": "c1", "b": "m1"}, "is undone, but both halves are held"),
        ("released", True, {}, ""),
        ("released", True, {"a": "c1"}, "is released, but one half is held"),
        ("", True, {"a": "c1", "b": "m1"}, ""),
    ],
)
def test_what_has_ended_adds_up(outcome: str, confirmed: bool, held: dict[str, str], error: str) -> None:
    of_move, of_cell = AuditedCellMoves(), AuditedCellMoves()
    of_move.begin("m1", BEGUN, "2:5")
    if outcome:
        assert of_move.end("m1", {"move": "m1", "outcome": outcome})
        assert not of_move.end("m1", {"move": "m1", "outcome": "other"})
    if confirmed:
        of_cell.settled.add(("b", "vm-1"))
    books = {0: of_cell, 2: of_move}

    def claim_of(cell: str, consumer: str) -> str | None:
        assert consumer == "vm-1"
        return held.get(cell)

    assert list(move_errors(books, claim_of)) == ([("2:5", f"{MOVE} {error}")] if error else [])
    named = [] if outcome else [f"{MOVE} is open: held in a and b"]
    assert open_moves(books, claim_of) == named


def test_what_the_rules_refuse_is_not_in_the_books() -> None:
    moves = AuditedCellMoves()
    with pytest.raises(Refused):
        moves.begin("a", BEGUN, "0:1")
    with pytest.raises(Refused):
        moves.begin("m1", {**BEGUN, "destination": "a"}, "0:2")
    with pytest.raises(Refused):
        moves.end("m1", {"move": "m1", "outcome": "undone"})
    assert moves.all == {}
