"""Events of nodes: reports, changes, heartbeats, retirement.

Each event of a node has an incarnation and a sequence number. A full report opens an incarnation. Repeated events and
late events of an earlier incarnation change nothing. A gap in the sequence makes the node incomplete: it takes no new
claims until its next full report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace as _replace

from vacancy.resources.classes.resource_class import UNHEALTHY, ResourceClass
from vacancy.resources.fold.nodes.provider_tree import check_tree
from vacancy.resources.fold.nodes.withdrawals import (
    apply_operator_settings,
    check_withdrawn,
    keep_members,
    leave_tree,
    settle_leaving,
    settle_provider,
    withdraw,
    withdraw_classes,
)
from vacancy.resources.fold.record_limits import check_items, check_limit
from vacancy.resources.fold.transactions.made import keep_made, lift_made
from vacancy.resources.model.attributes import Pairs, pairs, same_types, type_name
from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.events import NodeChangedData, NodeData, NodeReportedData, ProviderReport
from vacancy.resources.state.rows import ClassRow, NodeRow, ProviderRow
from vacancy.resources.state.tables import ALLOCATIONS, DEADLINES, FACTS, NODES, PROVIDERS, deadline_key
from vacancy.resources.state.transaction import Transaction

INCARNATIONS_KEPT = 8
TOMBSTONE_MS = 7 * 24 * 3600 * 1000
"""How long the incarnations of a retired node are kept, so that late events do not add the node again."""

HOLD = b"H"
TOMBSTONE = b"N"


def fold_reported(transaction: Transaction, data: NodeReportedData) -> None:
    """Apply a full report: it replaces the node's tree."""
    node = transaction.get(NODES, transaction.key(data.root))
    incarnations = _next(node, data, opens=True)
    if incarnations is None:
        return
    check_withdrawn(transaction, data.root)
    reports = data.providers
    check_tree(data.root, _parents(reports))
    root = transaction.provider(data.root)
    members = tuple(report.id for report in reports)
    if root is not None and root.members != members:
        stay = set(members)
        gone = [member for member in root.members if member not in stay]
        made = keep_made(transaction, data.root, gone, members) if transaction.rules.has_transactions else ()
        kept = [one for one in gone if one in made or withdraw(transaction, data.root, one)]
        members = (*members, *kept)
        _check_members(transaction, data.root, len(reports) + transaction.trees.unreported)
    opens = node is None or node.incarnations[0][0] != data.incarnation
    for report in reports:
        _put_provider(transaction, data.root, report, members if report.id == data.root else (), opens=opens)
    transaction.put(NODES, transaction.key(data.root), NodeRow(incarnations, transaction.time_ms))
    if data.consumers:
        _confirm(transaction, data.consumers)


def fold_changed(transaction: Transaction, data: NodeChangedData) -> None:
    """Apply added, changed and removed providers of a node."""
    node = transaction.get(NODES, transaction.key(data.root))
    incarnations = _next(node, data, opens=False)
    if incarnations is None or node is None:
        return
    contiguous = incarnations[0][1] == node.incarnations[0][1] + 1
    complete = node.complete and contiguous
    transaction.put(
        NODES, transaction.key(data.root), NodeRow(incarnations, transaction.time_ms, complete, node.retired)
    )
    root = transaction.provider(data.root)
    if not contiguous or node.retired or root is None:
        return  # the change is based on a state that is not here: wait for the next full report
    check_withdrawn(transaction, data.root)
    upserts = {report.id: report for report in data.providers}
    removed = set(data.removed)
    if removed & upserts.keys() or data.root in removed:
        raise InvalidRecord(f"node {data.root} removes a provider that it also reports, or its root")
    before = {
        member: row
        for member in root.members
        if (row := transaction.provider(member)) and row.root == data.root
    }
    if removed and transaction.rules.has_transactions:
        before |= lift_made(transaction, data.root, before, removed)
    parents = {m: row.parent for m, row in before.items() if row.reported and m not in removed}
    parents.update(_parents(data.providers))
    check_tree(data.root, parents)
    unreported = sum(not row.reported for member, row in before.items() if member not in upserts)
    _check_members(transaction, data.root, len(parents) + unreported)
    kept = [m for m in before if m not in removed or withdraw(transaction, data.root, m)]
    members = (*kept, *(id_ for id_ in upserts if id_ not in before))
    for report in data.providers:
        _put_provider(transaction, data.root, report, members if report.id == data.root else ())
    root_now = transaction.provider(data.root)
    if root_now is not None and root_now.members != members:
        row = _replace(root_now, members=members, changed=transaction.offset)
        transaction.put(PROVIDERS, transaction.key(data.root), row)


