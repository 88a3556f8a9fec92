"""How much one query may try, and how to say that it was too little."""

from __future__ import annotations

from typing import Any

STEPS_MAX = 20_000
"""Trials before a tree is given up, so that a hostile request cannot stop a scheduler."""

QUERY_STEPS_MAX = 200_000
"""Trials in all trees of one query together."""


class SearchBudget:
    """How much one query may try. `gave_up`: trees of which nothing is known because that was too little; of a request
    for several copies, cells."""

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
    """That so many trees, or cells, were given up, for people."""
    what = "tree or cell" if times == 1 else "trees or cells"
    return f"the search was given up in {times} {what}, after {STEPS_MAX:,} trials in one or {QUERY_STEPS_MAX:,} in all"
