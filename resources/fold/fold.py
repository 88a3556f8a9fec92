"""The fold: state and a record in, changes out.

Deterministic over (partition, offset, timestamp, value): three drivers (the Kafka agent, the embedded worker,
replay) share this function and nothing else. A record that the rules do not allow becomes a dead letter and
changes nothing else; what the rules allow and this build does not support raises `Halt`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from msgspec.structs import replace

from vacancy.resources.classes.registry import RULES_VERSION, Registry
from vacancy.resources.fold.claims import VERDICT, expire_hold, fold_claim, fold_confirmed, fold_release
from vacancy.resources.fold.log_time import advance
from vacancy.resources.fold.nodes import (
    HOLD,
    TOMBSTONE,
    fold_changed,
    fold_heartbeat,
    fold_reported,
    fold_retired,
)
from vacancy.resources.fold.operator_settings import fold_operator_settings
from vacancy.resources.fold.requests import REQUEST, fold_closed, fold_received
from vacancy.resources.model import events
from vacancy.resources.model.errors import Halt, InvalidRecord
from vacancy.resources.model.names import ID_PATTERN
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.model.record import Record
from vacancy.resources.state.rows import DeadLetterRow, PartitionRow
from vacancy.resources.state.tables import (
    DEAD_LETTER_BYTES,
    DEAD_LETTERS,
    DEADLINES,
    NODES,
    PARTITION,
    PARTITION_KEY,
    REQUESTS,
    VERDICTS,
    dead_letter_key,
    split_deadline,
)
from vacancy.resources.state.transaction import Changes, State, Transaction

VALUE_BYTES_MAX = 8 * 1024 * 1024
_is_id = re.compile(ID_PATTERN.encode()).fullmatch


def fold(state: State, record: Record, registry: Registry) -> Changes:
    """What `record` changes. Raises `Halt` where this build cannot go on; then nothing may be written."""
    partition = state.get(PARTITION, PARTITION_KEY)
    if partition is None:
        return _fold_first(record, registry)
    time_ms = advance(partition.time_ms, record.timestamp_ms)
    if time_ms != partition.time_ms:
        partition = replace(partition, time_ms=time_ms)
    cell = record.key.decode("utf-8", "replace")
    draft = Transaction(state, registry, partition, cell, record.offset, time_ms)
    _expire(draft)
    expired = {table: dict(rows) for table, rows in draft.changes.items()}
    try:
        problem = _misplaced(record.key, record.partition, partition.partitions)
        if problem or len(record.value) > VALUE_BYTES_MAX:
            raise InvalidRecord(problem or f"the record is larger than {VALUE_BYTES_MAX} bytes")
        event = events.parse(record.value)
        _HANDLERS[type(event)](draft, event)
    except InvalidRecord as error:
        draft.changes = expired
        draft.dead = [error.what]
    for reason in draft.dead:
        _bury(draft, record, reason)
    draft.changes[PARTITION] = {PARTITION_KEY: draft.partition}
    return draft.changes


def _fold_first(record: Record, registry: Registry) -> Changes:
    """A partition starts with `log.opened`; on any other start there is nothing to stand on."""
    where = f"partition {record.partition}, offset {record.offset}"
    event: events.Event | None = None
    try:
        event = events.parse(record.value)
        problem = f"it is a {event.type}"
    except InvalidRecord as error:
        problem = error.what
    if not isinstance(event, events.LogOpened) or event.data.partition != record.partition:
        raise Halt(
            f"the partition does not start with its own log.opened record: {problem}",
            where=where,
            do="create the log with `vacancy topics create`, or read it from its start",
        )
    data = event.data
    _check_rules(data.rules, registry, where)
    row = PartitionRow(
        data.log,
        data.partition,
        data.partitions,
        data.rules.version,
        data.rules.classes,
        max(0, record.timestamp_ms),  # Kafka says -1 of a record that has no time
    )
    return {PARTITION: {PARTITION_KEY: row}}


@lru_cache(maxsize=65536)
def _misplaced(key: bytes, here: int, partitions: int) -> str:
    """What is wrong with finding a key in this partition, or nothing."""
    if not _is_id(key):
        return f"the record's key {key[:80]!r} is not the name of a cell"
    home = partition_for(key, partitions)
    if home != here:
        return f"the record's key {key.decode()} belongs to partition {home} (murmur2), not to {here}"
    return ""


def _check_rules(rules: events.Rules, registry: Registry, where: str) -> None:
    if rules.version > RULES_VERSION:
        raise Halt(
            f"the log's rules are version {rules.version}, this build folds up to {RULES_VERSION}",
            where=where,
            do="upgrade vacancy on this host, then start again",
        )
    missing = [name for name in rules.classes if name not in registry.plugins]
    if missing:
        raise Halt(
            f"the log's rules allow resource class {', '.join(missing)}, which this build does not have",
            where=where,
            do="install the package that provides it, then start again",
        )


def _expire(draft: Transaction) -> None:
    """What log time has passed ends before the record is judged."""
    for slot in draft.state.due(draft.time_ms - 1):
        at_ms, kind, subject = split_deadline(slot)
        draft.delete(DEADLINES, slot)
        if kind == HOLD:
            expire_hold(draft, at_ms, subject)
        elif kind == VERDICT:
            verdict = draft.get(VERDICTS, subject)
            # A cancellation leaves a deadline of its own behind when its claim comes after all.
            if verdict is not None and verdict.deadline_ms == at_ms:
                draft.delete(VERDICTS, subject)
        elif kind == REQUEST:
            draft.delete(REQUESTS, subject)
        elif kind == TOMBSTONE:
            node = draft.get(NODES, subject)
            if node is not None and node.retired:
                draft.delete(NODES, subject)


def _bury(draft: Transaction, record: Record, reason: str) -> None:
    number = draft.partition.dead_letters
    row = DeadLetterRow(
        record.offset,
        record.timestamp_ms,
        reason[:1024],
        record.key[:256],
        record.value[:DEAD_LETTER_BYTES],
        len(record.value),
    )
    draft.put(DEAD_LETTERS, dead_letter_key(number), row)
    draft.partition = replace(draft.partition, dead_letters=number + 1)


def _fold_log_opened(draft: Transaction, event: events.LogOpened) -> None:
    here = draft.partition
    if (event.data.log, event.data.partition) != (here.log, here.partition):
        raise InvalidRecord(f"the log was opened before, as {here.log}")


def _fold_rules(draft: Transaction, event: events.RulesActivated) -> None:
    rules, here = event.data, draft.partition
    _check_rules(rules, draft.registry, f"partition {here.partition}, offset {draft.offset}")
    if rules.version < here.rules_version or not set(here.classes) <= set(rules.classes):
        raise InvalidRecord("rules are raised, never lowered: a version or a class is missing")
    draft.partition = replace(here, rules_version=rules.version, classes=tuple(sorted(set(rules.classes))))


def _fold_claims(draft: Transaction, event: events.ClaimsRequested) -> None:
    for claim in event.data.claims:
        fold_claim(draft, claim)


def _fold_releases(draft: Transaction, event: events.ConsumersReleased) -> None:
    for release in event.data.releases:
        fold_release(draft, release)


_HANDLERS: dict[type[Any], Callable[[Transaction, Any], None]] = {
    events.NodeReported: lambda draft, event: fold_reported(draft, event.data),
    events.NodeChanged: lambda draft, event: fold_changed(draft, event.data),
    events.NodeHeartbeat: lambda draft, event: fold_heartbeat(draft, event.data),
    events.NodeRetired: lambda draft, event: fold_retired(draft, event.data),
    events.OperatorSettingsSet: lambda draft, event: fold_operator_settings(draft, event.id, event.data),
    events.RequestsReceived: lambda draft, event: fold_received(draft, event.data),
    events.RequestsClosed: lambda draft, event: fold_closed(draft, event.data),
    events.ClaimsRequested: _fold_claims,
    events.ConsumersReleased: _fold_releases,
    events.ConsumerConfirmed: lambda draft, event: fold_confirmed(draft, event.data),
    events.ConsumerReplaced: lambda draft, event: fold_claim(draft, event.data, replaces=True),
    events.Tick: lambda _draft, _event: None,
    events.LogOpened: _fold_log_opened,
    events.RulesActivated: _fold_rules,
}
