"""Withdrawing what a node no longer reports.

A class or a provider of which nothing is in use is deleted. What is in use stays, without capacity, until its last
allocation is released.

From rules version 3 on, a record withdraws about `Limits.withdrawn_at_once` inventories and providers. The others are
*pending*: they stay as they were, the node is closed, and the next records withdraw them, as deadlines that are due. Each
is withdrawn as the event that withdrew it would have done it, so the state after the last of them is the same. For this
nothing else may change a pending provider: whatever is to change it withdraws it first (`settle_provider`, `settle_class`).
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from vacancy.resources.fold.nodes.cell_names import put_count
from vacancy.resources.fold.nodes.node_watch import close_node
from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.limits import NO_LIMIT
from vacancy.resources.state.rows import ClassRow, OperatorSettingsRow, ProviderRow, WithdrawalRow
from vacancy.resources.state.tables import (
    CELL_COUNTS,
    DEADLINES,
    FACTS,
    PROVIDERS,
    WITHDRAWALS,
    deadline_key,
    split_key,
)
from vacancy.resources.state.transaction import PendingWithdrawal, Transaction

WITHDRAWAL = b"W"

_NAMES_OF_A_UNIT = 4
"""How many names of traits and attributes cost as much as an inventory: they are no longer counted (`cell_names`)."""

_TREES = "trees"
"""The number of trees of a cell with pending withdrawals, in `CELL_COUNTS`."""


def withdraw(transaction: Transaction, root: str, provider: str) -> bool:
    """Withdraw a provider of `root`'s tree. Returns whether it stays in the tree: part of it is in use, or it is pending."""
    row = transaction.provider(provider)
    if row is None or row.root != root:
        return False
    if not row.reported and provider != root:
        transaction.trees.unreported += 1
        return True  # it was withdrawn before, and each of its classes is in use
    limit = transaction.rules.limits.withdrawn_at_once
    if limit != NO_LIMIT:
        if provider == root:
            settle_provider(transaction, root)
            row = transaction.provider(provider) or row
        elif transaction.trees.withdrawn >= limit:
            _pending(transaction, root).providers.setdefault(provider, transaction.offset)
            return True
        elif is_withdrawing(transaction):
            pending = _pending(transaction, root)
            if provider in pending.providers:
                return True
            settle_provider(transaction, provider)
            row = transaction.provider(provider) or row
    return _withdraw_provider(transaction, provider, row, transaction.offset)


def withdraw_classes(transaction: Transaction, root: str, provider: str, names: list[str]) -> list[str]:
    """Withdraw classes of a provider that stays. Returns those that stay: they are in use, or pending."""
    trees = transaction.trees
    if names and trees.withdrawn >= transaction.rules.limits.withdrawn_at_once:
        _pending(transaction, root).classes[provider] = (transaction.offset, tuple(names))
        return names
    trees.withdrawn += len(names)
    return [name for name in names if _withdraw_class(transaction, provider, name, transaction.offset)]


def keep_members(transaction: Transaction, root: str, kept: tuple[str, ...], changed: int) -> None:
    """Set the remaining members of a tree. The root's row stays, as the first member, until all members are removed.
    `changed` is the offset of the event that removed the others."""
    row = transaction.provider(root)
    if kept and root not in kept:
        kept = (root, *kept)
    if kept and row is None:
        bare = ProviderRow(root, None, (), (), changed, reported=False)
        row = apply_operator_settings(bare, transaction.get(FACTS, transaction.key(root)))
    if row is None:
        return
    if kept:
        row = replace(row, members=kept, changed=max(row.changed, changed))
        transaction.put(PROVIDERS, transaction.key(root), row)
    elif not row.reported:
        transaction.delete(PROVIDERS, transaction.key(root))


def leave_tree(transaction: Transaction, root: str, provider: str) -> None:
    """Remove a provider from a tree. The tree's row is written by `settle_trees`, once for all that leave."""
    _leave(transaction, root, provider, transaction.offset)


def _leave(transaction: Transaction, root: str, provider: str, offset: int) -> None:
    transaction.trees.leaving.setdefault((transaction.cell, root), {})[provider] = offset


def settle_trees(transaction: Transaction) -> None:
    """Write the trees that providers left, and what is still to be withdrawn. It is called after the deadlines and after
    the event of a record."""
    trees = transaction.trees
    for (cell, root), gone in trees.leaving.items():
        _remove_members(_in_cell(transaction, cell), root, gone)
    trees.leaving.clear()
    for (cell, root), pending in trees.pending.items():
        _write_pending(_in_cell(transaction, cell), root, pending)
    trees.pending.clear()
    trees.withdrawn = trees.unreported = 0


