"""How many names of classes, traits and attributes the providers of a cell have: each costs every reader memory.

Only a provider whose set of names changes is counted. Many providers have the same set, so sets are counted, and the
names of a set are counted once. Providers that were last written before their log had these rules are counted when they
are next written.

`CELL_COUNTS` has, after the cell and a zero byte: `from`, the offset of the first record that counted; and for each KIND
(`classes`, `traits`, `attributes`) `KIND set DIGEST`, how many providers have a set of names; `KIND NAME`, how many sets
have a name; and `KIND`, how many names there are.
"""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b

from vacancy.resources.fold.record_limits import check_limit, over_limit
from vacancy.resources.model.limits import NO_LIMIT
from vacancy.resources.state.rows import ProviderRow
from vacancy.resources.state.tables import CELL_COUNTS, PROVIDERS
from vacancy.resources.state.transaction import Transaction

_DIGEST_BYTES = 12
_KINDS = ("classes", "traits", "attributes")

Names = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
_Sets = tuple[Counter[tuple[str, ...]], ...]
"""How many providers more or fewer have a set of names, for each kind."""

_NONE: Names = ((), (), ())


class _Counts:
    """The numbers of one cell, as this record changes them."""

    def __init__(self, transaction: Transaction, cell: bytes) -> None:
        self._transaction = transaction
        self._cell = cell + b"\0"

    def get(self, name: bytes) -> int:
        return self._transaction.get(CELL_COUNTS, self._cell + name) or 0

    def put(self, name: bytes, count: int) -> None:
        put_count(self._transaction, self._cell + name, count)


def put_count(transaction: Transaction, key: bytes, count: int) -> None:
    """Write a number of a cell. 0 has no row."""
    if count:
        transaction.put(CELL_COUNTS, key, count)
    else:
        transaction.delete(CELL_COUNTS, key)


def count_names(transaction: Transaction, *, limited: bool = False) -> None:
    """Count the names of the providers that this record has changed so far. With `limited` it raises `InvalidRecord` if
    a cell gets more names than its rules allow."""
    changed = transaction.changes.get(PROVIDERS)
    if not changed or transaction.rules.limits.cell_classes == NO_LIMIT:
        return
    counted = transaction.trees.counted
    by_cell: dict[bytes, tuple[_Sets, int]] = {}
    for key, new in changed.items():
        old = counted[key] if key in counted else transaction.state.get(PROVIDERS, key)
        if old is new:
            continue
        counted[key] = new
        cell = key[: key.index(0)]
        found = by_cell.get(cell)
        if found is None:
            found = by_cell[cell] = (Counter(), Counter(), Counter()), _first_counted(transaction, cell)
        sets, first = found
        before = names_of(old) if old is not None and old.changed >= first else _NONE
        after = names_of(new) if new is not None else _NONE
        for kind, of_old, of_new in zip(sets, before, after, strict=True):
            if of_old != of_new:
                kind[of_old] -= 1
                kind[of_new] += 1
    for cell, (sets, _) in by_cell.items():
        _count_sets(transaction, cell, sets, limited=limited)


def names_of(row: ProviderRow) -> Names:
    """The names of a provider: classes, traits, attributes. A row has each kind sorted; only with operator settings the
    node's and the operator's must be joined."""
    traits, attributes = row.reported_traits, tuple([name for name, _ in row.reported_attributes])
    if row.operator_traits:
        traits = tuple(sorted({*traits, *row.operator_traits}))
    if row.operator_attributes:
        attributes = tuple(sorted({*attributes, *(name for name, _ in row.operator_attributes)}))
    return row.classes, traits, attributes


def _first_counted(transaction: Transaction, cell: bytes) -> int:
    counts = _Counts(transaction, cell)
    found = counts.get(b"from")
    if not found:
        found = transaction.offset
        counts.put(b"from", found)
    return found


def _count_sets(transaction: Transaction, cell: bytes, sets: _Sets, *, limited: bool) -> None:
    counts, limits = _Counts(transaction, cell), transaction.rules.limits
    if limited:
        size = sum(len(names) for kind in sets for names, by in kind.items() if by)
        subject = "the sets of names that providers get or lose have"
        check_limit(transaction.rules, subject, size, "names", limits.changed_names, " a record")
    allowed = (limits.cell_classes, limits.cell_traits, limits.cell_attributes)
    for name, kind, limit in zip(_KINDS, sets, allowed, strict=True):
        added: Counter[str] = Counter()
        removed: Counter[str] = Counter()
        for names, by in kind.items():
            if by and names:
                digest = blake2b(" ".join(names).encode(), digest_size=_DIGEST_BYTES).digest()
                slot = name.encode() + b" set " + digest
                before = counts.get(slot)
                counts.put(slot, before + by)
                if before == 0 or before + by == 0:
                    (added if by > 0 else removed).update(names)
        if added or removed:
            added.subtract(removed)
            _count_kind(transaction, counts, name, added, limit if limited else NO_LIMIT)


def _count_kind(
    transaction: Transaction, counts: _Counts, kind: str, deltas: Counter[str], limit: int
) -> None:
    """Count the names of one kind. Raises `InvalidRecord` if there are more than `limit`, and more than there were."""
    there = total = counts.get(kind.encode())
    for name, by in deltas.items():
        if by:
            slot = f"{kind} {name}".encode()
            before = counts.get(slot)
            counts.put(slot, before + by)
            total += (before + by > 0) - (before > 0)
    if total > max(limit, there):
        what = "resource classes" if kind == "classes" else kind
        raise over_limit(
            transaction.rules, "the cell would have", total, f"names of {what}", limit, " a cell"
        )
    if total != there:
        counts.put(kind.encode(), total)
