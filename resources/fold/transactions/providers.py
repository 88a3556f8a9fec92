"""What a transaction does with providers: creates, renames and re-parents them, sets their traits, aggregates and inventories,
deletes them.

Traits and aggregates that a transaction sets are operator settings (`FACTS`): reports of a node do not change them. A trait that the
node reports is removed only until its next report. An inventory that a transaction sets is as one that the node reports, so the node's
next report replaces it. A provider that a node reports is neither moved nor deleted by a transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from vacancy.resources.fold.claims.judge import Rejection, Rows
from vacancy.resources.fold.nodes.withdrawals import apply_operator_settings, check_withdrawn
from vacancy.resources.fold.operator_settings import REVISIONS_KEPT
from vacancy.resources.fold.record_limits import check_items, check_limit
from vacancy.resources.fold.transactions.generations import details_of
from vacancy.resources.fold.transactions.made import delete_node, is_made, make_node, subtree
from vacancy.resources.fold.transactions.names import check_name
from vacancy.resources.fold.transactions.refusal import Refused, invalid
from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.transactions import ProviderChange
from vacancy.resources.state.rows import ClassRow, OperatorSettingsRow, ProviderDetailsRow, ProviderRow
from vacancy.resources.state.tables import (
    FACTS,
    PROVIDER_DETAILS,
    PROVIDER_NAMES,
    PROVIDERS,
    ClassTable,
)
from vacancy.resources.state.transaction import Transaction

Dropped = list[tuple[ClassTable, str]]
"""Inventories that a transaction removes, if nothing is in use of them at its end."""

_INVENTORY_WEIGHT: Final = 4
"""How much an inventory that is removed counts as in `Limits.claim_reads`. A few bytes of a record remove all inventories, traits
and aggregates of a provider."""

_NAMES_READ: Final = 16
"""How many traits, aggregates and members of a provider count as one in `Limits.claim_reads` where its row is read."""

_NO_SETTINGS: Final = OperatorSettingsRow(0, (), "enabled", "", (), (), {})


def check_provider(transaction: Transaction, change: ProviderChange) -> None:
    """Check what must be true of a provider before the transaction. Raises `Refused` and `RecordFull`."""
    row = transaction.provider(change.provider)
    if row is not None:
        transaction.read((_names(row) + len(row.members)) // _NAMES_READ)
    if change.op == "create":
        if row is not None:
            raise Refused(Rejection("provider_exists", change.provider, taken=row.changed))
        return
    if row is None:
        raise Refused(Rejection("provider_unknown", change.provider))
    if change.generation is not None:
        details = details_of(transaction, change.provider)
        if details.generation != change.generation:
            taken = details.offset if details.offset >= 0 else row.changed
            rejection = Rejection(
                "provider_changed", change.provider, "", change.generation, details.generation
            )
            raise Refused(rejection._replace(taken=taken))


def change_provider(transaction: Transaction, event_id: str, change: ProviderChange) -> None:
    """Create a provider, or change its name, its place, its traits and its aggregates. Raises `Refused`, `RecordFull` and
    `InvalidRecord`."""
    provider = change.provider
    if change.op == "create":
        _create(transaction, change)
    elif change.parent is not None:
        _move(transaction, provider, change.parent or None)
    if change.name is not None or change.op == "create":
        _name(transaction, provider, change.name or provider, new=change.op == "create")
    if change.traits is not None or change.aggregates is not None:
        _set_names(transaction, event_id, change)


# -- places -----------------------------------------------------------------------------------------------


def _create(transaction: Transaction, change: ProviderChange) -> None:
    provider, parent = change.provider, change.parent or None
    root = provider
    if parent is not None:
        root = _row_of_parent(transaction, provider, parent).root
        _put_members(transaction, root, (*_members(transaction, root), provider))
    else:
        make_node(transaction, provider)
    row = ProviderRow(root, parent, (), (), transaction.offset, members=(provider,) if parent is None else ())
    settings = _settings(transaction, provider)
    if settings is not None:
        transaction.read(len(settings.traits) + len(settings.aggregates))
    transaction.put(PROVIDERS, transaction.key(provider), apply_operator_settings(row, settings))
    earlier = details_of(transaction, provider)
    if earlier.name:  # of a provider that this record has removed before
        transaction.delete(PROVIDER_NAMES, transaction.key(earlier.name))
    details = ProviderDetailsRow(
        0, transaction.offset, transaction.time_ms, "", transaction.time_ms, made=True
    )
    transaction.put(PROVIDER_DETAILS, transaction.key(provider), details)


def _row_of_parent(transaction: Transaction, provider: str, parent: str) -> ProviderRow:
    row = transaction.provider(parent)
    if row is None or not row.reported:
        raise Refused(Rejection("parent_unknown", provider, other=parent))
    return row


def _members(transaction: Transaction, root: str) -> tuple[str, ...]:
    row = transaction.provider(root)
    return () if row is None else row.members


def _put_members(transaction: Transaction, root: str, members: tuple[str, ...]) -> None:
    """Write the members of a tree, within the limit."""
    rules, row = transaction.rules, transaction.provider(root)
    if row is None or len(members) > len(row.members):
        subject = f"the tree of {root} would have"
        check_limit(rules, subject, len(members), "providers", rules.limits.tree_members)
    if row is not None:
        changed = replace(row, members=members, changed=transaction.offset)
        transaction.put(PROVIDERS, transaction.key(root), changed)


def _move(transaction: Transaction, provider: str, parent: str | None) -> None:
    """Give a provider another parent, or make it a root. All that is below it goes with it."""
    row = transaction.provider(provider)
    if row is None or row.parent == parent:
        return
    if not is_made(transaction, provider):
        raise Refused(Rejection("provider_reported", provider, taken=row.changed))
    old_root = row.root
    members = _members(transaction, old_root)
    moved = subtree(transaction, members, provider)
    new_root = provider
    if parent is not None:
        new_root = _row_of_parent(transaction, provider, parent).root
        if parent in moved:
            raise Refused(Rejection("parent_below", provider, other=parent, taken=row.changed))
    if new_root == old_root:
        changed = replace(row, parent=parent, changed=transaction.offset)
        transaction.put(PROVIDERS, transaction.key(provider), changed)
        return
    check_withdrawn(transaction, old_root)
    for member in moved:
        if not is_made(transaction, member):
            raise Refused(Rejection("provider_reported", provider, taken=row.changed, other=member))
    if None in (parent, row.parent):  # another root: it is counted again for its aggregates
        transaction.read(len(row.aggregates))
    if provider == old_root:
        delete_node(transaction, provider)
    else:
        there = set(moved)
        _put_members(transaction, old_root, tuple(one for one in members if one not in there))
    for member in moved:
        at = transaction.provider(member)
        if at is not None:
            above = parent if member == provider else at.parent
            changed = replace(at, root=new_root, parent=above, members=(), changed=transaction.offset)
            transaction.put(PROVIDERS, transaction.key(member), changed)
    if parent is None:
        make_node(transaction, provider)
        _put_members(transaction, provider, (provider, *(one for one in moved if one != provider)))
    else:
        _put_members(transaction, new_root, (*_members(transaction, new_root), *moved))


# -- names ------------------------------------------------------------------------------------------------


def _name(transaction: Transaction, provider: str, name: str, *, new: bool) -> None:
    details = details_of(transaction, provider)
    own = "" if name == provider else name
    if new or own != details.name:
        _check_name_free(transaction, provider, name)
    if details.name and details.name != own:
        transaction.delete(PROVIDER_NAMES, transaction.key(details.name))
    if own:
        transaction.put(PROVIDER_NAMES, transaction.key(own), provider)
    transaction.put(
        PROVIDER_DETAILS,
        transaction.key(provider),
        replace(details, name=own, changed_ms=transaction.time_ms),
    )


def _check_name_free(transaction: Transaction, provider: str, name: str) -> None:
    """Raise `Refused` if another provider has the name: by a transaction, or as its id."""
    holder = transaction.get(PROVIDER_NAMES, transaction.key(name))
    if holder is None and name != provider:
        other = transaction.provider(name)
        if other is not None and not details_of(transaction, name).name:
            holder = name
    if holder is not None and holder != provider:
        taken = details_of(transaction, holder).offset
        raise Refused(Rejection("name_taken", provider, taken=taken, group=holder, other=name))


def _set_names(transaction: Transaction, event_id: str, change: ProviderChange) -> None:
    """Set traits and aggregates, as operator settings."""
    provider, limits, rules = change.provider, transaction.rules.limits, transaction.rules
    key = transaction.key(provider)
    row = transaction.provider(provider)
    if row is None:
        return
    before = _settings(transaction, provider) or _NO_SETTINGS
    reported, traits, aggregates = row.reported_traits, before.traits, before.aggregates
    subject = f"provider {provider} would have"
    if change.traits is not None:
        wanted = set(change.traits)
        transaction.read(len({*before.traits, *reported} - wanted))
        check_limit(rules, subject, len(wanted), "traits", limits.provider_traits)
        for name in sorted(wanted):
            check_name(transaction, "trait", name, provider)
        reported = tuple(one for one in reported if one in wanted)
        traits = tuple(sorted(wanted - set(reported)))
    if change.aggregates is not None:
        aggregates = tuple(sorted(set(change.aggregates)))
        transaction.read(len(set(before.aggregates).difference(aggregates)))
        check_limit(rules, subject, len(aggregates), "aggregates", limits.provider_aggregates)
    settings = before
    if (traits, aggregates) != (before.traits, before.aggregates):
        settings = _with_names(event_id, before, traits, aggregates)
        transaction.put(FACTS, key, settings)
    after = apply_operator_settings(replace(row, reported_traits=reported), settings)
    if after != row:
        transaction.put(PROVIDERS, key, replace(after, changed=transaction.offset))


def _with_names(
    event_id: str, before: OperatorSettingsRow, traits: tuple[str, ...], aggregates: tuple[str, ...]
) -> OperatorSettingsRow:
    events = (event_id, *before.events)[:REVISIONS_KEPT]
    return replace(before, revision=before.revision + 1, events=events, traits=traits, aggregates=aggregates)


# -- inventories ------------------------------------------------------------------------------------------


def set_inventories(
    transaction: Transaction, provider: str, inventories: Mapping[str, Mapping[str, Any]], rows: Rows
) -> Dropped:
    """Set the inventories of a provider in `rows`, which has what this transaction has changed of them so far. Returns those that it
    no longer lists: they stay until the end of the transaction."""
    row = transaction.provider(provider)
    if row is None:
        return []
    if not row.reported:
        raise Refused(Rejection("provider_retired", provider, taken=row.changed))
    rules = transaction.rules
    subject = f"provider {provider} would have"
    check_limit(rules, subject, len(inventories), "resource classes", rules.limits.provider_classes)
    settings = _settings(transaction, provider) or _NO_SETTINGS
    for name, inventory in inventories.items():
        table = _class_table(transaction, provider, name)
        slot = (table, provider)
        old = rows.get(slot) or transaction.class_row(table, provider)
        _read_items(transaction, table, old)
        resource_class = table.resource_class
        try:
            record = resource_class.set_inventory(inventory, None if old is None else old.record)
            check_items(rules, resource_class.items(record), name)
        except InvalidRecord as error:
            raise invalid(error.what, provider, name) from None
        if old is None:
            if name in settings.overrides:
                record = resource_class.override(record, settings.overrides[name])
            rows[slot] = ClassRow(record, -1, transaction.offset)
        elif record != old.record or not old.reported:
            rows[slot] = ClassRow(record, old.taken, transaction.offset)
    dropped: Dropped = []
    for name in row.classes:
        if name not in inventories:
            table = transaction.class_table(name)
            there = rows.get((table, provider)) or transaction.class_row(table, provider)
            _read_items(transaction, table, there)
            if there is not None and there.reported:
                dropped.append((table, provider))
    transaction.read(_INVENTORY_WEIGHT * len(dropped))
    kept = {name for name in row.classes if name not in inventories}
    kept -= {table.name for table, _ in dropped}
    _put_classes(transaction, row, provider, tuple(sorted({*inventories, *kept})))
    return dropped


def _read_items(transaction: Transaction, table: ClassTable, row: ClassRow | None) -> None:
    """Count the items of an inventory that is read, as `Limits.claim_reads` counts them. Raises `RecordFull`."""
    if row is not None:
        transaction.read(table.resource_class.items(row.record))


def _settings(transaction: Transaction, provider: str) -> OperatorSettingsRow | None:
    """The operator settings of a provider. The items that they exclude are counted. Raises `RecordFull`."""
    row = transaction.get(FACTS, transaction.key(provider))
    if row is not None and row.overrides:
        named = (value for one in row.overrides.values() for value in one.values() if isinstance(value, dict))
        transaction.read(sum(map(len, named)))
    return row


def _put_classes(transaction: Transaction, row: ProviderRow, provider: str, classes: tuple[str, ...]) -> None:
    if classes != row.classes:
        changed = replace(row, classes=classes, changed=transaction.offset)
        transaction.put(PROVIDERS, transaction.key(provider), changed)


def _class_table(transaction: Transaction, provider: str, name: str) -> ClassTable:
    try:
        table = transaction.class_table(name)
    except InvalidRecord:
        raise Refused(Rejection("class_unknown", provider, name, other=name)) from None
    check_name(transaction, "class", name, provider)
    return table


def drop_inventories(transaction: Transaction, dropped: Dropped, rows: Rows) -> None:
    """Remove inventories that are no longer listed from `rows`, and delete them. Raises `Refused` if one is in use."""
    for table, provider in dropped:
        row = rows.pop((table, provider), None) or transaction.class_row(table, provider)
        if row is not None and table.resource_class.in_use(row.record):
            raise Refused(Rejection("inventory_in_use", provider, table.name, taken=row.taken))
        transaction.delete_class_row(table, provider)


# -- the end ----------------------------------------------------------------------------------------------


def delete_provider(transaction: Transaction, event_id: str, provider: str, rows: Rows) -> None:
    """Delete a provider with its inventories. Raises `Refused` if it has children or is in use."""
    row = transaction.provider(provider)
    if row is None:
        return
    if not is_made(transaction, provider):
        raise Refused(Rejection("provider_reported", provider, taken=row.changed))
    members = _members(transaction, row.root)
    transaction.read(len(members) + _removed(row))
    for member in members:
        child = transaction.provider(member)
        if child is not None and child.parent == provider:
            raise Refused(Rejection("provider_has_children", provider, other=member, taken=child.changed))
    for name in row.classes:
        table = transaction.class_table(name)
        there = rows.pop((table, provider), None) or transaction.class_row(table, provider)
        _read_items(transaction, table, there)
        if there is not None and table.resource_class.in_use(there.record):
            raise Refused(Rejection("provider_in_use", provider, name, taken=there.taken))
        if there is not None:
            transaction.delete_class_row(table, provider)
    transaction.delete(PROVIDERS, transaction.key(provider))
    if row.root == provider:
        delete_node(transaction, provider)
    else:
        _put_members(transaction, row.root, tuple(one for one in members if one != provider))
    _forget_names(transaction, event_id, provider)


def _removed(row: ProviderRow) -> int:
    """What deleting a provider counts as in `Limits.claim_reads`, besides its tree."""
    return _names(row) + _INVENTORY_WEIGHT * len(row.classes)


def _names(row: ProviderRow) -> int:
    return len(row.reported_traits) + len(row.operator_traits) + len(row.aggregates)


def _forget_names(transaction: Transaction, event_id: str, provider: str) -> None:
    """Delete the traits and aggregates of a provider. Its other operator settings stay, as with any provider that is gone."""
    key = transaction.key(provider)
    before = _settings(transaction, provider)
    if before is None or not (before.traits or before.aggregates):
        return
    after = _with_names(event_id, before, (), ())
    plain = replace(after, revision=0, events=(), reason="")
    if plain == _NO_SETTINGS:
        transaction.delete(FACTS, key)
    else:
        transaction.put(FACTS, key, after)