def fold_heartbeat(transaction: Transaction, data: NodeData) -> None:
    """Record that the node is alive. Its providers are unchanged."""
    node = transaction.get(NODES, transaction.key(data.root))
    incarnations = _next(node, data, opens=False)
    if incarnations is None or node is None:
        return
    complete = node.complete and incarnations[0][1] == node.incarnations[0][1] + 1
    transaction.put(
        NODES, transaction.key(data.root), NodeRow(incarnations, transaction.time_ms, complete, node.retired)
    )


def fold_retired(transaction: Transaction, data: NodeData) -> None:
    """Retire a node. Resources in use stay, with capacity 0, until they are released."""
    node = transaction.get(NODES, transaction.key(data.root))
    incarnations = _next(node, data, opens=False)
    if incarnations is None:
        return
    transaction.put(
        NODES,
        transaction.key(data.root),
        NodeRow(incarnations, transaction.time_ms, complete=True, retired=True),
    )
    root = transaction.provider(data.root)
    if root is not None and root.root == data.root:
        kept = tuple([m for m in root.members if withdraw(transaction, data.root, m)])
        keep_members(transaction, data.root, kept, transaction.offset)
    subject = transaction.key(data.root)
    transaction.put(DEADLINES, deadline_key(transaction.time_ms + TOMBSTONE_MS, TOMBSTONE, subject), b"")


def _check_members(transaction: Transaction, root: str, count: int) -> None:
    """Raise `InvalidRecord` if a tree would have too many members: those that are reported, and those that were withdrawn
    before and are still in use. What this event withdraws does not count yet."""
    rules = transaction.rules
    kept = ", with those that stay because they are in use"
    check_limit(rules, f"the tree of {root} would have", count, "providers", rules.limits.tree_members, kept)


def expire_tombstone(transaction: Transaction, _at_ms: int, key: bytes) -> None:
    """Delete a node that was retired `TOMBSTONE_MS` ago."""
    node = transaction.get(NODES, key)
    if node is not None and node.retired:
        transaction.delete(NODES, key)


def _next(node: NodeRow | None, data: NodeData, *, opens: bool) -> tuple[tuple[str, int], ...] | None:
    """The node's incarnations after this event, or None if the event is repeated or late and must change nothing.

    Raises `InvalidRecord` for an incarnation that no full report opened.
    """
    here = (data.incarnation, data.sequence)
    if node is None:
        if opens:
            return (here,)
    else:
        known = node.incarnations
        current, last = known[0]
        if data.incarnation == current:
            return (here, *known[1:]) if data.sequence > last else None
        for earlier, _ in known[1:]:
            if earlier == data.incarnation:
                return None
        if opens:
            return (here, *known[: INCARNATIONS_KEPT - 1])
    raise InvalidRecord(f"node {data.root}: no full report opened incarnation {data.incarnation}")


def _parents(reports: Sequence[ProviderReport]) -> Mapping[str, str | None]:
    parents = {report.id: report.parent for report in reports}
    if len(parents) != len(reports):
        raise InvalidRecord("a provider is reported twice in one event")
    return parents


