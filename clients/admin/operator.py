"""What operators do: set operator settings of providers, confirm holds, release what consumers hold.

Each function appends an event and waits until the store on this host has read it, so that the caller knows the
result; without `wait` it returns when the log has the event. Operators do not overwrite each other: settings carry the revision that follows the one seen here, and of two
events with the same revision the first in the log succeeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple
from uuid import uuid4

from pydantic import ValidationError

from vacancy.clients.inspection.lookup import NotFound, find, provider_cell, provider_cells
from vacancy.clients.runtime.folded_log import FoldedLog, RecordRefused
from vacancy.clients.scheduler.needed_rules import check_rules
from vacancy.clients.scheduler.releases import WeighedRelease, release_records
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.classes.resource_class import EXCLUDED
from vacancy.resources.fold.operator_settings import check_override
from vacancy.resources.fold.record_limits import parts_weight
from vacancy.resources.model import events
from vacancy.resources.model.attributes import type_name
from vacancy.resources.model.errors import (
    InvalidRecord,
    UsageError,
    VacancyError,
)
from vacancy.resources.model.events import OperatorSettings, OperatorSettingsV2
from vacancy.resources.model.limits import LIMITS_4
from vacancy.resources.model.names import check_trait
from vacancy.resources.model.partitioner import cell_for
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.taints import Taint
from vacancy.resources.state.rows import OperatorSettingsRow, ProviderRow
from vacancy.resources.state.rule_set import RuleSet
from vacancy.resources.state.tables import ALLOCATIONS, FACTS, PARTITION, PARTITION_KEY, PROVIDERS, key
from vacancy.streams.log import Log

SOURCE = "/operator"

Change = Callable[[OperatorSettingsV2], OperatorSettingsV2]
"""Makes the new settings of a provider from the current ones."""


class SettingsChangedByOthers(VacancyError):
    """Another operator changed the same settings first; this change has no effect. Action: look, and try again."""


class CurrentSettings(NamedTuple):
    """The settings of a provider after a change. `changed` is False if they were set already and nothing was sent.
    `applied` is False if nobody waited for the store."""

    provider: str
    cell: str
    revision: int
    facts: OperatorSettingsV2
    changed: bool
    applied: bool = True


# -- changes --------------------------------------------------------------------------------------------------


def disable(reason: str = "") -> Change:
    """The provider (for a root: its whole tree) accepts no new claims."""
    return lambda settings: _with(settings, status="disabled", reason=reason)


def drain(reason: str = "") -> Change:
    """The provider accepts no new claims, and its allocations should be moved away."""
    return lambda settings: _with(settings, status="draining", reason=reason)


def enable() -> Change:
    """The provider accepts claims again."""
    return lambda settings: _with(settings, status="enabled", reason="")


def aggregates(
    *, add: Iterable[str] = (), remove: Iterable[str] = (), replace: Iterable[str] | None = None
) -> Change:
    """Add the provider to aggregates and remove it from others; `replace` sets all of them."""
    add, remove, all_ = tuple(add), tuple(remove), None if replace is None else tuple(replace)
    return lambda settings: _with(settings, aggregates=_changed(settings.aggregates, add, remove, all_))


def traits(
    *, add: Iterable[str] = (), remove: Iterable[str] = (), replace: Iterable[str] | None = None
) -> Change:
    """Add traits to those that the node reports, or remove added ones; `replace` sets all of them."""
    add, remove, all_ = tuple(add), tuple(remove), None if replace is None else tuple(replace)

    def change(settings: OperatorSettingsV2) -> OperatorSettingsV2:
        for trait in (*add, *(all_ or ())):
            check_trait(trait)
        return _with(settings, traits=_changed(settings.traits, add, remove, all_))

    return change


def override(resource_class: str, values: Mapping[str, Any]) -> Change:
    """Override parts of an inventory, whatever the node reports: for quantities `reserved` and
    `allocation_ratio_milli`. Other fields keep their overrides. A list of devices has neither."""

    def change(settings: OperatorSettingsV2) -> OperatorSettingsV2:
        kept = {**settings.overrides.get(resource_class, {}), **values}
        return _with(settings, overrides={**settings.overrides, resource_class: kept})

    return change


def clear_override(resource_class: str) -> Change:
    """Remove the override, so that the inventory is as the node reports it. Devices that are excluded stay so."""

    def change(settings: OperatorSettingsV2) -> OperatorSettingsV2:
        before = settings.overrides.get(resource_class, {})
        return _overridden(
            settings, resource_class, {EXCLUDED: before[EXCLUDED]} if EXCLUDED in before else {}
        )

    return change


def exclude(resource_class: str, name: str, reason: str | None) -> Change:
    """Exclude a device of a class from all grants, for this reason; None: offer it again."""

    def change(settings: OperatorSettingsV2) -> OperatorSettingsV2:
        values: dict[str, Any] = dict(settings.overrides.get(resource_class, {}))
        excluded = {**values.pop(EXCLUDED, {}), name: reason}
        excluded = {one: why for one, why in excluded.items() if why is not None}
        return _overridden(settings, resource_class, {**values, EXCLUDED: excluded} if excluded else values)

    return change


def _overridden(
    settings: OperatorSettingsV2, resource_class: str, values: Mapping[str, Any]
) -> OperatorSettingsV2:
    others = {name: kept for name, kept in settings.overrides.items() if name != resource_class}
    return _with(settings, overrides={**others, resource_class: values} if values else others)


def attributes(*, add: Mapping[str, str | int | bool] | None = None, remove: Iterable[str] = ()) -> Change:
    """Set attributes, which take precedence over those of the same name that the node reports, or remove them."""
    more, less = dict(add or {}), frozenset(remove)
    return lambda settings: _with(
        settings,
        attributes={name: v for name, v in {**settings.attributes, **more}.items() if name not in less},
    )


def taints(*, add: Iterable[Taint] = (), remove: Iterable[Taint] = ()) -> Change:
    """Set taints, in place of those of the same keys, or remove taints; one without a value whatever its value is."""
    more, less = {one.key: one for one in add}, {one.key: one.value for one in remove}

    def change(settings: OperatorSettingsV2) -> OperatorSettingsV2:
        left = {one.key: one for one in settings.taints if less.get(one.key) not in ("", one.value)}
        return _with(settings, taints=tuple(sorted({**left, **more}.values(), key=lambda one: one.key)))

    return change


def _changed(
    names: Iterable[str], add: Iterable[str], remove: Iterable[str], replace: Iterable[str] | None
) -> tuple[str, ...]:
    start = set(names) if replace is None else set(replace)
    return tuple(sorted((start | set(add)) - set(remove)))


def _with(settings: OperatorSettingsV2, **update: Any) -> OperatorSettingsV2:
    try:
        return OperatorSettingsV2.model_validate({**settings.model_dump(), **update})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{first['input']!r} is invalid: {first['msg']}", where=path) from None


# -- settings -------------------------------------------------------------------------------------------------


def set_operator_settings(
    log: Log,
    reader: StoreReader,
    provider: str,
    change: Change,
    *,
    cell: str | None = None,
    timeout_s: float = 10.0,
    wait: bool = True,
) -> CurrentSettings:
    """Change the settings of a provider and wait until the store on this host shows the change.

    `cell` is the cell of a provider that the store does not know yet (`auto`: the cell that its id hashes to), or
    selects one of two cells. Raises `UsageError` for invalid settings, `NotFound`, `SettingsChangedByOthers`, and as
    `FoldedLog` does.
    """
    folded = FoldedLog(log, reader, timeout_s=timeout_s, wait=wait)
    cell = _cell_of(reader, provider, cell)
    row = reader.get(FACTS, key(cell, provider))
    before = _settings_of(row)
    after = change(before)
    revision = row.revision if row else 0
    if after == before:
        return CurrentSettings(provider, cell, revision, before, changed=False)
    _check_overrides(reader, cell, provider, before, after)
    _check_types(provider, before, after, reader.get(PROVIDERS, key(cell, provider)))
    revision += 1
    event = _event(reader, provider, revision, after)
    subject = f"revision {revision} of the operator settings of {provider}"
    look = f"`vacancy show provider {provider}`"
    refused: RecordRefused | None = None
    try:
        folded.write([NewRecord(cell, events.encode(event))], subject, look)
    except RecordRefused as error:
        refused = error
    if refused is None and not wait:
        return CurrentSettings(provider, cell, revision, after, changed=True, applied=False)
    now = reader.get(FACTS, key(cell, provider))
    if now is not None and event.id in now.events:
        return CurrentSettings(provider, cell, revision, after, changed=True)
    if refused is not None and (now is None or now.revision < revision):
        raise refused
    raise SettingsChangedByOthers(
        f"another operator changed the settings of {provider} at the same time",
        where=f"revision {now.revision if now else 0}",
        do=f"look with {look}, and try again",
    )


def _event(
    reader: StoreReader, provider: str, revision: int, facts: OperatorSettingsV2
) -> events.OperatorSettingsSet | events.OperatorSettingsSetV2:
    """The event in the oldest form that says all of it. Raises `UsageError` where the log's rules have no taints."""
    try:
        data = events.OperatorSettingsDataV2(provider=provider, revision=revision, facts=facts)
    except ValidationError:
        raise UsageError(f"{provider!r} is not a valid name of a provider", do="check the name") from None
    if facts.taints:
        check_rules(reader, lambda rules: events.OperatorSettingsSetV2 in rules.event_models, "taints need")
        return events.OperatorSettingsSetV2(id=uuid4().hex, source=SOURCE, data=data)
    plain = OperatorSettings.model_construct(
        **{name: getattr(facts, name) for name in OperatorSettings.model_fields}
    )
    older = events.OperatorSettingsData.model_construct(provider=provider, revision=revision, facts=plain)
    return events.OperatorSettingsSet(id=uuid4().hex, source=SOURCE, data=older)


