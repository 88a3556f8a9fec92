"""Which rules a partition follows, as far as a publisher can know without tables.

The first record of the partition has the rules that the log was made with, also after a trim. Rules are raised by records
that may be anywhere after it, so a publisher also reads the last records, each time that it looks. Two kinds of them show
that the rules were raised: an activation after a proposal that a store supports, and an event that only later rules have, from somebody who
knows the tables (a scheduler, an operator or a worker). Reports of other publishers prove nothing: they are written by who
does not know the tables either. Rules are never lowered, so what was found once holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import pairwise
from typing import Any, Final, NamedTuple

from vacancy.resources.fold.log_rules import PROPOSAL_KEPT_MS
from vacancy.resources.fold.rules_versions import RULES_VERSION, RULES_VERSIONS
from vacancy.resources.model.errors import LogError
from vacancy.resources.model.events import RulesProposed
from vacancy.resources.model.record import Record
from vacancy.resources.state.rule_set import RuleSet
from vacancy.streams.log import Log

LAST_RECORDS: Final = 1_000
"""How many records at the end of the partition are read at each look."""

_READ_S: Final = 5.0
_TYPE: Final = re.compile(rb'"type":\s?"(vacancy\.[a-z0-9.]+)"')
_RULES: Final = "vacancy.rules."
_NODES: Final = "vacancy.node."
_STEPS_SINCE: Final = next(one.version for one in RULES_VERSIONS if RulesProposed in one.event_models)

_ONLY_SINCE: Final[Mapping[str, int]] = {
    type_: after.version
    for before, after in pairwise(RULES_VERSIONS)
    for type_ in after.event_types - before.event_types
    if not type_.startswith((_RULES, _NODES))
}
"""Event type -> the version of the rules that brought it, of the events that prove a version."""


class _Proposal(NamedTuple):
    rules: tuple[int, frozenset[str]]
    made_ms: int


class KnownRules:
    """The rules of `partition`. `from_tables` returns the version in force that tables on this host show, or None.

    Not safe for several threads: it reads the log.
    """

    def __init__(
        self, log: Log, partition: int, from_tables: Callable[[], int | None] = lambda: None
    ) -> None:
        self._log, self._partition, self._from_tables = log, partition, from_tables
        self._version = 0
        self._first = 0

    def look(self) -> RuleSet | None:
        """The rules that are known now, the newest of this build where the log's are later. None if nothing is known: no
        tables are here, and the log cannot be read."""
        if self._version < RULES_VERSION:
            self._version = max(self._version, self._from_tables() or 0)
        if self._version < RULES_VERSION:
            with suppress(LogError):  # it is away, or a publisher has no permission to read it
                self._read()
        return RULES_VERSIONS.of(min(self._version, RULES_VERSION)) if self._version else None

    def _read(self) -> None:
        first, end = self._log.start()[self._partition], self._log.end()[self._partition]
        self._first = first
        if self._version == 0 and first < end:
            self._judge(self._log.read(self._partition, first, 1, timeout_s=_READ_S))
        offset, last = max(first, end - LAST_RECORDS), list[Record]()
        while self._version < RULES_VERSION and offset < end:
            records = self._log.read(self._partition, offset, end - offset, timeout_s=_READ_S)
            if not records:
                break
            last += records
            offset = records[-1].offset + 1
        self._judge(last)

    def _judge(self, records: Iterable[Record]) -> None:
        proposals: dict[str, _Proposal] = {}
        supported: set[str] = set()
        for record in records:
            found = _TYPE.search(record.value)
            type_ = found[1].decode() if found else ""
            if not type_.startswith((_RULES, "vacancy.log.")) and type_ not in _ONLY_SINCE:
                continue
            try:
                event = json.loads(record.value)
                if event["type"] == type_:
                    self._apply(event, record, proposals, supported)
            except (ValueError, LookupError, TypeError, AttributeError):
                continue  # the fold refuses it, too

    def _apply(
        self, event: Mapping[str, Any], record: Record, proposals: dict[str, _Proposal], supported: set[str]
    ) -> None:
        type_, data = event["type"], event["data"]
        if type_ in _ONLY_SINCE:
            self._version = max(self._version, _ONLY_SINCE[type_])
        elif type_ == "vacancy.log.opened.v1":
            if record.offset == self._first:
                self._version = max(self._version, data.get("rules", {}).get("version", 1))
        elif type_ == "vacancy.rules.proposed.v1":
            proposals.setdefault(event["id"], _Proposal(_rules_of(data), record.timestamp_ms))
        elif type_ == "vacancy.rules.supported.v1":
            if not data.get("missing"):
                supported.add(data["proposal"])
        elif type_ == "vacancy.rules.withdrawn.v1":
            proposals.pop(data["proposal"], None)
        elif type_ == "vacancy.rules.activated.v1":
            rules = _rules_of(data)
            in_steps = any(
                one.rules == rules
                and id_ in supported
                and record.timestamp_ms <= one.made_ms + PROPOSAL_KEPT_MS
                for id_, one in proposals.items()
            )
            if in_steps or 0 < self._version < _STEPS_SINCE:
                self._version = max(self._version, rules[0])


def _rules_of(data: Mapping[str, Any]) -> tuple[int, frozenset[str]]:
    return data.get("version", 1), frozenset(data.get("classes", ()))
