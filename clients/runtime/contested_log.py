"""A worker's log lines about nodes whose names two publishers use: one line when a node closes, one when it opens."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from vacancy.resources.state.rows import ContestedRow
from vacancy.resources.state.tables import split_key

_OLD_MS = 3_600_000
"""Conflicts that are older than this are folded again by a rebuild; they are not news."""

_events = structlog.get_logger("vacancy.worker")


class ContestedLog:
    """Receives the rows of contested nodes as they are committed. `clock_ms` is the time in ms since 1970."""

    def __init__(self, clock_ms: Callable[[], float] = lambda: time.time() * 1000) -> None:
        self._clock_ms = clock_ms
        self._closed: set[bytes] = set()

    def __call__(self, partition: int, name: bytes, row: ContestedRow) -> None:
        cell, root = split_key(name)
        closed = row.until_ms > 0
        if closed == (name in self._closed):
            return
        (self._closed.add if closed else self._closed.discard)(name)
        if row.time_ms < self._clock_ms() - _OLD_MS:
            return
        _events.warning(
            "node closed: two publishers use its name" if closed else "node open again",
            node=root,
            cell=cell,
            partition=partition,
            offset=row.offset,
            dropped=row.dropped,
            dropped_reports=row.dropped_reports,
            incarnation=row.incarnation,
            other=row.other,
            reason=row.reason,
        )
