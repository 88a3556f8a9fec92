"""All that happened to one node, provider or consumer, in order, and what each record did to it.

What a record did comes from the fold: the partitions that concern the thing are folded in memory, and the rows of each record
are compared before and after. A partition in which no record names the thing is only read, not folded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from vacancy.clients.history.effects import Effect, Step, consumer_effects, provider_effects
from vacancy.clients.history.log_reading import READ_S
from vacancy.clients.history.memory_tables import MemoryTables
from vacancy.clients.history.record_view import json_object, mentions, names_of, view_record
from vacancy.clients.inspection.lookup import NotFound
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.fold import fold
from vacancy.resources.model.errors import LogUnavailable, UsageError
from vacancy.resources.model.record import Record
from vacancy.resources.state.rows import ProviderRow
from vacancy.resources.state.tables import (
    ALLOCATIONS,
    PARTITION,
    PARTITION_KEY,
    PROVIDERS,
    key,
    split_key,
)
from vacancy.resources.state.transaction import Changes
from vacancy.streams.log import Log

Kind = Literal["node", "provider", "consumer"]
KINDS: Final[tuple[Kind, ...]] = ("node", "provider", "consumer")
"""What has a history."""

_BLOCK: Final = 1_000


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A record, and what it did to the thing. `timestamp_ms` is that of the record, `log_time_ms` the log time of its partition
    (milliseconds since 1970, UTC). `type` and `source` are '' where the record is no event."""

    partition: int
    offset: int
    timestamp_ms: int
    log_time_ms: int
    cell: str
    type: str
    source: str
    summary: str
    effects: tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class History:
    """The history of a thing up to `as_of` (partition -> next offset), by log time, then by partition. `left_out` counts the
    records that name the thing and did nothing to it, such as heartbeats; `earlier` the entries beyond the limit."""

    name: str
    kind: Kind
    entries: list[HistoryEntry]
    left_out: int
    earlier: int
    as_of: dict[int, int]


@dataclass
class _Mentioned:
    """Where a partition names the thing: as what, and in which record last."""

    last: int = -1
    kinds: set[Kind] = field(default_factory=set)


