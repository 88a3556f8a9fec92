"""A way to serve one tree without a search: each piece takes the first provider that has room."""

from __future__ import annotations

from collections.abc import Mapping

from vacancy.projections.query.assignment import Assignment, CountedColumn, Piece, TreeProblem, order_of
from vacancy.projections.view.fleet import FleetView

FIRST_FIT_TRIES = 1_024
"""Trials of first fit in one tree."""


def first_fit(view: FleetView, tree: TreeProblem) -> Assignment | None:
    """Each piece takes the first provider that has room, if that serves all of them and no record must be read. It is
    what the search would try first, and as a rule enough."""
    way: Assignment = [-1] * len(tree.pieces)
    used: dict[int, dict[CountedColumn | str, int]] = {}
    taken: set[int] = set()
    tries = FIRST_FIT_TRIES
    for at in order_of(tree):
        piece = tree.pieces[at]
        if len(piece.sure) < len(piece.asks):
            return None
        for row in tree.rows[piece.kind]:
            tries -= 1
            held = used.get(row)
            if held is not None and ((piece.alone and row in taken) or not _has_left(view, piece, row, held)):
                continue
            way[at] = row
            if not tree.subtrees or _is_together(tree, way, at):
                break
        else:
            return None
        if tries < 0:
            return None
        # Of a class that is not counted, one ask counts as taking everything.
        held = used.setdefault(row, {})
        for counted, need in piece.needs:
            held[counted] = held.get(counted, 0) + need
        for name, _ in piece.asks:
            held[name] = 0
        if piece.alone:
            taken.add(row)
    covered = all(any(way[number] in cover.rows for number in cover.pieces) for cover in tree.covers)
    return way if covered else None


def _has_left(view: FleetView, piece: Piece, row: int, held: Mapping[CountedColumn | str, int]) -> bool:
    """Whether a row that also serves other pieces has room for this one."""
    for counted, need in piece.needs:
        if counted in held:
            name, column = counted
            if view.classes[name].arrays[column][row] - held[counted] < need:
                return False
    return not any(name in held for name, _ in piece.asks)


def _is_together(tree: TreeProblem, way: Assignment, at: int) -> bool:
    """Whether pieces of which this one is the last are in one subtree."""
    for subtree in tree.subtrees:
        placed = [way[number] for number in subtree]
        if at in subtree and -1 not in placed:
            tops = frozenset.intersection(*(tree.above[row] for row in placed))
            if tops.isdisjoint(placed):
                return False
    return True
