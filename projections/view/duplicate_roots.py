"""Tracks the cell in which each root provider is live. A root that is live in two cells is excluded from candidates in both."""

from __future__ import annotations


class DuplicateRoots:
    """The row of each live root, by its id; `clashes` has the rows of roots that are live in several cells."""

    def __init__(self) -> None:
        self._rows: dict[bytes, int] = {}
        self.clashes: dict[bytes, set[int]] = {}

    def is_another(self, root: bytes, row: int) -> bool:
        """Take in a live root. Returns whether it was live elsewhere already."""
        return self._rows.setdefault(root, row) != row

    def follow(self, root: bytes, row: int, is_open: bool) -> set[int]:
        """A root is live at `row`, or is not. Returns the rows to be opened or closed for that."""
        home = self._rows.get(root)
        if is_open and home is None:
            self._rows[root] = row
            return set()
        if is_open and home != row:
            self.clashes.setdefault(root, {home} if home is not None else set()).add(row)
        elif not is_open and root in self.clashes:
            left = self.clashes[root] - {row}
            if len(left) == 1:
                del self.clashes[root]
                self._rows[root] = next(iter(left))
            else:
                self.clashes[root] = left
        else:
            if not is_open and home == row:
                del self._rows[root]
            return set()
        return {row, self._rows.get(root, row), *self.clashes.get(root, ())}