def _cell_of(reader: StoreReader, provider: str, cell: str | None) -> str:
    """The cell of a provider. Raises `NotFound` where a cell is given and the provider is known in another: settings there
    would be of a provider that does not exist."""
    known = provider_cells(reader, provider)
    if cell == "auto":
        cell = cell_for(provider, reader.manifest.partitions)
    if cell is None:
        if not known:
            for one, _ in find(reader, FACTS, provider):
                return one
        return provider_cell(reader, provider)
    if known and cell not in known:
        raise NotFound(
            f"provider {provider!r} is in cell {' and '.join(known)}, not in {cell}",
            where=f"store {reader.path}",
            do="omit --cell",
        )
    return cell


def _settings_of(row: OperatorSettingsRow | None) -> OperatorSettingsV2:
    if row is None:
        return OperatorSettingsV2()
    return OperatorSettingsV2.model_validate(
        {
            "status": row.status,
            "reason": row.reason,
            "aggregates": row.aggregates,
            "traits": row.traits,
            "overrides": row.overrides,
            "attributes": dict(row.attributes),
            "taints": tuple(one._asdict() for one in row.taints),
        }
    )


def _check_overrides(
    reader: StoreReader, cell: str, provider: str, before: OperatorSettingsV2, after: OperatorSettingsV2
) -> None:
    """Overrides that this change makes are valid, and have an effect on what the node reports now."""
    for name, values in after.overrides.items():
        resource_class = reader.registry.check(name)
        try:
            check_override(_rules(reader, cell), resource_class, values)
        except InvalidRecord as error:
            raise UsageError(error.what, do="see which fields of this class operators can override") from None
        table = reader.registry.table(name)
        row = reader.get(table, table.prefix + key(cell, provider), cell=cell)
        if row is None or values == before.overrides.get(name):
            continue
        old = before.overrides.get(name, {})
        fields = [
            field
            for field in resource_class.without_effect(row.record, values)
            if values[field] != old.get(field)
        ]
        if fields:
            raise UsageError(
                f"an override of {' and '.join(fields)} has no effect on the inventory of {name} "
                f"that the node reports for {provider}",
                where=f"cell {cell}",
                do=f"look with `vacancy show provider {provider}`; where it is a list of devices, exclude single "
                "ones with `vacancy provider device`, or leave them out of the list on the node, for example with "
                "`vacancy publish --deny-device`",
            )


