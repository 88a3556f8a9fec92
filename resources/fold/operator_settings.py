"""Operator settings: disabled or draining, aggregates, extra traits, overrides, taints.

They are separate from reports: a report does not change them. They may be set before the provider exists, and stay after
the provider is removed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from vacancy.resources.classes.resource_class import EXCLUDED, ResourceClass
from vacancy.resources.fold.nodes.withdrawals import apply_operator_settings, settle_provider
from vacancy.resources.fold.record_limits import check_items
from vacancy.resources.model.attributes import pairs, same_types
from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.events import (
    OperatorSettings,
    OperatorSettingsData,
    OperatorSettingsDataV2,
    OperatorSettingsSet,
    OperatorSettingsSetV2,
    OperatorSettingsV2,
)
from vacancy.resources.model.names import ID_PATTERN
from vacancy.resources.model.taints import RowTaint
from vacancy.resources.state.rows import ClassRow, OperatorSettingsRow
from vacancy.resources.state.rule_set import RuleSet
from vacancy.resources.state.tables import FACTS, PROVIDERS
from vacancy.resources.state.transaction import Transaction

REASON_MAX: Final = 1_000
"""The length of the reason for which one item is excluded."""

is_id = re.compile(ID_PATTERN).fullmatch

REVISIONS_KEPT = 8
"""How many revisions keep their event ids, to distinguish a repeated event from a conflicting one."""


def fold_operator_settings(transaction: Transaction, event_id: str, data: OperatorSettingsData) -> None:
    """Set a provider's operator settings, unless another operator has set this revision already."""
    key = transaction.key(data.provider)
    old = transaction.get(FACTS, key)
    revision = old.revision if old else 0
    if data.revision <= revision:
        known = old.events if old else ()
        if revision - data.revision < len(known) and known[revision - data.revision] != event_id:
            raise InvalidRecord(
                f"facts of {data.provider}: revision {data.revision} was set by someone else; {revision} is the last"
            )
        return  # a repeated event, or one that is too old to be checked
    if data.revision != revision + 1:
        raise InvalidRecord(f"facts of {data.provider}: revision {data.revision} does not follow {revision}")
    facts = data.facts
    new = OperatorSettingsRow(
        data.revision,
        (event_id, *(old.events if old else ()))[:REVISIONS_KEPT],
        facts.status,
        facts.reason,
        tuple(sorted(set(facts.aggregates))),
        tuple(sorted(set(facts.traits))),
        dict(facts.overrides),
        pairs(facts.attributes),
        _taints(facts),
    )
    settle_provider(transaction, data.provider)
    _override(transaction, data.provider, old, new)
    transaction.put(FACTS, key, new)
    row = transaction.provider(data.provider)
    if row is not None:
        applied = apply_operator_settings(row, new)
        if applied != row or not same_types(applied.operator_attributes, row.operator_attributes):
            transaction.put(PROVIDERS, key, replace(applied, changed=transaction.offset))


def _taints(facts: OperatorSettings) -> tuple[RowTaint, ...]:
    if not isinstance(facts, OperatorSettingsV2):
        return ()
    return tuple(sorted(RowTaint(one.key, one.value, one.effect) for one in facts.taints))


def without_taints(event: OperatorSettingsSet) -> OperatorSettingsSetV2:
    """The newest form of settings that have no taints."""
    data = event.data
    facts = OperatorSettingsV2.model_construct(
        **{name: getattr(data.facts, name) for name in OperatorSettings.model_fields}
    )
    newest = OperatorSettingsDataV2.model_construct(
        provider=data.provider, revision=data.revision, facts=facts
    )
    return OperatorSettingsSetV2.model_construct(
        id=event.id, source=event.source, time=event.time, data=newest
    )


def check_override(rules: RuleSet, resource_class: ResourceClass[Any], override: Mapping[str, Any]) -> None:
    """Raise `InvalidRecord` where the rules or the class do not allow an operator's override."""
    if rules.excludes_items and resource_class.excludes_items and EXCLUDED in override:
        names = override[EXCLUDED]
        if not isinstance(names, dict) or not all(
            is_id(name) and isinstance(reason, str) and len(reason) <= REASON_MAX
            for name, reason in names.items()
        ):
            raise InvalidRecord(
                f"{resource_class.name}: {EXCLUDED} is {{name: reason}}, and a reason has {REASON_MAX} characters at most"
            )
        check_items(rules, len(names), resource_class.name)
        override = {name: value for name, value in override.items() if name != EXCLUDED}
    resource_class.check_override(override)


def _override(
    transaction: Transaction, provider: str, old: OperatorSettingsRow | None, new: OperatorSettingsRow
) -> None:
    before = old.overrides if old else {}
    for name in sorted({*before, *new.overrides}):
        table = transaction.class_table(name)
        row = transaction.class_row(table, provider)
        override = new.overrides.get(name, {})
        check_override(transaction.rules, table.resource_class, override)
        if row is None:
            continue
        record = table.resource_class.override(row.record, override)
        if record != row.record:
            transaction.put_class_row(
                table, provider, ClassRow(record, row.taken, transaction.offset, row.reported)
            )
