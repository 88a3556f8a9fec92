"""What one record did to a consumer, a provider or a node: found by comparing rows before and after the record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeVar

from vacancy.clients.history.record_view import counted, parse_event, time_text
from vacancy.clients.history.row_changes import (
    FieldChange,
    account_fields,
    amounts_by_provider,
    changed_fields,
    inventory_changes,
    inventory_text,
    over_capacity,
    parts_text,
    rejection_text,
    reported_fields,
    settings_fields,
    settings_text,
)
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model import events
from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.record import Record
from vacancy.resources.state.rows import AllocationPart, AllocationRow, ClassRow, NodeRow, VerdictRow
from vacancy.resources.state.tables import (
    ALLOCATIONS,
    CELL_MOVES,
    CONTESTED,
    DEAD_LETTERS,
    FACTS,
    MACHINES,
    NODES,
    PARTITION,
    PARTITION_KEY,
    PROVIDERS,
    VERDICTS,
    ClassTable,
    Table,
    key,
    split_key,
)
from vacancy.resources.state.transaction import Changes, State

Row = TypeVar("Row")

_PARTS_SHOWN: Final = 8


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing that a record did. `what` names it for programs, `text` is one line for people. `changes` are the fields that
    differ; of an inventory their names begin with the provider and the class. `amounts` is what a consumer took or holds now,
    or gave back: provider -> unit -> amount."""

    what: str
    text: str
    consumer: str = ""
    claim: str = ""
    changes: tuple[FieldChange, ...] = ()
    amounts: dict[str, dict[str, int]] | None = None


class Step:
    """One record with the tables before it and its changes. `named`: the record names the thing that is looked for."""

    def __init__(
        self, tables: State, changes: Changes, record: Record, registry: Registry, *, named: bool
    ) -> None:
        self.tables, self.changes, self.record, self.registry = tables, changes, record, registry
        self.named = named
        self.time_ms: int = changes[PARTITION][PARTITION_KEY].time_ms

    @cached_property
    def event(self) -> events.Event | None:
        """The record as an event, or None."""
        try:
            return parse_event(self.record.value)
        except InvalidRecord:
            return None

    def changed(self, table: Table[Row]) -> Iterator[tuple[str, str, Row | None, Row | None]]:
        """(cell, id, row before, row after) of the rows of a table that the record changed."""
        skip = len(table.prefix)
        for place, after in self.changes.get(table, {}).items():
            before = self.tables.get(table, place)
            if before is not after:
                yield *split_key(place[skip:]), before, after

    def after(self, table: Table[Row], place: bytes) -> Row | None:
        """A row as the record left it."""
        changed = self.changes.get(table, {})
        found: Row | None = changed[place] if place in changed else self.tables.get(table, place)
        return found

    @property
    def refusals(self) -> list[str]:
        """The reasons why the record, or parts of it, are dead letters."""
        return [row.reason for row in self.changes.get(DEAD_LETTERS, {}).values() if row is not None]


def _refused(step: Step, name: str, done: list[Effect]) -> Iterator[Effect]:
    """The dead letters of a record that names a thing. Where it did something to it, only those that name it again."""
    ids = {name, *(one.claim for one in done), *(one.consumer for one in done)} - {""}
    for reason in step.refusals:
        if not done or any(id_ in reason for id_ in ids):
            yield Effect("refused", f"refused: {reason}")


# -- consumers ------------------------------------------------------------------------------------------------------


def consumer_effects(step: Step, consumer: str) -> Iterator[Effect]:
    """What a record did to a consumer."""
    found: list[Effect] = []
    for cell, id_, before, after in step.changed(ALLOCATIONS):
        if id_ == consumer:
            found += _allocation_effects(step, cell, consumer, before, after)
    for _, claim, _, verdict in step.changed(VERDICTS):
        if verdict is not None and verdict.consumer == consumer and not verdict.accepted:
            found.append(_rejected(claim, verdict))
    for move, _, was, now in step.changed(CELL_MOVES):
        row = now or was
        if row is None or row.consumer != consumer:
            continue
        if was is None and now is not None:
            text = f"move from cell {row.source} to cell {row.destination} begun (move {move})"
            found.append(Effect("cell_move_begun", text, consumer, move))
        elif was is not None and now is not None and now.outcome != was.outcome:
            text = f"move to cell {row.destination} ended: {now.outcome} (move {move})"
            found.append(Effect("cell_move_ended", text, consumer, move))
    if step.named:
        found += list(_refused(step, consumer, found))
        if not found:
            found += _without_effect(step, consumer)
    yield from found


