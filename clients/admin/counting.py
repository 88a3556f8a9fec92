"""Counts what a log held before its rules counted it (`clients.inspection.uncounted`).

The events can be repeated, so a command that was stopped midway is run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple
from uuid import uuid4

from vacancy.clients.inspection.uncounted import uncounted_allocations, uncounted_nodes
from vacancy.clients.runtime.folded_log import FoldedLog, RecordRefused
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.fold.record_limits import parts_weight
from vacancy.resources.model import events
from vacancy.resources.model.record import NewRecord
from vacancy.resources.state.tables import ALLOCATIONS, PARTITION, split_key
from vacancy.streams.log import Log

_SOURCE: Final = "/operator"
_AT_ONCE: Final = 15
"""Records that are written before the store is awaited: it keeps 1,000 dead letters of a partition, and each of these records may
make 64."""


class Counted(NamedTuple):
    """What was counted, and what is left because the rules refused it, for `reason`."""

    allocations: int = 0
    nodes: int = 0
    left: int = 0
    reason: str = ""


def count_earlier(log: Log, reader: StoreReader, *, again: str, timeout_s: float = 10.0) -> Counted:
    """Count the allocations and the nodes that are not counted yet, as this store has them, and wait until it has read the
    events. `again` is the command that continues.

    `timeout_s` is for each 15 records. Raises `OutcomeUnknown` and `LogError` as `FoldedLog` does.
    """
    reader.catch_up()
    allocations = list(_by_record(reader))
    nodes = [
        NewRecord(one.cell, _encoded(events.NodeCounted, events.NodeCountedData(root=one.root)))
        for one in uncounted_nodes(reader)
    ]
    reason = ""
    records = iter([record for record, _ in allocations] + nodes)
    while some := list(islice(records, _AT_ONCE)):
        try:
            FoldedLog(log, reader, timeout_s=timeout_s).write(some, "counts of what is held", again)
        except RecordRefused as refused:
            reason = reason or refused.reason
    left = sum(1 for _ in uncounted_allocations(reader)) if reason else 0
    return Counted(sum(count for _, count in allocations) - left, len(nodes), left, reason)


def _by_record(reader: StoreReader) -> Iterator[tuple[NewRecord, int]]:
    """Records that count all allocations, each with how many it counts."""
    limits = {
        row.partition: reader.versions.of(row.rules_version).limits.counted_parts
        for _, _, row in reader.scan(PARTITION)
    }
    consumers: list[str] = []
    here, parts = "", 0
    for one in uncounted_allocations(reader):
        cell, consumer = split_key(one.key)
        weight = parts_weight(ALLOCATIONS.decode(one.data), 0)
        full = len(consumers) >= events.BATCH_MAX or parts + weight > limits[one.partition]
        if consumers and (full or cell != here):
            yield _record(here, consumers), len(consumers)
            consumers, parts = [], 0
        here = cell
        consumers.append(consumer)
        parts += weight
    if consumers:
        yield _record(here, consumers), len(consumers)


def _record(cell: str, consumers: Iterable[str]) -> NewRecord:
    data = events.QuotaCountedData(consumers=tuple(consumers))
    return NewRecord(cell, _encoded(events.QuotaCounted, data))


def _encoded(event: Callable[..., events.Event], data: object) -> bytes:
    return events.encode(event(id=uuid4().hex, source=_SOURCE, data=data))
