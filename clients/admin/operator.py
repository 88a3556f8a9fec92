"""What operators say: facts of providers, classes of plugins, holds that are kept.

Each is an event like any other. It is appended, and then the store on this host is watched until it has read
it, so that whoever calls knows what became of it. Nobody overwrites what another operator just said: facts
carry the revision that follows the one seen here, and of two with the same the first in the log wins.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple
from uuid import uuid4

from pydantic import ValidationError

from vacancy.clients.admin.append_and_wait import append, refusal_of, wait_until_read
from vacancy.clients.inspection.lookup import find, provider_cell, provider_cells
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model import events
from vacancy.resources.model.attributes import type_name
from vacancy.resources.model.errors import (
    InvalidRecord,
    UsageError,
    VacancyError,
)
from vacancy.resources.model.events import OperatorSettings
from vacancy.resources.model.names import check_trait
from vacancy.resources.model.partitioner import cell_for
from vacancy.resources.model.record import NewRecord
from vacancy.resources.state.rows import OperatorSettingsRow, ProviderRow
from vacancy.resources.state.tables import ALLOCATIONS, FACTS, PROVIDERS, key
from vacancy.streams.log import Log

SOURCE = "/operator"

Change = Callable[[OperatorSettings], OperatorSettings]
"""Makes a provider's new facts of those there are."""


class SettingsChangedByOthers(VacancyError):
    """Someone else set the same facts first; nothing of this change holds. Action: look, and try again."""


class CurrentSettings(NamedTuple):
    """A provider's facts after a change. `changed` is False where they said so already and nothing was sent."""

    provider: str
    cell: str
    revision: int
    facts: OperatorSettings
    changed: bool


# -- changes --------------------------------------------------------------------------------------------------


def disable(reason: str = "") -> Change:
    """The provider (of a root: its tree) takes no new claims."""
    return lambda facts: _with(facts, status="disabled", reason=reason)


def drain(reason: str = "") -> Change:
    """The provider takes no new claims, and what is there shall be moved away."""
    return lambda facts: _with(facts, status="draining", reason=reason)


def enable() -> Change:
    """The provider takes claims again."""
    return lambda facts: _with(facts, status="enabled", reason="")


def aggregates(
    *, add: Iterable[str] = (), remove: Iterable[str] = (), replace: Iterable[str] | None = None
) -> Change:
    """Put the provider into aggregates and take it out of others; `replace` sets them all."""
    add, remove, all_ = tuple(add), tuple(remove), None if replace is None else tuple(replace)
    return lambda facts: _with(facts, aggregates=_changed(facts.aggregates, add, remove, all_))


def traits(
    *, add: Iterable[str] = (), remove: Iterable[str] = (), replace: Iterable[str] | None = None
) -> Change:
    """Give the provider traits beyond those its node reports, or take such away; `replace` sets them all."""
    add, remove, all_ = tuple(add), tuple(remove), None if replace is None else tuple(replace)

    def change(facts: OperatorSettings) -> OperatorSettings:
        for trait in (*add, *(all_ or ())):
            check_trait(trait)
        return _with(facts, traits=_changed(facts.traits, add, remove, all_))

    return change


def override(resource_class: str, values: Mapping[str, Any]) -> Change:
    """Override parts of an inventory, whatever the node reports: for quantities `reserved` and
    `allocation_ratio_milli`. What is not named keeps the override it has."""

    def change(facts: OperatorSettings) -> OperatorSettings:
        kept = {**facts.overrides.get(resource_class, {}), **values}
        return _with(facts, overrides={**facts.overrides, resource_class: kept})

    return change


def clear_override(resource_class: str) -> Change:
    """The inventory is what the node reports again."""
    return lambda facts: _with(
        facts, overrides={name: kept for name, kept in facts.overrides.items() if name != resource_class}
    )


def attributes(*, add: Mapping[str, str | int | bool] | None = None, remove: Iterable[str] = ()) -> Change:
    """Give the provider attributes, which win over those of the same name that its node reports, or take such away
    again."""
    more, less = dict(add or {}), frozenset(remove)
    return lambda facts: _with(
        facts,
        attributes={name: v for name, v in {**facts.attributes, **more}.items() if name not in less},
    )


def _changed(
    names: Iterable[str], add: Iterable[str], remove: Iterable[str], replace: Iterable[str] | None
) -> tuple[str, ...]:
    start = set(names) if replace is None else set(replace)
    return tuple(sorted((start | set(add)) - set(remove)))


def _with(facts: OperatorSettings, **update: Any) -> OperatorSettings:
    try:
        return OperatorSettings.model_validate({**facts.model_dump(), **update})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{first['input']!r} cannot be meant: {first['msg']}", where=path) from None


# -- facts ----------------------------------------------------------------------------------------------------


