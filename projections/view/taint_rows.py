"""The taints of a view's providers, and which rows repel a request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import numpy as np

from vacancy.projections.view.sparse_rows import Bools, Ints
from vacancy.resources.model.taints import RowTaint, Tolerated, is_tolerated

_ANSWERS_MAX = 16
"""Answers for different tolerations that are kept. Each has one truth a row."""


class TaintRows:
    """Which rows have taints of their own (`of_row`); those of a root are its tree's too. It is empty in most fleets, and then
    costs nothing."""

    def __init__(self) -> None:
        self.of_row: dict[int, tuple[RowTaint, ...]] = {}
        self._answers: dict[tuple[Tolerated, bool, int, int], Bools | None] = {}

    def set(self, row: int, taints: tuple[RowTaint, ...]) -> None:
        """Set the taints of a row."""
        if taints:
            self.of_row[row] = taints
        elif row in self.of_row:
            del self.of_row[row]
        else:
            return
        self._answers.clear()

    def kept(
        self, tolerated: frozenset[tuple[str, str | None]], roots: Ints, layout: int, *, soft: bool
    ) -> Bools | None:
        """By row, whether no taint repels a request with these tolerations; None where none does anywhere. `soft`: taints that
        only order candidates count, and no others. `roots` are the rows of the roots, in this `layout` of the view."""
        key = (tolerated, soft, layout, len(roots))
        if key not in self._answers:
            if len(self._answers) >= _ANSWERS_MAX:
                del self._answers[next(iter(self._answers))]
            self._answers[key] = self._kept(tolerated, roots, soft=soft)
        return self._answers[key]

    def _kept(self, tolerated: frozenset[tuple[str, str | None]], roots: Ints, *, soft: bool) -> Bools | None:
        repels = {
            taints: any(one.repels is not soft and not is_tolerated(one, tolerated) for one in taints)
            for taints in set(self.of_row.values())
        }
        rows = [row for row, taints in self.of_row.items() if repels[taints]]
        if not rows:
            return None
        repelled = np.zeros(len(roots), dtype=np.bool_)
        repelled[rows] = True
        kept: Bools = ~(repelled | repelled[roots])
        return kept

    def having(self, some: Collection[RowTaint], roots: Ints) -> Bools:
        """By row, whether it or its root has one of these taints. `roots` are the rows of the roots."""
        own = np.zeros(len(roots), dtype=np.bool_)
        own[[row for row, taints in self.of_row.items() if any(one in some for one in taints)]] = True
        found: Bools = own | own[roots]
        return found

    def counted(self) -> list[tuple[RowTaint, int]]:
        """The taints of all rows and how many rows have each of their own, those of the most rows first."""
        return Counter(one for taints in self.of_row.values() for one in taints).most_common()
