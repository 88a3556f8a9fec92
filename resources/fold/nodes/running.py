"""What a node says that it runs: `node.running` (rules version 5). It decides nothing: audits compare it with what is held.

Each event has the whole list, so a lost one matters only until the next. The reporter draws an incarnation at random when it
starts, as publishers do, and counts its events. An event that is not newer than what is known changes nothing.
"""

from __future__ import annotations

from typing import Final

from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.events import NodeRunningData, RenameData, RetirementData
from vacancy.resources.state.rows import NodeRunningRow
from vacancy.resources.state.tables import NODE_RUNNING, NODES
from vacancy.resources.state.transaction import Transaction

INCARNATIONS_KEPT: Final = 4
LEFT_KEPT: Final = 256
"""Consumers that a node no longer runs, of which is kept since when. The others have left long ago."""


def fold_running(transaction: Transaction, data: NodeRunningData) -> None:
    """Note what the node runs, since when, and what it no longer runs."""
    key = transaction.key(data.root)
    node = transaction.get(NODES, key)
    if node is None or node.retired:
        raise InvalidRecord(f"node {data.root} is not there: what it runs is taken once it has reported")
    before = transaction.get(NODE_RUNNING, key) or NodeRunningRow((), 0, -1, ())
    known = dict(before.incarnations)
    newest = before.incarnations[0][0] if before.incarnations else ""
    if data.incarnation in known and (data.incarnation != newest or data.sequence <= known[data.incarnation]):
        return  # a late one, or one that came again
    now_ms = transaction.time_ms
    since, runs = dict(before.consumers), set(data.consumers)
    left = [(consumer, now_ms) for consumer in sorted(since.keys() - runs)]
    left += [one for one in before.left if one[0] not in runs and one[0] not in since]
    others = [one for one in before.incarnations if one[0] != data.incarnation]
    row = NodeRunningRow(
        ((data.incarnation, data.sequence), *others)[:INCARNATIONS_KEPT],
        now_ms,
        transaction.offset,
        tuple((consumer, since.get(consumer, now_ms)) for consumer in sorted(runs)),
        tuple(left[:LEFT_KEPT]),
    )
    transaction.put(NODE_RUNNING, key, row)


def forget_retired(transaction: Transaction, data: RetirementData) -> None:
    """A retired node runs nothing."""
    key = transaction.key(data.root)
    node = transaction.get(NODES, key)
    if (node is None or node.retired) and transaction.get(NODE_RUNNING, key) is not None:
        transaction.delete(NODE_RUNNING, key)


def forget_renamed(transaction: Transaction, data: RenameData) -> None:
    """The node reports what it runs under its new name."""
    key = transaction.key(data.root)
    if transaction.get(NODE_RUNNING, key) is not None:
        transaction.delete(NODE_RUNNING, key)