def set_operator_settings(
    log: Log,
    reader: StoreReader,
    provider: str,
    change: Change,
    *,
    cell: str | None = None,
    timeout_s: float = 10.0,
) -> CurrentSettings:
    """Change a provider's facts and wait until the store on this host shows it.

    `cell` says where a provider is that the store does not know yet (`auto`: where a node of that id spreads
    itself), or which is meant of two. Raises `UsageError` for what cannot be meant, `NotFound`,
    `SettingsChangedByOthers`, `LogError`, and `OutcomeUnknown` where the store did not get that far in `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    reader.catch_up()
    cell = _home(reader, provider, cell)
    row = reader.get(FACTS, key(cell, provider))
    before = _facts_of(row)
    after = change(before)
    revision = row.revision if row else 0
    if after == before:
        return CurrentSettings(provider, cell, revision, before, changed=False)
    _check_overrides(after, reader.registry)
    _check_types(provider, before, after, reader.get(PROVIDERS, key(cell, provider)))
    revision += 1
    try:
        data = events.OperatorSettingsData(provider=provider, revision=revision, facts=after)
    except ValidationError:
        raise UsageError(f"{provider!r} cannot name a provider", do="check the name") from None
    event = events.OperatorSettingsSet(id=uuid4().hex, source=SOURCE, data=data)
    subject = f"revision {revision} of the facts of {provider}"
    look = f"`vacancy show provider {provider}`"
    landed = append(log, NewRecord(cell, events.encode(event)), timeout_s, subject, look)
    wait_until_read(reader, landed, deadline, subject, look)
    now = reader.get(FACTS, key(cell, provider))
    if now is not None and event.id in now.events:
        return CurrentSettings(provider, cell, revision, after, changed=True)
    refusal = refusal_of(reader, landed)
    if now is not None and now.revision >= revision:
        raise SettingsChangedByOthers(
            f"the facts of {provider} were changed by someone else just now",
            where=f"revision {now.revision}",
            do=f"look with {look}, and try again",
        )
    raise UsageError(
        f"{subject} was refused: {refusal or 'it is no longer known why'}",
        where=f"partition {landed.partition}, offset {landed.offset}",
        do="see `vacancy dead-letters`",
    )


def _home(reader: StoreReader, provider: str, cell: str | None) -> str:
    if cell == "auto":
        return cell_for(provider, reader.manifest.partitions)
    if cell is not None:
        return cell
    if not provider_cells(reader, provider):
        for known, _ in find(reader, FACTS, provider):
            return known
    return provider_cell(reader, provider)


def _facts_of(row: OperatorSettingsRow | None) -> OperatorSettings:
    if row is None:
        return OperatorSettings()
    return OperatorSettings.model_validate(
        {
            "status": row.status,
            "reason": row.reason,
            "aggregates": row.aggregates,
            "traits": row.traits,
            "overrides": row.overrides,
            "attributes": dict(row.attributes),
        }
    )


def _check_overrides(facts: OperatorSettings, registry: Registry) -> None:
    for name, values in facts.overrides.items():
        resource_class = registry.check(name)
        try:
            resource_class.check_override(values)
        except InvalidRecord as error:
            raise UsageError(error.what, do="see what the class lets operators override") from None


def _check_types(
    provider: str, before: OperatorSettings, after: OperatorSettings, row: ProviderRow | None
) -> None:
    """An attribute that is set keeps the type that it has there: comparisons would silently end to match."""
    known = {**dict(row.reported_attributes if row else ()), **before.attributes}
    for name, value in after.attributes.items():
        old = known.get(name, value)
        if type(old) is not type(value):
            raise UsageError(
                f"attribute {name} of {provider} is {type_name(old)} ({old!r}), not {type_name(value)} ({value!r})",
                do='write text as NAME="7" and a number as NAME=7, or choose another name',
            )


# -- consumers ------------------------------------------------------------------------------------------------


def confirm(log: Log, reader: StoreReader, consumer: str, *, timeout_s: float = 10.0) -> list[str]:
    """Keep what a consumer holds for a while only. Returns the cells of what it holds, [] if it holds nothing.

    Raises `LogError`, and `OutcomeUnknown` where the store did not get that far in `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    reader.catch_up()
    found = []
    for cell, row in find(reader, ALLOCATIONS, consumer):
        found.append(cell)
        if not row.hold_until_ms:
            continue
        event = events.ConsumerConfirmed(
            id=uuid4().hex, source=SOURCE, data=events.ConsumerRef(consumer=consumer, claim=row.claim)
        )
        subject, look = f"the confirmation of {consumer}", f"`vacancy show consumer {consumer}`"
        landed = append(log, NewRecord(cell, events.encode(event)), timeout_s, subject, look)
        wait_until_read(reader, landed, deadline, subject, look)
        now = reader.get(ALLOCATIONS, key(cell, consumer))
        if now is None or (now.claim == row.claim and now.hold_until_ms):
            raise VacancyError(
                f"the hold of {consumer} had ended before it was confirmed",
                where=f"cell {cell}, offset {landed.offset}",
                do="place it again",
            )
    return found
