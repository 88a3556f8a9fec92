"""Where the members of server groups are, and whether one more copy may join them: the same rule as the fold's.

A copy is on the roots of the providers that give something to it; sharing providers are left out, if there
is any other (docs/relations.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from vacancy.projections.view.columns import Bools, Floats, Ints
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

    def __init__(
        self,
        view: FleetView,
        rule: AffinityRule,
        places: Iterable[Sequence[bytes]] = (),
        *,
        cell: bytes = b"",
    ) -> None:
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

        self._spread = _SpreadDomains(view, cell, rule.scope or "") if rule.spreads else None

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

    def fits(self, roots: Roots, later: int = 0) -> bool:
        """Whether one more copy may be on these roots. Of a group that is spread, `later` is how many others follow: they may
        be where there are the fewest."""
        if not self.rule.hard:
            return True
        if self._spread is not None:
            domains = self._domains_of(roots)
            counts = self._counts.copy()
            counts.update(domains)
            most = self._spread.fewest(counts) + later + self.rule.max_per_node
            return all(isinstance(domain, str) and counts[domain] <= most for domain in domains)
        if self.rule.policy == "affinity":
            if self.leads:
                return bool(self._common(roots))
            return all(not self._there.isdisjoint(self.domains(root)) for root in roots)
        most = self.rule.max_per_node
        return all(self._counts[domain] < most for domain in self._domains_of(roots))

    def keeps(self, copies: Iterable[Roots]) -> bool:
        """Whether the rule holds where these copies, which were added, were placed: only of a group that is spread it is not
        known before the last one."""
        if self._spread is None or not self.rule.hard:
            return True
        most = self._spread.fewest(self._counts) + self.rule.max_per_node
        return all(self._counts[domain] <= most for roots in copies for domain in self._domains_of(roots))

    def allowed(self) -> Bools:
        """The roots where one more may be, if it is nowhere else."""
        if self._spread is not None:
            return self._spread.allowed(self._counts, self.rule.max_per_node)
        if self.rule.policy != "affinity":
            most = self.rule.max_per_node
            return ~self._roots(domain for domain, count in self._counts.items() if count >= most)
        if not self.leads:
            return self._roots(self._there)
        return self._roots(self._together[-1]) if self._together else np.ones(self._view.size, dtype=np.bool_)

    def misses(self) -> Floats:
        """By row of a root, how much it misses the soft rule by."""
        found = np.zeros(self._view.size)
        if self._spread is not None:
            return self._spread.misses(self._counts, self.rule.max_per_node)
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


class _SpreadDomains:
    """The domains of one kind in a cell, and how many members they have. `eligible` are those in which at least one node takes
    new claims: among them is the one with the fewest members, as for the fold (`resources.fold.nodes.domains`)."""

    def __init__(self, view: FleetView, cell: bytes, kind: str) -> None:
        cache: dict[tuple[bytes, str], _NodesByDomain] = view.derived.of_all(_NodesByDomain, dict)
        known = cache.get((cell, kind))
        if known is None or known.layout != view.layout:
            if len(cache) >= _SCOPES_MAX:
                cache.clear()
            known = cache[cell, kind] = _NodesByDomain(view, cell, kind)
        self._nodes = known
        takes = view.open_roots()
        numbers = np.unique(self._nodes.number[takes & (self._nodes.number >= 0)])
        eligible = {self._nodes.names[number] for number in numbers.tolist()}
        self.eligible = eligible.union(*(names for row, names in self._nodes.several.items() if takes[row]))

    def fewest(self, counts: Mapping[Domain, int]) -> int:
        """The number of members in the domain that has the fewest."""
        return min((counts.get(name, 0) for name in self.eligible), default=0)

    def allowed(self, counts: Counter[Domain], max_skew: int) -> Bools:
        """The roots where one more may be: they are in a domain, and in none that would have too many."""
        return np.equal(self.misses(counts, max_skew, apart=1), 0.0)

    def misses(self, counts: Counter[Domain], max_skew: int, *, apart: int = 0) -> Floats:
        """By row of a root, by how much one more there would be above `max_skew`. A node without a domain misses by as much as
        the worst of them, and by `apart` more."""
        names = self._nodes.names
        fewest = self.fewest(counts)
        over = [max(0, counts[name] + 1 - fewest - max_skew) for name in names]
        several = {row: self._over(counts, its, max_skew) for row, its in self._nodes.several.items()}
        none = max([*over, *several.values()], default=0) + apart
        found: Floats = np.array([*over, none], dtype=np.float64)[self._nodes.number]
        for row, by in several.items():
            found[row] = by
        return found

    def _over(self, counts: Counter[Domain], names: Iterable[str], max_skew: int) -> int:
        after = counts.copy()
        after.update(names)
        fewest = self.fewest(after)
        return max(0, *(after[name] - fewest - max_skew for name in names))


class _NodesByDomain:
    """The nodes of a cell in the domains of one kind: by row of a root, the number of its domain in `names` (-1: none), and
    the domains of those that are in `several`, which have the number -1, too."""

    def __init__(self, view: FleetView, cell: bytes, kind: str) -> None:
        self.layout = view.layout
        self.names = [name for name in view.aggregates.arrays if name.startswith(kind)]
        self.number: Ints = np.full(view.size, -1, dtype=np.int64)
        self.several: dict[int, list[str]] = {}
        here: Bools = view.cell[: view.size] == view.cells.get(cell, -1)
        here &= view.root[: view.size] == np.arange(view.size)
        for number, name in enumerate(self.names):
            rows = rows_with(view.aggregates.arrays[name], view.size)
            rows = rows[here[rows]]
            for row in rows[self.number[rows] >= 0].tolist():
                self.several.setdefault(row, [self.names[self.number[row]]])
            self.number[rows] = number
            for row in self.several.keys() & set(rows.tolist()) if self.several else ():
                if name not in self.several[row]:
                    self.several[row].append(name)
        self.number[list(self.several)] = -1


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

    def accept(self, rows: Sequence[int], later: int = 0) -> bool:
        """Whether these rows may serve one more copy, which `later` others follow."""
        roots = self.roots(rows)
        return all(occupancy.fits(roots, later) for occupancy in self.all)

    def keeps(self, copies: Iterable[Roots]) -> bool:
        """Whether all rules hold for copies that were added."""
        copies = list(copies)
        return all(occupancy.keeps(copies) for occupancy in self.all)

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
    cell = group_cell(membership.group)
    places = view.groups.places(key(cell, group_name(membership.group)))
    return GroupOccupancy(view, membership.rule, places, cell=cell.encode())


def are_on(view: FleetView, rows: Sequence[int]) -> Sequence[int]:
    """Of the rows that give something to a copy, those that it is on: all but sharing providers, or those where there are
    no others."""
    return [row for row in rows if SHARES not in view.traits.of(row)] or rows
