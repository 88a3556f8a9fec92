"""Which rows satisfy one group of a request: terms over columns, bits for traits and aggregates, expressions.

A `Filter` applies the conditions of a group: `among` a few rows or `everywhere`. Both give the same answer; which is
faster depends on how many rows match. Each condition has a text for people, and diagnostics ask each by itself. A new kind of
condition is a class here, and a line where `Filter` makes its conditions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

import numpy as np

from vacancy.projections.query.compiled_request import CompiledRequest, expression_of
from vacancy.projections.query.conditions.left_out import check_names
from vacancy.projections.query.conditions.predicate_ast import Expression, Tree, test
from vacancy.projections.view.columns import BitColumns, Bools, Floats, Ints, is_exact
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.sparse_rows import BitColumn, IntColumn, SparseBits, SparseColumn, SparseRows
from vacancy.resources.classes.resource_class import Term
from vacancy.resources.model.comparison import compare
from vacancy.resources.model.request import RequestGroup
from vacancy.resources.model.taints import RowTaint, Tolerated, is_tolerated

TAINT = "taint"
"""The kind of conditions on taints."""

Rows = Ints | slice
"""Row numbers, or a range of them: a range gives whole columns without copying them."""

BITS, COLUMN, FEW = 0, 1, 2
"""How expensive a condition is: bits are compared for all rows, columns for as long as many rows are left, and the rest
only among the few that all others leave."""


SPARSE = 8
"""Below one row in this number, gathering the few is cheaper than comparing whole columns."""

_TAINTS_NAMED = 8
"""Taints that have a condition of their own in explanations."""

_SAMPLE = 256
"""Rows that are looked at to learn which of several terms leaves the fewest."""


class Condition(ABC):
    """One condition on a row. `kind` is for programs, `text` for people; `resource_class` is the class
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

    def holds_shared(self, rows: Rows) -> Bools:
        """Where it holds for sharing providers of other trees."""
        return self.holds(rows)

    def only(self) -> SparseBits | SparseRows | None:
        """What has the few rows outside of which it holds nowhere; None if it is not about a rare name."""
        return None

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


class ToleratesTaint(Condition):
    """No taint repels the request there, of those that `text` names. `kept` has it by row."""

    __slots__ = ("_kept", "_text")
    kind = TAINT

    def __init__(self, text: str, kept: Bools) -> None:
        self._text = text
        self._kept = kept

    @property
    def text(self) -> str:
        return self._text

    def holds(self, rows: Rows) -> Bools:
        return self._kept[rows]


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
    """A condition that no row can satisfy: a name that no provider has."""

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
    """A trait, or membership of an aggregate: `bits` are the rows that have it. Of several names only one is known."""

    __slots__ = ("_bits", "_names", "kind")

    def __init__(self, kind: str, names: tuple[str, ...], bits: BitColumn) -> None:
        self.kind = kind
        self._names = names
        self._bits = bits

    @property
    def text(self) -> str:
        return any_text(self.kind, self._names)

    def holds(self, rows: Rows) -> Bools:
        return self._bits[rows]

    def only(self) -> SparseBits | SparseRows | None:
        return self._bits if isinstance(self._bits, SparseBits) else None


class LacksTrait(HasTrait):
    """A trait or an aggregate that must not be there."""

    __slots__ = ()
    cost = FEW

    def holds(self, rows: Rows) -> Bools:
        return ~self._bits[rows]

    def only(self) -> SparseBits | SparseRows | None:
        return None


