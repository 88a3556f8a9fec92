"""What differs between two rows of one thing, as fields with their values before and after, and as texts for people.

`history` compares the rows before and after a record, `differences` those of two stores. No resource class is known here:
inventories are compared by the columns and the names of items that each class itself offers, and amounts are what it counts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from vacancy.resources.classes.registry import Registry
from vacancy.resources.classes.resource_class import ResourceClass
from vacancy.resources.model.names import unit_name
from vacancy.resources.state.rows import (
    AllocationPart,
    AllocationRow,
    ClassRow,
    OperatorSettingsRow,
    ProviderRow,
    VerdictRow,
)

_GRANT_MAX: Final = 60
_ITEMS_MAX: Final = 6


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field of a thing with its value before and after, as plain data. None: it was not there, or is not there."""

    field: str
    before: Any
    after: Any

    @property
    def text(self) -> str:
        """The change in one line for people."""
        if isinstance(self.before, list) or isinstance(self.after, list):
            return f"{self.field} {_set_text(self.before or [], self.after or [])}"
        return f"{self.field} {_value_text(self.before)} -> {_value_text(self.after)}"


def _value_text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _set_text(before: list[Any], after: list[Any]) -> str:
    gone = [f"-{_value_text(one)}" for one in before if one not in after]
    come = [f"+{_value_text(one)}" for one in after if one not in before]
    found = [*come, *gone]
    more = f" and {len(found) - _ITEMS_MAX} more" if len(found) > _ITEMS_MAX else ""
    return " ".join(found[:_ITEMS_MAX]) + more


def changed_fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[FieldChange]:
    """The fields that differ, in the order of `before`, then of `after`."""
    return [
        FieldChange(name, before.get(name), after.get(name))
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    ]


# -- inventories ----------------------------------------------------------------------------------------------------


def shown_inventory(of: ResourceClass[Any], row: ClassRow | None) -> dict[str, Any]:
    """What a class shows of an inventory besides its use: its columns, the names of its items, and those that nobody gets.
    Empty for None."""
    if row is None:
        return {}
    record = row.record
    hidden = {*of.consumable_columns, *of.index_columns}
    columns = zip(of.columns, of.row(record), strict=True)
    shown: dict[str, Any] = {name: value for name, value in columns if name not in hidden}
    shown = {"capacity": shown.pop("capacity"), **shown}
    for name, items in (
        ("items", of.names(record)),
        ("excluded", of.excluded(record)),
        ("unhealthy", of.unhealthy(record)),
    ):
        if items:
            shown[name] = sorted(items)
    return shown


def inventory_changes(
    of: ResourceClass[Any], before: ClassRow | None, after: ClassRow | None
) -> list[FieldChange]:
    """What differs between two inventories of a class, apart from their use. The field `inventory` stands for a difference
    that no column and no name shows; it is found where the use is the same."""
    found = changed_fields(shown_inventory(of, before), shown_inventory(of, after))
    if found or before is None or after is None or before.record == after.record:
        return found
    used_before, used_after = _consumable(of, before), _consumable(of, after)
    if before.changed != after.changed and used_before == used_after:
        return [FieldChange("inventory", f"as of offset {before.changed}", f"as of offset {after.changed}")]
    return []


def _consumable(of: ResourceClass[Any], row: ClassRow) -> list[int]:
    columns = dict(zip(of.columns, of.row(row.record), strict=True))
    return [columns[name] for name in of.consumable_columns]


def inventory_text(class_name: str, changes: Iterable[FieldChange]) -> str:
    """The changes of one inventory in one line: `VCPU 32 -> 30`."""
    texts = []
    for one in changes:
        if one.field == "capacity" and one.before is None:
            return f"{class_name} {_value_text(one.after)}"
        if one.field == "capacity" and one.after is None:
            return f"{class_name} {_value_text(one.before)} -> none"
        texts.append(one.text.removeprefix("capacity "))
    return f"{class_name} {', '.join(texts)}"


def over_capacity(of: ResourceClass[Any], row: ClassRow | None) -> int:
    """How much more than its capacity is in use of an inventory, 0 if nothing is."""
    if row is None:
        return 0
    columns = dict(zip(of.columns, of.row(row.record), strict=True))
    return max(0, -columns["free"])


# -- providers and settings -----------------------------------------------------------------------------------------


def reported_fields(row: ProviderRow | None) -> dict[str, Any]:
    """What a node says of a provider, besides its inventories. Empty for None."""
    if row is None:
        return {}
    return {
        "root": row.root,
        "parent": row.parent,
        "reported": row.reported,
        "traits": list(row.reported_traits),
        **{f"attribute {name}": value for name, value in row.reported_attributes},
    }


