"""Write to the log, wait until this host's store has read it, and report what the fold made of it.

Every command that writes uses this. Each record has one of these outcomes: *applied*; *refused*, with the reason of its
dead letter; *not known yet*, where the store has not read that far in time, or where nobody waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store.manifest import read_manifest
from vacancy.resources.model.errors import (
    LogError,
    LogUnavailable,
    OutcomeUnknown,
    StoreMismatch,
    VacancyError,
)
from vacancy.resources.model.record import NewRecord
from vacancy.resources.state.tables import DEAD_LETTERS, DEAD_LETTERS_MAX
from vacancy.streams.log import AppendedAt, Log
from vacancy.streams.log_identity import LogIdentity, parse_opening

if TYPE_CHECKING:
    from vacancy.resources.classes.registry import Registry

_POLL_S: Final = 0.002
_POLL_MAX_S: Final = 0.05
_SILENT_S: Final = 1.0


class RecordRefused(VacancyError):
    """The fold refused a record that was written: it changed nothing, or not all that it should. `reason` is that of its
    dead letter, `at` its place in the log. Operator action: correct what the reason names, and write again."""

    def __init__(self, subject: str, reason: str, at: AppendedAt) -> None:
        super().__init__(
            f"{subject} was refused: {reason}",
            where=f"partition {at.partition}, offset {at.offset}",
            do="correct it and try again; `vacancy dead-letters` shows the record",
        )
        self.reason, self.at = reason, at


def check_same_log(log: Log, reader: StoreReader, timeout_s: float = 10.0) -> None:
    """Check that the store was folded from this log, before anything is written to it.

    Raises `StoreMismatch` where the log has another id or other partitions than the store's, or ends before the store's
    position: it was deleted and created again, or put back from a backup. Raises `LogUnavailable` where it does not answer
    within about `timeout_s`, `LogError` where it cannot be read.
    """
    reader.catch_up()
    position, manifest = reader.position, reader.manifest
    found = _identity(log, timeout_s)
    if (found.log, found.partitions) != (manifest.log, manifest.partitions):
        raise StoreMismatch(
            f"this is another log than the store's: the store was folded from log {manifest.log} with"
            f" {manifest.partitions} partitions, this is log {found.log} with {found.partitions}; nothing was written",
            where=f"log {log.name}, store {reader.path}",
            do="name the log that the store came from, or another --store, or rebuild the store from this log:"
            " `vacancy replay --rebuild`",
        )
    ends = log.end()
    for partition, offset in position.items():
        if offset > ends[partition]:
            raise StoreMismatch(
                f"this is another log than the store's: it ends at offset {ends[partition]}, and the store has read up"
                f" to {offset}; nothing was written",
                where=f"log {log.name}, partition {partition}, store {reader.path}",
                do="restore the lost records, or rebuild the store from this log: `vacancy replay --rebuild`",
            )


def _identity(log: Log, timeout_s: float) -> LogIdentity:
    """As `Log.identity`, within about `timeout_s` where the log does not answer."""
    try:
        records = log.read(0, 0, 1, timeout_s / 2)
    except LogUnavailable:
        raise
    except LogError:  # retention has removed the record; another partition may still have its own
        return log.identity()
    if records:
        return parse_opening(records[0], log.name)
    log.send([], timeout_s / 2)  # raises the reason
    raise LogUnavailable(f"the log did not answer within {timeout_s:g} s", where=log.name, do="try again")


class SameLogCheck:
    """Checks once that a log is the store's, before the first record is written."""

    def __init__(self, log: Log, reader: StoreReader) -> None:
        self._log, self._reader = log, reader
        self._silent: LogUnavailable | None = None
        self._silent_at = 0.0
        self.done = False

    def check(self, timeout_s: float = 10.0) -> None:
        """Raises as `check_same_log` does, until it has succeeded once. A log that did not answer is asked again after a
        second: one placement has several steps that need it, and one timeout."""
        if self.done:
            return
        if self._silent is not None and time.monotonic() - self._silent_at < _SILENT_S:
            raise self._silent
        try:
            check_same_log(self._log, self._reader, timeout_s)
        except LogUnavailable as error:
            self._silent, self._silent_at = error, time.monotonic()
            raise
        self.done = True


