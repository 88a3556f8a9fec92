"""Where the members of server groups are, and whether one more copy may join them: the same rule as the fold's.

A copy is on the roots of the providers that give something to it; sharing providers are left out, if there
is any other (docs/relations.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from vacancy.projections.view.columns import Bools, Floats
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.sparse_rows import SparseBits, rows_with
from vacancy.resources.model.request import RequestSpec
from vacancy.resources.model.server_group import (
    SHARES,
    AffinityRule,
    ServerGroupMembership,
    group_cell,
    group_name,
)
from vacancy.resources.state.tables import key

Domain = int | str
"""Where members count together: the row of a root, or the name of an aggregate."""

Roots = Sequence[int]
"""Rows of the roots that one copy is on."""

_SCOPES_MAX = 64
"""Scopes for which it is kept whether any node is in two of their aggregates."""

_APART = AffinityRule("anti-affinity", hard=True, max_per_node=1, scope=None)
"""The rule that `copies_on` = `distinct` stands for."""


class GroupOccupancy:
    """Where the members of a group are, claims in flight among them, and the copies that were added."""

    def __init__(self, view: FleetView, rule: AffinityRule, places: Iterable[Sequence[bytes]] = ()) -> None:
        self._view = view
        self.rule = rule
        self._counts: Counter[Domain] = Counter()
        self._anyone = False
        for place in places:
            self._anyone = True
            rows = [row for one in place if (row := view.row_of.get(one)) is not None]
            self._counts.update(self._domains_of({int(view.root[row]) for row in rows}))
        self._there = frozenset(self._counts)
        self._together: list[frozenset[Domain]] = []
        """Where all copies are, after each that was added."""

    @property
    def leads(self) -> bool:
        """Whether the first copy decides the place of all others."""
        return self.rule.hard and self.rule.policy == "affinity" and not self._anyone

    @property
    def parts(self) -> bool:
        """Whether the rule limits how many copies may be in one place."""
        return self.rule.hard and self.rule.policy != "affinity"

    def add(self, roots: Roots) -> None:
        """One more copy is on these roots."""
        self._counts.update(self._domains_of(roots))
        if self.leads:
            self._together.append(self._common(roots))

    def drop(self, roots: Roots) -> None:
        """Remove the copy that was added last."""
        self._counts.subtract(self._domains_of(roots))
        if self.leads:
            self._together.pop()

    def fits(self, roots: Roots) -> bool:
        """Whether one more copy may be on these roots."""
        if not self.rule.hard:
            return True
        if self.rule.policy == "affinity":
            if self.leads:
                return bool(self._common(roots))
            return all(not self._there.isdisjoint(self.domains(root)) for root in roots)
        most = self.rule.max_per_node
        return all(self._counts[domain] < most for domain in self._domains_of(roots))

    def allowed(self) -> Bools:
        """The roots where one more may be, if it is nowhere else."""
        if self.rule.policy != "affinity":
            most = self.rule.max_per_node
            return ~self._roots(domain for domain, count in self._counts.items() if count >= most)
        if not self.leads:
            return self._roots(self._there)
        return self._roots(self._together[-1]) if self._together else np.ones(self._view.size, dtype=np.bool_)

    def misses(self) -> Floats:
        """By row of a root, how much it misses the soft rule by."""
        found = np.zeros(self._view.size)
        counts = {domain: count for domain, count in self._counts.items() if count}
        if self.rule.policy == "affinity":
            return np.where(self._roots(counts), 0.0, 1.0) if counts else found
        for domain, count in counts.items():
            over = count + 1 - self.rule.max_per_node
            if over > 0:
                found[self._roots([domain])] += over
        return found

    def like(self, root: int) -> Bools:
        """The roots that count as the same place as this one."""
        return self._roots(self.domains(root))

    def overlaps(self) -> bool:
        """Whether any node counts in several places; computed once as long as the aggregates stay the same."""
        view, scope = self._view, self.rule.scope
        if scope is None:
            return False
        known: dict[str, bool] = view.derived.of_all(_overlap, dict)
        if scope not in known:
            if len(known) >= _SCOPES_MAX:
                known.clear()
            known[scope] = _overlap(view, scope)
        return known[scope]

    def domains(self, root: int) -> list[Domain]:
        """Where a member on this root counts."""
        scope = self.rule.scope
        if scope is None:
            return [root]
        names = [name for name in self._view.aggregates.of(root) if name.startswith(scope)]
        return [*names] or [root]

    def _domains_of(self, roots: Iterable[int]) -> set[Domain]:
        return {domain for root in roots for domain in self.domains(root)}

    def _common(self, roots: Roots) -> frozenset[Domain]:
        """Where all copies are together, if one more is on these roots."""
        each = [frozenset(self.domains(root)) for root in roots]
        return frozenset.intersection(*self._together[-1:], *each)

    def _roots(self, domains: Iterable[Domain]) -> Bools:
        found = np.zeros(self._view.size, dtype=np.bool_)
        for domain in domains:
            if isinstance(domain, str):
                bits, size = self._view.aggregates.arrays[domain], self._view.size
                if isinstance(bits, SparseBits):
                    found[rows_with(bits, size)] = True
                else:
                    found |= bits[:size]
            else:
                found[domain] = True
        return found


class OccupancyIndex:
    """The rules on where copies of a request may be: its server groups, and whether copies may share nodes."""

    def __init__(self, view: FleetView, spec: RequestSpec) -> None:
        self._view = view
        self.all = [occupancy_of(view, one) for one in spec.memberships]
        if spec.copies > 1 and spec.copies_on == "distinct":
            self.all.append(GroupOccupancy(view, _APART))

    def roots(self, rows: Sequence[int]) -> list[int]:
        """The roots that a copy is on, if these rows give it something."""
        return list(dict.fromkeys(int(self._view.root[row]) for row in are_on(self._view, rows)))

    def accept(self, rows: Sequence[int]) -> bool:
        """Whether these rows may serve one more copy."""
        roots = self.roots(rows)
        return all(occupancy.fits(roots) for occupancy in self.all)

    def allowed(self) -> Bools:
        """The roots where one more may be."""
        allowed = np.ones(self._view.size, dtype=np.bool_)
        for occupancy in self.all:
            if occupancy.rule.hard:
                allowed &= occupancy.allowed()
        return allowed

    def misses(self) -> Floats:
        """By row of a root, how much it misses the soft rules by."""
        found = np.zeros(self._view.size)
        for occupancy in self.all:
            if not occupancy.rule.hard:
                found += occupancy.misses()
        return found

    def add(self, roots: Roots) -> None:
        """One more copy is on these roots."""
        for occupancy in self.all:
            occupancy.add(roots)

    def drop(self, roots: Roots) -> None:
        """Remove the copy that was added last."""
        for occupancy in self.all:
            occupancy.drop(roots)


def _overlap(view: FleetView, scope: str) -> bool:
    seen = np.zeros(view.size, dtype=np.bool_)
    for name, bits in view.aggregates.arrays.items():
        if name.startswith(scope):
            rows = rows_with(bits, view.size)
            if seen[rows].any():
                return True
            seen[rows] = True
    return False


def occupancy_of(view: FleetView, membership: ServerGroupMembership) -> GroupOccupancy:
    """Where the members of a group are."""
    group = key(group_cell(membership.group), group_name(membership.group))
    return GroupOccupancy(view, membership.rule, view.groups.places(group))


def are_on(view: FleetView, rows: Sequence[int]) -> Sequence[int]:
    """Of the rows that give something to a copy, those that it is on: all but sharing providers, or those where there are
    no others."""
    return [row for row in rows if SHARES not in view.traits.of(row)] or rows
