"""Renaming a node in the auditor's ledger: what is held of it is held of another name.

The auditor knows all consumers, so it looks them up. The fold reads them from the event, and checks that by what is in use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vacancy.clients.auditor.claims.consumers import HeldByConsumer, Key
from vacancy.clients.auditor.classes.class_auditor import Refused
from vacancy.clients.auditor.nodes.node_order import LedgerNode
from vacancy.clients.auditor.rules_in_force import RENAMED

NAMED_WEIGHT = 16
"""What a part counts that was granted by name."""

if TYPE_CHECKING:
    from vacancy.clients.auditor.ledger import Ledger


def rename(ledger: Ledger, cell: str, data: Mapping[str, Any]) -> None:
    """Apply `node.renamed`. Raises `Refused`, before anything is written, where the rules do not allow it."""
    old, new = (cell, data["root"]), (cell, data["to"])
    names: Mapping[str, str] = data["providers"]
    _check_names(ledger, old, new, names)
    held = {
        key: one
        for key, one in ledger.consumers.items()
        if key[0] == cell and any(part[0] in names for part in one.parts)
    }
    listed = set(data.get("consumers", ()))
    if any(consumer not in listed for _, consumer in held):
        raise Refused
    there = list(ledger.members.get(new, ()))
    if any(amount for id_ in there for amount in ledger.providers[(cell, id_)].used.values()):
        raise Refused
    moved = sum(1 + len(ledger.providers[(cell, id_)].stock) for id_ in names)
    moved += sum(len(one.parts) + (NAMED_WEIGHT - 1) * len(one.grants) for one in held.values())
    groups = ledger.consumers.groups
    moved += sum(len(groups[one["group"]]) for consumer in held.values() for one in consumer.memberships)
    if moved > RENAMED:
        raise Refused
    is_new = new not in ledger.nodes or ledger.nodes[new].retired
    _move_providers(ledger, old, new, names, there)
    for key, one in held.items():
        ledger.consumers.enter(key, _renamed(one, names))
    _move_node(ledger, old, new)
    ledger.concern(ledger.machines.rename(old, new, is_new=is_new))
    ledger.changes += [old, new]


def _check_names(ledger: Ledger, old: Key, new: Key, names: Mapping[str, str]) -> None:
    cell = old[0]
    if old not in ledger.providers or ledger.providers[old].root != old[1] or old == new:
        raise Refused
    if ledger.withdrawals.is_waiting(old) or ledger.withdrawals.is_waiting(new):
        raise Refused
    if new in ledger.providers and ledger.providers[new].root != new[1]:
        raise Refused
    if old not in ledger.nodes and new not in ledger.nodes:
        raise Refused
    if names.keys() != set(ledger.members[old]) or names[old[1]] != new[1]:
        raise Refused
    if len(set(names.values())) != len(names):
        raise Refused
    there = ledger.members.get(new, {})
    if any((cell, b) in ledger.providers and a != b and b not in there for a, b in names.items()):
        raise Refused
    machines = {ledger.machines.machine(old), ledger.machines.machine(new)} - {None}
    if len(machines) > 1:
        raise Refused


def _move_providers(ledger: Ledger, old: Key, new: Key, names: Mapping[str, str], there: list[str]) -> None:
    cell = old[0]
    before = {id_: ledger.providers.pop((cell, id_)) for id_ in ledger.members.pop(old)}
    ledger.members[new] = dict.fromkeys([*(names[id_] for id_ in before), *there])
    for id_, one in before.items():
        key, name = (cell, names[id_]), (cell, id_)
        known = ledger.providers.get(key)
        stock = {**(known.stock if known is not None else {}), **one.stock}
        parent = None if one.parent is None else names.get(one.parent, new[1])
        if known is None:
            ledger.details.add(key)
        base = known if known is not None else replace(one, root=new[1], parent=parent)
        ledger.providers[key] = replace(base, stock=stock, used=one.used)
        ledger.mark_changed(key)
        if key != name and (settings := ledger.settings.pop(name, None)) is not None:
            ledger.settings.setdefault(key, settings)
    ledger.details.rename(cell, names)
    ledger.write(*((cell, id_) for id_ in (*names, *ledger.members[new])))


def _renamed(held: HeldByConsumer, names: Mapping[str, str]) -> HeldByConsumer:
    return held._replace(
        parts=tuple((names.get(id_, id_), name, amount) for id_, name, amount in held.parts),
        copies=tuple([names.get(id_, id_) for id_ in copy] for copy in held.copies),
        grants=tuple({**one, "provider": names.get(one["provider"], one["provider"])} for one in held.grants),
        asked=tuple(one._replace(provider=names.get(one.provider, one.provider)) for one in held.asked),
    )


def _move_node(ledger: Ledger, old: Key, new: Key) -> None:
    """The old name is retired, the new one is incomplete until its next full report."""
    node, other = ledger.nodes.get(old), ledger.nodes.get(new)
    if other is not None:
        ledger.nodes[new] = replace(other, complete=False, retired=False)
    elif node is not None:
        ledger.nodes[new] = LedgerNode(node.incarnations, complete=False)
    if node is not None and not node.retired:
        ledger.bury(old, node)
