"""What the recorded logs with the events of a version are made of: a tape, its records, and its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tests.recorded_logs.recording import Recording, recorded
from tests.support.classes.ports_class import Ports
from tests.support.logs.events_json import LOG, Tape, event, opened
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import Record

STEPS_MS: Final = (10, 10, 10, 2_000, 20_000)
TICK_MS: Final = 200_000


def ports_tape(partitions: int, version: int) -> Tape:
    """A log whose partitions allow the class of tests."""
    tape = Tape(partitions, version=version)
    for partition, records in tape.records.items():
        value = opened(partition, partitions, (Ports.name,), version)
        records[0] = records[0]._replace(value=value)
    return tape


def play(tape: Tape, events: Iterator[tuple[str, bytes]], number: int) -> None:
    """Append that many records to partition 1. What belongs to another partition is a dead letter there."""
    for step in range(number):
        key, value = next(events)
        there = tape.records[1]
        there.append(Record(1, len(there), tape.now_ms, key.encode(), value))
        tape.now_ms += STEPS_MS[step % len(STEPS_MS)]


def append(tape: Tape, cell: str, value: bytes) -> None:
    """Append a record to the partition of its cell."""
    tape.append(cell, value)
    tape.now_ms += 10


def recording_of(
    name: str, uuid: str, records: Mapping[int, Sequence[Record]], *, ticks: int = 1
) -> Recording:
    """The recording of a log with this uuid, with some time at the end of each partition."""
    made: dict[int, list[Record]] = {}
    cells = covering_cells(len(records))
    for partition, those in records.items():
        named = [one._replace(value=one.value.replace(LOG.encode(), uuid.encode())) for one in those]
        key, last_ms = cells[partition].encode(), named[-1].timestamp_ms
        for number in range(1, ticks + 1):
            at_ms = last_ms + number * TICK_MS
            named.append(Record(partition, len(named), at_ms, key, event("tick.v1", {})))
        made[partition] = named
    return recorded(name, made, (Ports.name,))
