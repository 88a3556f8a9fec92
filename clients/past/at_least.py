"""Waiting until the tables of this host have reached a position: a program reads what it, or another one, has written."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from vacancy.clients.past.points import parse_point, point_text
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import OutcomeUnknown, UsageError

_POLL_S: Final = 0.002
_POLL_MAX_S: Final = 0.05


def parse_position(text: str) -> dict[int, int]:
    """A position such as `0:7,1:1`; it may name some partitions only. Raises `UsageError`."""
    position = parse_point(text).position
    if position is None:
        raise UsageError(
            f"{text!r} is not a position", do="write it as 0:7,1:1, as commands that write print it"
        )
    return dict(position)


def wait_until_at_least(reader: StoreReader, position: Mapping[int, int], timeout_s: float) -> None:
    """Wait until the reader is at these offsets (partition -> next offset) or later; partitions that are not named are not
    waited for. Raises `UsageError` for a partition that there is not, `OutcomeUnknown` after `timeout_s`."""
    partitions = reader.manifest.partitions
    for partition in position:
        if partition >= partitions:
            raise UsageError(
                f"there is no partition {partition}",
                where=str(reader.path),
                do=f"the store has partitions 0 to {partitions - 1}",
            )
    deadline = time.monotonic() + timeout_s
    pause_s = _POLL_S
    while True:
        reader.catch_up()
        behind = [p for p, offset in position.items() if reader.position.get(p, 0) < offset]
        if not behind:
            return
        if time.monotonic() >= deadline:
            raise OutcomeUnknown(
                f"the tables have not reached {point_text(position)} within {timeout_s:g} s",
                where=f"{reader.path}, now at {point_text({p: reader.position.get(p, 0) for p in sorted(behind)})}",
                do="check that `vacancy worker` runs, and that the position is of this log; or give a longer --timeout",
            )
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _POLL_MAX_S)