def _rejected(claim: str, verdict: VerdictRow, by: str = "") -> Effect:
    if verdict.offset < 0:
        text = f"claim {claim} is cancelled before it comes"
    else:
        text = f"claim {claim} rejected: {rejection_text(verdict)}"
    return Effect("rejected", f"{by}{text}", verdict.consumer, claim)


def _without_effect(step: Step, consumer: str) -> Iterator[Effect]:
    """Why a valid record that names a consumer did nothing to it. Reports that list it among others are not worth a line."""
    event = step.event
    if event is None:
        return
    for claim in events.claims_of(event):
        if claim.consumer != consumer:
            continue
        known = step.tables.get(VERDICTS, step.record.key + b"\0" + claim.id.encode())
        if known is not None:
            yield Effect("repeated", f"claim {claim.id} again: it was judged before", consumer, claim.id)
        elif claim.deadline_ms < step.time_ms:
            late = f"claim {claim.id} came after its deadline {time_text(claim.deadline_ms)}: not judged"
            yield Effect("late", late, consumer, claim.id)
    if isinstance(event, events.ConsumersReleased):
        for release in event.data.releases:
            if release.consumer == consumer:
                text = f"release of claim {release.claim}: it holds nothing by that claim"
                yield Effect("nothing_released", text, consumer, release.claim)
    elif isinstance(event, events.ConsumerConfirmed | events.ConsumerUpdated):
        yield Effect("nothing_changed", "nothing changed", consumer, event.data.claim)


def _allocation_effects(
    step: Step,
    cell: str,
    consumer: str,
    before: AllocationRow | None,
    after: AllocationRow | None,
    only: Callable[[str], bool] = lambda _: True,
    by: str = "",
) -> Iterator[Effect]:
    """What happened to an allocation, as far as it is of the providers for which `only` is true. `by` starts each text."""
    if before is not None and after is not None and after.generation == 1 and after.claim != before.claim:
        # The hold ended by time, and the record claimed for the same consumer.
        yield from _allocation_effects(step, cell, consumer, before, None, only, by)
        yield from _allocation_effects(step, cell, consumer, None, after, only, by)
        return
    had = [part for part in before.parts if only(part.provider)] if before is not None else []
    has = [part for part in after.parts if only(part.provider)] if after is not None else []
    if not had and not has:
        return
    registry = step.registry
    if before is None and after is not None:
        until = f", held until {time_text(after.hold_until_ms)}" if after.hold_until_ms else ""
        text = f"placed on {parts_text(registry, has)} (claim {after.claim}{until})"
        yield _allocated("placed", by + text, consumer, after, registry, has)
    elif before is not None and after is None:
        ended = 0 < before.hold_until_ms < step.time_ms
        how = f"hold ended at {time_text(before.hold_until_ms)}" if ended else "released"
        text = f"{how}: gave back {parts_text(registry, had)} (claim {before.claim})"
        yield _allocated("hold_ended" if ended else "released", by + text, consumer, before, registry, had)
    elif before is not None and after is not None:
        yield from _replaced(step, cell, consumer, before, after, had, has, by)


def _allocated(
    what: str,
    text: str,
    consumer: str,
    row: AllocationRow,
    registry: Registry,
    parts: Iterable[AllocationPart],
    changes: Iterable[FieldChange] = (),
) -> Effect:
    return Effect(
        what, text, consumer, row.claim, tuple(changes), amounts=amounts_by_provider(registry, parts)
    )


