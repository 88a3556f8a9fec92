"""What an operator sees first: the partitions, the classes, and what is wrong, the worst first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from vacancy.clients.inspection.answers import PartitionStatus
from vacancy.clients.inspection.status import read_partition_state
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.streams.clocks.clock import wall_ms
from vacancy.streams.clocks.log_clock import NOTICE_MS
from vacancy.ui.nodes import OPEN, RETIRED, STATES, FleetNodes, Ints, NodeIndex

Bytes = NDArray[np.uint8]

Severity = Literal["bad", "warning"]

SILENT_S: Final = 60.0
"""A node that was not heard from for so long, in log time, is silent."""

BEHIND_RECORDS: Final = 1_000
STOPPED_S: Final = 3.0
"""A partition that has records to fold and folds none for so long stands still."""

_NEARLY_FULL: Final = 0.95
_NAMED_MAX: Final = 3
_CLASSES_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that needs attention. `view` is the page that shows it, with its `parameters`."""

    severity: Severity
    kind: str
    title: str
    detail: str
    view: str
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartitionHealth:
    """One partition. `stalled_s` is how long it has had records to fold and folded none; None where the log does not answer.
    `age_s` is the age of its newest folded record."""

    partition: int
    position: int
    end: int | None
    lag: int | None
    time_ms: int
    age_s: float
    stalled_s: float
    dead_letters: int
    digested: int
    digest: str
    differs: dict[str, str]
    state: Literal["ok", "warning", "bad"]


@dataclass(frozen=True, slots=True)
class ClassHealth:
    """The sums of one class over the nodes that are not retired. `free` is that of open nodes."""

    name: str
    nodes: int
    capacity: int
    used: int
    free: int


@dataclass(frozen=True, slots=True)
class Health:
    """The whole strip."""

    as_of: dict[int, int]
    as_of_ms: int
    nodes: int
    states: dict[str, int]
    problems: list[Problem]
    partitions: list[PartitionHealth]
    classes: list[ClassHealth]
    silent: int
    log_answers: bool


class HealthWatch:
    """Looks at the tables of one store again and again. It is for the thread of the reader."""

    def __init__(self, reader: StoreReader, nodes: FleetNodes, silent_s: float = SILENT_S) -> None:
        self._reader, self._nodes, self._silent_s = reader, nodes, silent_s
        self._moved: dict[int, tuple[int, float]] = {}
        """Partition -> its position, and when it got there or had nothing to do, in seconds of a monotonic clock."""

    def look(self, ends: Mapping[int, int] | None, now_s: float) -> Health:
        """The health as of where the reader is. `ends`: the log's (partition -> next offset), None where it does not answer or
        the tables are of the past. `now_s` is of a monotonic clock."""
        reader = self._reader
        present_ms = reader.newest_ms if reader.still else max(reader.newest_ms, wall_ms())
        index = self._nodes.index(now_s * 1000)
        states = self._nodes.states(index)
        partitions = [self._partition(one, ends, now_s, present_ms) for one in reader.position]
        silent = self._silent(index, states, partitions, present_ms)
        counts = np.bincount(states, minlength=len(STATES)).tolist()
        classes = self._classes(index, states)
        problems = [
            *_partition_problems(partitions),
            *_log_problems(ends, past=reader.still),
            *_full_classes(classes),
            *_dead_letter_problems(partitions),
            *_silent_problems([index.names[at] for at in silent.tolist()], self._silent_s),
            *_closed_problems(counts),
        ]
        return Health(
            dict(reader.position),
            reader.newest_ms,
            len(index),
            {name: count for name, count in zip(STATES, counts, strict=True) if count},
            sorted(problems, key=lambda one: one.severity != "bad"),
            partitions,
            classes,
            len(silent),
            ends is not None or reader.still,
        )

    def _partition(
        self, partition: int, ends: Mapping[int, int] | None, now_s: float, present_ms: int
    ) -> PartitionHealth:
        position = self._reader.position[partition]
        one = PartitionStatus(partition, position, time_ms=self._reader.log_time_ms(partition))
        read_partition_state(one, self._reader)
        end = None if ends is None else ends.get(partition)
        lag = None if end is None else max(0, end - position)
        before, since = self._moved.get(partition, (-1, now_s))
        if before != position or not lag:
            since = now_s
        self._moved[partition] = position, since
        stalled_s = round(now_s - since, 1)
        state: Literal["ok", "warning", "bad"] = "ok"
        if one.differs or stalled_s >= STOPPED_S:
            state = "bad"
        elif (lag or 0) >= BEHIND_RECORDS or one.time_ms - present_ms >= NOTICE_MS:
            state = "warning"
        return PartitionHealth(
            partition=partition,
            position=position,
            end=end,
            lag=lag,
            time_ms=one.time_ms,
            age_s=max(0.0, round((present_ms - one.time_ms) / 1000, 1)) if one.time_ms else 0.0,
            stalled_s=stalled_s,
            dead_letters=one.dead_letters,
            digested=one.digested,
            digest=one.digest,
            differs=one.differs,
            state=state,
        )

    def _silent(
        self, index: NodeIndex, states: Bytes, partitions: Iterable[PartitionHealth], present_ms: int
    ) -> Ints:
        """The numbers of the nodes that were not heard from. Where a partition is behind the log, its own log time counts:
        there it is the tables that are old."""
        since = np.zeros(self._reader.manifest.partitions, dtype=np.int64)
        for one in partitions:
            since[one.partition] = (one.time_ms if one.lag else present_ms) - int(self._silent_s * 1000)
        heard = self._nodes.heard_ms(index)
        return np.flatnonzero((heard > 0) & (heard < since[index.partition_of]) & (states != RETIRED))

    def _classes(self, index: NodeIndex, states: Bytes) -> list[ClassHealth]:
        found = []
        takes, there = states == OPEN, states != RETIRED
        for name in self._nodes.classes()[:_CLASSES_MAX]:
            capacity, used = self._nodes.capacity_and_use(name, index)
            has = there & ((capacity > 0) | (used > 0))
            if not has.any():
                continue
            free = np.maximum(capacity - used, 0)[takes]
            sums = [int(one.sum()) for one in (has, capacity[there], used[there], free)]
            found.append(ClassHealth(name, *sums))
        return found


