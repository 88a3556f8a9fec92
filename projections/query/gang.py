"""Places for several unlike requests at once, in one cell: all or none.

The members are placed one after the other, those with the fewest places first; what one takes counts as taken for the
next. Where a member finds nothing, other places of those before it are tried. A member that has places on at least as many
trees as there are members always finds one, whatever the others take; so the search goes back only over those that have
few. Where the limits of the search are not reached, it finds places for all if there are any.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import permutations
from typing import Final, NamedTuple

import numpy as np

from vacancy.projections.query.affinity.engine import memberships_of
from vacancy.projections.query.budget import SearchBudget
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.engine import find
from vacancy.projections.query.model import Candidate
from vacancy.projections.query.order import Order
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.group_members import ReservedMembership
from vacancy.projections.view.reserved_view import ReservedView
from vacancy.resources.classes.resource_class import Exactness
from vacancy.resources.state.tables import key

PLACES_MAX: Final = 256
"""Places of one member that are tried, where no others are placed otherwise."""

TRIALS_MAX: Final = 1_000
"""Places tried for one more member, in one cell."""

ORDERS_MAX: Final = 24
"""Orders of turns that are tried, in one cell."""


class GangMember(NamedTuple):
    """A request of a gang, the consumer that it is for, and the roots of trees that it must not be on."""

    request: CompiledRequest
    consumer: str
    avoid: Collection[str] = ()


class FoundGang(NamedTuple):
    """Places for the members of a gang, in their order: none if there are none. `turns`: the numbers of the members in the
    order in which they were placed. Their claims have to be judged in this order, because what is granted by name to one
    member decides what is left for the next. `gave_up`: cells in which not everything was tried. `placeless`: the number of a
    member that has no place in any cell even by itself, or None."""

    places: tuple[Candidate, ...] = ()
    turns: tuple[int, ...] = ()
    gave_up: int = 0
    placeless: int | None = None


def find_gang(
    view: FleetView,
    members: Sequence[GangMember],
    *,
    order: Order,
    rng: np.random.Generator,
    heard_since_ms: int | None = None,
) -> FoundGang:
    """Places for all members in one cell. The cells are tried in random order. Raises as `find`."""
    gave_up = 0
    alone = [False] * len(members)
    cells = list(view.cells)
    for number in rng.permutation(len(cells)).tolist():
        search = _CellSearch(view, cells[number].decode(), members, order, rng, heard_since_ms)
        placed = search.run()
        if placed:
            places = tuple(place for _, place in sorted(placed, key=lambda one: one[0]))
            return FoundGang(places, tuple(member for member, _ in placed))
        gave_up += search.incomplete
        alone = [known or has for known, has in zip(alone, search.alone, strict=True)]
    placeless = next((number for number, has in enumerate(alone) if not has), None)
    return FoundGang(gave_up=gave_up, placeless=placeless)


class _CellSearch:
    """The search in one cell."""

    def __init__(
        self,
        view: FleetView,
        cell: str,
        members: Sequence[GangMember],
        order: Order,
        rng: np.random.Generator,
        heard_since_ms: int | None,
    ) -> None:
        self._base, self._view = view, ReservedView(view)
        self._cell = cell
        self._members = members
        self._order, self._rng, self._heard_since_ms = order, rng, heard_since_ms
        self._left = TRIALS_MAX
        self._placed: list[tuple[int, Candidate]] = []
        self._joined: list[list[ReservedMembership]] = []
        self.incomplete = False
        self.alone: list[bool] = []
        """By member, whether it has a place in the cell by itself, or whether that is not known."""

    def run(self) -> tuple[tuple[int, Candidate], ...]:
        """Places for all members, with their numbers, in the order in which they were placed; or none."""
        firsts = []
        for number in range(len(self._members)):
            self.incomplete = False
            firsts.append(self._places(number))
            self.alone.append(bool(firsts[-1]) or self.incomplete)
        if not all(firsts):
            self.incomplete = all(self.alone)
            return ()
        self.incomplete = False
        few = [len(first) for first in firsts]
        turns = sorted(range(len(few)), key=lambda number: (few[number], self._members[number].request.key))
        try:
            for number, order in enumerate(self._orders(turns)):
                if number == ORDERS_MAX:
                    self.incomplete = True
                    break
                if self._place(order):
                    return tuple(self._placed)
        finally:
            while self._placed:
                self._give_back()
        return ()

    def _orders(self, turns: Sequence[int]) -> Iterator[list[int]]:
        """The orders of turns to try. A grant by name, such as a device, may be what another member asks for by its name: so the
        members that get such grants have their turns in any order."""
        named = [number for number in turns if self._gets_named(self._members[number].request)]
        for some in permutations(named):
            left = iter(some)
            yield [next(left) if number in some else number for number in turns]

    def _gets_named(self, request: CompiledRequest) -> bool:
        """Whether some grant of a request is not an amount."""
        return any(
            (columns := self._base.classes.get(name)) is not None
            and columns.resource_class.exactness(ask) is not Exactness.EXACT
            for one in request.choices or (request,)
            for group in one.spec.groups
            for name, ask in group.resources.items()
        )

    def _place(self, turns: Sequence[int]) -> bool:
        """Place the members whose turns are left. Where that is not possible, nothing of them is placed."""
        if not turns:
            return True
        number, *others = turns
        places = self._places(number)
        after = self._after_equal(number) if len(places) < PLACES_MAX else ()
        for place in places:
            if self._rank(place) < after:
                continue
            if not self._left:
                self.incomplete = True
                return False
            self._left -= 1
            self._take(number, place)
            if self._place(others):
                return True
            self._give_back()
        return False

    def _after_equal(self, number: int) -> tuple[int, ...]:
        """Of members that ask for the same, a later one takes no earlier place: the rank of the place of the one before."""
        member = self._members[number]
        if not self._placed or member.request.has_affinity or member.avoid:
            return ()
        before, place = self._placed[-1]
        other = self._members[before]
        return self._rank(place) if other.request.key == member.request.key and not other.avoid else ()

    def _rank(self, place: Candidate) -> tuple[int, ...]:
        rows = (self._base.row_of[key(place.cell, served.provider)] for served in place.allocations)
        return (self._base.row_of[key(place.cell, place.root)], *rows)

    def _places(self, number: int) -> list[Candidate]:
        """Places of a member, besides what those before it take."""
        member, budget = self._members[number], SearchBudget()
        found = find(
            self._view if self._placed else self._base,
            member.request,
            limit=PLACES_MAX,
            order=self._order,
            rng=self._rng,
            heard_since_ms=self._heard_since_ms,
            cell=self._cell,
            budget=budget,
            avoid=member.avoid,
        )
        self.incomplete |= budget.gave_up > 0 or len(found) >= PLACES_MAX
        return found

    def _take(self, number: int, place: Candidate) -> None:
        """Count what a member takes as taken, and its memberships in server groups."""
        member = self._members[number]
        self._reserve(place)
        request = member.request.choices[place.choice] if member.request.choices else member.request
        joined = memberships_of(self._base, request.spec, member.consumer, place)
        self._base.groups.reserve(joined)
        self._placed.append((number, place))
        self._joined.append(joined)

    def _give_back(self) -> None:
        """Undo the last `_take`."""
        self._placed.pop()
        self._base.groups.unreserve(self._joined.pop())
        self._view.unreserve_all()
        for _, place in self._placed:
            self._reserve(place)

    def _reserve(self, place: Candidate) -> None:
        for served in place.allocations:
            row = self._view.row_of[key(place.cell, served.provider)]
            for name, ask in served.resources.items():
                self._view.reserve(row, name, ask)
