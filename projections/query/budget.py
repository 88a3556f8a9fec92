"""The search budget of one query, and the text for a query that exhausted it."""

from __future__ import annotations

from typing import Any

STEPS_MAX = 20_000
"""Trials before a tree is given up, so that a hostile request cannot stop a scheduler."""

QUERY_STEPS_MAX = 200_000
"""Trials in all trees of one query together."""


class SearchBudget:
    """How many trials one query may make. `gave_up`: trees of which nothing is known because the budget ended; for a
    request for several copies, cells."""

    def __init__(self, steps: int = QUERY_STEPS_MAX, tree_steps: int = STEPS_MAX) -> None:
        self.left = steps
        self.tree_steps = tree_steps
        self.gave_up = 0
        self.failed: set[Any] = set()
        self.unfit = 0
        """Trees in a row that first fit could not serve."""

    @property
    def spent(self) -> bool:
        """Whether nothing more may be tried."""
        return self.left <= 0


def gave_up_text(times: int) -> str:
    """How many trees or cells were given up, as text."""
    what = "tree or cell" if times == 1 else "trees or cells"
    return f"the search was given up in {times} {what}, after {STEPS_MAX:,} trials in one or {QUERY_STEPS_MAX:,} in all"
