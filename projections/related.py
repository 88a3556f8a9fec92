"""Places beside others and apart from them, and for several copies at once.

A search of its own is nothing that relations need: they close, for the time of a search, the nodes where nobody may
go, and wishes are an order. So whatever a request asks for otherwise is found as ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from vacancy.projections.columns import Bools, Ints
from vacancy.projections.filter import made_once
from vacancy.projections.groups import Joining
from vacancy.projections.orders import Floats, Order
from vacancy.projections.view import View
from vacancy.resources.membership import (
    COPY_MARK,
    SHARES,
    Membership,
    copy_of,
    group_cell,
    group_name,
    with_copy,
)
from vacancy.resources.request import RequestSpec
from vacancy.resources.tables import key

if TYPE_CHECKING:
    from vacancy.projections.candidates import Candidate, Served

Search = Callable[[RequestSpec, int, Order, str | None], "list[Candidate]"]
"""(spec, limit, order, cell) -> candidates among the nodes that are open."""

FindOne = Callable[[int, Order, str | None], "list[Candidate]"]
"""The same, for one copy of a request, whoever else is where."""

TRIES_MAX = 64
"""First places that are tried for copies that must be together, before a cell is given up."""


def is_related(spec: RequestSpec) -> bool:
    """Whether a request looks at others, or is for several copies."""
    return bool(spec.memberships) or spec.copies > 1


def find_related(
    view: View,
    spec: RequestSpec,
    search: Search,
    *,
    limit: int,
    order: Order,
    rng: np.random.Generator,
    cell: str | None,
) -> list[Candidate]:
    """Up to `limit` candidates; for several copies, one a cell at most."""
    if spec.memberships:
        home = group_cell(spec.memberships[0].group)
        if cell not in (None, home):
            return []
        cell = home
    plain = _one_plain(view, spec)

    def find_one(limit: int, order: Order, cell: str | None) -> list[Candidate]:
        return search(plain, limit, order, cell)

    if spec.copies == 1:
        return _beside_and_apart(view, spec, find_one, limit, order, cell)
    cells = list(view.cells) if cell is None else [cell.encode()]
    found = []
    for number in rng.permutation(len(cells)).tolist():
        gang = _together(view, spec, find_one, order, cells[number].decode())
        if gang is not None:
            found.append(gang)
            if len(found) == limit:
                break
    return found


def _one_plain(view: View, spec: RequestSpec) -> RequestSpec:
    """One copy without relations, the same object for the same request: what is compiled of it is kept by its id."""
    which = "one plain"  # no cell has such a name
    return made_once(view, spec, which, lambda: spec.model_copy(update={"memberships": (), "copies": 1}))


def hard_groups(view: View, spec: RequestSpec) -> Iterator[tuple[str, Bools]]:
    """What each hard membership asks, for people, and by row of a root whether it holds there."""
    for one in spec.memberships:
        number = view.cells.get(group_cell(one.group).encode(), -1)
        here: Bools = view.cell[: view.size] == number
        where = "" if one.scope is None else f", by aggregates {one.scope}..."
        yield f"cell of group {one.group}", here
        if one.hard:
            yield f"{one.policy} to group {one.group}{where}", _Crowd(view, one).allowed() & here


def joining(view: View, spec: RequestSpec, consumer: str, candidate: Candidate) -> list[Joining]:
    """What a claim of this candidate makes its consumer a member of, for the time it is under way."""
    if not spec.memberships:
        return []
    places = tuple(_place(view, one) for one in split_copies(view, candidate))
    return [Joining(key(candidate.cell, group_name(one.group)), consumer, places) for one in spec.memberships]


def split_copies(view: View, candidate: Candidate) -> list[Candidate]:
    """A candidate for several copies as one for each; any other as it is."""
    copies: dict[str, list[Served]] = {}
    for served in candidate.allocations:
        copies.setdefault(copy_of(served.group), []).append(served)
    if list(copies) == [""]:
        return [candidate]
    found = []
    for number, some in copies.items():
        rows = [view.row_of[key(candidate.cell, served.provider)] for served in some]
        own = [row for row in rows if not _lends(view, row)] or rows
        root = view.name(int(view.root[own[0]]))[1]
        plain = tuple(
            served._replace(group=served.group.removesuffix(f"{COPY_MARK}{number}")) for served in some
        )
        found.append(candidate._replace(root=root, allocations=plain))
    return found


@contextmanager
def closed(view: View, roots: Iterable[str]) -> Iterator[None]:
    """For the time of a search, nothing is found in these trees."""
    rows = [
        row
        for id_ in roots
        for cell in view.cells
        if (row := view.row_of.get(cell + b"\0" + id_.encode())) is not None
    ]
    allowed = np.ones(view.size, dtype=np.bool_)
    allowed[rows] = False
    with _only(view, allowed):
        yield


# -- one place ----------------------------------------------------------------------------------------------------


def _beside_and_apart(
    view: View, spec: RequestSpec, search: FindOne, limit: int, order: Order, cell: str | None
) -> list[Candidate]:
    """Places that break no hard rule, those first that are as one wishes."""
    allowed = np.ones(view.size, dtype=np.bool_)
    wishes = np.zeros(view.size)
    for one in spec.memberships:
        crowd = _Crowd(view, one)
        if one.hard:
            allowed &= crowd.allowed()
        else:
            wishes += crowd.misses()
    if wishes.any():
        order = _Wishes(order, wishes)
    with _only(view, allowed):
        return search(limit, order, cell)


class _Crowd:
    """Where the members of a group are, claims under way among them."""

    def __init__(self, view: View, membership: Membership) -> None:
        self._view = view
        self._membership = membership
        self._scope = membership.scope
        self._counts: Counter[int | str] = Counter()
        places = view.groups.places(key(group_cell(membership.group), group_name(membership.group)))
        self._anyone = bool(places)
        for place in places:
            rows = [row for one in place if (row := view.row_of.get(one)) is not None]
            roots = {int(view.root[row]) for row in rows}
            self._counts.update({domain for root in roots for domain in self._domains(root)})

    def allowed(self) -> Bools:
        """The roots where one more may be."""
        size = self._view.size
        if self._membership.policy == "affinity":
            if not self._anyone:
                return np.ones(size, dtype=np.bool_)
            return self._roots(self._counts)
        most = self._membership.max_per_node
        return ~self._roots(domain for domain, count in self._counts.items() if count >= most)

    def misses(self) -> Floats:
        """By how much each root is not what one wishes."""
        found = np.zeros(self._view.size)
        if self._membership.policy == "affinity":
            return found if not self._anyone else np.where(self._roots(self._counts), 0.0, 1.0)
        for domain, count in self._counts.items():
            over = count + 1 - self._membership.max_per_node
            if over > 0:
                found[self._roots([domain])] += over
        return found

    def rows_with(self, root: int) -> Bools:
        """The roots that count as the same place as this one."""
        return self._roots(self._domains(root))

    def _domains(self, root: int) -> list[int | str]:
        if self._scope is None:
            return [root]
        names = [name for name in self._view.aggregates.of(root) if name.startswith(self._scope)]
        return [*names] or [root]

    def _roots(self, domains: Iterable[int | str]) -> Bools:
        found = np.zeros(self._view.size, dtype=np.bool_)
        for domain in domains:
            if isinstance(domain, str):
                found |= self._view.aggregates.arrays[domain][: self._view.size]
            else:
                found[domain] = True
        return found


class _Wishes(Order):
    """Another order, among places that are equally as one wishes; those first that are most so."""

    def __init__(self, order: Order, misses: Floats) -> None:
        self.name = order.name
        self._order = order
        self._misses = misses

    def trees(self, view: View, spec: RequestSpec, roots: Ints) -> Floats:
        """See `Order`."""
        return self._wished(roots, self._order.trees(view, spec, roots))

    def providers(self, view: View, spec: RequestSpec, rows: Ints) -> Floats:
        """See `Order`."""
        return self._wished(view.root[rows], self._order.providers(view, spec, rows))

    def parts(self, view: View, spec: RequestSpec, group: int, rows: Ints) -> Floats:
        """See `Order`."""
        return self._order.parts(view, spec, group, rows)

    def _wished(self, roots: Ints, scores: Floats) -> Floats:
        if not len(scores):
            return scores
        least = scores.min()
        found: Floats = self._misses[roots] * (scores.max() - least + 1) + (scores - least)
        return found


@contextmanager
def _only(view: View, allowed: Bools) -> Iterator[None]:
    """For the time of a search, only the trees of these roots are open, and who lends to others."""
    whole, size = view.open, view.size
    view.open = whole.copy()
    rows = allowed[view.root[:size]]
    if (lenders := view.traits.arrays.get(SHARES)) is not None:
        rows |= lenders[:size]
    view.open[:size] &= rows
    try:
        yield
    finally:
        view.open = whole


# -- several copies -----------------------------------------------------------------------------------------------


def _together(view: View, spec: RequestSpec, search: FindOne, order: Order, cell: str) -> Candidate | None:
    """Places for all copies in one cell. Where all must be near each other, the first says where: then others are
    tried."""
    allowed = np.ones(view.size, dtype=np.bool_)
    leading = [m for m in spec.memberships if m.hard and m.policy == "affinity"]
    if any(m.scope is None for m in leading):
        allowed &= _have_for_all(view, spec)
    for _ in range(TRIES_MAX if leading else 1):
        gang = _Gang(view, spec)
        with _only(view, allowed), gang:
            while len(gang.copies) < spec.copies:
                with _only(view, gang.open):
                    found = _beside_and_apart(view, spec, search, 1, order, cell)
                if not found:
                    break
                gang.add(found[0])
        if len(gang.copies) == spec.copies:
            return gang.candidate()
        if not gang.copies:
            return None
        first = view.row_of[key(cell, gang.copies[0].root)]
        for membership in leading:
            allowed &= ~_Crowd(view, membership).rows_with(first)
    return None


class _Gang:
    """Copies that have found a place. While it is entered, what they take counts as taken."""

    def __init__(self, view: View, spec: RequestSpec) -> None:
        self._view = view
        self._spec = spec
        self._taken: list[tuple[int, str, object]] = []
        self._joined: list[Joining] = []
        self.copies: list[Candidate] = []
        self.open = np.ones(view.size, dtype=np.bool_)

    def add(self, copy: Candidate) -> None:
        """One more."""
        view, spec = self._view, self._spec
        self.copies.append(copy)
        for served in copy.allocations:
            row = view.row_of[key(copy.cell, served.provider)]
            for name, ask in served.resources.items():
                view.take(row, name, ask)
                self._taken.append((row, name, ask))
        if spec.copies_on == "distinct":
            self.open[view.row_of[key(copy.cell, copy.root)]] = False
        joined = joining(view, spec, f"#{len(self.copies)}", copy)  # no consumer has such an id
        view.groups.join(joined)
        self._joined += joined

    def candidate(self) -> Candidate:
        """All of them as one."""
        allocations = tuple(
            served._replace(group=with_copy(served.group, number))
            for number, copy in enumerate(self.copies, 1)
            for served in copy.allocations
        )
        return self.copies[0]._replace(allocations=allocations)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        for row, name, ask in self._taken:
            self._view.untake(row, name, ask)
        self._view.groups.leave(self._joined)


def _have_for_all(view: View, spec: RequestSpec) -> Bools:
    """The roots whose trees have, in sum, what all copies ask for of the classes that are counted."""
    wanted: Counter[str] = Counter()
    for group in spec.groups:
        for name, ask in group.resources.items():
            if isinstance(ask, int):
                wanted[name] += ask * spec.copies
    size = view.size
    allowed = np.ones(size, dtype=np.bool_)
    if SHARES in view.traits.arrays:
        return allowed  # what is lent is not in the tree
    for name, amount in wanted.items():
        columns = view.classes.get(name)
        if columns is not None:
            free = np.maximum(columns.arrays["free"][:size], 0)
            allowed &= np.bincount(view.root[:size], weights=free, minlength=size) >= amount
    return allowed


def _place(view: View, one: Candidate) -> tuple[bytes, ...]:
    """The keys of the providers that a copy is on: those that lend to others are left out, if there is any other."""
    rows = {
        view.row_of[key(one.cell, served.provider)]: None for served in one.allocations if served.resources
    }
    own = [row for row in rows if not _lends(view, row)] or list(rows)
    return tuple(view.keys[row] for row in own)


def _lends(view: View, row: int) -> bool:
    return SHARES in view.traits.of(row)