def settings_fields(row: OperatorSettingsRow | None) -> dict[str, Any]:
    """Operator settings. Without a row they are the defaults."""
    if row is None:
        return {"status": "enabled", "reason": "", "aggregates": [], "traits": [], "taints": []}
    return {
        "status": row.status,
        "reason": row.reason,
        "aggregates": list(row.aggregates),
        "traits": list(row.traits),
        "taints": [
            f"{one.key}={one.value}:{one.effect}" if one.value else f"{one.key}:{one.effect}"
            for one in row.taints
        ],
        **{f"override of {name}": dict(values) for name, values in sorted(row.overrides.items())},
        **{f"attribute {name}": value for name, value in row.attributes},
    }


_STATUS: Final = {"enabled": "enabled", "disabled": "disabled", "draining": "drained"}


def settings_text(changes: Collection[FieldChange]) -> str:
    """Changes of operator settings in one line: `disabled by an operator (a disk failed)`."""
    by_field = {one.field: one for one in changes}
    status, reason = by_field.pop("status", None), by_field.get("reason")
    texts = []
    if status is not None:
        because = f" ({reason.after})" if reason is not None and reason.after else ""
        by_field.pop("reason", None)
        texts.append(f"{_STATUS.get(str(status.after), str(status.after))} by an operator{because}")
    texts += [f"operator's {one.text}" for one in by_field.values()]
    return "; ".join(texts)


# -- allocations and verdicts ---------------------------------------------------------------------------------------


def part_amounts(registry: Registry, part: AllocationPart, record: Any = None) -> dict[str, int]:
    """What a part of an allocation counts, by unit (`VCPU`, `NUMA_CELL.memory_mb`). `record` is that of the provider, for
    classes that need it."""
    of = registry.table(part.resource_class).resource_class
    amounts = of.amounts_of(part.grant, record)
    return {unit_name(part.resource_class, unit): amount for unit, amount in amounts.items()}


def amounts_by_provider(
    registry: Registry, parts: Iterable[AllocationPart], records: Mapping[tuple[str, str], Any] | None = None
) -> dict[str, dict[str, int]]:
    """What parts of an allocation count: provider -> unit -> amount. `records` are those of (provider, class)."""
    found: dict[str, Counter[str]] = {}
    for part in parts:
        record = None if records is None else records.get((part.provider, part.resource_class))
        found.setdefault(part.provider, Counter()).update(part_amounts(registry, part, record))
    return {provider: dict(amounts) for provider, amounts in found.items()}


def parts_text(registry: Registry, parts: Iterable[AllocationPart]) -> str:
    """Parts of an allocation for people, by provider: `gpu-1: VCPU 4, MEMORY_MB 8192; gpu-1:b: CUSTOM_GPU_MILLI 700`."""
    found: dict[str, list[str]] = {}
    for part in parts:
        of = registry.table(part.resource_class).resource_class
        texts = [f"{unit} {amount}" for unit, amount in part_amounts(registry, part).items()]
        text = ", ".join(texts) or part.resource_class
        if not of.is_amount(part.grant):
            grant = json.dumps(part.grant, separators=(",", ":"), ensure_ascii=False)
            text += f" {grant if len(grant) <= _GRANT_MAX else f'{grant[: _GRANT_MAX - 1]}…'}"
        found.setdefault(part.provider, []).append(text)
    return "; ".join(f"{provider}: {', '.join(texts)}" for provider, texts in found.items())


def rejection_text(row: VerdictRow) -> str:
    """Why a claim was rejected, in one line: `no room, VCPU on gpu-1: asked 4, available 2`."""
    text = row.reason.replace("_", " ")
    if row.resource_class:
        text += f", {row.resource_class}"
    if row.provider:
        text += f" on {row.provider}"
    if row.asked or row.available:
        text += f": asked {row.asked}, available {row.available}"
    if row.group:
        text += f", server group {row.group}"
    if row.other:
        text += f", because of {row.other}"
    return text


def account_fields(row: AllocationRow | None) -> dict[str, Any]:
    """For whom a consumer is, and until when a hold lasts. Empty for None."""
    if row is None:
        return {}
    return {
        "project": row.project,
        "user": row.user,
        "consumer type": row.consumer_type,
        "server groups": list(row.groups),
        "hold until": row.hold_until_ms or None,
    }


def class_names(before: ProviderRow | None, after: ProviderRow | None) -> Iterator[str]:
    """The classes of a provider, those before first."""
    yield from dict.fromkeys(
        (*(before.classes if before is not None else ()), *(after.classes if after is not None else ()))
    )