def _replaced(
    step: Step,
    cell: str,
    consumer: str,
    before: AllocationRow,
    after: AllocationRow,
    had: list[AllocationPart],
    has: list[AllocationPart],
    by: str,
) -> Iterator[Effect]:
    registry = step.registry
    account = changed_fields(account_fields(before), account_fields(after))
    if after.hold_until_ms == 0 and before.hold_until_ms and after.claim == before.claim:
        account = [one for one in account if one.field != "hold until"]
        yield Effect("confirmed", f"{by}confirmed: the hold no longer ends", consumer, after.claim)
    if (before.parts, before.claim) != (after.parts, after.claim):
        old, new = _roots(step, cell, before.parts), _roots(step, cell, after.parts)
        if not has:
            what, text = "moved", f"moved to {' and '.join(new)}: gave back {parts_text(registry, had)}"
        elif not had:
            what, text = "moved", f"moved here from {' and '.join(old)}: {parts_text(registry, has)}"
        elif after.claim == before.claim:
            what, text = "renamed", f"its providers were renamed: {parts_text(registry, has)}"
        elif old != new:
            held = parts_text(registry, has)
            if len({part.provider for part in has}) == 1:
                held = held.removeprefix(f"{new[0]}: ")  # the node itself, and it is named already
            what, text = "moved", f"moved from {' and '.join(old)} to {' and '.join(new)}: {held}"
        else:
            what = "resized"
            text = f"resized on {parts_text(registry, has)}; before: {parts_text(registry, had)}"
        if after.claim != before.claim:
            text += f" (claim {after.claim})"
        yield _allocated(what, by + text, consumer, after, registry, has, account)
    elif account:
        texts = "; ".join(one.text for one in account)
        yield Effect("updated", f"{by}updated: {texts}", consumer, after.claim, tuple(account))


def _roots(step: Step, cell: str, parts: Iterable[AllocationPart]) -> list[str]:
    """The nodes of parts of an allocation."""
    found: dict[str, None] = {}
    for part in parts:
        place = key(cell, part.provider)
        row = step.tables.get(PROVIDERS, place) or step.after(PROVIDERS, place)
        found[part.provider if row is None else row.root] = None
    return list(found)


# -- providers and nodes --------------------------------------------------------------------------------------------


def provider_effects(step: Step, name: str, concerns: Callable[[str, str], bool]) -> Iterator[Effect]:
    """What a record did to a provider or to the providers of a node: those for which `concerns(cell, provider)` is true."""
    found = [
        *_node_effects(step, name),
        *_reported(step, name, concerns),
        *_settings_effects(step, name, concerns),
    ]
    for cell, consumer, before, after in step.changed(ALLOCATIONS):
        here = _Here(cell, concerns)
        found += _allocation_effects(step, cell, consumer, before, after, here, f"{consumer} ")
    for cell, claim, _, verdict in step.changed(VERDICTS):
        if (
            verdict is not None
            and not verdict.accepted
            and verdict.provider
            and concerns(cell, verdict.provider)
        ):
            found.append(_rejected(claim, verdict, f"{verdict.consumer}: "))
    if step.named:
        found += list(_refused(step, name, found))
    yield from found


class _Here:
    """Whether a provider of a cell is concerned."""

    def __init__(self, cell: str, concerns: Callable[[str, str], bool]) -> None:
        self._cell, self._concerns = cell, concerns

    def __call__(self, provider: str) -> bool:
        return self._concerns(self._cell, provider)


def _node_effects(step: Step, name: str) -> Iterator[Effect]:
    for _, root, was, now in step.changed(NODES):
        if root == name:
            yield from _node_row(was, now)
    for _, root, before, after in step.changed(CONTESTED):
        if root != name:
            continue
        closed = before is not None and before.until_ms > 0, after is not None and after.until_ms > 0
        if after is not None and closed[1]:
            text = f"closed: an event of another publisher under this name was dropped ({after.reason})"
            yield Effect("contested", text)
        elif closed[0]:
            yield Effect("contest_ended", "no longer closed because of another publisher")
    for _, root, one, other in step.changed(MACHINES):
        if root == name:
            changes = changed_fields(_fields_of(one), _fields_of(other))
            yield Effect("machine", "; ".join(c.text for c in changes), changes=tuple(changes))


def _fields_of(row: Any) -> dict[str, Any]:
    if row is None:
        return {}
    fields = ((name, getattr(row, name)) for name in row.__struct_fields__)
    return {f"machine {name}": list(one) if isinstance(one, tuple) else one for name, one in fields}