def _rules(reader: StoreReader, cell: str) -> RuleSet:
    row = reader.get(PARTITION, PARTITION_KEY, cell=cell)
    return reader.versions.newest if row is None else reader.versions.of(row.rules_version)


def _check_types(
    provider: str, before: OperatorSettingsV2, after: OperatorSettingsV2, row: ProviderRow | None
) -> None:
    """An attribute keeps its type: with another type, comparisons would no longer match, without an error."""
    known = {**dict(row.reported_attributes if row else ()), **before.attributes}
    for name, value in after.attributes.items():
        old = known.get(name, value)
        if type(old) is not type(value):
            raise UsageError(
                f"attribute {name} of {provider} is {type_name(old)} ({old!r}), not {type_name(value)} ({value!r})",
                do='write text as NAME="7" and a number as NAME=7, or choose another name',
            )


# -- consumers ------------------------------------------------------------------------------------------------


class Held(NamedTuple):
    """What a consumer held in a cell, by a claim."""

    cell: str
    claim: str


def confirm(
    log: Log, reader: StoreReader, consumer: str, *, timeout_s: float = 10.0, wait: bool = True
) -> list[str]:
    """Confirm the holds of a consumer, so that they do not end. Returns the cells of its allocations, [] if it has none.

    Raises `VacancyError` where the hold had ended, and as `FoldedLog` does.
    """
    folded = FoldedLog(log, reader, timeout_s=timeout_s, wait=wait)
    found = []
    for cell, row in find(reader, ALLOCATIONS, consumer):
        found.append(cell)
        if not row.hold_until_ms:
            continue
        event = events.ConsumerConfirmed(
            id=uuid4().hex, source=SOURCE, data=events.ConsumerRef(consumer=consumer, claim=row.claim)
        )
        subject, look = f"the confirmation of {consumer}", f"`vacancy show consumer {consumer}`"
        (at,) = folded.write([NewRecord(cell, events.encode(event))], subject, look)
        if not wait:
            continue
        now = reader.get(ALLOCATIONS, key(cell, consumer))
        if now is None or (now.claim == row.claim and now.hold_until_ms):
            raise VacancyError(
                f"the hold of {consumer} had ended before it was confirmed",
                where=f"cell {cell}, offset {at.offset}",
                do="place it again",
            )
    return found


