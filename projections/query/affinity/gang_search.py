"""Places for several copies where it matters who is placed where: combinations of the places for one are tried.

Of equal copies a later one takes no earlier place, and what is out of the question once some are placed is not tried
for those that follow. A sum first: if providers could not serve that number of copies even without other rules,
nothing is tried at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any, NamedTuple

from vacancy.projections.query.affinity.constrained_search import find_constrained, rows_of
from vacancy.projections.query.affinity.occupancy import OccupancyIndex
from vacancy.projections.query.context import QueryContext
from vacancy.projections.query.model import Candidate, ServedGroup
from vacancy.resources.classes.resource_class import Exactness, Granted
from vacancy.resources.state.tables import key

OPTIONS_MAX = 512
"""Places for one copy from which combinations are made."""

TRIALS_MAX = 5_000
"""Places tried for one more copy, in one cell. A trial is of all that a copy takes."""

ORDERED_MAX = 4
"""With up to this number of groups every order is tried: a group that asks for any device may take what another needs."""

Slot = tuple[int, str]
"""(row, class)."""
Wanted = tuple[tuple[int, ServedGroup], ...]
"""(number of the copy, what a provider is to give to it), in the order in which it is claimed."""


class PlacedCopies(NamedTuple):
    """Copies that have a place together, what is given to them, and the records after that."""

    copies: tuple[Candidate, ...]
    served: Wanted
    records: Mapping[Slot, Any]


def combine(context: QueryContext) -> tuple[PlacedCopies | None, bool]:
    """Places for all copies in the context's cell, or None; and whether everything was tried that there is."""
    spec, budget = context.request.spec, context.budget
    occupancy = OccupancyIndex(context.view, spec)
    before = budget.gave_up
    most = min(OPTIONS_MAX, TRIALS_MAX // (2 * spec.copies))
    options = find_constrained(context._replace(limit=most, one_a_tree=False), occupancy)
    complete = len(options) < most and budget.gave_up == before
    budget.gave_up = before  # one cell is given up, however many trees
    search = _GangSearch(context, occupancy)
    trials = search.trials
    if complete and not search.may_be(options):
        return None, True
    found = search.place(PlacedCopies((), (), {}), options)
    budget.left -= trials - search.trials
    return found, complete and search.trials > 0


class _GangSearch:
    """One search. `trials` are those that are left."""

    def __init__(self, context: QueryContext, occupancy: OccupancyIndex) -> None:
        self._view = context.view
        self._spec = context.request.spec
        self._occupancy = occupancy
        self._cell = context.cell or ""
        self._fresh: dict[Slot, Any] = {}
        self.trials = min(TRIALS_MAX, context.budget.left)

    def may_be(self, options: Sequence[Candidate]) -> bool:
        """Whether there is room for all copies of each part, were it alone and the copies anywhere."""
        able: dict[tuple[str, str], dict[int, Any]] = {}
        for served in (served for option in options for served in option.allocations):
            for name, ask in served.resources.items():
                able.setdefault((served.group, name), {})[self._row(served)] = ask
        copies = self._spec.copies
        return bool(options) and all(
            sum(self._times((row, name), ask, copies) for row, ask in rows.items()) >= copies
            for (_, name), rows in able.items()
        )

    def place(self, placed: PlacedCopies, options: Sequence[Candidate]) -> PlacedCopies | None:
        """Places for all copies that are left, among these options."""
        later = self._spec.copies - len(placed.copies) - 1
        if later < 0:
            occupancy = self._occupancy
            at = (occupancy.roots(rows_of(self._view, copy)) for copy in placed.copies)
            return placed if occupancy.keeps(at) else None
        able: list[tuple[Candidate, PlacedCopies]] = []
        for option in options:
            if self.trials <= 0:
                return None
            self.trials -= 1
            if self._occupancy.accept(rows_of(self._view, option), later):
                more = self._with(placed, option)
                if more is not None:
                    able.append((option, more))
        left = [option for option, _ in able]
        for number, (option, more) in enumerate(able):
            roots = self._occupancy.roots(rows_of(self._view, option))
            self._occupancy.add(roots)
            found = self.place(more, left[number:])
            self._occupancy.drop(roots)
            if found is not None or self.trials <= 0:
                return found
        return None

    # -- what is taken ------------------------------------------------------------------------------------------

    def _with(self, placed: PlacedCopies, copy: Candidate) -> PlacedCopies | None:
        """With one more copy, if providers have enough."""
        wanted = tuple((len(placed.copies), served) for served in copy.allocations)
        copies, served = (*placed.copies, copy), (*placed.served, *wanted)
        records = self._claimed(wanted, placed.records)
        if records is not None:
            return PlacedCopies(copies, served, records)
        names = [group.name for group in self._spec.groups]
        if 1 < len(names) <= ORDERED_MAX and self._depends_on_order(served):
            for order in permutations(names):
                ordered = tuple(sorted(served, key=lambda one: (order.index(one[1].group), one[0])))
                records = self._claimed(ordered, {})
                if records is not None:
                    return PlacedCopies(copies, ordered, records)
        return None

    def _claimed(self, wanted: Wanted, records: Mapping[Slot, Any]) -> Mapping[Slot, Any] | None:
        """The records after all this was claimed, one after the other, or None where one of it does not fit."""
        after = dict(records)
        for _, served in wanted:
            row = self._row(served)
            for name, ask in served.resources.items():
                slot = row, name
                outcome = self._claim(after[slot] if slot in after else self._record(slot), name, ask)
                if not isinstance(outcome, Granted):
                    return None
                after[slot] = outcome.record
        return after

    def _times(self, slot: Slot, ask: Any, most: int) -> int:
        """How often this may be claimed of one provider, up to `most`."""
        record = self._record(slot)
        for done in range(most):
            outcome = self._claim(record, slot[1], ask)
            if not isinstance(outcome, Granted):
                return done
            record = outcome.record
        return most

    def _depends_on_order(self, wanted: Wanted) -> bool:
        """Whether one provider is asked for different things of a class that grants by name."""
        asks: dict[Slot, Any] = {}
        for _, served in wanted:
            for name, ask in served.resources.items():
                exactness = self._view.classes[name].resource_class.exactness(ask)
                if (
                    exactness is not Exactness.EXACT
                    and asks.setdefault((self._row(served), name), ask) != ask
                ):
                    return True
        return False

    def _claim(self, record: Any, name: str, ask: Any) -> Any:
        return None if record is None else self._view.classes[name].resource_class.claim(record, ask)

    def _record(self, slot: Slot) -> Any:
        if slot not in self._fresh:
            self._fresh[slot] = self._view.record(*slot)
        return self._fresh[slot]

    def _row(self, served: ServedGroup) -> int:
        return self._view.row_of[key(self._cell, served.provider)]