def _put_provider(
    transaction: Transaction,
    root: str,
    report: ProviderReport,
    members: tuple[str, ...],
    *,
    opens: bool = False,
) -> None:
    """Write a reported provider. `opens` is whether the report opens an incarnation."""
    settle_leaving(transaction, report.id)
    old = transaction.provider(report.id)
    if old is not None and old.root != root:
        settle_provider(transaction, report.id)
        old = transaction.provider(report.id)
    if old is not None and old.root != root:
        if old.reported:
            raise InvalidRecord(f"provider {report.id} of {root} is already a part of {old.root}")
        if old.root != report.id:
            leave_tree(transaction, old.root, report.id)
    is_new = old is None
    if old is None:
        old = apply_operator_settings(
            ProviderRow(root, report.parent, (), (), -1), transaction.get(FACTS, transaction.key(report.id))
        )
    classes = _put_inventories(transaction, root, report, old)
    traits = report.traits
    if len(traits) > 1:
        traits = tuple(sorted(set(traits)))
    new = ProviderRow(
        root,
        report.parent,
        traits,
        classes,
        old.changed,
        True,
        old.operator_traits,
        old.aggregates,
        old.disabled,
        members,
        pairs(report.attributes) if report.attributes else (),
        old.operator_attributes,
        old.taints,
    )
    if new.reported_attributes and not opens:
        _check_types(report.id, old.reported_attributes, report.attributes)
    if is_new or new != old or not same_types(new.reported_attributes, old.reported_attributes):
        transaction.put(PROVIDERS, transaction.key(report.id), _replace(new, changed=transaction.offset))


def _check_types(provider: str, old: Pairs, new: Mapping[str, str | int | bool]) -> None:
    """Raise `InvalidRecord` if an attribute changes its type within an incarnation: requests that compare it with the old
    type would silently stop matching. A restarted publisher may report another type."""
    for name, value in old:
        now = new.get(name, value)
        if type(now) is not type(value):
            raise InvalidRecord(
                f"provider {provider}: attribute {name} was {type_name(value)} ({value!r}) and is now"
                f" {type_name(now)} ({now!r}): report another name, or restart the publisher"
            )


def _put_inventories(
    transaction: Transaction, root: str, report: ProviderReport, old: ProviderRow
) -> tuple[str, ...]:
    """Write the reported classes and withdraw all others. Returns the classes that have a row."""
    overrides: dict[str, dict[str, Any]] | None = None
    for name, inventory in report.inventories.items():
        table = transaction.class_table(name)
        row = transaction.class_row(table, report.id)
        try:
            if row is None:
                record = _reported(transaction, table.resource_class, inventory, None)
                check_items(transaction.rules, table.resource_class.items(record), name)
                if overrides is None:
                    facts = transaction.get(FACTS, transaction.key(report.id))
                    overrides = facts.overrides if facts else {}
                if name in overrides:
                    record = table.resource_class.override(record, overrides[name])
                transaction.put_class_row(table, report.id, ClassRow(record, -1, transaction.offset))
            else:
                record = _reported(transaction, table.resource_class, inventory, row.record)
                check_items(transaction.rules, table.resource_class.items(record), name)
                if record != row.record or not row.reported:
                    transaction.put_class_row(
                        table, report.id, ClassRow(record, row.taken, transaction.offset)
                    )
        except InvalidRecord as error:
            raise InvalidRecord(f"provider {report.id}: {error.what}") from None
    if old.classes == tuple(report.inventories):
        return old.classes
    dropped = [name for name in old.classes if name not in report.inventories]
    kept = withdraw_classes(transaction, root, report.id, dropped)
    return tuple(sorted((*report.inventories, *kept)))


def _reported(
    transaction: Transaction, resource_class: ResourceClass[Any], inventory: Mapping[str, Any], old: Any
) -> Any:
    """The record after a report. Rules that exclude items know the unhealthy ones that a node names, too."""
    if (
        UNHEALTHY not in inventory
        or not transaction.rules.excludes_items
        or not resource_class.excludes_items
    ):
        return resource_class.report(inventory, old)
    items = {name: value for name, value in inventory.items() if name != UNHEALTHY}
    return resource_class.set_unhealthy(resource_class.report(items, old), inventory[UNHEALTHY])


def _confirm(transaction: Transaction, consumers: Sequence[str]) -> None:
    """Confirm the allocations of consumers that the node runs."""
    for consumer in consumers:
        key = transaction.key(consumer)
        row = transaction.get(ALLOCATIONS, key)
        if row is not None and row.hold_until_ms:
            transaction.delete(DEADLINES, deadline_key(row.hold_until_ms, HOLD, key))
            transaction.put(ALLOCATIONS, key, _replace(row, hold_until_ms=0))