def release(
    log: Log,
    reader: StoreReader,
    consumers: Iterable[str],
    *,
    cell: str | None = None,
    claim: str | None = None,
    timeout_s: float = 10.0,
    wait: bool = True,
) -> dict[str, list[Held]]:
    """Release what consumers hold, in all cells or in `cell`, by any claim or by `claim`. Returns what each had held that was
    released, [] for one that held nothing of the kind.

    Raises `VacancyError` where a consumer was moved or resized at the same time, and as `FoldedLog` does.
    """
    folded = FoldedLog(log, reader, timeout_s=timeout_s, wait=wait)
    found: dict[str, list[Held]] = {}
    by_cell: dict[str, list[WeighedRelease]] = {}
    for consumer in dict.fromkeys(consumers):
        held = found[consumer] = []
        for at, row in find(reader, ALLOCATIONS, consumer):
            if cell in (None, at) and claim in (None, row.claim):
                one = events.Release(consumer=consumer, claim=row.claim)
                by_cell.setdefault(at, []).append(
                    WeighedRelease(one, parts_weight(row, LIMITS_4.group_weight))
                )
                held.append(Held(at, row.claim))
    entries = release_records(by_cell, SOURCE)
    if not entries:
        return found
    names = [consumer for consumer, held in found.items() if held]
    subject, look = f"the release of {', '.join(names)}", f"`vacancy show consumer {names[0]}`"
    folded.write(entries, subject, look)
    for consumer, held in found.items() if wait else ():
        for one_held in held:
            now = reader.get(ALLOCATIONS, key(one_held.cell, consumer))
            if now is not None:
                raise VacancyError(
                    f"{consumer} was moved, resized or placed again at the same time: it holds claim {now.claim} now",
                    where=f"cell {one_held.cell}",
                    do=f"look with `vacancy show consumer {consumer}`, and release it again",
                )
    return found
