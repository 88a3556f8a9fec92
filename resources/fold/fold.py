"""The fold: computes from a state and a record which rows change.

It is deterministic: the result depends only on the state and on the record's partition, offset, timestamp, key and
value. Three drivers call it: the Kafka agent, the embedded worker and replay. A record that the rules do not allow becomes
a dead letter and changes nothing else. If the rules allow something that this build does not support, it raises `Halt`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from msgspec.structs import replace

from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.log_rules import check_rules
from vacancy.resources.fold.log_time import advance
from vacancy.resources.fold.nodes.cell_names import count_names
from vacancy.resources.fold.nodes.domains import count_domains
from vacancy.resources.fold.nodes.withdrawals import settle_trees
from vacancy.resources.fold.record_limits import check_bytes
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.fold.transactions.generations import count_generations
from vacancy.resources.model import events
from vacancy.resources.model.errors import Halt, InvalidRecord
from vacancy.resources.model.names import ID_PATTERN
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.model.record import Record
from vacancy.resources.state.rows import DeadLetterRow, PartitionRow
from vacancy.resources.state.rule_set import RulesVersions
from vacancy.resources.state.tables import (
    DEAD_LETTER_BYTES,
    DEAD_LETTERS,
    DEADLINES,
    PARTITION,
    PARTITION_KEY,
    dead_letter_key,
    split_deadline,
)
from vacancy.resources.state.transaction import Changes, State, Transaction

KEY_BYTES_MAX = 256
"""A longer key is not the name of a cell. What is found out of shorter ones is kept, and anybody who may write to the log
chooses its keys."""

_is_id = re.compile(ID_PATTERN.encode()).fullmatch


def fold(
    state: State, record: Record, registry: Registry, versions: RulesVersions = RULES_VERSIONS
) -> Changes:
    """The rows that `record` changes. Raises `Halt` if this build cannot continue; then nothing may be written.

    It uses the rules that are in force before the record. `versions` are the versions that this build supports.
    """
    partition = state.get(PARTITION, PARTITION_KEY)
    if partition is None:
        return _fold_first(record, registry, versions)
    time_ms = advance(partition.time_ms, record.timestamp_ms)
    if time_ms != partition.time_ms:
        partition = replace(partition, time_ms=time_ms)
    cell = record.key.decode("utf-8", "replace")
    transaction = Transaction(state, registry, versions, partition, cell, record.offset, time_ms)
    _expire(transaction)
    raised: Collection[bytes] = ()
    if transaction.changes:
        _settle(transaction)
        if transaction.rules.has_transactions:
            raised = count_generations(transaction)
    expired = transaction.savepoint()
    try:
        rules = transaction.rules
        problem = _misplaced(record.key, record.partition, partition.partitions)
        if problem:
            raise InvalidRecord(problem)
        check_bytes(rules, record.value)
        event = rules.parse(record.value)
        if rules.check_signature is not None:
            rules.check_signature(transaction, record, event)
        rules.actions[type(event)](transaction, event)
        _settle(transaction)
    except InvalidRecord as error:
        transaction.roll_back(expired)
        transaction.raises = None
        transaction.dead = [error.what]
    if transaction.rules.has_transactions:
        count_generations(transaction, raised)
    for reason in transaction.dead:
        _bury(transaction, record, reason)
    transaction.changes[PARTITION] = {PARTITION_KEY: transaction.partition}
    return transaction.changes


def _fold_first(record: Record, registry: Registry, versions: RulesVersions) -> Changes:
    """Fold the first record of a partition. It must be `log.opened`."""
    where = f"partition {record.partition}, offset {record.offset}"
    event: Any = None
    try:
        event = versions.newest.parse(record.value)
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
    check_rules(data.rules, versions, registry, where)
    row = PartitionRow(
        data.log,
        data.partition,
        data.partitions,
        data.rules.version,
        data.rules.classes,
        max(0, record.timestamp_ms),  # Kafka sets -1 where a record has no time
    )
    return {PARTITION: {PARTITION_KEY: row}}


def _misplaced(key: bytes, here: int, partitions: int) -> str:
    """Why a record with this key is invalid in partition `here`, or an empty text."""
    if len(key) > KEY_BYTES_MAX:
        return _not_a_cell(key)
    return _misplaced_cell(key, here, partitions)


def _not_a_cell(key: bytes) -> str:
    return f"the record's key {key[:80]!r} is not the name of a cell"


@lru_cache(maxsize=65536)
def _misplaced_cell(key: bytes, here: int, partitions: int) -> str:
    if not _is_id(key):
        return _not_a_cell(key)
    home = partition_for(key, partitions)
    if home != here:
        return f"the record's key {key.decode()} belongs to partition {home} (murmur2), not to {here}"
    return ""


def _expire(transaction: Transaction) -> None:
    """Apply the deadlines before the log time of the record, in the order of their keys, up to the limit of one record
    (`Limits.expiries`). This comes before the record itself. The others are applied at the next records."""
    expiries, limit = transaction.rules.expiries, transaction.rules.limits.expiries
    for number, slot in enumerate(transaction.state.due(transaction.time_ms - 1, limit)):
        if number + transaction.ended >= limit:
            return
        at_ms, kind, subject = split_deadline(slot)
        transaction.delete(DEADLINES, slot)
        expiries[kind](transaction, at_ms, subject)


def _settle(transaction: Transaction) -> None:
    """Write what the rules noted of trees, of names and of domains."""
    settle_trees(transaction)
    count_names(transaction)
    if transaction.rules.counts_domains:
        count_domains(transaction)


def _bury(transaction: Transaction, record: Record, reason: str) -> None:
    number = transaction.partition.dead_letters
    row = DeadLetterRow(
        record.offset,
        record.timestamp_ms,
        reason[:1024],
        record.key[:256],
        record.value[:DEAD_LETTER_BYTES],
        len(record.value),
    )
    transaction.put(DEAD_LETTERS, dead_letter_key(number), row)
    transaction.partition = replace(transaction.partition, dead_letters=number + 1)