class HasAnyOf(Condition):
    """At least one of several traits or aggregates. `names` are all, `bits` of those that are known."""

    __slots__ = ("_bits", "_names", "kind")
    cost = FEW

    def __init__(self, kind: str, names: Iterable[str], bits: Sequence[BitColumn]) -> None:
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

    def __init__(self, resource_class: str, term: Term, column: IntColumn) -> None:
        self.resource_class = resource_class
        self.term = term
        self._column = column

    @property
    def text(self) -> str:
        column, operator, number = self.term
        return f"{self.resource_class}: {column} {_OPERATORS.get(operator, operator)} {number}"

    def holds(self, rows: Rows) -> Bools:
        found: Bools = term_holds(self._column[rows], self.term)
        return found

    def only(self) -> SparseBits | SparseRows | None:
        column = self._column
        if not isinstance(column, SparseColumn) or term_holds(_ZERO, self.term)[0]:
            return None
        return column.table

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
    """The terms of what a class is asked that are over its index columns, as one condition: their numbers mean nothing
    to people, and each leaves fewer rows to the next."""

    __slots__ = ("_terms", "resource_class")
    kind = "resources"
    cost = COLUMN

    def __init__(self, resource_class: str, terms: Sequence[tuple[Term, IntColumn]]) -> None:
        self.resource_class = resource_class
        self._terms = terms

    @property
    def text(self) -> str:
        return f"{self.resource_class}: something free has each attribute asked for"

    def holds(self, rows: Rows) -> Bools:
        (first, column), *others = self._terms if len(self._terms) == 1 else self._rarest_first(rows)
        found: Bools = term_holds(column[rows], first)
        for done, (term, column) in enumerate(others):
            if int(np.count_nonzero(found)) * SPARSE < len(found):
                left = np.flatnonzero(found)
                for next_term, next_column in others[done:]:
                    left = left[term_holds(next_column[rows][left], next_term)]
                found = np.zeros_like(found)
                found[left] = True
                return found
            found &= term_holds(column[rows], term)
        return found

    def _rarest_first(self, rows: Rows) -> Sequence[tuple[Term, IntColumn]]:
        """The terms, of whole columns those first that few rows of a sample satisfy."""
        if not isinstance(rows, slice):
            return self._terms
        size = len(self._terms[0][1][rows])
        sample = np.arange(0, size, max(1, size // _SAMPLE))
        shares = [
            int(np.count_nonzero(term_holds(column[rows][sample], term))) for term, column in self._terms
        ]
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
_ZERO: Ints = np.zeros(1, dtype=np.int64)
_OPERATORS = {"all_bits": "has all bits of", "any_bits": "has any bit of"}


def term_holds(values: Any, term: Term) -> Any:
    """Where a term holds of a column's values."""
    _, operator, number = term
    if operator == "divides":
        holds = values == 1
        others = np.flatnonzero(~holds)  # few, as a rule, and division is slow
        holds[others] = number % np.maximum(values[others], 1) == 0
        return holds
    if operator == "any_bits":
        return (values & number) != 0
    if operator == "all_bits":
        return (values & number) == number
    return compare(values, operator, number)


def taint_text(taint: RowTaint) -> str:
    """The text of the condition that a request tolerates a taint."""
    return f"tolerates taint {taint.text}"


def taint_conditions(view: FleetView, tolerated: Tolerated) -> list[Condition]:
    """The conditions that taints make, for explanations: one for each taint that the request does not tolerate. Where these are
    many, the rarest have one condition together."""
    if not view.taints.of_row:
        return []
    roots = view.root[: view.size]
    repelling = [one for one, _ in view.taints.counted() if one.repels and not is_tolerated(one, tolerated)]
    found: list[Condition] = [
        ToleratesTaint(taint_text(one), ~view.taints.having((one,), roots))
        for one in repelling[:_TAINTS_NAMED]
    ]
    if others := frozenset(repelling[_TAINTS_NAMED:]):
        text = f"tolerates {len(others)} other taints"
        found.append(ToleratesTaint(text, ~view.taints.having(others, roots)))
    return found


def filter_of(
    view: FleetView, request: CompiledRequest, heard_since_ms: int | None = None, cell: str | None = None
) -> Filter:
    """The filter of a request of one group, made once for as long as the view's arrays are the same. Raises `NamesLeftOut`."""
    check_names(view, request)
    (group,) = request.spec.groups
    if heard_since_ms is not None or group.in_tree is not None:
        return Filter(view, group, request.expressions, heard_since_ms=heard_since_ms, cell=cell)
    return view.derived.of_request(
        request.key, cell, lambda: Filter(view, group, request.expressions, cell=cell)
    )


class Filter:
    """One group's conditions against a view, compiled. `impossible` where no row can ever satisfy them.

    `conditions` are in the order in which they are applied: bits, then columns, then what is rarely asked for. That a
    row accepts claims at all is not among them: it differs from query to query, and is an argument.
    """

    def __init__(
        self,
        view: FleetView,
        group: RequestGroup,
        expressions: Mapping[str, Expression] | None = None,
        *,
        heard_since_ms: int | None = None,
        cell: str | None = None,
    ) -> None:
        self._view = view
        self._within: InTree | None = None
        self.impossible = False
        self.needs_claim = tuple(
            (name, ask) for name, ask in group.resources.items() if not is_exact(view.classes, name, ask)
        )
        """The asks that a row may still refuse: columns do not decide on them."""
        self.one_in = 1 if cell is None else len(view.cells)
        """At most one row in `one_in` can match, if all cells are of one size."""
        bits: list[Condition] = []
        few: list[Condition] = []
        compares: list[ComparesColumn] = []
        if cell is not None:
            number = view.cells.get(cell.encode())
            text = f"in cell {cell}"
            bits.append(self._never("cell", text) if number is None else InCell(view, number, text))
        for name in group.required:
            self._has("trait", (name,), view.traits, bits, few)
        for names in group.any_traits:
            self._has("trait", names, view.traits, bits, few)
        for names in group.member_of:
            self._has("aggregate", names, view.aggregates, bits, few)
        if group.where:
            expression = expression_of(expressions or {}, group.where)
            bits += [ExpressionHolds(text, tree, view) for text, tree in expression.parts]
        for name, ask in group.resources.items():
            columns = view.classes.get(name)
            if columns is None:
                bits.append(self._never("resources", f"{name}: any", name))
                continue
            arrays = columns.for_queries()
            terms = columns.resource_class.query(ask)
            index = columns.resource_class.index_columns
            if index and (known := [(t, arrays[t.column]) for t in terms if t.column in index]):
                bits.append(IndexedAttribute(name, known))
            compares += [ComparesColumn(name, t, arrays[t.column]) for t in terms if t.column not in index]
        # Free amounts are the most selective: where a whole column was compared and few rows are left, the rest are asked of those.
        compares.sort(key=lambda one: one.term.column != "free")
        bits += compares
        if group.in_tree is not None:
            few.append(self._in_tree(group.in_tree))
        if heard_since_ms is not None:
            few.append(HeardSince(view, heard_since_ms))
        few += self._without("forbidden_trait", group.forbidden, view.traits)
        few += self._without("forbidden_aggregate", group.not_member_of, view.aggregates)
        self.conditions: tuple[Condition, ...] = (*bits, *few)
        self._rare = [rare for one in self.conditions if (rare := one.only()) is not None]

    def among(self, rows: Ints, accepting: Bools) -> Ints:
        """Those of `rows` that match and are `accepting`, in their order."""
        return _left(rows[accepting[rows]], self.conditions)

    def everywhere(self, accepting: Bools) -> Ints:
        """All rows that match and are `accepting`, ascending."""
        if self._within is not None:
            trees = [row for root in self._within.roots.tolist() for row in self._view.tree(root)]
            return self.among(np.asarray(trees, dtype=np.int64), accepting)
        if self._rare:
            return self.among(min((rare.rows for rare in self._rare), key=len), accepting)
        size = self._view.size
        every = slice(0, size)
        mask = accepting[:size].copy()
        for done, condition in enumerate(self.conditions):
            if condition.cost and (condition.cost == FEW or int(np.count_nonzero(mask)) * SPARSE < size):
                return _left(np.flatnonzero(mask), self.conditions[done:])
            mask &= condition.holds(every)
        return np.flatnonzero(mask)

    def _has(
        self,
        kind: str,
        names: tuple[str, ...],
        columns: BitColumns,
        bits: list[Condition],
        few: list[Condition],
    ) -> None:
        """At least one of these names, which is cheap to ask where only one of them is known at all."""
        known = columns.known(names)
        if not known:
            bits.append(self._never(kind, any_text(kind, names)))
        elif len(known) == 1:
            bits.append(HasTrait(kind, names, known[0]))
        else:
            few.append(HasAnyOf(kind, names, known))

    def _without(self, kind: str, names: tuple[str, ...], columns: BitColumns) -> list[LacksTrait]:
        return [LacksTrait(kind, (name,), bits) for name in names for bits in columns.known((name,))]

    def _never(self, kind: str, text: str, resource_class: str = "") -> Never:
        self.impossible = True
        return Never(self._view, kind, text, resource_class)

    def _in_tree(self, provider: str) -> Condition:
        """In the provider's tree: in each cell that knows it, for a node may have moved from one to another."""
        suffix = b"\0" + provider.encode()
        view = self._view
        known = [row for cell in view.cells if (row := view.row_of.get(cell + suffix)) is not None]
        if not known:
            return self._never("in_tree", any_text("in_tree", (provider,)))
        self._within = InTree(view, provider, np.unique(view.root[known]))
        return self._within


def _left(rows: Ints, conditions: Iterable[Condition]) -> Ints:
    """Those of `rows` that satisfy these, in their order."""
    for condition in conditions:
        if not len(rows):
            break
        rows = rows[condition.holds(rows)]
    return rows
