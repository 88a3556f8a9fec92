"""Providers that transactions created: the nodes that no publisher reports, and what others add to a node that one reports."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from vacancy.resources.fold.nodes.node_watch import forget_node
from vacancy.resources.fold.nodes.provider_tree import path_to_root
from vacancy.resources.state.rows import NodeRow, ProviderRow
from vacancy.resources.state.tables import (
    CONTESTED,
    NODE_RUNNING,
    NODE_WATCHES,
    NODES,
    PROVIDER_DETAILS,
    PROVIDER_NAMES,
    PROVIDERS,
    Table,
)
from vacancy.resources.state.transaction import Transaction

MADE_INCARNATION: Final = "0" * 16
"""The incarnation of a node that a transaction created. The full report of a publisher opens another one."""


def make_node(transaction: Transaction, root: str) -> None:
    """Write the row of a node that a transaction creates. What was watched of an earlier one of the name no longer counts."""
    key = transaction.key(root)
    transaction.put(NODES, key, NodeRow(((MADE_INCARNATION, 0),), transaction.time_ms))
    if transaction.get(CONTESTED, key) is not None or transaction.get(NODE_WATCHES, key) is not None:
        forget_node(transaction, key)


def is_made(transaction: Transaction, provider: str) -> bool:
    """Whether a transaction created a provider, and no node has reported it since."""
    row = transaction.get(PROVIDER_DETAILS, transaction.key(provider))
    return row is not None and row.made


def keep_made(transaction: Transaction, root: str, gone: Sequence[str], stay: Iterable[str]) -> list[str]:
    """Those of the members that a full report does not list (`gone`) that stay, because transactions created them. One whose parent
    goes becomes a child of the root."""
    kept = [provider for provider in gone if is_made(transaction, provider)]
    there = {*stay, *kept}
    for provider in kept:
        row = transaction.provider(provider)
        if row is not None and row.reported and row.parent not in there:
            _lift(transaction, root, provider, row)
    return kept


def lift_made(
    transaction: Transaction, root: str, members: Mapping[str, ProviderRow], removed: Collection[str]
) -> dict[str, ProviderRow]:
    """The members that transactions created below providers that a node removes: they become children of the root."""
    return {
        provider: _lift(transaction, root, provider, row)
        for provider, row in members.items()
        if row.reported
        and row.parent in removed
        and provider not in removed
        and is_made(transaction, provider)
    }


def _lift(transaction: Transaction, root: str, provider: str, row: ProviderRow) -> ProviderRow:
    lifted = replace(row, parent=root, changed=transaction.offset)
    transaction.put(PROVIDERS, transaction.key(provider), lifted)
    return lifted


def take_over(transaction: Transaction, providers: Iterable[str]) -> None:
    """A node reports these providers from now on."""
    for provider in providers:
        key = transaction.key(provider)
        row = transaction.get(PROVIDER_DETAILS, key)
        if row is not None and row.made:
            transaction.put(PROVIDER_DETAILS, key, replace(row, made=False))


def rename_details(transaction: Transaction, names: Mapping[str, str]) -> None:
    """Providers have other ids from now on: old -> new. Their generations and names follow them."""
    moved = {}
    for before, after in names.items():
        row = transaction.get(PROVIDER_DETAILS, transaction.key(before)) if before != after else None
        if row is not None:
            moved[after] = row
            transaction.delete(PROVIDER_DETAILS, transaction.key(before))
    for after, row in moved.items():
        there = transaction.get(PROVIDER_DETAILS, transaction.key(after))
        name = row.name
        if there is not None:
            row = replace(there, generation=max(row.generation, there.generation))
            if name and name != there.name:  # the new id keeps its own name, and the other one is free
                transaction.delete(PROVIDER_NAMES, transaction.key(name))
                name = ""
        transaction.put(PROVIDER_DETAILS, transaction.key(after), row)
        if name:
            transaction.put(PROVIDER_NAMES, transaction.key(name), after)


def subtree(transaction: Transaction, members: Iterable[str], top: str) -> list[str]:
    """The members of a tree that are `top` or below it. What it reads is counted (`Limits.claim_reads`)."""
    found = []
    for member in members:
        for at in path_to_root(member, lambda one: _parent(transaction, one)):
            transaction.read(1)
            if at == top:
                found.append(member)
                break
    return found


def _parent(transaction: Transaction, provider: str) -> str | None:
    row = transaction.provider(provider)
    return None if row is None else row.parent


def delete_node(transaction: Transaction, root: str) -> None:
    """Delete the node of a root that a transaction created, with what was watched of it."""
    key = transaction.key(root)
    transaction.delete(NODES, key)
    watched: tuple[Table[Any], ...] = (CONTESTED, NODE_WATCHES, NODE_RUNNING)
    for table in watched:
        if transaction.get(table, key) is not None:
            transaction.delete(table, key)
