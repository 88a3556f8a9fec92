"""Points in time as people write them, and the positions of a log that they stand for.

A point is a position (`0:7,1:1`), a time (`2026-11-28T13:14:33Z`) or a time before now (`-2h`). Times mean log time: at
time T a partition is before its first record whose timestamp is later than T. So the same point always stands for the
same records, whatever the clocks of the partitions are, as long as T has passed in all of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from vacancy.resources.model.errors import LogError, LogUnavailable, UsageError
from vacancy.streams.clocks.clock import utc_text
from vacancy.streams.log import Log, no_partition

FORMS: Final = "a position such as 0:7,1:1, a time such as 2026-11-28T13:14:33Z, or -2h"
"""The forms of a point, for messages and help texts."""

_POSITION: Final = re.compile(r"\d+:\d+(?:[\s,]+\d+:\d+)*")
_AGO: Final = re.compile(r"-(\d+(?:\.\d+)?)([smhd])")
_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DIGITS_MAX: Final = 15
"""Of a number in a point. Longer ones are no offsets and no times, and some are too large for a log's file."""

_READ_S: Final = 10.0


@dataclass(frozen=True)
class Point:
    """A parsed point: exactly one of `position` (partition -> next offset; it may name some partitions only), `time_ms`
    (milliseconds since 1970, UTC) and `ago_ms` (milliseconds before now) is given. `text` is as it was written."""

    text: str
    position: Mapping[int, int] | None = None
    time_ms: int | None = None
    ago_ms: int | None = None


def parse_point(text: str) -> Point:
    """Parse a point. Raises UsageError.

    `P:O` pairs are separated by commas or blanks. Times are ISO 8601, in UTC where they name no zone. `-90s`, `-30m`,
    `-2h` and `-1d` are before now.
    """
    written = text.strip()
    if any(len(number) > _DIGITS_MAX for number in re.findall(r"\d+", written)):
        raise _not_a_point(text)
    if _POSITION.fullmatch(written):
        return Point(text, position=_parse_position(written))
    ago = _AGO.fullmatch(written)
    if ago is not None:
        return Point(text, ago_ms=round(float(ago[1]) * _UNITS_MS[ago[2]]))
    try:
        time = datetime.fromisoformat(written)
        moment = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
        return Point(text, time_ms=int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000))
    except (ValueError, OverflowError):
        raise _not_a_point(text) from None


def _not_a_point(text: str) -> UsageError:
    return UsageError(f"{text!r} is not a point in time", do=f"write {FORMS}")


def _parse_position(text: str) -> dict[int, int]:
    found: dict[int, int] = {}
    for pair in re.split(r"[\s,]+", text):
        partition, _, offset = pair.partition(":")
        if int(partition) in found:
            raise UsageError(
                f"{text!r} names partition {int(partition)} twice", do="name each partition once"
            )
        found[int(partition)] = int(offset)
    return found


def point_text(position: Mapping[int, int]) -> str:
    """A position as a point: `0:7,1:1`."""
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(position.items()))


def resolve(point: Point, log: Log, *, now_ms: int | None = None) -> dict[int, int]:
    """The position that a point stands for in a log: partition -> next offset, with all partitions.

    The partitions that a position does not name are cut at the log time of the last record that is in it. `now_ms` is now
    for times before now (the log's clock unless given). Raises UsageError for a position that does not exist and for a time
    before the log or after now, LogError for a time of which the log no longer has the records, LogUnavailable if it does
    not answer.
    """
    if point.position is not None:
        return _completed(point.position, log)
    now = log.clock.now_ms() if now_ms is None else now_ms
    time_ms = max(0, now - point.ago_ms) if point.ago_ms is not None else point.time_ms or 0
    return position_at(log, time_ms, now_ms=now)


class Beginning(NamedTuple):
    """Where a part of a log begins: partition -> offset. `log_began_ms` is the time of the log's first record if that is later
    than the point (milliseconds since 1970, UTC), else None."""

    position: dict[int, int]
    log_began_ms: int | None = None