def _in_cell(transaction: Transaction, cell: str) -> Transaction:
    return transaction if cell == transaction.cell else transaction.in_cell(cell)


def settle_leaving(transaction: Transaction, root: str) -> None:
    """Write the tree of this root now, if providers left it: its row is about to be replaced."""
    leaving = transaction.trees.leaving
    if leaving and (gone := leaving.pop((transaction.cell, root), None)):
        _remove_members(transaction, root, gone)


def apply_operator_settings(row: ProviderRow, facts: OperatorSettingsRow | None) -> ProviderRow:
    """The provider with its operator settings applied."""
    if facts is None:
        return replace(
            row, operator_traits=(), aggregates=(), disabled=False, operator_attributes=(), taints=()
        )
    return replace(
        row,
        operator_traits=facts.traits,
        aggregates=facts.aggregates,
        disabled=facts.status != "enabled",
        operator_attributes=facts.attributes,
        taints=facts.taints,
    )


# -- pending withdrawals --------------------------------------------------------------------------------------


def is_withdrawing(transaction: Transaction) -> bool:
    """Whether there are pending withdrawals in this cell."""
    if transaction.rules.limits.withdrawn_at_once == NO_LIMIT:
        return False
    if transaction.trees.pending:
        return True
    return transaction.get(CELL_COUNTS, transaction.key(_TREES)) is not None


def continue_withdrawal(transaction: Transaction, _at_ms: int, key: bytes) -> None:
    """Withdraw more of a tree, as a deadline that is due. It stays due until nothing is left."""
    cell, root = split_key(key)
    here = transaction.in_cell(cell)
    if here.get(WITHDRAWALS, key) is None:
        return
    pending = _pending(here, root)
    pending.stepped = True
    limit = here.rules.limits.withdrawn_at_once
    while pending.classes and here.trees.withdrawn < limit:
        _settle_classes(here, root, next(iter(pending.classes)))
    while pending.providers and here.trees.withdrawn < limit:
        _settle_whole(here, root, next(iter(pending.providers)))


def check_withdrawn(transaction: Transaction, root: str) -> None:
    """Raise `InvalidRecord` if part of the tree is still to be withdrawn: a report or change would have to withdraw all of
    it first."""
    if is_withdrawing(transaction) and transaction.get(WITHDRAWALS, transaction.key(root)) is not None:
        raise _still_withdrawing(transaction, f"the tree of {root}")


def _still_withdrawing(transaction: Transaction, what: str) -> InvalidRecord:
    rules = transaction.rules
    return InvalidRecord(
        f"{what} is still being withdrawn, and rules version {rules.version} withdraws"
        f" {rules.limits.withdrawn_at_once:,} inventories and providers a record: report it again later"
    )


def settle_provider(transaction: Transaction, provider: str) -> None:
    """Withdraw a provider, or those of its classes that are pending, before something else changes it.

    Raises `InvalidRecord` if the record has withdrawn as much as it may.
    """
    if not is_withdrawing(transaction):
        return
    row = transaction.provider(provider)
    if row is None:
        return
    pending = _pending(transaction, row.root)
    if provider not in pending.classes and provider not in pending.providers:
        return
    if transaction.trees.withdrawn >= transaction.rules.limits.withdrawn_at_once:
        raise _still_withdrawing(transaction, f"provider {provider} of {row.root}")
    if provider in pending.classes:
        _settle_classes(transaction, row.root, provider)
    if provider in pending.providers:
        _settle_whole(transaction, row.root, provider)


def settle_class(transaction: Transaction, provider: str, name: str) -> None:
    """Withdraw one class of a provider, if it is pending, before its use changes. The other classes stay pending."""
    row = transaction.provider(provider)
    if row is None:
        return
    pending = _pending(transaction, row.root)
    offset = pending.providers.get(provider)
    if offset is not None:
        if provider in pending.classes:
            _settle_classes(transaction, row.root, provider)
            row = transaction.provider(provider) or row
        del pending.providers[provider]
        pending.classes[provider] = (offset, row.classes)
        row = replace(row, reported=False, changed=max(row.changed, offset))
        transaction.put(PROVIDERS, transaction.key(provider), row)
    if provider in pending.classes and name in pending.classes[provider][1]:
        _settle_classes(transaction, row.root, provider, name)


def _pending(transaction: Transaction, root: str) -> PendingWithdrawal:
    """What is pending of a tree. The caller may change it; `settle_trees` writes it."""
    slot = (transaction.cell, root)
    found = transaction.trees.pending.get(slot)
    if found is None:
        row = transaction.get(WITHDRAWALS, transaction.key(root))
        found = transaction.trees.pending[slot] = PendingWithdrawal(row, transaction.time_ms - 1)
    return found