def history(
    log: Log,
    name: str,
    registry: Registry,
    *,
    kind: Kind | None = None,
    start: Mapping[int, int] | None = None,
    until: Mapping[int, int] | None = None,
    limit: int | None = None,
    everything: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> History:
    """The history of the node, provider or consumer called `name`: of all cells that have one.

    Only records from `start` up to `until` (partition -> next offset) are in it, the newest `limit` of them. With
    `everything`, also those that name the thing and did nothing to it. `progress` is called with (records read, records in
    all). The history of a node includes the providers of its tree. Raises `NotFound` if no record names it, `UsageError` if
    it is both a consumer and a provider and `kind` is not given, `Halt` where the log needs a newer build, `LogError` and
    `LogUnavailable` as `Log.read` does: it needs all records from the first of the log.
    """
    ends = dict(log.end() if until is None else until)
    report = _Progress(progress, sum(ends.values()))
    found = {partition: _mentioned(log, partition, end, name, report) for partition, end in ends.items()}
    of = kind or _kind_of(log, name, found)
    left_out = earlier = 0
    entries: list[HistoryEntry] = []
    for partition, mentioned in found.items():
        if not _may_concern(mentioned, of):
            continue
        report.more(ends[partition])
        followed = _Follower(name, of, registry, mentioned.last)
        kept: deque[HistoryEntry] = deque(maxlen=limit)
        first = 0 if start is None else start.get(partition, 0)
        for entry in followed.entries(_records(log, partition, ends[partition], report)):
            if entry.offset < first:
                continue
            if not entry.effects:
                left_out += 1
                if not everything:
                    continue
            earlier += len(kept) == limit
            kept.append(entry)
        entries += kept
    entries.sort(key=lambda one: (one.log_time_ms, one.partition, one.offset))
    if limit is not None and len(entries) > limit:
        earlier += len(entries) - limit
        entries = entries[len(entries) - limit :]
    return History(name, of, entries, left_out, earlier, ends)


class _Progress:
    """Counts the records that were read. What is folded is read twice."""

    def __init__(self, report: Callable[[int, int], None] | None, total: int) -> None:
        self._report, self._total, self._done = report, total, 0

    def more(self, records: int) -> None:
        self._total += records

    def read(self, records: int) -> None:
        self._done += records
        if self._report is not None:
            self._report(self._done, self._total)


def _records(log: Log, partition: int, end: int, report: _Progress) -> Iterator[Record]:
    offset = 0
    while offset < end:
        records = log.read(partition, offset, min(_BLOCK, end - offset), timeout_s=READ_S)
        if not records:
            where = f"{log.name}, partition {partition}, offset {offset}"
            raise LogUnavailable(f"the log did not answer within {READ_S:g} s", where=where, do="try again")
        yield from records
        offset += len(records)
        report.read(len(records))


def _mentioned(log: Log, partition: int, end: int, name: str, report: _Progress) -> _Mentioned:
    found = _Mentioned()
    for record in _records(log, partition, end, report):
        if not mentions(record.value, name):
            continue
        names = names_of(json_object(record.value))
        kinds: set[Kind] = set()
        if name in names.nodes:
            kinds.add("node")
        elif name in names.providers:
            kinds.add("provider")
        if name in names.consumers:
            kinds.add("consumer")
        if kinds:
            found.last = record.offset
            found.kinds |= kinds
    return found


def _kind_of(log: Log, name: str, found: Mapping[int, _Mentioned]) -> Kind:
    kinds = {kind for one in found.values() for kind in one.kinds}
    if not kinds:
        raise NotFound(
            f"no record names a node, a provider or a consumer {name!r}",
            where=log.name,
            do="names are case-sensitive and complete: see `vacancy log tail` and `vacancy show nodes`",
        )
    if "consumer" in kinds and len(kinds) > 1:
        raise UsageError(
            f"{name!r} is a consumer and a provider",
            where=log.name,
            do="choose one with --kind consumer, --kind provider or --kind node",
        )
    return next(kind for kind in KINDS if kind in kinds)


def _may_concern(mentioned: _Mentioned, kind: Kind) -> bool:
    if kind == "consumer":
        return "consumer" in mentioned.kinds
    return not mentioned.kinds.isdisjoint({"node", "provider"})


class _Follower:
    """Folds the records of a partition and finds what each did to one thing."""

    def __init__(self, name: str, kind: Kind, registry: Registry, last: int) -> None:
        self._name, self._kind, self._registry, self._last = name, kind, registry, last
        self._tables = MemoryTables()
        self._tree: set[tuple[str, str]] = set()
        self._cells: set[str] = set()

    def entries(self, records: Iterator[Record]) -> Iterator[HistoryEntry]:
        """The entries of these records, which are all of a partition from its first. One without effects names the thing."""
        for record in records:
            changes = fold(self._tables, record, self._registry)
            named = mentions(record.value, self._name) and self._names(record)
            step = Step(self._tables, changes, record, self._registry, named=named)
            effects = tuple(self._effects(step))
            self._tables.commit(changes)
            if effects or named:
                yield self._entry(record, changes, effects)
            if record.offset >= self._last and self._is_over():
                return

    def _names(self, record: Record) -> bool:
        names = names_of(json_object(record.value))
        if self._kind == "consumer":
            self._cells.add(record.key.decode("utf-8", "replace"))
            return self._name in names.consumers
        return self._name in names.providers

    def _entry(self, record: Record, changes: Changes, effects: tuple[Effect, ...]) -> HistoryEntry:
        view = view_record(record)
        return HistoryEntry(
            partition=record.partition,
            offset=record.offset,
            timestamp_ms=record.timestamp_ms,
            log_time_ms=changes[PARTITION][PARTITION_KEY].time_ms,
            cell=view.key,
            type=view.type,
            source=view.source,
            summary=view.summary,
            effects=effects,
        )

    def _effects(self, step: Step) -> Iterator[Effect]:
        if self._kind == "consumer":
            yield from consumer_effects(step, self._name)
            return
        left: list[tuple[str, str]] = []
        if self._kind == "node":
            for place, row in step.changes.get(PROVIDERS, {}).items():
                left += self._follow_tree(split_key(place), row)
        yield from provider_effects(step, self._name, self._concerns)
        self._tree.difference_update(left)

    def _follow_tree(self, place: tuple[str, str], row: ProviderRow | None) -> list[tuple[str, str]]:
        """Take a provider into the tree of the node. Returns it if it leaves the tree with this record."""
        if row is not None and row.root == self._name:
            self._tree.add(place)
            return []
        return [place] if place in self._tree else []

    def _concerns(self, cell: str, provider: str) -> bool:
        return provider == self._name or (cell, provider) in self._tree

    def _is_over(self) -> bool:
        """Whether nothing can happen any more after the last record that names the thing. Only consumers are sure: what they
        hold ends by itself only where it is a hold. Nodes are concerned by claims on their other providers, and by time."""
        if self._kind != "consumer":
            return False
        held = (self._tables.get(ALLOCATIONS, key(cell, self._name)) for cell in self._cells)
        return all(row is None or not row.hold_until_ms for row in held)
