"""Renaming a node (rules version 4): one event moves all that is held of a node, and its operator settings, to another name.

The state has no list of who holds what of a provider. So the event names the consumers, and the fold checks that they are
all: if they gave back what they hold of the node, nothing of it would be in use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from vacancy.resources.fold.claims.judge import Rows, give_back
from vacancy.resources.fold.nodes.cell_names import count_names
from vacancy.resources.fold.nodes.machines import machine_of, name_machine
from vacancy.resources.fold.nodes.node_watch import mark_incomplete
from vacancy.resources.fold.nodes.nodes import TOMBSTONE, TOMBSTONE_MS
from vacancy.resources.fold.nodes.withdrawals import apply_operator_settings, check_withdrawn, settle_trees
from vacancy.resources.fold.record_limits import check_limit, parts_weight
from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.events import RenameData
from vacancy.resources.model.limits import NAMED_PART_WEIGHT
from vacancy.resources.state.rows import AllocationRow, MachineRow, NodeRow, ServerGroupRow
from vacancy.resources.state.tables import (
    ALLOCATIONS,
    DEADLINES,
    FACTS,
    GROUPS,
    NODES,
    PROVIDERS,
    deadline_key,
)
from vacancy.resources.state.transaction import Transaction

_NAMED_WEIGHT: Final = 16
"""How many parts of an allocation one counts as that was granted by name (`Limits.renamed`)."""

_AGAIN: Final = "the node changed meanwhile: rename it again"


def fold_renamed(transaction: Transaction, data: RenameData) -> None:
    """The node gets another name. Nothing changes (`InvalidRecord`) unless the event names all of its providers and all
    consumers of them, and nothing is held of the new name.

    The old name is retired. The new one is closed until its next full report, which says what it has now.
    """
    old, new = transaction.provider(data.root), transaction.provider(data.to)
    if old is None or old.root != data.root:
        raise InvalidRecord(f"there is no node {data.root} in this cell to rename")
    if data.root == data.to:
        raise InvalidRecord(f"node {data.root} has this name already")
    if new is not None and new.root != data.to:
        raise InvalidRecord(f"provider {data.to} is a part of {new.root}, not a node")
    if all(transaction.get(NODES, transaction.key(name)) is None for name in (data.root, data.to)):
        raise InvalidRecord(f"node {data.root} was retired long ago: publish {data.to} first, then rename it")
    check_withdrawn(transaction, data.root)
    if new is not None:
        check_withdrawn(transaction, data.to)
    members, there = old.members or (data.root,), () if new is None else new.members or (data.to,)
    _check_names(transaction, data, members, there)
    _check_machine(transaction, data)
    held = _held(transaction, data, members)
    _check_limit(transaction, data, held, members)
    _check_unused(transaction, data, held, members, there)
    _move_providers(transaction, data, members, there)
    for consumer, row in held.items():
        _move_allocation(transaction, consumer, row, data.providers)
    _move_node(transaction, data)
    settle_trees(transaction)
    count_names(transaction, limited=True)


# -- what must be true --------------------------------------------------------------------------------------------


def _check_names(
    transaction: Transaction, data: RenameData, members: tuple[str, ...], there: tuple[str, ...]
) -> None:
    names = data.providers
    if names.keys() != set(members):
        one = min(names.keys() ^ set(members))
        raise InvalidRecord(
            f"provider {one} is in the event or in the tree of {data.root}, not in both: {_AGAIN}"
        )
    if len(set(names.values())) != len(names):
        raise InvalidRecord(f"two providers of {data.root} would have the same name")
    if names[data.root] != data.to:
        raise InvalidRecord(f"the root {data.root} would be {names[data.root]}, not {data.to}")
    known = set(there)
    for before, after in names.items():
        row = transaction.provider(after)
        if row is not None and after != before and after not in known:
            raise InvalidRecord(f"provider {after} is a part of {row.root}, not of {data.to}")


def _check_machine(transaction: Transaction, data: RenameData) -> None:
    before, after = machine_of(transaction, data.root).machine, machine_of(transaction, data.to).machine
    if before and after and before != after:
        raise InvalidRecord(
            f"{data.root} is machine {before} and {data.to} is machine {after}: only one machine has two names"
        )


def _held(transaction: Transaction, data: RenameData, members: tuple[str, ...]) -> dict[str, AllocationRow]:
    """The allocations of the consumers that the event names, as far as they hold something of the node."""
    tree, found = set(members), {}
    for consumer in data.consumers:
        row = transaction.get(ALLOCATIONS, transaction.key(consumer))
        if row is not None and any(part.provider in tree for part in row.parts):
            found[consumer] = row
    return found


def _check_limit(
    transaction: Transaction, data: RenameData, held: Mapping[str, AllocationRow], members: tuple[str, ...]
) -> None:
    moved = sum(1 + len(row.classes) for id_ in members if (row := transaction.provider(id_)) is not None)
    for allocation in held.values():
        named = (parts_weight(allocation, 0) - len(allocation.parts)) // (NAMED_PART_WEIGHT - 1)
        moved += len(allocation.parts) + (_NAMED_WEIGHT - 1) * named
        for name in allocation.groups:
            group = transaction.get(GROUPS, transaction.key(name))
            moved += len(group.members) if group is not None else 0
    rules = transaction.rules
    check_limit(
        rules, f"renaming {data.root} would move", moved, "parts of it", rules.limits.renamed, " a record"
    )


def _check_unused(
    transaction: Transaction,
    data: RenameData,
    held: Mapping[str, AllocationRow],
    members: tuple[str, ...],
    there: tuple[str, ...],
) -> None:
    tree = set(members)
    rows: Rows = {}
    for allocation in held.values():
        give_back(transaction, (part for part in allocation.parts if part.provider in tree), rows)
    for id_ in members:
        provider = transaction.provider(id_)
        for name in provider.classes if provider is not None else ():
            table = transaction.class_table(name)
            found = rows.get((table, id_)) or transaction.class_row(table, id_)
            if found is not None and table.resource_class.in_use(found.record):
                raise InvalidRecord(
                    f"{name} of {id_} is held by a consumer that the event does not name: {_AGAIN}"
                )
    for id_ in there:
        provider = transaction.provider(id_)
        for name in provider.classes if provider is not None else ():
            table = transaction.class_table(name)
            found = transaction.class_row(table, id_)
            if found is not None and table.resource_class.in_use(found.record):
                raise InvalidRecord(
                    f"{name} of {id_} is held: release or move what is held of {data.to}, then rename {data.root}"
                )


# -- what changes -------------------------------------------------------------------------------------------------


def _move_providers(
    transaction: Transaction, data: RenameData, members: tuple[str, ...], there: tuple[str, ...]
) -> None:
    names = data.providers
    tree = tuple(dict.fromkeys((*(names[id_] for id_ in members), *there)))
    for before in members:
        row, after = transaction.provider(before), names[before]
        if row is None:
            continue
        known = transaction.provider(after) if after != before else None
        _move_settings(transaction, before, after)
        for name in row.classes:
            _move_inventory(transaction, name, before, after)
        parent = None if row.parent is None else names.get(row.parent, data.to)
        if known is None:
            known = replace(row, root=data.to, parent=parent)
        classes = tuple(sorted({*known.classes, *row.classes}))
        members_of = tree if after == data.to and (len(tree) > 1 or row.members) else ()
        new = replace(known, classes=classes, members=members_of, changed=transaction.offset)
        transaction.put(
            PROVIDERS,
            transaction.key(after),
            apply_operator_settings(new, transaction.get(FACTS, transaction.key(after))),
        )
    kept = set(names.values())
    for before in members:
        if before not in kept:
            transaction.delete(PROVIDERS, transaction.key(before))


def _move_settings(transaction: Transaction, before: str, after: str) -> None:
    """The operator settings follow the provider, unless the new name has its own."""
    key = transaction.key(before)
    row = transaction.get(FACTS, key)
    if row is None or after == before:
        return
    if transaction.get(FACTS, transaction.key(after)) is None:
        transaction.put(FACTS, transaction.key(after), row)
    transaction.delete(FACTS, key)


def _move_inventory(transaction: Transaction, name: str, before: str, after: str) -> None:
    """The inventory and its use follow the provider, under the overrides of the new name."""
    table = transaction.class_table(name)
    row = transaction.class_row(table, before)
    if row is None:
        return
    settings = transaction.get(FACTS, transaction.key(after))
    record = table.resource_class.override(row.record, settings.overrides.get(name, {}) if settings else {})
    if after != before:
        transaction.delete_class_row(table, before)
    transaction.put_class_row(table, after, replace(row, record=record, changed=transaction.offset))


def _move_allocation(
    transaction: Transaction, consumer: str, row: AllocationRow, names: Mapping[str, str]
) -> None:
    parts = tuple(part._replace(provider=names.get(part.provider, part.provider)) for part in row.parts)
    transaction.put(ALLOCATIONS, transaction.key(consumer), replace(row, parts=parts))
    for name in row.groups:
        key = transaction.key(name)
        group = transaction.get(GROUPS, key)
        if group is None:
            continue
        members = tuple(
            member._replace(
                places=tuple(
                    tuple(sorted(names.get(provider, provider) for provider in place))
                    for place in member.places
                )
            )
            if member.consumer == consumer
            else member
            for member in group.members
        )
        new = ServerGroupRow(group.policy, group.hard, group.max_per_node, group.scope, members)
        transaction.put(GROUPS, key, new)


def _move_node(transaction: Transaction, data: RenameData) -> None:
    before, after = transaction.key(data.root), transaction.key(data.to)
    old, new = transaction.get(NODES, before), transaction.get(NODES, after)
    machine, there = machine_of(transaction, data.root), machine_of(transaction, data.to)
    if new is not None:
        transaction.put(NODES, after, replace(new, retired=False))
    elif old is not None:
        transaction.put(NODES, after, NodeRow(old.incarnations, transaction.time_ms))
    if old is not None and not old.retired:
        transaction.put(NODES, before, replace(old, complete=True, retired=True))
        ends_ms = transaction.time_ms + TOMBSTONE_MS
        transaction.put(DEADLINES, deadline_key(ends_ms, TOMBSTONE, before), b"")
    name_machine(transaction, data.root, MachineRow(refused=machine.refused))
    if new is None or new.retired:
        refused = tuple(name for name in there.refused if name != machine.machine)
        there = replace(there, machine=machine.machine, refused=refused)
    name_machine(transaction, data.to, there)
    mark_incomplete(transaction, after)
