"""Operator settings: disabled or draining, aggregates, extra traits, overrides.

They are separate from reports: a report does not change them. They may be set before the provider exists, and stay after
the provider is removed.
"""

from __future__ import annotations

from msgspec.structs import replace

from vacancy.resources.fold.withdrawals import apply_operator_settings, settle_provider
from vacancy.resources.model.attributes import pairs, same_types
from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.events import OperatorSettingsData
from vacancy.resources.state.rows import ClassRow, OperatorSettingsRow
from vacancy.resources.state.tables import FACTS, PROVIDERS
from vacancy.resources.state.transaction import Transaction

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
    )
    settle_provider(transaction, data.provider)
    _override(transaction, data.provider, old, new)
    transaction.put(FACTS, key, new)
    row = transaction.provider(data.provider)
    if row is not None:
        applied = apply_operator_settings(row, new)
        if applied != row or not same_types(applied.operator_attributes, row.operator_attributes):
            transaction.put(PROVIDERS, key, replace(applied, changed=transaction.offset))


def _override(
    transaction: Transaction, provider: str, old: OperatorSettingsRow | None, new: OperatorSettingsRow
) -> None:
    before = old.overrides if old else {}
    for name in sorted({*before, *new.overrides}):
        table = transaction.class_table(name)
        row = transaction.class_row(table, provider)
        override = new.overrides.get(name, {})
        table.resource_class.check_override(override)
        if row is None:
            continue
        record = table.resource_class.override(row.record, override)
        if record != row.record:
            transaction.put_class_row(
                table, provider, ClassRow(record, row.taken, transaction.offset, row.reported)
            )