def _partition_problems(partitions: Iterable[PartitionHealth]) -> Iterator[Problem]:
    for one in partitions:
        place = {"partition": str(one.partition)}
        name = f"partition {one.partition}"
        for text in one.differs.values():
            yield Problem("bad", "digest", f"{name}: digest differs", text, "status", place)
        if one.stalled_s >= STOPPED_S:
            detail = f"{one.lag:,} records wait, and nothing was folded for {one.stalled_s:.0f} s: is its worker running?"
            yield Problem("bad", "stopped", f"{name} stands still", detail, "status", place)
        elif (one.lag or 0) >= BEHIND_RECORDS:
            detail = (
                f"{one.lag:,} records are not folded yet; its newest folded record is {one.age_s:.0f} s old"
            )
            yield Problem("warning", "lag", f"{name}: {one.lag:,} behind", detail, "status", place)
        elif one.state == "warning":
            detail = (
                "log time is ahead of this host's clock: check the clocks of the brokers and of this host"
            )
            yield Problem("warning", "clock", f"{name}: clock ahead", detail, "status", place)


def _log_problems(ends: Mapping[int, int] | None, *, past: bool) -> Iterator[Problem]:
    if ends is None and not past:
        detail = "lag is not known, and nothing new can be appended; what the tables have is still shown"
        yield Problem("bad", "log", "the log does not answer", detail, "status")


def _full_classes(classes: Iterable[ClassHealth]) -> Iterator[Problem]:
    for one in classes:
        share = one.used / one.capacity if one.capacity else 1.0
        found = {"class": one.name, "measure": "free"}
        if not one.free:
            detail = f"{one.used:,} of {one.capacity:,} are used, and no open node has any left"
            yield Problem("bad", "full", f"{one.name} is full", detail, "fleet", found)
        elif share >= _NEARLY_FULL:
            detail = f"{one.used:,} of {one.capacity:,} are used; open nodes have {one.free:,} left"
            yield Problem("warning", "full", f"{one.name}: {share:.0%} used", detail, "fleet", found)


def _dead_letter_problems(partitions: Iterable[PartitionHealth]) -> Iterator[Problem]:
    count = sum(one.dead_letters for one in partitions)
    if count:
        title = f"{count:,} dead letter{'s' if count > 1 else ''}"
        yield Problem("warning", "dead-letters", title, "records that the fold refused", "dead-letters")


def _silent_problems(names: list[str], silent_s: float) -> Iterator[Problem]:
    if names:
        title = f"{len(names):,} silent node{'s' if len(names) > 1 else ''}"
        some = ", ".join(names[:_NAMED_MAX]) + ("…" if len(names) > _NAMED_MAX else "")
        detail = f"nothing from {some} for {silent_s:.0f} s"
        yield Problem("warning", "silent", title, detail, "fleet", {"measure": "staleness"})


def _closed_problems(counts: list[int]) -> Iterator[Problem]:
    for name in ("incomplete", "contested", "in two cells", "two names"):
        count = counts[STATES.index(name)]
        if count:
            detail = f"{count:,} node{'s' if count > 1 else ''} take no claims: {name}"
            found = {"measure": "state", "group": "state"}
            yield Problem("warning", "closed", f"{count:,} {name}", detail, "fleet", found)
