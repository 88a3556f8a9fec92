"""The `log.opened` record at the start of every partition, and the identity that it gives the log.

It is parsed with the standard library only: this package reads no other event, and of this one only the fields that
identify the log.
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
    """The identity of a log: its UUID and the number of partitions that it was created with."""

    log: str
    partitions: int


def is_opening(record: Record) -> bool:
    """Whether a record is a `log.opened` record, which `parse_opening` may still find invalid."""
    if OPENED.encode() not in record.value:
        return False
    try:
        event = json.loads(record.value)
    except (ValueError, RecursionError):
        return False
    return isinstance(event, dict) and event.get("type") == OPENED


def parse_opening(record: Record, name: str) -> LogIdentity:
    """Parse the first record of a partition. Raises LogError if it is not a `log.opened` record."""
    where = f"{name}, partition {record.partition}, offset {record.offset}"
    do = "use a log made by `vacancy topics create`"
    try:
        event = json.loads(record.value)
        if event["type"] != OPENED:
            raise LogError(
                f"the log does not start with {OPENED} but with {event['type']!r}", where=where, do=do
            )
        data = event["data"]
        log, partitions, partition = data["log"], data["partitions"], data["partition"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise LogError(
            f"the log does not start with a readable {OPENED} record", where=where, do=do
        ) from error
    if not isinstance(log, str) or not log or not isinstance(partitions, int) or partitions < 1:
        raise LogError(f"the log's {OPENED} record has no log id or no partitions", where=where, do=do)
    if partition != record.partition:
        raise LogError(f"the {OPENED} record belongs to partition {partition}", where=where, do=do)
    return LogIdentity(log, partitions)


def opening_rules_version(record: Record) -> int:
    """The version of the rules in a `log.opened` record. 1 for any other record."""
    if not is_opening(record):
        return 1
    data = json.loads(record.value).get("data")
    rules = data.get("rules") if isinstance(data, dict) else None
    version = rules.get("version") if isinstance(rules, dict) else None
    return version if isinstance(version, int) else 1


def check_openings(partitions: int, openings: Sequence[NewRecord]) -> list[NewRecord]:
    """Sort `openings` by partition. Raises UsageError unless there is exactly one for each partition."""
    if partitions < 1:
        raise UsageError(f"a log cannot have {partitions} partitions", do="give one or more")
    found = {partition_for(entry.key, partitions): entry for entry in openings}
    if len(openings) != partitions or len(found) != partitions:
        raise UsageError(
            f"{len(openings)} opening records for {len(found)} of {partitions} partitions",
            do="give one log.opened entry per partition, keyed by covering_cells(partitions)",
        )
    return [found[partition] for partition in range(partitions)]
