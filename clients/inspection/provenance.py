"""The event that took the last units of something: the tables have its offset, the log has the rest.

Without a log the tables still have the consumer, for as long as it holds what it took by that event.
"""

from __future__ import annotations

from dataclasses import dataclass

from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model import events
from vacancy.resources.model.errors import InvalidRecord, LogError
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.state.tables import ALLOCATIONS, VERDICTS, key, split_key
from vacancy.streams.clocks.clock import utc_text
from vacancy.streams.log import Log

_READ_S = 5.0


@dataclass(frozen=True, slots=True)
class LogEvent:
    """A record of the log. `time_ms` (since 1970, UTC), `type` and `source` (who wrote it) are None without a log;
    `consumer` is the consumer that took the units, None where it is not known."""

    partition: int
    offset: int
    time_ms: int | None = None
    type: str | None = None
    consumer: str | None = None
    source: str | None = None


class EventLookup:
    """Finds events of a store's log. Without `log`, only the tables are read. So they are if `log` is not the log that
    the store was folded from."""

    def __init__(self, reader: StoreReader, log: Log | None) -> None:
        self._reader = reader
        self._log = log if log is not None and _is_its_log(reader, log) else None

    def taking(self, cell: str, offset: int, provider: str, resource_class: str) -> LogEvent:
        """The event at that offset of a cell's partition, which took units of a provider's class."""
        partition = self._partition(cell)
        read = self._read(partition, offset)
        found = LogEvent(partition, offset, consumer=self._holder(cell, offset, provider, resource_class))
        if read is None:
            return found
        time_ms, event = read
        consumer = found.consumer or self._claimant(cell, event, provider, resource_class)
        return LogEvent(partition, offset, time_ms, event.type, consumer, event.source)

    def settings(self, cell: str, offset: int, provider: str) -> LogEvent | None:
        """The event at that offset, if it set operator settings of the provider."""
        partition = self._partition(cell)
        read = self._read(partition, offset)
        if read is None:
            return None
        time_ms, event = read
        if (
            not isinstance(event, events.OperatorSettingsSet | events.OperatorSettingsSetV2)
            or event.data.provider != provider
        ):
            return None
        return LogEvent(partition, offset, time_ms, event.type, None, event.source)

    def _partition(self, cell: str) -> int:
        return partition_for(cell, self._reader.manifest.partitions)

    def _read(self, partition: int, offset: int) -> tuple[int, events.Event] | None:
        if self._log is None:
            return None
        try:
            (record,) = self._log.read(partition, offset, 1, timeout_s=_READ_S)
            return record.timestamp_ms, events.parse(record.value)
        except (LogError, InvalidRecord, ValueError):
            return None  # retention deleted it, or the log does not answer

    def _holder(self, cell: str, offset: int, provider: str, resource_class: str) -> str | None:
        """The consumer that holds what a claim at that offset took."""
        partition = self._partition(cell)
        for name, data in self._reader.raw(partition, ALLOCATIONS.family):
            home, consumer = split_key(name)
            if home != cell:
                continue
            row = ALLOCATIONS.decode(data)
            if row.offset == offset and any(
                part.provider == provider and part.resource_class == resource_class for part in row.parts
            ):
                return consumer
        return None

    def _claimant(self, cell: str, event: events.Event, provider: str, resource_class: str) -> str | None:
        """The consumer of the last claim in the record that asked for the class and is not known to be rejected."""
        for claim in reversed(events.claims_of(event)):
            verdict = self._reader.get(VERDICTS, key(cell, claim.id))
            asked = any(a.provider == provider and resource_class in a.resources for a in claim.allocations)
            if asked and (verdict is None or verdict.accepted):
                return claim.consumer
        return None


def taking_text(event: LogEvent | None) -> str:
    """The event that took the last units, for people; '' where there is none."""
    if event is None:
        return ""
    who = f" by {event.consumer}" if event.consumer else ""
    return f"last taken{who} at {place_text(event)}"


def place_text(event: LogEvent) -> str:
    """The place of an event in the log, and its time."""
    place = f"{event.partition}:{event.offset}"
    if event.time_ms is None:
        return place
    return f"{place}, {utc_text(event.time_ms)}"


def _is_its_log(reader: StoreReader, log: Log) -> bool:
    try:
        return log.identity().log == reader.manifest.log
    except LogError:
        return False
