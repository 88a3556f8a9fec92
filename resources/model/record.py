"""Records of a log."""

from __future__ import annotations

from typing import NamedTuple


class NewRecord(NamedTuple):
    """A record to append. `key` (the name of the cell) decides the partition. `value` is one CloudEvent as JSON."""

    key: str
    value: bytes


class Record(NamedTuple):
    """A record at its place in the log. The log sets `timestamp_ms` (milliseconds since 1970, UTC)."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes
