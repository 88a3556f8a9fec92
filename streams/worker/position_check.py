"""Checks that a log is still the one that the tables were folded from, and still has the records they need."""

from __future__ import annotations

from collections.abc import Mapping

from vacancy.resources.model.errors import LogUnavailable
from vacancy.streams.log import Log, out_of_range
from vacancy.streams.worker.projection_protocol import SharedProjection

_READ_S = 10.0


def check_position(
    log: Log,
    projection: SharedProjection,
    partition: int,
    position: int,
    *,
    start: Mapping[int, int],
    end: Mapping[int, int],
) -> None:
    """Check one open partition against the log. `start` and `end` are the log's (partition -> offset).

    Raises LogError, naming the offsets, if the next record is gone or the log ends before the position; StoreMismatch
    if the record before the position is a different one. If retention removed exactly that record, nothing is
    compared, and no record is missing.
    """
    if not start[partition] <= position <= end[partition]:
        raise out_of_range(log.name, partition, position, start[partition], end[partition])
    if position > start[partition]:
        before = log.read(partition, position - 1, 1, timeout_s=_READ_S)
        if not before:
            where = f"{log.name}, partition {partition}, offset {position - 1}"
            raise LogUnavailable(f"the log did not answer within {_READ_S:g} s", where=where, do="try again")
        projection.check_log(partition, before)
