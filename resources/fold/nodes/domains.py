"""The domains of a cell (rules version 4): the aggregates in which at least one node takes new claims.

Server groups are spread over the domains of a kind (`kind_of`). A domain whose nodes are all disabled, retired or incomplete
does not count: no claim could be placed there, and it would keep all others from growing. So a domain is added when the first
of its nodes opens, and removed when the last one closes or leaves the aggregate.

The domains of a kind are a list in `DOMAIN_SLOTS`. A domain knows its place in the list, and the last one takes the place of
one that is removed, so a node costs the same however many domains there are. `DOMAIN_NODES` has what a node was counted for.
A node that was there before its log had these rules is counted with its next event, or with `vacancy.node.counted.v1`.
"""

from __future__ import annotations

from vacancy.resources.fold.nodes.cell_names import put_count
from vacancy.resources.model.events import NodeCountedData
from vacancy.resources.model.server_group import kind_of
from vacancy.resources.state.rows import DomainNodeRow, DomainRow, NodeRow, ProviderRow, why_closed
from vacancy.resources.state.tables import (
    CELL_COUNTS,
    DOMAIN_NODES,
    DOMAIN_SLOTS,
    DOMAINS,
    NODES,
    PROVIDERS,
    domain_count_name,
    domain_slot_name,
)
from vacancy.resources.state.transaction import Transaction


def count_domains(transaction: Transaction) -> None:
    """Count the nodes that this record has changed so far. Only rules that count domains (`RuleSet.counts_domains`) call it."""
    nodes, providers = transaction.changes.get(NODES), transaction.changes.get(PROVIDERS)
    keys = dict.fromkeys(nodes or ())
    if providers:
        keys.update((key, None) for key, row in providers.items() if row is None or row.parent is None)
    for key in keys:
        _count_node(transaction, key, changed=providers is not None and key in providers)


def fold_node_counted(transaction: Transaction, data: NodeCountedData) -> None:
    """Count a node that nothing was written of since its log has these rules. Any other node stays as it is."""
    _count_node(transaction, transaction.key(data.root), changed=False)


def _count_node(transaction: Transaction, key: bytes, *, changed: bool) -> None:
    """Count a node as it is now, unless its root provider was not `changed` and it is as open as it was."""
    before, node = transaction.get(DOMAIN_NODES, key), transaction.get(NODES, key)
    if node is None:
        if before is not None:
            transaction.delete(DOMAIN_NODES, key)
            _count(transaction, key, before.domains, ())
        return
    if before is not None and before.open == node.open and not changed:
        return
    now = DomainNodeRow(node.open, _domains_of_node(key, node, transaction.get(PROVIDERS, key)))
    if now != before:
        transaction.put(DOMAIN_NODES, key, now)
        _count(transaction, key, before.domains if before is not None else (), now.domains)


def domains_of(transaction: Transaction, kind: str) -> tuple[str, ...]:
    """The domains of a kind in the cell of this record. They are read once for all claims of a record, of which none changes
    them. Raises `RecordFull`."""
    found: tuple[str, ...] | None = transaction.groups.get(kind)
    if found is None:
        count = transaction.get(CELL_COUNTS, transaction.key(domain_count_name(kind))) or 0
        transaction.read(count)
        slots = (
            transaction.get(DOMAIN_SLOTS, transaction.key(domain_slot_name(kind, slot)))
            for slot in range(count)
        )
        found = transaction.groups[kind] = tuple(name for name in slots if name is not None)
    return found


def _domains_of_node(key: bytes, node: NodeRow, root: ProviderRow | None) -> tuple[str, ...]:
    """The domains in which this node takes new claims."""
    if root is None or not root.aggregates or why_closed(node, root, root) is not None:
        return ()
    if not key.endswith(b"\0" + root.root.encode()):
        return ()
    return tuple(name for name in root.aggregates if kind_of(name))


def _count(transaction: Transaction, key: bytes, before: tuple[str, ...], after: tuple[str, ...]) -> None:
    cell = key[: key.index(0) + 1]
    for name in sorted(set(after) - set(before)):
        _add_node(transaction, cell, name)
    for name in sorted(set(before) - set(after)):
        _remove_node(transaction, cell, name)


def _add_node(transaction: Transaction, cell: bytes, name: str) -> None:
    """One node more takes new claims in this domain."""
    kind, key = kind_of(name), cell + name.encode()
    row = transaction.get(DOMAINS, key)
    if row is None:
        length = cell + domain_count_name(kind).encode()
        slot = transaction.get(CELL_COUNTS, length) or 0
        put_count(transaction, length, slot + 1)
        transaction.put(DOMAIN_SLOTS, _slot_key(cell, kind, slot), name)
        row = DomainRow(0, slot)
    transaction.put(DOMAINS, key, DomainRow(row.nodes + 1, row.slot))


def _remove_node(transaction: Transaction, cell: bytes, name: str) -> None:
    """One node fewer takes new claims in this domain."""
    kind, key = kind_of(name), cell + name.encode()
    row = transaction.get(DOMAINS, key)
    if row is None:
        return
    if row.nodes > 1:
        transaction.put(DOMAINS, key, DomainRow(row.nodes - 1, row.slot))
        return
    length = cell + domain_count_name(kind).encode()
    last = (transaction.get(CELL_COUNTS, length) or 1) - 1
    put_count(transaction, length, last)
    moved = transaction.get(DOMAIN_SLOTS, _slot_key(cell, kind, last))
    if last != row.slot and moved is not None:
        transaction.put(DOMAIN_SLOTS, _slot_key(cell, kind, row.slot), moved)
        other = cell + moved.encode()
        there = transaction.get(DOMAINS, other)
        if there is not None:
            transaction.put(DOMAINS, other, DomainRow(there.nodes, row.slot))
    transaction.delete(DOMAIN_SLOTS, _slot_key(cell, kind, last))
    transaction.delete(DOMAINS, key)


def _slot_key(cell: bytes, kind: str, slot: int) -> bytes:
    return cell + domain_slot_name(kind, slot).encode()