def resolve_beginning(point: Point, log: Log, *, now_ms: int | None = None) -> Beginning:
    """Where to begin with what came since a point. As `resolve`, but for a time before now (`-1d`) before the log's first record
    it is the beginning of the log: all of it came since. Raises as `resolve` does otherwise."""
    if point.ago_ms is not None:
        now = log.clock.now_ms() if now_ms is None else now_ms
        time_ms = max(0, now - point.ago_ms)
        if not any(log.offset_after(partition, time_ms) for partition in range(log.partitions)):
            first_ms = min(_timestamp(log, partition, 0) for partition in range(log.partitions))
            return Beginning(dict.fromkeys(range(log.partitions), 0), first_ms)
    return Beginning(resolve(point, log, now_ms=now_ms))


def position_at(log: Log, time_ms: int, *, now_ms: int | None = None) -> dict[int, int]:
    """The position of a log at a time (milliseconds since 1970, UTC). Raises as `resolve` does."""
    start = log.start()
    found = {partition: log.offset_after(partition, time_ms) for partition in range(log.partitions)}
    end = log.end()
    if now_ms is not None and time_ms > now_ms and found == end:
        raise UsageError(
            f"the time {utc_text(time_ms)} has not come yet",
            where=log.name,
            do="name a time up to now: later records may still belong to it",
        )
    if not any(found.values()):
        first_ms = min(_timestamp(log, partition, 0) for partition in found)
        raise UsageError(
            f"the time {utc_text(time_ms)} is before the log",
            where=log.name,
            do=f"its first record is of {utc_text(first_ms)}: name a time from then on",
        )
    for partition, offset in found.items():
        if offset == start[partition] > 0:
            kept = offset < end[partition]
            later = f"a time from {utc_text(_timestamp(log, partition, offset))} on, or " if kept else ""
            raise LogError(
                f"the log no longer has the records of {utc_text(time_ms)}",
                where=f"{log.name}, partition {partition}, log holds {offset} to {end[partition]}",
                do=f"name {later}the position of a snapshot (`vacancy snapshot list`), or the log's archive (--archive)",
            )
    return found


def check_position_exists(position: Mapping[int, int], log: Log) -> dict[int, int]:
    """Raise UsageError for a partition or an offset that the log does not have. Returns the log's end."""
    end = log.end()
    for partition, offset in position.items():
        if partition not in end:
            error = no_partition(log.name, partition, log.partitions)
            raise UsageError(error.what, where=error.where, do=error.do)
        if offset > end[partition]:
            raise UsageError(
                f"the position {partition}:{offset} does not exist",
                where=f"{log.name}, partition {partition}",
                do=f"the log ends at {partition}:{end[partition]}",
            )
    return end


def _completed(named: Mapping[int, int], log: Log) -> dict[int, int]:
    """A position with the partitions that it does not name."""
    end = check_position_exists(named, log)
    others = [partition for partition in end if partition not in named]
    if not others:
        return dict(sorted(named.items()))
    time_ms = log_time_at(log, named)
    if time_ms is None:  # no record is in it
        return {partition: named.get(partition, 0) for partition in sorted(end)}
    at = {partition: log.offset_after(partition, time_ms) for partition in others}
    return dict(sorted({**at, **named}.items()))


def log_time_at(log: Log, position: Mapping[int, int]) -> int | None:
    """The log time of a position: the latest timestamp of the records in it, over all partitions that it names
    (milliseconds since 1970, UTC). None where no record is in it. Raises LogError where the log no longer has the records
    before it."""
    times = [_time_of(log, partition, offset) for partition, offset in position.items() if offset > 0]
    return max(times, default=None)


def _time_of(log: Log, partition: int, offset: int) -> int:
    """The latest timestamp of the records of a partition before `offset`, of those that the log still has."""
    latest = _timestamp(log, partition, offset - 1)
    # Timestamps may go back: while there is an earlier record that is later, its timestamp is the higher one.
    while (later := log.offset_after(partition, latest)) < offset:
        latest = _timestamp(log, partition, later)
    return latest


def _timestamp(log: Log, partition: int, offset: int) -> int:
    records = log.read(partition, offset, 1, timeout_s=_READ_S)
    if not records:
        where = f"{log.name}, partition {partition}, offset {offset}"
        raise LogUnavailable(f"the log did not answer within {_READ_S:g} s", where=where, do="try again")
    return records[0].timestamp_ms
