"""Which provider serves which part of a request, in one tree: the exact check, on the few that columns let through.

A request is cut into pieces, each served by one provider: a group, or one class of a group that several providers
may serve together. Pieces of one kind ask for the same. Finding a provider for each is bin packing in general, so it
is a search; what keeps it short:

* of equal pieces a later one takes no earlier provider, and of equal providers one is tried;
* a kind that has too little room left for its pieces ends a branch at once;
* what failed once from the same state of affairs is not tried again, in whatever tree;
* pieces that must not share a provider are a bipartite matching, which needs no search.

The number of trials is bounded. Where the bound is hit nothing is known of that tree, and `SearchBudget` counts it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import permutations
from typing import Any

from vacancy.projections.query.budget import SearchBudget
from vacancy.projections.query.trees.assignment import (
    ORDERED_MAX,
    Assignment,
    CountedColumn,
    Piece,
    TreeProblem,
    claimable,
    order_of,
)
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.classes.resource_class import Granted

UNFIT_MAX = 8
"""After this many trees in a row that first fit could not serve, it is not tried before the search any more."""


FIRST_FIT_TRIES = 1_024
"""Trials of first fit in one tree."""


def match(
    view: FleetView,
    tree: TreeProblem,
    budget: SearchBudget,
    accept: Callable[[Assignment], bool] | None = None,
) -> Assignment | None:
    """An assignment of all pieces that `accept` accepts, or None where there is none or where the budget ends."""
    if not all(tree.rows[piece.kind] for piece in tree.pieces):
        return None
    assignment = _any(view, tree, budget)
    if assignment is None or accept is None or accept(assignment):
        return assignment
    search = _Search(view, tree, budget, every=True)
    assignment = next(filter(accept, search.run()), None)
    budget.gave_up += assignment is None and search.bounded
    return assignment


def assignments(
    view: FleetView,
    tree: TreeProblem,
    budget: SearchBudget,
    accept: Callable[[Assignment], bool] | None = None,
) -> Iterator[Assignment]:
    """All assignments, one at a time; those that differ only in which of equal pieces is served by whom count as one."""
    if all(tree.rows[piece.kind] for piece in tree.pieces):
        yield from filter(accept, _Search(view, tree, budget, every=True).run())


def _any(view: FleetView, tree: TreeProblem, budget: SearchBudget) -> Assignment | None:
    if budget.unfit < UNFIT_MAX:
        assignment = _first_fit(view, tree)
        if assignment is not None:
            budget.unfit = 0
            return assignment
        budget.unfit += 1
    return next(_Search(view, tree, budget, every=False).run(), None)


def _first_fit(view: FleetView, tree: TreeProblem) -> Assignment | None:
    """An assignment without a search: each piece takes the first provider that has room. None where that does not serve all
    pieces, or where a record would have to be read. As a rule it is enough."""
    assignment: Assignment = [-1] * len(tree.pieces)
    used: dict[int, dict[CountedColumn | str, int]] = {}
    taken: set[int] = set()
    tries = FIRST_FIT_TRIES
    for at in order_of(tree):
        piece = tree.pieces[at]
        if len(piece.exact_in_columns) < len(piece.asks):
            return None
        for row in tree.rows[piece.kind]:
            tries -= 1
            held = used.get(row)
            if held is not None and (
                (piece.exclusive and row in taken) or not _has_left(view, piece, row, held)
            ):
                continue
            assignment[at] = row
            if not tree.subtrees or _is_together(tree, assignment, at):
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
        if piece.exclusive:
            taken.add(row)
    covered = all(
        any(assignment[number] in trait.rows for number in trait.pieces) for trait in tree.collective_traits
    )
    return assignment if covered else None


def _has_left(view: FleetView, piece: Piece, row: int, held: Mapping[CountedColumn | str, int]) -> bool:
    """Whether a row that also serves other pieces has room for this one."""
    for counted, need in piece.needs:
        if counted in held:
            name, column = counted
            if view.classes[name].arrays[column][row] - held[counted] < need:
                return False
    return not any(name in held for name, _ in piece.asks)


def _is_together(tree: TreeProblem, assignment: Assignment, at: int) -> bool:
    """Whether pieces of which this one is the last are in one subtree."""
    for subtree in tree.subtrees:
        placed = [assignment[number] for number in subtree]
        if at in subtree and -1 not in placed:
            tops = frozenset.intersection(*(tree.above[row] for row in placed))
            if tops.isdisjoint(placed):
                return False
    return True


class _Search:
    """Backtracking over pieces, the most constrained kind first; `every`: go on after the first assignment."""

    def __init__(self, view: FleetView, tree: TreeProblem, budget: SearchBudget, *, every: bool) -> None:
        self._view = view
        self._tree = tree
        self._budget = budget
        self._every = every
        self._steps = budget.tree_steps
        self.bounded = False
        pieces, rows = tree.pieces, tree.rows
        self.order = order_of(tree)
        self._assignment: Assignment = [-1] * len(pieces)
        self._taken: set[int] = set()
        self._records: dict[tuple[int, str], Any] = {}
        self._asks: dict[tuple[int, str], tuple[Any, ...]] = {}
        self._reordered = False
        self._by_record = any(piece.asks for piece in pieces)
        self._has_exclusive = any(piece.exclusive for piece in pieces)
        self._inner = {other for row, some in tree.above.items() for other in some if other != row}
        everywhere = sorted({row for some in rows for row in some})
        self._counted = sorted({counted for piece in pieces for counted, _ in piece.needs})
        self._free: dict[CountedColumn, dict[int, int]] = {
            (name, column): dict(
                zip(everywhere, view.classes[name].arrays[column][everywhere].tolist(), strict=True)
            )
            for name, column in self._counted
        }
        self._likeness: dict[int, Any] = {}

    def run(self) -> Iterator[Assignment]:
        """The assignments found."""
        for assignment in self._place(0, 0):
            if not self._reordered or claimable(self._view, self._tree, assignment) is not None:
                yield assignment
        if self.bounded and not self._every:
            self._budget.gave_up += 1

    def _place(self, at: int, start: int) -> Iterator[Assignment]:
        if at == len(self.order):
            yield list(self._assignment)
            return
        number = self.order[at]
        piece = self._tree.pieces[number]
        is_first = at == 0 or self._tree.pieces[self.order[at - 1]].kind != piece.kind
        if is_first:
            start = 0
            if not self._may_go_on(at):
                return
            if piece.exclusive and not self._every and not self._tree.subtrees:
                if self._match_rest(at):
                    yield list(self._assignment)
                return
        found = False
        options = self._tree.rows[piece.kind]
        tried: set[Any] = set()
        for position in range(start, len(options)):
            row = options[position]
            if tried and self._like(row) in tried:
                continue
            if self._steps <= 0 or self._budget.left <= 0:
                self.bounded = True
                return
            self._steps -= 1
            self._budget.left -= 1
            before = self._take(piece, row)
            if before is None:
                continue
            self._assignment[number] = row
            if self._is_allowed(number):
                for assignment in self._place(at + 1, position + piece.exclusive):
                    found = True
                    yield assignment
            self._assignment[number] = -1
            self._give(piece, row, before)
            if not self._every and not self._by_record:
                tried.add(self._like(row))
        if is_first and not found and not self.bounded and self._is_general:
            self._budget.failed.add(self._state(at))

    # -- what is taken ------------------------------------------------------------------------------------------

    def _take(self, piece: Piece, row: int) -> dict[tuple[int, str], Any] | None:
        """Take what the piece asks of a row. Returns the records before, or None where it does not fit."""
        free = self._free
        if piece.exclusive and row in self._taken:
            return None
        for counted, need in piece.needs:
            if free[counted][row] < need:
                return None
        before: dict[tuple[int, str], Any] = {}
        for name, ask in piece.asks:
            slot = (row, name)
            asked = self._asks.get(slot, ())
            if not asked and name in piece.exact_in_columns:
                record, after = self._records.get(slot), None
            else:
                record = self._record(slot)
                outcome = (
                    None if record is None else self._view.classes[name].resource_class.claim(record, ask)
                )
                after = outcome.record if isinstance(outcome, Granted) else self._in_another_order(slot, ask)
                if after is None:
                    self._undo(before)
                    return None
            before[slot] = record
            self._records[slot] = after
            self._asks[slot] = (*asked, ask)
        for counted, need in piece.needs:
            free[counted][row] -= need
        if piece.exclusive:
            self._taken.add(row)
        return before

    def _record(self, slot: tuple[int, str]) -> Any | None:
        """A record after all that was asked of it here. It is read, and the first ask tried, only when there is more to
        try on it than the columns have decided."""
        record = self._records.get(slot)
        if record is None:
            record = self._view.record(*slot)
            for ask in self._asks.get(slot, ()) if record is not None else ():
                outcome = self._view.classes[slot[1]].resource_class.claim(record, ask)
                record = outcome.record if isinstance(outcome, Granted) else None
            self._records[slot] = record
        return record

    def _give(self, piece: Piece, row: int, before: Mapping[tuple[int, str], Any]) -> None:
        for counted, need in piece.needs:
            self._free[counted][row] += need
        self._undo(before)
        if piece.exclusive:
            self._taken.discard(row)

    def _undo(self, before: Mapping[tuple[int, str], Any]) -> None:
        self._records.update(before)
        for slot in before:
            self._asks[slot] = self._asks[slot][:-1]

    def _in_another_order(self, slot: tuple[int, str], ask: Any) -> Any:
        """The record after all that was asked of it and this, in an order in which it grants them, or None."""
        asks = (*self._asks.get(slot, ()), ask)
        if not 1 < len(asks) <= ORDERED_MAX or all(one == ask for one in asks):
            return None
        claim = self._view.classes[slot[1]].resource_class.claim
        for order in permutations(asks):
            self._steps -= 1
            self._budget.left -= 1
            record = self._view.record(*slot)
            for one in order:
                outcome = claim(record, one)
                if not isinstance(outcome, Granted):
                    break
                record = outcome.record
            else:
                self._reordered = True
                return record
        return None

    # -- what ends a branch -------------------------------------------------------------------------------------

    def _may_go_on(self, at: int) -> bool:
        """Whether each kind that is left has room for all its pieces, if no other kind took any."""
        left: dict[int, int] = {}
        for number in self.order[at:]:
            kind = self._tree.pieces[number].kind
            left[kind] = left.get(kind, 0) + 1
        done = 0
        for kind, count in left.items():
            piece = self._tree.pieces[self.order[at + done]]
            done += count
            for row in self._tree.rows[kind]:
                count -= self._copies(piece, row, count)
                if count <= 0:
                    break
            if count > 0:
                return False
        if self._budget.failed and self._is_general and self._state(at) in self._budget.failed:
            return False
        searched = self._every or self._tree.subtrees
        return not (searched and self._has_exclusive) or self._match_rest(at, keep=False)

    def _copies(self, piece: Piece, row: int, most: int) -> int:
        """How many such pieces, up to `most`, the row has room for; an upper bound where records decide."""
        if piece.exclusive:
            if row in self._taken:
                return 0
            most = 1
        for counted, need in piece.needs:
            most = min(most, self._free[counted][row] // need)
        return max(0, most)

    def _is_allowed(self, number: int) -> bool:
        """Whether the collective traits and subtrees that this piece is a part of can still be satisfied."""
        pieces, rows, assignment = self._tree.pieces, self._tree.rows, self._assignment
        for trait in self._tree.collective_traits:
            if number in trait.pieces and not any(
                assignment[other] in trait.rows
                if assignment[other] >= 0
                else not trait.rows.isdisjoint(rows[pieces[other].kind])
                for other in trait.pieces
            ):
                return False
        above = self._tree.above
        for subtree in self._tree.subtrees:
            if number in subtree:
                placed = [assignment[other] for other in subtree if assignment[other] >= 0]
                tops = frozenset.intersection(*(above[row] for row in placed))
                if tops.isdisjoint(placed) and all(
                    assignment[other] >= 0 or tops.isdisjoint(rows[pieces[other].kind]) for other in subtree
                ):
                    return False
        return True

    # -- exclusive pieces ---------------------------------------------------------------------------------------

    def _match_rest(self, at: int, *, keep: bool = True) -> bool:
        """Kuhn's augmenting paths for the pieces from `at` on that must not share a provider: a piece
        that fits a row by itself fits it for good. With `keep`, the assignment that was found is kept."""
        rest = [number for number in self.order[at:] if self._tree.pieces[number].exclusive]
        server: dict[int, int] = {}
        fitting: dict[int, list[int]] = {}

        def options(number: int) -> list[int]:
            piece = self._tree.pieces[number]
            if piece.kind not in fitting:
                fitting[piece.kind] = [row for row in self._tree.rows[piece.kind] if self._fits(piece, row)]
            return fitting[piece.kind]

        def place(number: int, tried: set[int]) -> bool:
            for row in options(number):
                if row not in tried:
                    tried.add(row)
                    if row not in server or place(server[row], tried):
                        server[row] = number
                        return True
            return False

        for number in rest:
            if not place(number, set()):
                return False
        if keep:
            for row, number in server.items():
                self._assignment[number] = row
        return True

    def _fits(self, piece: Piece, row: int) -> bool:
        before = self._take(piece, row)
        if before is None:
            return False
        self._give(piece, row, before)
        return True

    # -- likeness -----------------------------------------------------------------------------------------------

    @property
    def _is_general(self) -> bool:
        """Whether a state determines the outcome, whichever rows are in it."""
        return not self._by_record and not self._tree.subtrees and not self._every

    def _like(self, row: int) -> Any:
        """Rows of equal likeness are interchangeable in the present state. Rows that records decide on never are."""
        if self._by_record:
            return row
        fixed = self._likeness.get(row)
        if fixed is None:
            tree = self._tree
            fixed = (
                tuple(row in some for some in tree.rows),
                tuple(row in trait.rows for trait in tree.collective_traits),
                self._place_of(row) if tree.subtrees else None,
            )
            self._likeness[row] = fixed
        serves = tuple(any(self._assignment[n] == row for n in subtree) for subtree in self._tree.subtrees)
        return fixed, serves, row in self._taken, *(self._free[counted][row] for counted in self._counted)

    def _place_of(self, row: int) -> Any:
        """Rows without children that have the same parent are in the same place."""
        return row if row in self._inner else (self._tree.above[row] - {row},)

    def _state(self, at: int) -> Any:
        """All that determines whether the pieces from `at` on can be served, without the numbers of rows."""
        assignment = self._assignment
        pieces = self._tree.pieces
        covered = tuple(
            any(assignment[number] in trait.rows for number in trait.pieces if assignment[number] >= 0)
            for trait in self._tree.collective_traits
        )
        rows = sorted({row for some in self._tree.rows for row in some})
        states = tuple(sorted((self._like(row) for row in rows), key=repr))
        return tuple(pieces[number].kind for number in self.order[at:]), covered, states
