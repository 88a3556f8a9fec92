"""What a row must satisfy to serve a group, one condition at a time, each with a name for people.

A filter applies them, and `explain` asks each by itself. A new kind of condition is a class here and a line where
`filter.Filter` makes them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vacancy.projections.query.predicate_ast import Tree, test
from vacancy.projections.view.columns import Bools, Ints
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.classes.resource_class import Term

Floats = NDArray[np.float64]
Rows = Ints | slice
"""Row numbers, or a range of them: a range gives whole columns without copying them."""

BITS, COLUMN, FEW = 0, 1, 2
"""How dear a condition is: bits are compared for all rows, columns for as long as many rows are left, and the rest
only among the few that all others leave."""


SPARSE = 8
"""Below one row in so many, gathering the few is cheaper than comparing whole columns."""

_SAMPLE = 256
"""Rows that are looked at to learn which of several terms leaves the fewest."""


class Condition(ABC):
    """One condition on a row. `kind` is a word for programs, `text` says it to people; `resource_class` is the class
    that it is about, if it is about one."""

    __slots__ = ()
    kind: str
    resource_class = ""
    cost: ClassVar[int] = BITS

    @property
    @abstractmethod
    def text(self) -> str:
        """What is asked for, as in `VCPU: free >= 4`. Made when it is asked for: queries never do."""

    @abstractmethod
    def holds(self, rows: Rows) -> Bools:
        """Where it holds, one truth a row."""

    def lent(self, rows: Rows) -> Bools:
        """Where it holds of providers that lend to other trees."""
        return self.holds(rows)

    @property
    def asked(self) -> int | None:
        """The number that a value is compared with; None where the answer is only yes or no."""
        return None

    def value(self, row: int) -> int | None:
        """What the row has to set against `asked`."""
        return None

    def shortages(self, rows: Rows) -> Floats:
        """How much is missing, from 0 where it holds to 1: of amounts as a share of what is asked for."""
        return (~self.holds(rows)).astype(np.float64)


class TakesClaims(Condition):
    """The provider takes new claims: it and its node are reported, complete, enabled and in one cell only."""

    __slots__ = ("_view",)
    kind = "open"

    def __init__(self, view: FleetView) -> None:
        self._view = view

    @property
    def text(self) -> str:
        return "takes new claims"

    def holds(self, rows: Rows) -> Bools:
        return self._view.open[rows]


class InCell(Condition):
    """The provider is in this cell."""

    __slots__ = ("_number", "_text", "_view")
    kind = "cell"

    def __init__(self, view: FleetView, number: int, text: str) -> None:
        self._view = view
        self._number = number
        self._text = text

    @property
    def text(self) -> str:
        return self._text

    def holds(self, rows: Rows) -> Bools:
        found: Bools = self._view.cell[rows] == self._number
        return found


class Never(Condition):
    """What no row can satisfy: a name that nobody has."""

    __slots__ = ("_text", "_view", "kind", "resource_class")

    def __init__(self, view: FleetView, kind: str, text: str, resource_class: str = "") -> None:
        self._view = view
        self.kind = kind
        self._text = text
        self.resource_class = resource_class

    @property
    def text(self) -> str:
        return self._text

    def holds(self, rows: Rows) -> Bools:
        return np.zeros_like(self._view.open[rows])


class HasTrait(Condition):
    """A trait, or membership of an aggregate: `bits` says who has it. Of several names only one is known."""

    __slots__ = ("_bits", "_names", "kind")

    def __init__(self, kind: str, names: tuple[str, ...], bits: Bools) -> None:
        self.kind = kind
        self._names = names
        self._bits = bits

    @property
    def text(self) -> str:
        return any_text(self.kind, self._names)

    def holds(self, rows: Rows) -> Bools:
        return self._bits[rows]


class LacksTrait(HasTrait):
    """A trait or an aggregate that must not be there."""

    __slots__ = ()
    cost = FEW

    def holds(self, rows: Rows) -> Bools:
        return ~self._bits[rows]


class HasAnyOf(Condition):
    """At least one of several traits or aggregates. `names` are all, `bits` of those that are known."""

    __slots__ = ("_bits", "_names", "kind")
    cost = FEW

    def __init__(self, kind: str, names: Iterable[str], bits: Sequence[Bools]) -> None:
        self.kind = kind
        self._names = names
        self._bits = bits

    @property
    def text(self) -> str:
        return any_text(self.kind, self._names)

    def holds(self, rows: Rows) -> Bools:
        found: Bools = np.logical_or.reduce([bits[rows] for bits in self._bits])
        return found


class ComparesColumn(Condition):
    """One term of what a class is asked, over one of its columns."""

    __slots__ = ("_column", "resource_class", "term")
    kind = "resources"
    cost = COLUMN

    def __init__(self, resource_class: str, term: Term, column: Ints) -> None:
        self.resource_class = resource_class
        self.term = term
        self._column = column

    @property
    def text(self) -> str:
        column, operator, number = self.term
        return f"{self.resource_class}: {column} {_OPERATORS.get(operator, operator)} {number}"

    def holds(self, rows: Rows) -> Bools:
        found: Bools = _holds(self._column[rows], self.term)
        return found

    @property
    def asked(self) -> int | None:
        return self.term.value

    def value(self, row: int) -> int | None:
        return int(self._column[row])

    def shortages(self, rows: Rows) -> Floats:
        number = self.term.value
        if self.term.operator != ">=" or number < 1:
            return super().shortages(rows)
        return np.clip((number - self._column[rows]) / number, 0.0, 1.0)


class IndexedAttribute(Condition):
    """The terms of what a class is asked that are over its index columns, as one condition: their numbers tell people
    nothing, and each leaves fewer rows to the next."""

    __slots__ = ("_terms", "resource_class")
    kind = "resources"
    cost = COLUMN

    def __init__(self, resource_class: str, terms: Sequence[tuple[Term, Ints]]) -> None:
        self.resource_class = resource_class
        self._terms = terms

    @property
    def text(self) -> str:
        return f"{self.resource_class}: something free has each attribute asked for"

    def holds(self, rows: Rows) -> Bools:
        (first, column), *others = self._terms if len(self._terms) == 1 else self._rarest_first(rows)
        found: Bools = _holds(column[rows], first)
        for done, (term, column) in enumerate(others):
            if int(np.count_nonzero(found)) * SPARSE < len(found):
                left = np.flatnonzero(found)
                for next_term, next_column in others[done:]:
                    left = left[_holds(next_column[rows][left], next_term)]
                found = np.zeros_like(found)
                found[left] = True
                return found
            found &= _holds(column[rows], term)
        return found

    def _rarest_first(self, rows: Rows) -> Sequence[tuple[Term, Ints]]:
        """The terms, of whole columns those first that few rows of a sample satisfy."""
        if not isinstance(rows, slice):
            return self._terms
        size = len(self._terms[0][1][rows])
        sample = np.arange(0, size, max(1, size // _SAMPLE))
        shares = [int(np.count_nonzero(_holds(column[rows][sample], term))) for term, column in self._terms]
        return [self._terms[at] for at in sorted(range(len(shares)), key=shares.__getitem__)]


class InTree(Condition):
    """In one of these trees: that of a provider, in each cell that knows it."""

    __slots__ = ("_provider", "_view", "roots")
    kind = "in_tree"
    cost = FEW

    def __init__(self, view: FleetView, provider: str, roots: Ints) -> None:
        self._view = view
        self._provider = provider
        self.roots = roots

    @property
    def text(self) -> str:
        return f"{_WORDS[self.kind]} {self._provider}"

    def holds(self, rows: Rows) -> Bools:
        return np.isin(self._view.root[rows], self.roots)


class HeardSince(Condition):
    """Its node was heard from since `since_ms` (log time)."""

    __slots__ = ("_since_ms", "_view")
    kind = "heard"
    cost = FEW

    def __init__(self, view: FleetView, since_ms: int) -> None:
        self._view = view
        self._since_ms = since_ms

    @property
    def text(self) -> str:
        return f"heard since {datetime.fromtimestamp(self._since_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"

    def holds(self, rows: Rows) -> Bools:
        found: Bools = self._view.heard_ms[self._view.root[rows]] >= self._since_ms
        return found

    @property
    def asked(self) -> int | None:
        return self._since_ms

    def value(self, row: int) -> int | None:
        return int(self._view.heard_ms[self._view.root[row]])


class ExpressionHolds(Condition):
    """One of the conditions that a request's expression is a conjunction of, with the text it came from."""

    __slots__ = ("_test", "_text")
    kind = "where"
    cost = COLUMN

    def __init__(self, text: str, tree: Tree, view: FleetView) -> None:
        self._text = text
        self._test = test(tree, view)

    @property
    def text(self) -> str:
        return self._text

    def holds(self, rows: Rows) -> Bools:
        return self._test(rows)


def any_text(kind: str, names: Iterable[str]) -> str:
    """Any of these names, for people."""
    return f"{_WORDS[kind]} {' or '.join(names)}"


_WORDS = {
    "trait": "required trait",
    "forbidden_trait": "forbidden trait",
    "aggregate": "member of",
    "forbidden_aggregate": "not member of",
    "in_tree": "in tree of",
    "root_trait": "root has trait",
    "root_forbidden_trait": "root has not trait",
    "root_forbidden_aggregate": "root not member of",
}
_OPERATORS = {"all_bits": "has all bits of", "any_bits": "has any bit of"}


def _holds(values: Any, term: Term) -> Any:
    """Where a term holds."""
    _, operator, number = term
    if operator == ">=":
        return values >= number
    if operator == "<=":
        return values <= number
    if operator == "divides":
        holds = values == 1
        others = np.flatnonzero(~holds)  # few, as a rule, and division is slow
        holds[others] = number % np.maximum(values[others], 1) == 0
        return holds
    if operator == "==":
        return values == number
    if operator == "!=":
        return values != number
    if operator == "any_bits":
        return (values & number) != 0
    return (values & number) == number
