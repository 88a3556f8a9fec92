"""Which record changed an answer: a binary search over the positions of the log, ending at one record.

The records of all partitions are put into one order: by log time, of equals by partition, then by offset. Log time never
goes back in a partition, so each place in that order is a position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from vacancy.clients.history.record_outcome import RecordOutcome, record_outcome
from vacancy.clients.past.historical_store import HistoricalStores, Progress
from vacancy.clients.past.points import log_time_at, point_text
from vacancy.clients.scheduler.store_query import StoreQuery
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import LogUnavailable, UsageError, VacancyError
from vacancy.resources.model.record import Record
from vacancy.streams.log import Log

Question = Callable[[StoreQuery], Any]
"""What is asked at each position. Two answers are equal or not; nothing else is needed of them."""

Report = Callable[[dict[int, int], Any, int], None]
"""Called after each answer: with the position, the answer, and how many records are left to search."""

_READ_S = 10.0


class Flip(NamedTuple):
    """The record after which an answer is another one: `before` is the answer at the position `position_before`, `after` that
    at `position_after`, which is one record later. `outcome` is what the fold made of the record. `asked` is how many positions
    were asked."""

    record: Record
    outcome: RecordOutcome
    position_before: dict[int, int]
    position_after: dict[int, int]
    before: Any
    after: Any
    asked: int


class SameAnswer(VacancyError):
    """The answer is the same at both ends, so there is nothing to search for."""


class RecordOrder:
    """The order of the records between two positions of a log. Raises `LogError` where the log does not have them."""

    def __init__(self, log: Log, first: Mapping[int, int], last: Mapping[int, int]) -> None:
        self._log = log
        self._first, self._last = dict(first), dict(last)
        self.records = sum(last.values()) - sum(first.values())
        moved = {p: offset for p, offset in last.items() if offset > first[p]}
        times = [log_time_at(log, {p: first[p] + 1}) or 0 for p in moved]
        # All records are later than the one, and not later than the other.
        self._early_ms = min(times, default=0) - 1
        self._late_ms = log_time_at(log, moved) or 0
        self._cuts: dict[int, dict[int, int]] = {}

    def at(self, place: int) -> dict[int, int]:
        """The position after `place` records."""
        early_ms, late_ms = self._early_ms, self._late_ms
        while late_ms - early_ms > 1:
            middle_ms = (early_ms + late_ms) // 2
            if self._count(self._cut(middle_ms)) < place:
                early_ms = middle_ms
            else:
                late_ms = middle_ms
        found, then = dict(self._cut(early_ms)), self._cut(late_ms)
        missing = place - self._count(found)
        for partition in sorted(found):
            more = min(missing, then[partition] - found[partition])
            found[partition] += more
            missing -= more
        return found

    def _cut(self, time_ms: int) -> dict[int, int]:
        """The position at a log time, between the two. Searches for several places ask for the same times at first."""
        if time_ms in self._cuts:
            return self._cuts[time_ms]
        found = self._cuts[time_ms] = {}
        for partition, first in self._first.items():
            last = self._last[partition]
            at = first if first == last else self._log.offset_after(partition, time_ms)
            found[partition] = min(last, max(first, at))
        return found

    def _count(self, position: Mapping[int, int]) -> int:
        return sum(position.values()) - sum(self._first.values())


def bisect(
    log: Log,
    stores: HistoricalStores,
    registry: Registry,
    question: Question,
    first: Mapping[int, int],
    last: Mapping[int, int],
    *,
    report: Report | None = None,
    progress: Progress | None = None,
    view_memory_mb: int | None = None,
) -> Flip:
    """The first record found after which the answer is not the one at `first`.

    The answers at `first` and `last` must differ, else `SameAnswer` is raised. If the answer changes several times between
    them, this is one of these changes. Raises `UsageError` unless `first` is before `last`, and as `HistoricalStores.at` does.
    """
    if any(first[p] > last[p] for p in first) or dict(first) == dict(last):
        raise UsageError(
            f"{point_text(first)} is not before {point_text(last)}",
            do="name an earlier --from, or a later --to",
        )
    order = RecordOrder(log, first, last)
    asked = 0

    def ask(place: int) -> tuple[dict[int, int], Any]:
        nonlocal asked
        asked += 1
        position = order.at(place) if place else dict(first)
        with (
            stores.at(position, progress) as store,
            StoreQuery(store.path, registry, seed=0, still=True, view_memory_mb=view_memory_mb) as query,
        ):
            return position, question(query)

    low, high = 0, order.records
    (before_at, before), (after_at, after) = ask(low), ask(high)
    if before == after:
        raise SameAnswer(
            f"the answer is the same at {point_text(first)} and at {point_text(last)}",
            where=log.name,
            do="name another --from or --to; an answer that changed and changed back is not noticed",
        )
    while high - low > 1:
        middle = (low + high) // 2
        position, answer = ask(middle)
        if answer == before:
            low, before_at = middle, position
        else:
            high, after_at, after = middle, position, answer
        if report is not None:
            report(position, answer, high - low)
    partition = next(p for p in before_at if before_at[p] != after_at[p])
    record = _read(log, partition, before_at[partition])
    with (
        stores.at(after_at, progress) as store,
        StoreReader(store.path, registry, with_view=False, still=True) as reader,
    ):
        outcome = record_outcome(reader, record)
    return Flip(record, outcome, before_at, after_at, before, after, asked)


def _read(log: Log, partition: int, offset: int) -> Record:
    records = log.read(partition, offset, 1, timeout_s=_READ_S)
    if not records:
        where = f"{log.name}, partition {partition}, offset {offset}"
        raise LogUnavailable(f"the log did not answer within {_READ_S:g} s", where=where, do="try again")
    return records[0]
