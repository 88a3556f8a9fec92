"""Custom resource classes and traits as things of a cell: they exist once a transaction created them, and as long as a provider
has them."""

from __future__ import annotations

from vacancy.resources.fold.claims.judge import Rejection
from vacancy.resources.fold.nodes.cell_names import put_count
from vacancy.resources.fold.transactions.refusal import Refused, invalid
from vacancy.resources.model.names import CUSTOM_PREFIX
from vacancy.resources.model.transactions import NameChange
from vacancy.resources.state.rows import CustomNameRow
from vacancy.resources.state.tables import CELL_COUNTS, CUSTOM_NAMES, custom_name
from vacancy.resources.state.transaction import Transaction

_COUNTED = {"class": "classes", "trait": "traits"}
"""Kind -> the kind in `CELL_COUNTS` (`fold.nodes.cell_names`)."""


def change_name(transaction: Transaction, change: NameChange) -> None:
    """Create or delete a class or a trait. Raises `Refused`."""
    key = transaction.key(custom_name(change.kind, change.name))
    row = transaction.get(CUSTOM_NAMES, key)
    used = _is_used(transaction, change.kind, change.name)
    if change.op == "delete":
        if used:
            raise Refused(Rejection("name_in_use", other=change.name))
        if row is None:
            raise Refused(Rejection("name_unknown", other=change.name))
        transaction.delete(CUSTOM_NAMES, key)
        _count(transaction, change.kind, -1)
        return
    if change.op == "create" and (row is not None or used):
        raise Refused(Rejection("name_exists", other=change.name, taken=-1 if row is None else row.offset))
    if row is None:
        transaction.put(CUSTOM_NAMES, key, CustomNameRow(transaction.offset, transaction.time_ms))
        _count(transaction, change.kind, 1)


def check_name(transaction: Transaction, kind: str, name: str, provider: str) -> None:
    """Raise `Refused` for a custom class or trait that does not exist."""
    if not name.startswith(CUSTOM_PREFIX) or _is_used(transaction, kind, name):
        return
    if transaction.get(CUSTOM_NAMES, transaction.key(custom_name(kind, name))) is None:
        raise Refused(Rejection(f"{kind}_unknown", provider, name if kind == "class" else "", other=name))


def _is_used(transaction: Transaction, kind: str, name: str) -> bool:
    """Whether a provider of the cell has the name."""
    return transaction.get(CELL_COUNTS, transaction.key(f"{_COUNTED[kind]} {name}")) is not None


def _count(transaction: Transaction, kind: str, by: int) -> None:
    limits = transaction.rules.limits
    limit = limits.cell_classes if kind == "class" else limits.cell_traits
    key = transaction.key(f"made {_COUNTED[kind]}")
    count = (transaction.get(CELL_COUNTS, key) or 0) + by
    if by > 0 and count > limit:
        raise invalid(
            f"the cell would have {count:,} custom names of {_COUNTED[kind]}, and {limit:,} are allowed"
        )
    put_count(transaction, key, count)