@contextmanager
def following_store(
    path: Path, registry: Registry, log: Log, partitions: Collection[int]
) -> Iterator[StoreReader | None]:
    """The store at `path`, if it is folded from this log; None if there is no store, or it is of another log. For writers
    that do not need a store. Only these partitions are read, and no view is loaded. Raises `StoreError`."""
    manifest = read_manifest(path) if path.is_dir() else None
    if manifest is None or manifest.log != log.identity().log:
        yield None
        return
    with StoreReader(path, registry, with_view=False, partitions=partitions) as reader:
        yield reader


class FoldedLog:
    """A log, and the store on this host that is folded from it.

    `timeout_s` is for everything that one object does, from its creation on. Without `wait`, it returns as soon as the log
    has a record. Creating one checks that the store is of this log (`check_same_log`).
    """

    def __init__(self, log: Log, reader: StoreReader, *, timeout_s: float = 10.0, wait: bool = True) -> None:
        self.log, self.reader, self.waits = log, reader, wait
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        check_same_log(log, reader, timeout_s)

    def write(self, entries: Sequence[NewRecord], subject: str, look: str) -> list[AppendedAt]:
        """Append records, and wait for what the fold makes of them. Returns their places in the log.

        `subject` names them in errors ("the release of vm-1"), `look` is the command that shows their effect. Raises
        `RecordRefused` for the first that was refused, `OutcomeUnknown` where the log or the store does not answer in
        time, `LogError` where the log refuses them.
        """
        try:
            places = self.log.append(entries, self._timeout_s)
        except LogUnavailable as error:
            raise OutcomeUnknown(
                f"the log did not report whether it has {subject}: {error.what}",
                where=error.where,
                do=f"when it answers again, look with {look} before you try again",
            ) from error
        if self.waits:
            self.wait_for(places, subject, look)
            self.check_refused(places, subject)
        return places

    def wait_for(self, places: Sequence[AppendedAt], subject: str, look: str) -> None:
        """Wait until the store has read the records at these places. Raises `OutcomeUnknown` after `timeout_s`."""
        wait_until_read(self.reader, places, self._deadline, subject, look)

    def check_refused(self, places: Sequence[AppendedAt], subject: str) -> None:
        """Raise `RecordRefused` if the fold refused one of these records, `OutcomeUnknown` if that is no longer known."""
        check_refused(self.reader, places, subject)


def wait_until_read(
    reader: StoreReader, places: Sequence[AppendedAt], deadline: float, subject: str, look: str
) -> None:
    """Wait until the store has read the records at these places. `deadline` is of the monotonic clock, in seconds. Raises
    `OutcomeUnknown` after it."""
    pause_s = _POLL_S
    ends = {at.partition: at.offset for at in sorted(places, key=lambda at: at.offset)}
    while True:
        reader.catch_up()
        behind = [p for p, offset in ends.items() if reader.position.get(p, 0) <= offset]
        if not behind:
            return
        if time.monotonic() > deadline:
            partition = behind[0]
            raise OutcomeUnknown(
                f"not known yet: the log has {subject}, but the store has not read that far",
                where=f"{reader.path}, partition {partition}, position {reader.position.get(partition, 0)}",
                do=f"it is decided once the position is past offset {ends[partition]}: check that `vacancy worker` runs,"
                f" then look with {look}",
            )
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _POLL_MAX_S)


def check_refused(reader: StoreReader, places: Sequence[AppendedAt], subject: str) -> None:
    """As `FoldedLog.check_refused`, for records that the store has read."""
    for at in places:
        reason = refusal_of(reader, at)
        if reason is not None:
            raise RecordRefused(subject, reason, at)


def refusal_of(reader: StoreReader, at: AppendedAt) -> str | None:
    """Why a record was refused, or None if it was not. Raises `OutcomeUnknown` where the store no longer has the dead
    letters of that time."""
    rows = [DEAD_LETTERS.decode(data) for _, data in reader.raw(at.partition, DEAD_LETTERS.family)]
    reasons = [row.reason for row in rows if row.offset == at.offset]
    if reasons:
        return "; ".join(reasons)
    if len(rows) >= DEAD_LETTERS_MAX and min(row.offset for row in rows) > at.offset:
        raise OutcomeUnknown(
            "not known: the store has read the record, and no longer has the dead letters of that time",
            where=f"partition {at.partition}, offset {at.offset}",
            do="look at the state that it should have changed",
        )
    return None
