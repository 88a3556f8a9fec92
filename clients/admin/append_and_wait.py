"""Append an operator's event, and wait until the store on this host has read it."""

from __future__ import annotations

import time

from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import LogUnavailable, OutcomeUnknown
from vacancy.resources.model.record import NewRecord
from vacancy.resources.state.tables import DEAD_LETTERS
from vacancy.streams.log import AppendedAt, Log

_POLL_S = 0.002
_POLL_MAX_S = 0.05


def append(log: Log, entry: NewRecord, timeout_s: float, subject: str, look: str) -> AppendedAt:
    """Append one event. `subject` names it in errors, `look` is the command that shows its outcome. Raises `LogError`, and
    `OutcomeUnknown` if the log does not answer within `timeout_s`."""
    try:
        return log.append([entry], timeout_s)[0]
    except LogUnavailable as error:
        raise OutcomeUnknown(
            f"the log did not report whether it has {subject}: {error.what}",
            where=error.where,
            do=f"when it answers again, look with {look} before you try again",
        ) from error


def wait_until_read(
    reader: StoreReader, landed: AppendedAt, deadline: float, subject: str, look: str
) -> None:
    """Wait until the store has read that record. `deadline` is of the monotonic clock, in seconds. Raises
    `OutcomeUnknown` after it."""
    pause_s = _POLL_S
    while True:
        reader.catch_up()
        position = reader.position.get(landed.partition, 0)
        if position > landed.offset:
            return
        if time.monotonic() > deadline:
            raise OutcomeUnknown(
                f"the log has {subject}, but the store has not read that far",
                where=f"{reader.path}, partition {landed.partition}, position {position}",
                do=f"it holds once the position is past offset {landed.offset}: check that `vacancy worker` runs,"
                f" then look with {look}",
            )
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _POLL_MAX_S)


def refusal_of(reader: StoreReader, landed: AppendedAt) -> str | None:
    """Why a record was refused, or None if it was not."""
    for partition, _, row in reader.scan(DEAD_LETTERS):
        if (partition, row.offset) == (landed.partition, landed.offset):
            return row.reason
    return None
