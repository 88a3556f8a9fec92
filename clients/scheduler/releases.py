"""Makes the records of releases: as many releases a record as the rules allow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple
from uuid import uuid4

from vacancy.clients.scheduler.log_writer import LIMITS, batches
from vacancy.resources.model import events
from vacancy.resources.model.record import NewRecord


class WeighedRelease(NamedTuple):
    """A release, and the parts that it gives back, in units of `Limits.released_parts`: that many at most."""

    release: events.Release
    weight: int


def release_records(by_cell: Mapping[str, Iterable[WeighedRelease]], source: str) -> list[NewRecord]:
    """The records that release what is given for each cell.

    A record has as many releases as the rules allow: their number, and the parts of allocations that they give back. So
    none of them is refused for coming with the others.
    """
    entries = []
    for cell, releases in by_cell.items():
        for batch in batches(releases, lambda one: (one.weight,), (LIMITS.released_parts,)):
            data = events.ConsumersReleasedData(releases=tuple(one.release for one in batch))
            event = events.ConsumersReleased(id=uuid4().hex, source=source, data=data)
            entries.append(NewRecord(cell, events.encode(event)))
    return entries