def _node_row(before: NodeRow | None, after: NodeRow | None) -> Iterator[Effect]:
    if after is None:
        yield Effect("forgotten", "the last entry of the node is deleted")
        return
    if before is None:
        yield Effect("appeared", f"appeared with incarnation {after.incarnations[0][0]}")
    elif before.incarnations[:1] and before.incarnations[0][0] != after.incarnations[0][0]:
        yield Effect("incarnation", f"incarnation {after.incarnations[0][0]} began")
    if after.retired and (before is None or not before.retired):
        yield Effect("retired", "retired")
    elif before is not None and before.retired and not after.retired:
        yield Effect("returned", "reports again after it was retired")
    if before is not None and before.complete != after.complete and not after.retired:
        if after.complete:
            yield Effect("complete", "complete: takes new claims again")
        else:
            yield Effect("incomplete", "incomplete: takes no new claims until its next full report")


def _reported(step: Step, name: str, concerns: Callable[[str, str], bool]) -> Iterator[Effect]:
    """The changes of providers and inventories by a record, as one effect."""
    # The order of what the fold changed is not the same where it began with a store: providers and classes are sorted by name.
    changes: dict[str, list[FieldChange]] = {}
    texts: dict[str, list[str]] = {}
    gone: set[tuple[str, str]] = set()
    for cell, id_, before, after in step.changed(PROVIDERS):
        if not concerns(cell, id_):
            continue
        changed = changed_fields(reported_fields(before), reported_fields(after))
        if before is None:
            texts[id_] = [] if id_ == name else ["came"]
        elif after is None:
            gone.add((cell, id_))
            texts[id_] = ["gone"]
        elif changed:
            texts[id_] = [_provider_text(one) for one in changed]
        changes.setdefault(id_, []).extend(_named(id_, changed))
    for table in sorted(_class_tables(step), key=lambda one: one.name):
        of = table.resource_class
        for cell, id_, row, new in step.changed(table):
            if not concerns(cell, id_) or _same_inventory(row, new):
                continue
            found = inventory_changes(of, row, new)
            if not found:
                continue
            changes.setdefault(id_, []).extend(_named(f"{id_} {table.name}", found))
            if (cell, id_) not in gone:
                over = over_capacity(of, new)
                more = f" ({over} over capacity)" if over else ""
                texts.setdefault(id_, []).append(inventory_text(table.name, found) + more)
    if texts:
        order = sorted(texts, key=lambda id_: (id_ != name, id_))
        said = [
            f"{'' if id_ == name and texts[id_] != ['gone'] else f'{id_}: '}{', '.join(texts[id_]) or 'came'}"
            for id_ in order
        ]
        more = (
            f"; and {counted(len(said) - _PARTS_SHOWN, 'provider')} more" if len(said) > _PARTS_SHOWN else ""
        )
        text = f"{_lead(step)}{'; '.join(said[:_PARTS_SHOWN])}{more}"
        yield Effect("reported", text, changes=tuple(one for id_ in order for one in changes.get(id_, ())))


def _named(of: str, changes: Iterable[FieldChange]) -> list[FieldChange]:
    return [FieldChange(f"{of} {one.field}", one.before, one.after) for one in changes]


def _class_tables(step: Step) -> list[ClassTable]:
    return [table for table in step.changes if isinstance(table, ClassTable)]


def _same_inventory(before: ClassRow | None, after: ClassRow | None) -> bool:
    """Whether only the use differs: claims and releases leave the rest of a row."""
    if before is None or after is None:
        return False
    return (before.changed, before.reported) == (after.changed, after.reported)


def _provider_text(one: FieldChange) -> str:
    if one.field == "reported":
        return "reported again" if one.after else "no longer reported"
    return one.text


def _lead(step: Step) -> str:
    """What the event of a node is, before what it changed. Empty for what came by time or by other events."""
    if not step.named:
        return ""
    event = step.event
    if isinstance(event, events.NodeReported | events.NodeReportedV2):
        return f"report of {counted(len(event.data.providers), 'provider')}: "
    if isinstance(event, events.NodeChanged):
        return f"change of {counted(len(event.data.providers) + len(event.data.removed), 'provider')}: "
    if isinstance(event, events.NodeRenamed):
        return f"renamed from {event.data.root} to {event.data.to}: "
    return ""


def _settings_effects(step: Step, name: str, concerns: Callable[[str, str], bool]) -> Iterator[Effect]:
    for cell, id_, before, after in step.changed(FACTS):
        if not concerns(cell, id_):
            continue
        changes = changed_fields(settings_fields(before), settings_fields(after))
        text = settings_text(changes) or "operator settings were set again"
        yield Effect("settings", text if id_ == name else f"{id_}: {text}", changes=tuple(changes))
