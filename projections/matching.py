"""Which provider of a tree serves which group: the exact check, on the few trees that columns let through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from vacancy.projections.view import View
from vacancy.resources.resource_class import Granted

STEPS_MAX = 20_000
"""Trials before a tree is given up, so that a hostile request cannot stop a scheduler."""


class Demand(NamedTuple):
    """One group: its number, what it asks for, and the rows that may serve it, the preferred first."""

    group: int
    resources: Mapping[str, Any]
    rows: list[int]


def match(view: View, demands: list[Demand], *, isolate: bool) -> dict[int, int] | None:
    """Group number -> row, or None where the tree cannot serve all groups together.

    With `isolate` no two groups share a provider: a bipartite matching. Without, groups
    may share one, as far as its records hold out: a search with backtracking.
    """
    if any(not demand.rows for demand in demands):
        return None
    if isolate:
        return _isolated(view, demands)
    return _Search(view, demands).run()


def _isolated(view: View, demands: list[Demand]) -> dict[int, int] | None:
    """Kuhn's augmenting paths; groups that fit a row alone fit it for good."""
    options = {d.group: [row for row in d.rows if _fits(view, row, d.resources)] for d in demands}
    server: dict[int, int] = {}

    def place(group: int, tried: set[int]) -> bool:
        for row in options[group]:
            if row not in tried:
                tried.add(row)
                if row not in server or place(server[row], tried):
                    server[row] = group
                    return True
        return False

    for demand in sorted(demands, key=lambda d: len(options[d.group])):
        if not place(demand.group, set()):
            return None
    return {group: row for row, group in server.items()}


def _fits(view: View, row: int, resources: Mapping[str, Any]) -> bool:
    for name, ask in resources.items():
        resource_class = view.classes[name].resource_class
        if resource_class.exact_in_columns:
            continue
        record = view.record(row, name)
        if record is None or not isinstance(resource_class.claim(record, ask), Granted):
            return False
    return True


class _Search:
    """Backtracking over groups, the most constrained first."""

    def __init__(self, view: View, demands: list[Demand]) -> None:
        self._view = view
        self._demands = sorted(demands, key=lambda d: len(d.rows))
        self._records: dict[tuple[int, str], Any] = {}
        self._steps = 0

    def run(self) -> dict[int, int] | None:
        chosen: dict[int, int] = {}
        return chosen if self._place(0, chosen) else None

    def _place(self, at: int, chosen: dict[int, int]) -> bool:
        if at == len(self._demands):
            return True
        demand = self._demands[at]
        for row in demand.rows:
            self._steps += 1
            if self._steps > STEPS_MAX:
                return False
            before = self._take(row, demand.resources)
            if before is None:
                continue
            chosen[demand.group] = row
            if self._place(at + 1, chosen):
                return True
            self._records.update(before)
        return False

    def _take(self, row: int, resources: Mapping[str, Any]) -> dict[tuple[int, str], Any] | None:
        """Claim it in the records tried so far. Returns the records before, or None where it does not fit."""
        before: dict[tuple[int, str], Any] = {}
        for name, ask in resources.items():
            slot = (row, name)
            record = self._records[slot] if slot in self._records else self._view.record(row, name)
            outcome = None if record is None else self._view.classes[name].resource_class.claim(record, ask)
            if not isinstance(outcome, Granted):
                self._records.update(before)
                return None
            before[slot] = record
            self._records[slot] = outcome.record
        return before
