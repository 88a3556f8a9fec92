"""Which events of a log are judged: those of records that the rules in force do not refuse beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from typing import Final

from vacancy.clients.auditor.classes.class_auditor import Refused
from vacancy.clients.auditor.deadlines import Deadlines
from vacancy.clients.auditor.event_schema import ReadEvent, home, is_cell, mentions, read
from vacancy.clients.auditor.record_limits import few_marks, keeps_to
from vacancy.clients.auditor.rules_in_force import PROPOSAL, RulesInForce
from vacancy.resources.model.record import Record

LEAP_MS_MAX: Final = 3_600_000

_RULES: Final = {
    b"vacancy.log.opened.v1",
    b"vacancy.rules.activated.v1",
    b"vacancy.rules.proposed.v1",
    b"vacancy.rules.supported.v1",
    b"vacancy.rules.withdrawn.v1",
}
"""The types of the events that say which rules are in force."""


def taken(record: Record, rules: RulesInForce, partitions: int) -> ReadEvent | None:
    """The event of a record; None where the rules refuse the record. `partitions` is 0 before the log was opened."""
    if not is_cell(record.key) or not few_marks(record.value, rules.limits):
        return None
    if partitions and home(record.key, partitions) != record.partition:
        return None
    event = read(record)
    if event is None or not rules.allows(event.kind) or not keeps_to(rules.limits, event):
        return None
    return event


def log_time(now_ms: int | None, stamp_ms: int) -> int:
    """The log time of a record with this timestamp, after `now_ms` (None: it is the first)."""
    return stamp_ms if now_ms is None else max(now_ms, min(stamp_ms, now_ms + LEAP_MS_MAX))


class TakenEvents:
    """Reads one partition for some of its events, and keeps nothing but the rules in force.

    A proposal ends at its time here, also where other deadlines let it wait for a later record.
    """

    def __init__(self, words: Set[bytes]) -> None:
        """`words`: strings one of which a record must have."""
        self._words = words | _RULES
        self._deadlines = Deadlines()
        self._rules = RulesInForce(self._deadlines)
        self._partitions = 0
        self._time_ms: int | None = None

    def take(self, record: Record) -> ReadEvent | None:
        """The event of the next record, if it has one of the words and is to be judged."""
        self._time_ms = now_ms = log_time(self._time_ms, record.timestamp_ms)
        for deadline in self._deadlines.take_past(now_ms):
            if deadline.kind == PROPOSAL:
                self._rules.end_proposal(deadline.subject)
        event = taken(record, self._rules, self._partitions) if mentions(record, self._words) else None
        if event is not None:
            with suppress(Refused):
                self._follow(event, record.offset, now_ms)
        return event

    def _follow(self, event: ReadEvent, offset: int, now_ms: int) -> None:
        rules, data = self._rules, event.data
        steps: Mapping[str, Callable[[], None]] = {
            "rules.activated": lambda: rules.activate(data),
            "rules.proposed": lambda: rules.propose(event.id, data, offset=offset, time_ms=now_ms),
            "rules.supported": lambda: rules.answer(data),
            "rules.withdrawn": lambda: rules.withdraw(data["proposal"]),
        }
        if event.kind == "log.opened" and not self._partitions:
            self._partitions = data["partitions"]
            rules.open(data.get("rules", {}))
        elif event.kind in steps:
            steps[event.kind]()
