"""Reads a log for people: the records at a place, the newest ones, those that name something, and new ones as they come.

Reading needs nothing but the `Log` protocol, so it works on every log. Records of several partitions are merged by log time:
the latest timestamp of the records of their partition so far. So the records of a partition stay in their order, whatever
the clocks were that stamped them; equal times are ordered by partition.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from vacancy.clients.history.record_view import PREFIX, json_object, mentions, names_of
from vacancy.clients.past.points import log_time_at
from vacancy.resources.model.errors import LogUnavailable, UsageError
from vacancy.resources.model.record import Record
from vacancy.resources.state.tables import PROVIDERS, split_key
from vacancy.streams.log import Log, no_partition, out_of_range

if TYPE_CHECKING:
    from vacancy.projections.reader.store_reader import StoreReader

READ_S: Final = 10.0
"""How long a read waits for a log that does not answer."""

_BLOCK: Final = 1_000
_FIRST_BLOCK: Final = 64


class TimedRecord(NamedTuple):
    """A record with the log time at its place: the latest timestamp of the partition's records so far (milliseconds since
    1970, UTC)."""

    log_time_ms: int
    record: Record

    @property
    def order(self) -> tuple[int, int, int]:
        """What records of several partitions are ordered by."""
        return self.log_time_ms, self.record.partition, self.record.offset


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Which records are wanted. All that is given must be true of a record; an empty filter lets all pass.

    `node_providers`, `providers` and `consumers`: the record names one of these. `node_providers` are a node and the other
    providers of its tree, so that claims on them are found. `types` are types of events, with or without the prefix
    `vacancy.`; without a version all versions of it are meant.
    """

    node_providers: frozenset[str] = frozenset()
    providers: frozenset[str] = frozenset()
    consumers: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        types = frozenset(one if one.startswith(PREFIX) else PREFIX + one for one in self.types)
        object.__setattr__(self, "types", types)

    def passes(self, value: bytes) -> bool:
        """Whether a record with this value is wanted."""
        wanted = [names for names in (self.node_providers, self.providers, self.consumers) if names]
        if not wanted and not self.types:
            return True
        if any(not any(mentions(value, name) for name in names) for names in wanted):
            return False
        event = json_object(value)
        if event is None:
            return False
        type_ = event.get("type")
        if self.types and not (
            isinstance(type_, str) and (type_ in self.types or type_.rpartition(".v")[0] in self.types)
        ):
            return False
        if not wanted:
            return True
        found = names_of(event)
        return not (
            (self.node_providers and found.providers.isdisjoint(self.node_providers))
            or (self.providers and found.providers.isdisjoint(self.providers))
            or (self.consumers and found.consumers.isdisjoint(self.consumers))
        )


ALL: Final = RecordFilter()


def read_range(log: Log, partition: int, offset: int, end: int) -> Iterator[Record]:
    """The records of a partition from `offset` up to `end`. Raises `UsageError` if there is no such partition or one of the
    offsets does not exist, `LogError` and `LogUnavailable` as `Log.read` does."""
    starts, ends = log.start(), log.end()
    if partition not in ends:
        error = no_partition(log.name, partition, log.partitions)
        raise UsageError(error.what, where=error.where, do=error.do)
    if offset < starts[partition]:
        raise out_of_range(log.name, partition, offset, starts[partition], ends[partition])
    if not offset < end <= ends[partition]:
        first, last = starts[partition], ends[partition] - 1
        asked = (
            f"{partition}:{offset}" if end == offset + 1 else f"{partition}:{offset} to {partition}:{end - 1}"
        )
        raise UsageError(
            f"there is no record {asked}",
            where=log.name,
            do=f"partition {partition} has the records {partition}:{first} to {partition}:{last}"
            if first <= last
            else f"partition {partition} has no records",
        )
    return _forward(log, partition, offset, end)


def _forward(log: Log, partition: int, offset: int, end: int) -> Iterator[Record]:
    while offset < end:
        records = log.read(partition, offset, min(_BLOCK, end - offset), timeout_s=READ_S)
        if not records:
            raise LogUnavailable(
                f"the log did not answer within {READ_S:g} s",
                where=f"{log.name}, partition {partition}, offset {offset}",
                do="try again",
            )
        yield from records
        offset += len(records)


def _timed(log: Log, partition: int, offset: int, end: int) -> Iterator[TimedRecord]:
    """The records of a partition with their log times."""
    time_ms = log_time_at(log, {partition: offset}) if log.start()[partition] < offset < end else None
    for record in _forward(log, partition, offset, end):
        time_ms = record.timestamp_ms if time_ms is None else max(time_ms, record.timestamp_ms)
        yield TimedRecord(time_ms, record)


def read_from(
    log: Log,
    position: Mapping[int, int],
    *,
    until: Mapping[int, int] | None = None,
    wanted: RecordFilter = ALL,
) -> Iterator[TimedRecord]:
    """The wanted records of these partitions from a position (partition -> next offset) on, merged by log time. They end at
    `until`, or where the log ends now. Raises as `Log.read` does."""
    ends = log.end() if until is None else until
    streams = (_timed(log, partition, offset, ends[partition]) for partition, offset in position.items())
    for one in heapq.merge(*streams, key=lambda one: one.order):
        if wanted.passes(one.record.value):
            yield one


def newest(
    log: Log,
    count: int,
    *,
    until: Mapping[int, int] | None = None,
    partitions: Collection[int] | None = None,
    wanted: RecordFilter = ALL,
) -> list[TimedRecord]:
    """The newest `count` wanted records of a log, or of these partitions, oldest first. They are before `until`, or before the
    end of the log. It reads backwards, and stops where nothing newer can come. Raises as `Log.read` does."""
    starts, ends = log.start(), log.end() if until is None else until
    best: list[tuple[tuple[int, int, int], TimedRecord]] = []
    for partition in sorted(ends if partitions is None else partitions):
        for block in _backward(log, partition, starts[partition], ends[partition]):
            if len(best) == count and block[-1].order < best[0][0]:
                break
            for one in reversed(block):
                if len(best) == count and one.order < best[0][0]:
                    break
                if wanted.passes(one.record.value):
                    push = heapq.heappush if len(best) < count else heapq.heappushpop
                    push(best, (one.order, one))
    return [one for _, one in sorted(best)]


def _backward(log: Log, partition: int, start: int, end: int) -> Iterator[list[TimedRecord]]:
    """The records of a partition in blocks, the last block first. The first blocks are small: most ask for few records."""
    size = _FIRST_BLOCK
    while end > start:
        first = max(start, end - size)
        yield list(_timed(log, partition, first, end))
        end, size = first, _BLOCK


def follow(
    log: Log,
    position: Mapping[int, int],
    wait: Callable[[], bool],
    *,
    wanted: RecordFilter = ALL,
) -> Iterator[TimedRecord]:
    """The wanted records of these partitions from a position on, as they come. What comes at the same time is merged by log
    time. `wait` pauses between two looks at the log, and returns whether to stop. Raises as `Log.read` does."""
    at = dict(position)
    while True:
        ends = {partition: end for partition, end in log.end().items() if partition in at}
        if ends != at:
            yield from read_from(log, at, until=ends, wanted=wanted)
            at = ends
        elif wait():
            return


def tree_names(reader: StoreReader, node: str) -> frozenset[str]:
    """A node and the other providers of its tree, as the tables have them: a filter for the claims on any of them. Of all cells
    that have the node."""
    names = {node}
    for _, place, row in reader.scan(PROVIDERS):
        if row.root == node:
            names.add(split_key(place)[1])
    return frozenset(names)