def _settle_whole(transaction: Transaction, root: str, provider: str) -> None:
    offset = _pending(transaction, root).providers.pop(provider)
    row = transaction.provider(provider)
    if row is None or row.root != root:
        return
    if not _withdraw_provider(transaction, provider, row, offset):
        _leave(transaction, root, provider, offset)


def _settle_classes(transaction: Transaction, root: str, provider: str, only: str = "") -> None:
    """Withdraw the pending classes of a provider, or only one of them."""
    pending = _pending(transaction, root)
    offset, names = pending.classes.pop(provider)
    now = (only,) if only else names
    if only and len(names) > 1:
        pending.classes[provider] = (offset, tuple(name for name in names if name != only))
    transaction.trees.withdrawn += len(now)
    gone = {name for name in now if not _withdraw_class(transaction, provider, name, offset)}
    row = transaction.provider(provider)
    if row is None or not gone:
        return
    row = replace(
        row,
        classes=tuple(name for name in row.classes if name not in gone),
        changed=max(row.changed, offset),
    )
    if row.classes or row.reported or len(row.members) > 1:
        transaction.put(PROVIDERS, transaction.key(provider), row)
        return
    transaction.delete(PROVIDERS, transaction.key(provider))
    if row.root != provider:
        _leave(transaction, row.root, provider, row.changed)


def _write_pending(transaction: Transaction, root: str, pending: PendingWithdrawal) -> None:
    """Write what is left to withdraw of a tree, its deadline, and whether it closes the node."""
    key = transaction.key(root)
    if not pending.providers and not pending.classes:
        if not pending.new:
            transaction.delete(WITHDRAWALS, key)
            if not pending.stepped:
                transaction.delete(DEADLINES, deadline_key(pending.at_ms, WITHDRAWAL, key))
            _count_tree(transaction, -1)
            close_node(transaction, key, withdrawing=False)
        return
    row = WithdrawalRow(
        pending.at_ms,
        tuple(pending.providers.items()),
        tuple((id_, offset, names) for id_, (offset, names) in pending.classes.items()),
    )
    if row == transaction.get(WITHDRAWALS, key) and not pending.stepped:
        return
    transaction.put(WITHDRAWALS, key, row)
    transaction.put(DEADLINES, deadline_key(pending.at_ms, WITHDRAWAL, key), b"")
    if pending.new:
        _count_tree(transaction, 1)
        close_node(transaction, key, withdrawing=True)


def _count_tree(transaction: Transaction, by: int) -> None:
    key = transaction.key(_TREES)
    put_count(transaction, key, (transaction.get(CELL_COUNTS, key) or 0) + by)


# -- rows -----------------------------------------------------------------------------------------------------


def _withdraw_provider(transaction: Transaction, provider: str, row: ProviderRow, offset: int) -> bool:
    """Withdraw a provider as the event at `offset` does. Returns whether it stays because part of it is in use."""
    names = len(row.reported_traits) + len(row.reported_attributes)
    transaction.trees.withdrawn += 1 + len(row.classes) + names // _NAMES_OF_A_UNIT
    classes = tuple(name for name in row.classes if _withdraw_class(transaction, provider, name, offset))
    if not classes:
        transaction.delete(PROVIDERS, transaction.key(provider))
        return False
    gone = replace(row, classes=classes, reported=False)
    if gone != row:
        gone = replace(gone, changed=max(row.changed, offset))
        transaction.put(PROVIDERS, transaction.key(provider), gone)
    return True


def _withdraw_class(transaction: Transaction, provider: str, name: str, offset: int) -> bool:
    """Withdraw the inventory of a class. Returns whether its row stays because part of it is in use."""
    table = transaction.class_table(name)
    row = transaction.class_row(table, provider)
    if row is None:
        return False
    if table.resource_class.in_use(row.record):
        if row.reported:
            record = table.resource_class.withdraw(row.record)
            transaction.put_class_row(table, provider, ClassRow(record, row.taken, offset, reported=False))
        return True
    transaction.delete_class_row(table, provider)
    return False


def _remove_members(transaction: Transaction, root: str, gone: Mapping[str, int]) -> None:
    """Remove members of a tree. A root that is no longer reported is deleted together with the last other member."""
    row = transaction.provider(root)
    if row is None or row.root != root:
        return
    members = tuple(member for member in row.members if member not in gone)
    if members == (root,) and not row.reported and not row.classes:
        members = ()
    keep_members(transaction, root, members, max(gone.values()))
