"""The handlers of node events and operator settings from rules version 3 on: limits before anything is judged, and nodes
that two writers speak for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from vacancy.resources.fold.nodes.cell_names import count_names
from vacancy.resources.fold.nodes.node_watch import forget_node, is_conflict, note_conflict, watch_event
from vacancy.resources.fold.nodes.nodes import (
    expire_tombstone,
    fold_changed,
    fold_heartbeat,
    fold_reported,
    fold_retired,
)
from vacancy.resources.fold.nodes.withdrawals import settle_trees
from vacancy.resources.fold.operator_settings import fold_operator_settings
from vacancy.resources.fold.record_limits import check_limit
from vacancy.resources.model.events import (
    NodeChangedData,
    NodeData,
    NodeReportedData,
    OperatorSettingsData,
    OperatorSettingsV2,
    ProviderReport,
)
from vacancy.resources.state.tables import NODE_WATCHES, NODES
from vacancy.resources.state.transaction import Transaction


def fold_bounded_report(transaction: Transaction, data: NodeReportedData) -> None:
    """A full report, within the limits."""
    limits = transaction.rules.limits
    consumers = len(data.consumers or ())
    check_limit(
        transaction.rules, f"node {data.root} confirms", consumers, "consumers", limits.consumers_confirmed
    )
    _check_providers(transaction, data.providers)
    _fold_watched(transaction, data, fold_reported, sound=True)


def fold_bounded_change(transaction: Transaction, data: NodeChangedData) -> None:
    """A change of a node, within the limits."""
    _check_providers(transaction, data.providers)
    _fold_watched(transaction, data, fold_changed)


def fold_watched_heartbeat(transaction: Transaction, data: NodeData) -> None:
    """A heartbeat of a node."""
    _fold_watched(transaction, data, fold_heartbeat)


def fold_watched_retirement(transaction: Transaction, data: NodeData) -> None:
    """The retirement of a node."""
    _fold_watched(transaction, data, fold_retired, sound=True)


def fold_bounded_settings(transaction: Transaction, event_id: str, data: OperatorSettingsData) -> None:
    """Operator settings, within the limits."""
    limits, facts = transaction.rules.limits, data.facts
    what = f"the settings of {data.provider} have"
    for count, name, limit in (
        (len(facts.overrides), "resource classes", limits.provider_classes),
        (len(facts.attributes), "attributes", limits.provider_attributes),
        (len(facts.traits), "traits", limits.provider_traits),
        (len(facts.aggregates), "aggregates", limits.provider_aggregates),
        (len(facts.taints) if isinstance(facts, OperatorSettingsV2) else 0, "taints", limits.provider_taints),
    ):
        check_limit(transaction.rules, what, count, name, limit)
    fold_operator_settings(transaction, event_id, data)
    count_names(transaction, limited=True)


def expire_watched_tombstone(transaction: Transaction, at_ms: int, key: bytes) -> None:
    """Delete a node that was retired long ago, and what is watched of it."""
    expire_tombstone(transaction, at_ms, key)
    if transaction.get(NODES, key) is None:
        forget_node(transaction, key)


def _check_providers(transaction: Transaction, reports: Iterable[ProviderReport]) -> None:
    limits = transaction.rules.limits
    classes, attributes, traits = (
        limits.provider_classes,
        limits.provider_attributes,
        limits.provider_traits,
    )
    for report in reports:
        if (
            len(report.inventories) > classes
            or len(report.attributes) > attributes
            or len(report.traits) > traits
        ):
            what = f"provider {report.id} has"
            check_limit(transaction.rules, what, len(report.inventories), "resource classes", classes)
            check_limit(transaction.rules, what, len(report.attributes), "attributes", attributes)
            check_limit(transaction.rules, what, len(report.traits), "traits", traits)


def _fold_watched(
    transaction: Transaction, data: Any, apply: Callable[[Transaction, Any], None], *, sound: bool = False
) -> None:
    """Apply a node's event, unless it shows that two writers speak for the node. `sound` is whether the event makes the
    node complete."""
    key = transaction.key(data.root)
    node = transaction.get(NODES, key)
    if node is not None and is_conflict(node, transaction.get(NODE_WATCHES, key), data):
        note_conflict(transaction, node, data, report=isinstance(data, NodeReportedData))
        return
    apply(transaction, data)
    watch_event(transaction, node, data, sound=sound)
    settle_trees(transaction)
    count_names(transaction, limited=True)
