"""The verdicts of a store, as plain data, for audits and other programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.state.tables import VERDICTS, split_key


def exported_verdicts(reader: StoreReader) -> Iterator[dict[str, Any]]:
    """Every verdict that the store still keeps, as of the reader's position, by partition and key.

    `offset` is the claim's record (-1: it was cancelled before its record); `taken_offset` is the event that took the
    last of the resource (-1: none); `deadline_ms` is log time; `grants` are the things that were granted by name
    (devices, CPU ids), not amounts.
    """
    for partition, key, row in reader.scan(VERDICTS):
        cell, claim = split_key(key)
        yield {
            "claim": claim,
            "cell": cell,
            "partition": partition,
            "offset": row.offset,
            "accepted": row.accepted,
            "reason": row.reason,
            "provider": row.provider,
            "resource_class": row.resource_class,
            "asked": row.asked,
            "available": row.available,
            "taken_offset": row.taken,
            "deadline_ms": row.deadline_ms,
            "grants": [part._asdict() for part in row.grants],
        }
