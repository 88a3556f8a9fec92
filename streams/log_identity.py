"""The `log.opened` record that starts every partition, and the identity it gives the log.

Read with the standard library only: this room knows no event but this one, and of it only what tells one
log from another.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, NamedTuple

from vacancy.resources.model.errors import LogError, UsageError
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.model.record import NewRecord, Record

OPENED: Final = "vacancy.log.opened.v1"


class LogIdentity(NamedTuple):
    """What tells one log from another: its UUID and the number of partitions it was opened with."""

    log: str
    partitions: int


def parse_opening(record: Record, name: str) -> LogIdentity:
    """The identity in the first record of a partition; raises LogError if it is not a `log.opened` record."""
    where = f"{name}, partition {record.partition}, offset {record.offset}"
    do = "use a log made by `vacancy topics create`"
    try:
        event = json.loads(record.value)
        if event["type"] != OPENED:
            raise LogError(
                f"The log does not start with {OPENED} but with {event['type']!r}", where=where, do=do
            )
        data = event["data"]
        log, partitions, partition = data["log"], data["partitions"], data["partition"]
    except (ValueError, LookupError, TypeError) as error:
        raise LogError(
            f"The log does not start with a readable {OPENED} record", where=where, do=do
        ) from error
    if not isinstance(log, str) or not log or not isinstance(partitions, int) or partitions < 1:
        raise LogError(f"The log's {OPENED} record names no log or no partitions", where=where, do=do)
    if partition != record.partition:
        raise LogError(f"The {OPENED} record is that of partition {partition}", where=where, do=do)
    return LogIdentity(log, partitions)


def check_openings(partitions: int, openings: Sequence[NewRecord]) -> list[NewRecord]:
    """`openings` by partition; raises UsageError unless there is exactly one for each partition."""
    if partitions < 1:
        raise UsageError(f"A log cannot have {partitions} partitions", do="give it one or more")
    found = {partition_for(entry.key, partitions): entry for entry in openings}
    if len(openings) != partitions or len(found) != partitions:
        raise UsageError(
            f"{len(openings)} opening records for {len(found)} of {partitions} partitions",
            do="give one log.opened entry per partition, keyed by covering_cells(partitions)",
        )
    return [found[partition] for partition in range(partitions)]
