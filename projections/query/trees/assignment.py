"""A request as a problem of one tree: pieces, each to be served by one provider, and the order in which to try them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any, NamedTuple

from vacancy.projections.view.fleet import FleetView
from vacancy.resources.classes.resource_class import Granted

ORDERED_MAX = 4
"""Up to this many asks of one provider and class are tried in every order: of devices, the ask that is served first may
take what another one needs."""


CountedColumn = tuple[str, str]
"""(class, column)."""

Need = tuple[CountedColumn, int]
"""How much an ask that is counted (`Exactness.EXACT`) takes of a column."""


class Piece(NamedTuple):
    """What one provider serves. `needs` are amounts of classes that columns count; `asks` are tried on records.
    `particular`: some of its asks are for more than an amount, such as a device by name or attribute.

    `group` is the group's place in the request. Pieces of one `kind` ask for the same. No two `exclusive` pieces share a
    provider. `exact_in_columns` are the classes of those asks that every row that may serve the piece grants, if it is asked
    for nothing else: the columns have decided it.
    """

    group: int
    kind: int
    needs: tuple[Need, ...]
    asks: tuple[tuple[str, Any], ...]
    exclusive: bool
    exact_in_columns: frozenset[str] = frozenset()
    particular: bool = False


class CollectiveTrait(NamedTuple):
    """A trait that one of the providers of these pieces must have: any of `rows` has it."""

    pieces: tuple[int, ...]
    rows: frozenset[int]


class TreeProblem(NamedTuple):
    """What is asked of one tree: for each kind the rows that may serve it, the preferred first; collective traits; and
    which pieces must be in one subtree, with the rows above each row (the row itself included). `order` is the order of the
    pieces (see `order_of`), if it is known."""

    pieces: Sequence[Piece]
    rows: Sequence[Sequence[int]]
    collective_traits: Sequence[CollectiveTrait] = ()
    subtrees: Sequence[tuple[int, ...]] = ()
    above: Mapping[int, frozenset[int]] = {}
    order: Sequence[int] = ()


Assignment = list[int]
"""The row that serves each piece."""


def claimable(view: FleetView, tree: TreeProblem, assignment: Assignment) -> Sequence[int] | None:
    """The pieces of an assignment in an order in which the records grant them one after the other: their own order, if
    the records grant them in it. None where there is no such order."""
    pieces = tree.pieces
    asked = [(row, name) for row, piece in zip(assignment, pieces, strict=True) for name, _ in piece.asks]
    if len(set(asked)) == len(asked):
        return range(len(assignment))  # no record is asked twice, and each grants what it is asked
    for order in (range(len(assignment)), order_of(tree)):
        if _in_order(view, pieces, assignment, order):
            return order
    slots = [{(assignment[at], name) for name, _ in piece.asks} for at, piece in enumerate(pieces)]
    meet = [at for at, one in enumerate(slots) if any(one & other for other in slots if other is not one)]
    rest = [at for at in range(len(assignment)) if at not in meet]
    orders = permutations(meet) if len(meet) <= ORDERED_MAX + 1 else iter(())
    return next(([*one, *rest] for one in orders if _in_order(view, pieces, assignment, one)), None)


def _in_order(view: FleetView, pieces: Sequence[Piece], assignment: Assignment, order: Sequence[int]) -> bool:
    records: dict[tuple[int, str], Any] = {}
    for at in order:
        for name, ask in pieces[at].asks:
            slot = assignment[at], name
            record = records[slot] if slot in records else view.record(assignment[at], name)
            outcome = None if record is None else view.classes[name].resource_class.claim(record, ask)
            if not isinstance(outcome, Granted):
                return False
            records[slot] = outcome.record
    return True


def order_of(tree: TreeProblem) -> Sequence[int]:
    """The order in which pieces are tried: the most constrained kinds first, exclusive pieces last. Pieces that ask for
    things by name or attribute come before those that accept any, which might take what the others need."""
    pieces, rows = tree.pieces, tree.rows
    return tree.order or sorted(
        range(len(pieces)),
        key=lambda at: (
            pieces[at].exclusive,
            len(rows[pieces[at].kind]),
            not pieces[at].particular,
            -sum(need for _, need in pieces[at].needs),
            pieces[at].kind,
        ),
    )
