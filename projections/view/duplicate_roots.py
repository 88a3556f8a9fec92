"""Tracks the cell in which each root provider is live. A root that is live in two cells is excluded from candidates in both.

The same is tracked of machines: one that is live as two nodes is excluded from candidates as both.
"""

from __future__ import annotations


class DuplicateRoots:
    """The row of each live root, by its id or by its machine; `clashes` has the rows of those that are live several times."""

    def __init__(self) -> None:
        self._rows: dict[bytes, int] = {}
        self.clashes: dict[bytes, set[int]] = {}

    def is_duplicate(self, root: bytes, row: int) -> bool:
        """Record a live root. Returns whether the root is already live at another row."""
        return self._rows.setdefault(root, row) != row

    def update(self, root: bytes, row: int, is_open: bool) -> set[int]:
        """Record whether a root is live at `row`. Returns the rows that must be opened or closed as a result."""
        known = self._rows.get(root)
        if is_open and known is None:
            self._rows[root] = row
            return set()
        if is_open and known != row:
            self.clashes.setdefault(root, {known} if known is not None else set()).add(row)
        elif not is_open and root in self.clashes:
            left = self.clashes[root] - {row}
            if len(left) == 1:
                del self.clashes[root]
                self._rows[root] = next(iter(left))
            else:
                self.clashes[root] = left
        else:
            if not is_open and known == row:
                del self._rows[root]
            return set()
        return {row, self._rows.get(root, row), *self.clashes.get(root, ())}
