"""The rules of a log: which version is in force, which plugins' classes it allows, and how operators raise both.

Rules are raised by an event in every partition. A partition follows the new rules from the next record on. Every build
that follows the log must support them: one that does not stops at that record.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from vacancy.clients.admin.append_and_wait import append, refusal_of, wait_until_read
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model import events
from vacancy.resources.model.errors import OutcomeUnknown, UsageError
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.resources.state.rows import PartitionRow
from vacancy.resources.state.tables import PARTITION
from vacancy.streams.log import Log

SOURCE = "/operator"


@dataclass(frozen=True, slots=True)
class RulesInForce:
    """The rules of one partition as of the store's position there."""

    partition: int
    position: int
    version: int
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SupportedVersion:
    """A version of the rules that this build supports, and what it brought."""

    version: int
    summary: str


@dataclass(frozen=True, slots=True)
class RulesAnswer:
    """The rules of all partitions that the store has read, and what this build supports. `unread` are the partitions
    that the store has not read yet."""

    supported: tuple[SupportedVersion, ...]
    partitions: tuple[RulesInForce, ...]
    unread: tuple[int, ...]


def show_rules(reader: StoreReader) -> RulesAnswer:
    """The rules in force, as of the store's position."""
    rows = _rows(reader)
    return RulesAnswer(
        tuple(SupportedVersion(one.version, one.summary) for one in reader.versions),
        tuple(
            RulesInForce(p, reader.position.get(p, 0), row.rules_version, row.classes)
            for p, row in sorted(rows.items())
        ),
        tuple(p for p in range(reader.manifest.partitions) if p not in rows),
    )


def activate_rules(
    log: Log, reader: StoreReader, version: int, *, timeout_s: float = 10.0
) -> tuple[int, ...]:
    """Raise every partition to this version. Returns the partitions that had a lower one.

    Raises `UsageError` for a version that this build does not support, or that is lower than one in force, `LogError`,
    and `OutcomeUnknown` where the store did not read the events within `timeout_s`.
    """
    if version not in reader.versions:
        raise UsageError(
            f"this build supports rules versions 1 to {reader.versions.newest.version}, not {version}",
            do="upgrade vacancy on every host that follows the log, then try again",
        )
    reader.catch_up()
    higher = {p: row.rules_version for p, row in _rows(reader).items() if row.rules_version > version}
    if higher:
        partition, found = min(higher.items())
        raise UsageError(
            f"partition {partition} follows rules version {found}, and rules are never lowered to {version}",
            do="see `vacancy rules show`",
        )

    def raised(row: PartitionRow) -> events.Rules | None:
        if row.rules_version == version:
            return None
        return events.Rules(version=version, classes=row.classes)

    return tuple(_activate(log, reader, raised, timeout_s, "`vacancy rules show`"))


def activate_classes(log: Log, reader: StoreReader, *, timeout_s: float = 10.0) -> tuple[str, ...]:
    """Allow, in every partition, the classes of the plugins installed here. Returns those that are new there.

    Raises `LogError`, `UsageError` where a partition refused, and `OutcomeUnknown` where the store did not read the
    events within `timeout_s`.
    """
    new: set[str] = set()

    def with_plugins(row: PartitionRow) -> events.Rules | None:
        missing = set(reader.registry.plugins) - set(row.classes)
        new.update(missing)
        if not missing:
            return None
        return events.Rules(version=row.rules_version, classes=tuple(sorted({*row.classes, *missing})))

    _activate(log, reader, with_plugins, timeout_s, "`vacancy classes`")
    return tuple(sorted(new))


def _rows(reader: StoreReader) -> dict[int, PartitionRow]:
    return {row.partition: row for _, _, row in reader.scan(PARTITION)}


def _activate(
    log: Log,
    reader: StoreReader,
    raised: Callable[[PartitionRow], events.Rules | None],
    timeout_s: float,
    look: str,
) -> list[int]:
    """Append to each partition the rules that `raised` returns for it, and wait until the store has read them. Returns
    the partitions that had others."""
    deadline = time.monotonic() + timeout_s
    reader.catch_up()
    rows = _rows(reader)
    unread = sorted(set(range(reader.manifest.partitions)) - set(rows))
    if unread:
        raise OutcomeUnknown(
            f"the store has not read partitions {unread} yet, so their rules are not known",
            where=str(reader.path),
            do="start `vacancy worker`, then try again",
        )
    done = []
    for partition, cell in enumerate(covering_cells(len(rows))):
        rules = raised(rows[partition])
        if rules is None:
            continue
        event = events.RulesActivated(id=uuid4().hex, source=SOURCE, data=rules)
        subject = f"the rules of partition {partition}"
        landed = append(log, NewRecord(cell, events.encode(event)), timeout_s, subject, look)
        wait_until_read(reader, landed, deadline, subject, look)
        reason = refusal_of(reader, landed)
        if reason is not None:
            raise UsageError(
                f"{subject} were refused: {reason}",
                where=f"offset {landed.offset}",
                do="see `vacancy dead-letters`",
            )
        done.append(partition)
    return done
