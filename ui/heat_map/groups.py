"""Groups of nodes: by cell, state, aggregate or attribute, and the totals of each.

A grouping is a text in the page's address: `cell`, `state`, `aggregate:PREFIX` (the first aggregate of the node whose name begins
so) or `attribute:NAME` (of the root). Each node is in one group, so totals add up.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np

from vacancy.projections.view.fleet import FleetView
from vacancy.resources.model.errors import UsageError
from vacancy.ui.nodes import OPEN, STATES, FleetNodes, Ints, NodeAmounts, NodeIndex

NONE: Final = "(none)"
"""The group of the nodes that have no such aggregate or attribute."""

_CHOICES_MAX: Final = 24
_PREFIX: Final = re.compile(r"^(.*?[-_:/.])[^-_:/.]+$")


@dataclass(frozen=True, slots=True)
class Grouping:
    """The names of the groups, and the number of each node's group."""

    names: list[str]
    of: Ints


@dataclass(frozen=True, slots=True)
class GroupTotals:
    """The amounts of one class in one group. `open` is the number of nodes that take claims, and `free` what those have left."""

    name: str
    nodes: int
    open: int
    total: int
    reserved: int
    capacity: int
    used: int
    free: int


def grouped(nodes: FleetNodes, index: NodeIndex, how: str) -> Grouping:
    """Group the nodes. Raises `UsageError` for an unknown grouping."""
    kind, _, name = how.partition(":")
    view = nodes.reader.view
    if kind == "cell" and not name:
        return Grouping(list(index.cells), index.cell_of)
    if kind == "state" and not name:
        return Grouping(list(STATES), nodes.states(index).astype(np.int64))
    if kind == "aggregate":
        return _by_label([_aggregate(view.aggregates.of(row), name) for row in index.rows.tolist()])
    if kind == "attribute" and name:
        column = view.attributes.columns.get(name)
        if column is None:
            return Grouping([NONE], np.zeros(len(index), dtype=np.int64))
        values = [column.of(row) for row in index.rows.tolist()]
        return _by_label([NONE if one is None else _value_text(one) for one in values])
    raise UsageError(f"{how!r} is not a grouping", do="write cell, state, aggregate:PREFIX or attribute:NAME")


def _aggregate(names: tuple[str, ...], prefix: str) -> str:
    return next((name for name in names if name.startswith(prefix)), NONE)


def _value_text(value: str | int | bool) -> str:
    return value if isinstance(value, str) else str(value).lower()


def _order_text(label: str) -> tuple[bool, list[str | int]]:
    pieces: list[str | int] = list(re.split(r"(\d+)", label))
    pieces[1::2] = [int(one) for one in pieces[1::2]]
    return label == NONE, pieces


def _by_label(labels: list[str]) -> Grouping:
    names = sorted(set(labels), key=_order_text)
    number = {name: at for at, name in enumerate(names)}
    return Grouping(names, np.fromiter((number[one] for one in labels), np.int64, len(labels)))


def choices(view: FleetView) -> list[str]:
    """The groupings that a page offers: by cell, by state, by each kind of aggregate, by attributes."""
    kinds = Counter[str]()
    for name, count in view.aggregates.counts.items():
        found = _PREFIX.match(name)
        kinds[found[1] if found else ""] += count
    offered = [f"aggregate:{prefix}" for prefix, _ in kinds.most_common(_CHOICES_MAX)]
    attributes = sorted(view.attributes.columns, key=lambda name: -view.attributes.columns[name].count)
    return ["cell", "state", *offered, *(f"attribute:{name}" for name in attributes[:_CHOICES_MAX])]


def totals(grouping: Grouping, amounts: NodeAmounts, states: np.ndarray) -> list[GroupTotals]:
    """The totals of each group that has nodes."""
    size = len(grouping.names)
    takes = states == OPEN

    def summed(values: np.ndarray) -> list[int]:
        return [int(one) for one in np.bincount(grouping.of, weights=values, minlength=size)]

    columns = (
        np.bincount(grouping.of, minlength=size).tolist(),
        np.bincount(grouping.of[takes], minlength=size).tolist(),
        summed(amounts.total),
        summed(amounts.reserved),
        summed(amounts.capacity),
        summed(amounts.used),
        summed(np.where(takes, np.maximum(amounts.capacity - amounts.used, 0), 0)),
    )
    rows = zip(grouping.names, *columns, strict=True)
    return [GroupTotals(*row) for row in rows if row[1]]
