"""A script that tests start as a separate process: it moves a consumer to another cell, or resumes open moves, and ends itself
with SIGKILL at one of its records: `cell_move_process.py LOG STORE move|resume|undo CONSUMER RECORD MOMENT`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vacancy.clients.inspection.cell_moves import cell_moves
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.scheduler.moves.cell_moves import CellMoves
from vacancy.clients.scheduler.store_query import StoreQuery
from vacancy.resources.model.errors import LogUnavailable, OutcomeUnknown
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import AppendedAt, Log, open_log

MOMENTS = ("before", "sent", "appended")
"""The process ends before the record is sent, or when it was sent and not confirmed, or when the log has confirmed it."""


GAVE_UP = 75
"""The exit code where the log or its worker did not answer in time. What was begun is resumed by others then, as after a kill."""


class EndingLog:
    """A log that ends the process at its record with this number, counted from 0."""

    def __init__(self, log: Log, record: int, moment: str) -> None:
        self._log, self._left, self._moment = log, record, moment

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append(self, entries: Sequence[NewRecord], timeout_s: float = 10.0) -> list[AppendedAt]:
        """As `Log.append`."""
        self._left -= 1
        if self._left >= 0:
            return self._log.append(entries, timeout_s)
        if self._moment == "sent":
            self._log.send(entries)
        elif self._moment == "appended":
            self._log.append(entries, timeout_s)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("SIGKILL came late")


def main(url: str, store: str, action: str, consumer: str, record: int, moment: str) -> None:
    """Do it. A record number that is not reached lets the process end by itself."""
    registry = installed_registry()
    with open_log(url) as log, StoreQuery(Path(store), registry, seed=record) as query:
        ending: Any = EndingLog(log, record, moment)
        moves = CellMoves(ending, query, timeout_s=60.0)
        if action == "move":
            moves.move(consumer, "resources=VCPU:4")
            return
        for one in cell_moves(query.reader, consumer):
            moves.resume(one.id, undo=action == "undo")


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]), sys.argv[6])
    except (LogUnavailable, OutcomeUnknown):
        sys.exit(GAVE_UP)
