"""The versions of the rules that this build supports. This is the only list of them.

A new version is a new entry at the end. It is the version before it with one difference: an event more, a table more, a
class more, another handler, another canonical form. What a version does once a log has used it never changes.
The entries are checked when this module is imported (`RulesVersions`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vacancy.resources.classes.registry import ASK_FIELDS_4, CLASSES_1, CLASSES_4
from vacancy.resources.fold.claims.cell_moves import (
    CELL_MOVE,
    expire_cell_move,
    fold_begun,
    fold_ended,
    fold_withdrawn,
)
from vacancy.resources.fold.claims.claims import (
    VERDICT,
    expire_hold,
    expire_verdict,
    fold_claims,
    fold_confirmed,
    fold_gang,
    fold_releases,
    fold_replaced,
    refuse_replaced,
)
from vacancy.resources.fold.claims.moves import fold_updated, without_leaving
from vacancy.resources.fold.claims.quota_ledgers import (
    fold_limit_set,
    fold_parent_planned,
    fold_share_planned,
    fold_share_settled,
)
from vacancy.resources.fold.claims.quotas import fold_counted, fold_parent_set, fold_share_set
from vacancy.resources.fold.log_rules import (
    ANSWER,
    PROPOSAL,
    expire_answer,
    expire_proposal,
    fold_log_opened,
    fold_rules_activated,
    fold_rules_activation,
    fold_rules_proposed,
    fold_rules_supported,
    fold_rules_withdrawn,
)
from vacancy.resources.fold.nodes.domains import fold_node_counted
from vacancy.resources.fold.nodes.machines import (
    expire_identified_tombstone,
    fold_adopted,
    fold_identified_change,
    fold_identified_heartbeat,
    fold_identified_report,
    fold_retired_incarnation,
    of_incarnation,
)
from vacancy.resources.fold.nodes.node_limits import (
    expire_watched_tombstone,
    fold_bounded_change,
    fold_bounded_report,
    fold_bounded_settings,
    fold_watched_heartbeat,
    fold_watched_retirement,
)
from vacancy.resources.fold.nodes.node_watch import CONTEST, expire_contest
from vacancy.resources.fold.nodes.nodes import (
    HOLD,
    TOMBSTONE,
    expire_tombstone,
    fold_changed,
    fold_heartbeat,
    fold_reported,
    fold_retired,
)
from vacancy.resources.fold.nodes.renames import fold_renamed
from vacancy.resources.fold.nodes.running import fold_running, forget_renamed, forget_retired
from vacancy.resources.fold.nodes.withdrawals import WITHDRAWAL, continue_withdrawal
from vacancy.resources.fold.operator_settings import fold_operator_settings, without_taints
from vacancy.resources.fold.requests import (
    REQUEST,
    expire_request,
    fold_closed,
    fold_received,
    fold_received_alike,
)
from vacancy.resources.fold.signatures import (
    check_machine,
    check_parts,
    check_signature,
    fold_keys_set,
    fold_policy_set,
    own_consumers,
)
from vacancy.resources.fold.transactions.made import rename_details, take_over
from vacancy.resources.fold.transactions.transactions import fold_transaction
from vacancy.resources.model import events
from vacancy.resources.model.encoding.canonical_bytes import FORM_1, FORM_2
from vacancy.resources.model.limits import LIMITS_1, LIMITS_3, LIMITS_4
from vacancy.resources.state.rule_set import (
    ExpiryHandler,
    Handler,
    RuleSet,
    RulesVersions,
    Upcaster,
)
from vacancy.resources.state.tables import (
    ALLOCATION_ASKS,
    CELL_MOVES,
    DOMAIN_TABLES,
    NODE_RUNNING,
    NODE_TABLES_3,
    NODE_TABLES_4,
    NODES,
    PROPOSAL_ANSWERS,
    PROPOSALS,
    QUOTA_TABLES,
    SIGNING_TABLES,
    TABLES_1,
    TRANSACTION_TABLES,
)
from vacancy.resources.state.transaction import Transaction

_HANDLERS_1: Final[Mapping[type[Any], Handler]] = {
    events.NodeReported: lambda transaction, event: fold_reported(transaction, event.data),
    events.NodeChanged: lambda transaction, event: fold_changed(transaction, event.data),
    events.NodeHeartbeat: lambda transaction, event: fold_heartbeat(transaction, event.data),
    events.NodeRetired: lambda transaction, event: fold_retired(transaction, event.data),
    events.OperatorSettingsSet: lambda transaction, event: fold_operator_settings(
        transaction, event.id, event.data
    ),
    events.RequestsReceived: lambda transaction, event: fold_received(transaction, event.data),
    events.RequestsClosed: lambda transaction, event: fold_closed(transaction, event.data),
    events.ClaimsRequested: lambda transaction, event: fold_claims(transaction, event.data),
    events.ConsumersReleased: lambda transaction, event: fold_releases(transaction, event.data),
    events.ConsumerConfirmed: lambda transaction, event: fold_confirmed(transaction, event.data),
    events.ConsumerReplaced: lambda transaction, event: fold_replaced(transaction, event.data),
    events.Tick: lambda _transaction, _event: None,
    events.LogOpened: lambda transaction, event: fold_log_opened(transaction, event.data),
    events.RulesActivated: lambda transaction, event: fold_rules_activated(transaction, event.data),
}

_EXPIRIES_1: Final[Mapping[bytes, ExpiryHandler]] = {
    HOLD: expire_hold,
    VERDICT: expire_verdict,
    REQUEST: expire_request,
    TOMBSTONE: expire_tombstone,
}

_HANDLERS_3: Final[Mapping[type[Any], Handler]] = {
    **_HANDLERS_1,
    events.NodeReported: lambda transaction, event: fold_bounded_report(transaction, event.data),
    events.NodeChanged: lambda transaction, event: fold_bounded_change(transaction, event.data),
    events.NodeHeartbeat: lambda transaction, event: fold_watched_heartbeat(transaction, event.data),
    events.NodeRetired: lambda transaction, event: fold_watched_retirement(transaction, event.data),
    events.OperatorSettingsSet: lambda transaction, event: fold_bounded_settings(
        transaction, event.id, event.data
    ),
    events.RulesProposed: fold_rules_proposed,
    events.RulesSupported: lambda transaction, event: fold_rules_supported(transaction, event.data),
    events.RulesWithdrawn: lambda transaction, event: fold_rules_withdrawn(transaction, event.data),
    events.RulesActivated: lambda transaction, event: fold_rules_activation(transaction, event.data),
    events.ConsumerReplaced: lambda transaction, event: refuse_replaced(transaction, event.data),
    events.ConsumerReplacedV2: lambda transaction, event: fold_replaced(transaction, event.data),
}

_EXPIRIES_3: Final[Mapping[bytes, ExpiryHandler]] = {
    **_EXPIRIES_1,
    TOMBSTONE: expire_watched_tombstone,
    CONTEST: expire_contest,
    WITHDRAWAL: continue_withdrawal,
    PROPOSAL: expire_proposal,
    ANSWER: expire_answer,
}

_TABLES_3: Final = (*TABLES_1, *NODE_TABLES_3, PROPOSALS, PROPOSAL_ANSWERS)

_UPCASTERS_4: Final[Mapping[type[Any], Upcaster]] = {
    events.NodeRetired: Upcaster(events.NodeRetiredV2, of_incarnation),
    events.ConsumerReplacedV2: Upcaster(events.ConsumerReplacedV3, without_leaving),
    events.OperatorSettingsSet: Upcaster(events.OperatorSettingsSetV2, without_taints),
}
_HANDLERS_4: Final[Mapping[type[Any], Handler]] = {
    **{model: handler for model, handler in _HANDLERS_3.items() if model not in _UPCASTERS_4},
    events.NodeReported: lambda transaction, event: fold_identified_report(transaction, event.data, None),
    events.NodeReportedV2: lambda transaction, event: fold_identified_report(
        transaction, event.data, event.data.machine
    ),
    events.NodeChanged: lambda transaction, event: fold_identified_change(transaction, event.data),
    events.NodeHeartbeat: lambda transaction, event: fold_identified_heartbeat(transaction, event.data),
    events.NodeRetiredV2: lambda transaction, event: fold_retired_incarnation(transaction, event.data),
    events.NodeAdopted: lambda transaction, event: fold_adopted(transaction, event.data),
    events.NodeRenamed: lambda transaction, event: fold_renamed(transaction, event.data),
    events.NodeCounted: lambda transaction, event: fold_node_counted(transaction, event.data),
    events.RequestsReceivedV2: lambda transaction, event: fold_received_alike(transaction, event.data),
    events.OperatorSettingsSetV2: lambda transaction, event: fold_bounded_settings(
        transaction, event.id, event.data
    ),
    events.ClaimsRequestedV2: lambda transaction, event: fold_claims(transaction, event.data),
    events.GangRequested: lambda transaction, event: fold_gang(transaction, event.data),
    events.ConsumerReplacedV3: lambda transaction, event: fold_replaced(transaction, event.data),
    events.ConsumerUpdated: lambda transaction, event: fold_updated(transaction, event.data),
    events.QuotaLimitSet: lambda transaction, event: fold_limit_set(transaction, event.id, event.data),
    events.QuotaSharePlanned: lambda transaction, event: fold_share_planned(transaction, event.data),
    events.QuotaShareSet: lambda transaction, event: fold_share_set(transaction, event.data),
    events.QuotaShareSettled: lambda transaction, event: fold_share_settled(transaction, event.data),
    events.QuotaParentPlanned: lambda transaction, event: fold_parent_planned(
        transaction, event.id, event.data
    ),
    events.QuotaParentSet: lambda transaction, event: fold_parent_set(transaction, event.data),
    events.QuotaCounted: lambda transaction, event: fold_counted(transaction, event.data),
    events.CellMoveBegun: lambda transaction, event: fold_begun(transaction, event.data),
    events.CellMoveWithdrawn: lambda transaction, event: fold_withdrawn(transaction, event.data),
    events.CellMoveEnded: lambda transaction, event: fold_ended(transaction, event.data),
}
_EXPIRIES_4: Final[Mapping[bytes, ExpiryHandler]] = {
    **_EXPIRIES_3,
    TOMBSTONE: expire_identified_tombstone,
    CELL_MOVE: expire_cell_move,
}
_TABLES_4: Final = (*_TABLES_3, *NODE_TABLES_4, *QUOTA_TABLES, ALLOCATION_ASKS, CELL_MOVES, *DOMAIN_TABLES)


def _fold_retired_5(transaction: Transaction, event: events.NodeRetiredV2) -> None:
    fold_retired_incarnation(transaction, event.data)
    forget_retired(transaction, event.data)


def _fold_renamed_5(transaction: Transaction, event: events.NodeRenamed) -> None:
    fold_renamed(transaction, event.data)
    forget_renamed(transaction, event.data)


_HANDLERS_5: Final[Mapping[type[Any], Handler]] = {
    **_HANDLERS_4,
    events.StateMarked: lambda _transaction, _event: None,
    events.StateDigested: lambda _transaction, _event: None,
    events.NodeRunning: lambda transaction, event: fold_running(transaction, event.data),
    events.NodeRetiredV2: _fold_retired_5,
    events.NodeRenamed: _fold_renamed_5,
}
_TABLES_5: Final = (*_TABLES_4, NODE_RUNNING)


def _fold_reported_6(transaction: Transaction, data: events.NodeReportedData, machine: str | None) -> None:
    fold_identified_report(transaction, data, machine)
    _take_over(transaction, data)


def _fold_changed_6(transaction: Transaction, event: events.NodeChanged) -> None:
    fold_identified_change(transaction, event.data)
    _take_over(transaction, event.data)


def _take_over(transaction: Transaction, data: events.NodeReportedData | events.NodeChangedData) -> None:
    node = transaction.get(NODES, transaction.key(data.root))
    if node is not None and node.incarnations[0] == (data.incarnation, data.sequence):
        take_over(transaction, [one.id for one in data.providers])


def _fold_renamed_6(transaction: Transaction, event: events.NodeRenamed) -> None:
    _fold_renamed_5(transaction, event)
    rename_details(transaction, event.data.providers)


_HANDLERS_6: Final[Mapping[type[Any], Handler]] = {
    **_HANDLERS_5,
    events.NodeReported: lambda transaction, event: _fold_reported_6(transaction, event.data, None),
    events.NodeReportedV2: lambda transaction, event: _fold_reported_6(
        transaction, event.data, event.data.machine
    ),
    events.NodeChanged: _fold_changed_6,
    events.NodeRenamed: _fold_renamed_6,
    events.TransactionRequested: lambda transaction, event: fold_transaction(transaction, event.data),
}
_TABLES_6: Final = (*_TABLES_5, *TRANSACTION_TABLES)


def _fold_reported_7(transaction: Transaction, data: events.NodeReportedData, machine: str | None) -> None:
    if transaction.must_sign:
        check_parts(transaction, data)
        check_machine(transaction, data.root, machine)
        data = own_consumers(transaction, data)
    _fold_reported_6(transaction, data, machine)


def _fold_changed_7(transaction: Transaction, event: events.NodeChanged) -> None:
    if transaction.must_sign:
        check_parts(transaction, event.data)
    _fold_changed_6(transaction, event)


_HANDLERS_7: Final[Mapping[type[Any], Handler]] = {
    **_HANDLERS_6,
    events.NodeReported: lambda transaction, event: _fold_reported_7(transaction, event.data, None),
    events.NodeReportedV2: lambda transaction, event: _fold_reported_7(
        transaction, event.data, event.data.machine
    ),
    events.NodeChanged: _fold_changed_7,
    events.SigningPolicySet: fold_policy_set,
    events.SigningKeysSet: fold_keys_set,
}
_TABLES_7: Final = (*_TABLES_6, *SIGNING_TABLES)

_1: Final = RuleSet(
    1,
    "the first rules",
    handlers=_HANDLERS_1,
    expiries=_EXPIRIES_1,
    tables=TABLES_1,
    classes=CLASSES_1,
    canonical=FORM_1,
    limits=LIMITS_1,
)

_2: Final = RuleSet(
    2,
    "fingerprints of claims and stored RequestSpecs have a byte form of their own",
    handlers=_HANDLERS_1,
    expiries=_EXPIRIES_1,
    tables=TABLES_1,
    classes=CLASSES_1,
    canonical=FORM_2,
    limits=LIMITS_1,
)

_3: Final = RuleSet(
    3,
    "every record has a bounded cost, and rules are raised in three steps",
    handlers=_HANDLERS_3,
    expiries=_EXPIRIES_3,
    tables=_TABLES_3,
    classes=CLASSES_1,
    canonical=FORM_2,
    limits=LIMITS_3,
    first_error_only=True,
)

_4: Final = RuleSet(
    4,
    "moves, quotas, devices and nodes as operators of fleets need them",
    handlers=_HANDLERS_4,
    upcasters=_UPCASTERS_4,
    expiries=_EXPIRIES_4,
    tables=_TABLES_4,
    classes=CLASSES_4,
    ask_fields=ASK_FIELDS_4,
    canonical=FORM_2,
    limits=LIMITS_4,
    first_error_only=True,
    keeps_grants=True,
    excludes_items=True,
    counts_domains=True,
)

_5: Final = RuleSet(
    5,
    "stores compare their states through the log, and nodes say what they run",
    handlers=_HANDLERS_5,
    upcasters=_UPCASTERS_4,
    expiries=_EXPIRIES_4,
    tables=_TABLES_5,
    classes=CLASSES_4,
    ask_fields=ASK_FIELDS_4,
    canonical=FORM_2,
    limits=LIMITS_4,
    first_error_only=True,
    keeps_grants=True,
    excludes_items=True,
    counts_domains=True,
)

_6: Final = RuleSet(
    6,
    "transactions over providers and consumers, and generations of providers that count changes",
    handlers=_HANDLERS_6,
    upcasters=_UPCASTERS_4,
    expiries=_EXPIRIES_4,
    tables=_TABLES_6,
    classes=CLASSES_4,
    ask_fields=ASK_FIELDS_4,
    canonical=FORM_2,
    limits=LIMITS_4,
    first_error_only=True,
    keeps_grants=True,
    excludes_items=True,
    counts_domains=True,
    has_transactions=True,
)

_7: Final = RuleSet(
    7,
    "nodes sign their events where operators require it",
    handlers=_HANDLERS_7,
    upcasters=_UPCASTERS_4,
    expiries=_EXPIRIES_4,
    tables=_TABLES_7,
    classes=CLASSES_4,
    ask_fields=ASK_FIELDS_4,
    canonical=FORM_2,
    limits=LIMITS_4,
    first_error_only=True,
    keeps_grants=True,
    excludes_items=True,
    counts_domains=True,
    has_transactions=True,
    check_signature=check_signature,
)

RULES_VERSIONS: Final = RulesVersions((_1, _2, _3, _4, _5, _6, _7))
RULES_VERSION: Final = RULES_VERSIONS.newest.version
"""The newest rules that this build supports; a new log starts with them."""
