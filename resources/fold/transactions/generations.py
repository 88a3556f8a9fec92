"""The generations of providers that transactions check (rules version 6): one number for each, which counts its changes.

They are counted in this one place, after each record, from what the record changed. What its deadlines changed is counted before its
event, so a transaction sees it:

* Any event but a transaction raises the generation of a provider by one if it changed its inventory, its traits, its attributes or
  its operator settings, or if a claim took something of it. What is released raises nothing, nor does a heartbeat.
* A transaction raises it by one if a new allocation took something of the provider, and by what it says itself (`raises`).

A provider without a row has generation 0, so a node that is first reported writes none. The row goes with its provider.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec.structs import replace

from vacancy.resources.state.rows import ProviderDetailsRow
from vacancy.resources.state.tables import PROVIDER_DETAILS, PROVIDER_NAMES, PROVIDERS, ClassTable
from vacancy.resources.state.transaction import Transaction

NEW = ProviderDetailsRow()


def details_of(transaction: Transaction, provider: str) -> ProviderDetailsRow:
    """What transactions see of a provider."""
    return transaction.get(PROVIDER_DETAILS, transaction.key(provider)) or NEW


def count_generations(transaction: Transaction, raised_before: Collection[bytes] = ()) -> Collection[bytes]:
    """Raise the generations of the providers that a record changed, and delete the details of those that are gone. Returns the keys
    of those that rise. `raised_before` are those that the deadlines of the record raised: no other event than a transaction raises
    them again.
    """
    changes, offset = transaction.changes, transaction.offset
    explicit = transaction.raises
    raised: dict[bytes, int] = dict(explicit or {})
    gone: list[bytes] = []
    taken: dict[bytes, None] = {}
    for table, rows in changes.items():
        if isinstance(table, ClassTable):
            skip = len(table.prefix)
            for key, row in rows.items():
                if row is not None and (row.taken == offset or (explicit is None and row.changed == offset)):
                    taken[key[skip:]] = None
        elif table is PROVIDERS:
            for key, row in rows.items():
                if row is None:
                    gone.append(key)
                elif explicit is None and _is_changed(transaction, key, row.changed):
                    taken[key] = None
    for key in taken:
        if explicit is not None or key not in raised_before:
            raised[key] = raised.get(key, 0) + 1
    for key in gone:
        raised.pop(key, None)
        _forget(transaction, key)
    for key, by in raised.items():
        _raise(transaction, key, by, only_known=explicit is None)
    return raised.keys()


def _is_changed(transaction: Transaction, key: bytes, changed: int) -> bool:
    before = transaction.state.get(PROVIDERS, key)
    if before is None:
        return transaction.get(PROVIDER_DETAILS, key) is not None  # it was renamed
    return before.changed != changed


def _raise(transaction: Transaction, key: bytes, by: int, *, only_known: bool) -> None:
    row = transaction.get(PROVIDER_DETAILS, key)
    if row is None:
        if only_known and transaction.state.get(PROVIDERS, key) is None:
            return  # it is new
        row = NEW
    if by:
        transaction.put(
            PROVIDER_DETAILS,
            key,
            replace(
                row,
                generation=row.generation + by,
                offset=transaction.offset,
                changed_ms=transaction.time_ms,
            ),
        )


def _forget(transaction: Transaction, key: bytes) -> None:
    """Delete the details of a provider that is no longer there."""
    row = transaction.get(PROVIDER_DETAILS, key)
    if row is None:
        return
    transaction.delete(PROVIDER_DETAILS, key)
    if row.name:
        cell = key[: key.index(0) + 1]
        transaction.delete(PROVIDER_NAMES, cell + row.name.encode())
