"""All that happened to one node, provider or consumer, in order, and what each record did to it.

What a record did comes from the fold: the partitions that concern the thing are folded in memory, and the rows of each record
are compared before and after. A partition in which no record names the thing is only read, not folded. Folding starts with the first
record, or with the nearest store of the past before the first record that names the thing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

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
    CELL_MOVES,
    PARTITION,
    PARTITION_KEY,
    PROVIDERS,
    key,
    split_key,
)
from vacancy.resources.state.transaction import Changes
from vacancy.streams.log import Log

if TYPE_CHECKING:
    from vacancy.projections.reader.store_reader import StoreReader

Kind = Literal["node", "provider", "consumer"]
KINDS: Final[tuple[Kind, ...]] = ("node", "provider", "consumer")
"""What has a history."""

TablesBefore = Callable[[Mapping[int, int]], "StoreReader | None"]
"""Returns the tables of the nearest position that is not after this one (partition -> next offset), or None where there are none."""

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
    """Where a partition names the thing: as what, and in which records first and last. The rest is what its tables had of the thing before
    the records that are read: the providers of its tree, its cells, its moves between cells that have not ended."""

    first: int | None = None
    last: int = -1
    kinds: set[Kind] = field(default_factory=set)
    tree: set[tuple[str, str]] = field(default_factory=set)
    cells: set[str] = field(default_factory=set)
    moves: set[str] = field(default_factory=set)


def history(
    log: Log,
    name: str,
    registry: Registry,
    *,
    kind: Kind | None = None,
    start: Mapping[int, int] | None = None,
    until: Mapping[int, int] | None = None,
    tables_before: TablesBefore | None = None,
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

    With `tables_before` and `start` it needs only the records after the tables that are found there. With `tables_before` alone it reads
    all records, and folds only from the nearest tables before the first one that names the thing.
    """
    ends = dict(log.end() if until is None else until)
    base = None if tables_before is None or start is None else tables_before(start)
    begins = dict.fromkeys(ends, 0) if base is None else base.position
    report = _Progress(progress, sum(ends.values()) - sum(begins.values()))
    found = _known(base, name, ends)
    for partition, end in ends.items():
        _find_mentions(found[partition], _records(log, partition, begins[partition], end, report), name)
    of = kind or _kind_of(log, name, found)
    if base is None and tables_before is not None:
        # Nothing can happen to a thing before the first record that names it.
        firsts = {p: end if (first := found[p].first) is None else first for p, end in ends.items()}
        base = tables_before(firsts)
        begins = begins if base is None else base.position
    left_out = earlier = 0
    entries: list[HistoryEntry] = []
    for partition, mentioned in found.items():
        if not _may_concern(mentioned, of):
            continue
        report.more(ends[partition] - begins[partition])
        followed = _Follower(name, of, registry, mentioned, MemoryTables(base, partition))
        kept: deque[HistoryEntry] = deque(maxlen=limit)
        first = 0 if start is None else start.get(partition, 0)
        for entry in followed.entries(_records(log, partition, begins[partition], ends[partition], report)):
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


def _records(log: Log, partition: int, offset: int, end: int, report: _Progress) -> Iterator[Record]:
    while offset < end:
        records = log.read(partition, offset, min(_BLOCK, end - offset), timeout_s=READ_S)
        if not records:
            where = f"{log.name}, partition {partition}, offset {offset}"
            raise LogUnavailable(f"the log did not answer within {READ_S:g} s", where=where, do="try again")
        yield from records
        offset += len(records)
        report.read(len(records))


def _known(base: StoreReader | None, name: str, partitions: Iterable[int]) -> dict[int, _Mentioned]:
    """What the tables of a store have of a thing, by partition."""
    found = {partition: _Mentioned() for partition in partitions}
    if base is None:
        return found
    for partition, place, row in base.scan(PROVIDERS):
        cell, id_ = split_key(place)
        if row.root == name:
            found[partition].tree.add((cell, id_))
        if id_ == name:
            found[partition].kinds.add("node" if row.root == name else "provider")
    for partition, mentioned in found.items():
        for place, _ in base.raw(partition, ALLOCATIONS.family):
            cell, consumer = split_key(place)
            if consumer == name:
                mentioned.kinds.add("consumer")
                mentioned.cells.add(cell)
    for partition, place, move in base.scan(CELL_MOVES):
        if move.consumer == name and not move.outcome:
            found[partition].kinds.add("consumer")
            found[partition].moves.add(place.decode())
    return found


def _find_mentions(found: _Mentioned, records: Iterable[Record], name: str) -> None:
    """Find out which records name a thing, and as what."""
    for record in records:
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
            found.first = record.offset if found.first is None else found.first
            found.last = record.offset
            found.kinds |= kinds


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

    def __init__(
        self, name: str, kind: Kind, registry: Registry, known: _Mentioned, tables: MemoryTables
    ) -> None:
        self._name, self._kind, self._registry, self._last = name, kind, registry, known.last
        self._tables = tables
        self._tree = set(known.tree) if kind == "node" else set()
        self._cells, self._moves = set(known.cells), set(known.moves)

    def entries(self, records: Iterator[Record]) -> Iterator[HistoryEntry]:
        """The entries of these records, which follow on the tables. One without effects names the thing."""
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
            for place, move in step.changes.get(CELL_MOVES, {}).items():
                if move is not None and move.consumer == self._name and not move.outcome:
                    self._moves.add(place.decode())
                else:
                    self._moves.discard(place.decode())
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
        hold ends by itself only where it is a hold, and the end of a move between cells does not name them. Nodes are concerned by
        claims on their other providers, and by time."""
        if self._kind != "consumer" or self._moves:
            return False
        held = (self._tables.get(ALLOCATIONS, key(cell, self._name)) for cell in self._cells)
        return all(row is None or not row.hold_until_ms for row in held)
