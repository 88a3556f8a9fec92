"""What a log holds: records, and how far they have been read."""

from __future__ import annotations

from typing import NamedTuple


class NewRecord(NamedTuple):
    """What is appended: `key` (the cell's name) decides the partition, `value` is one CloudEvent as JSON."""

    key: str
    value: bytes


class Record(NamedTuple):
    """One entry at its place in the log. `timestamp_ms` is given by the log (milliseconds since 1970, UTC)."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes
