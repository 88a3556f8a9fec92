"""Checks of the log: an SQLite file or a Kafka topic, its clock, and what this user may do with it. Nothing is appended."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vacancy.clients.doctor.check import Check, error, failed, ok, warning
from vacancy.resources.model.errors import LogError
from vacancy.streams.clocks.clock import utc_text
from vacancy.streams.clocks.log_clock import NOTICE_MS, duration_text
from vacancy.streams.log import Log
from vacancy.streams.log_url import LogUrl

if TYPE_CHECKING:
    from vacancy.streams.kafka.survey import Broker

_READ_S: Final = 5.0
CANNOT_READ: Final = "this user cannot read"
"""How the check of permissions begins that of a log whose records cannot be looked at."""

_ALLOWED_TO: Final = (("WRITE", "append"), ("READ", "read"))


def file_checks(place: LogUrl) -> Iterator[Check]:
    """An SQLite log: its format, and whether this user can read and write it. The last check is an error if it must not be
    opened."""
    from vacancy.streams.sqlite.schema import FORMAT, file_format

    path = Path(place.place)
    try:
        found = file_format(place)
    except LogError as raised:
        yield failed("log", raised)
        return
    if found != FORMAT:
        # Opening it would raise its format, which is a change.
        yield error(
            "log",
            f"{path} has format {found}, and this build writes format {FORMAT}",
            "upgrade vacancy"
            if found > FORMAT
            else "start a worker of this build: it raises the file's format",
        )
        return
    missing = [
        what
        for what, allowed in (
            ("read the file", os.access(path, os.R_OK)),
            ("write the file", os.access(path, os.W_OK)),
            ("write its directory, where SQLite puts two files more", os.access(path.parent, os.W_OK)),
        )
        if not allowed
    ]
    if missing:
        yield error(
            "permissions",
            f"this user cannot {' or '.join(missing)} ({path})",
            "run as the user that made the log",
        )
    else:
        yield ok("permissions", f"this user can read and append to {path}")


def cluster_checks(
    place: LogUrl, settings: Mapping[str, str], store: str | None, timeout_s: float
) -> Iterator[Check]:
    """The brokers and the topic of a Kafka log, and what this user may do. `store` is the id of this host's store, None if it has
    none. If no broker answers, the first check is an error of the log, and the only one."""
    from vacancy.streams.kafka.survey import brokers

    try:
        found = brokers(place, settings, timeout_s)
    except LogError as raised:
        yield failed("log", raised)
        return
    yield from _broker_checks(found)
    yield from _topic_checks(place, settings, store, timeout_s)


def _broker_checks(found: Sequence[Broker]) -> Iterator[Check]:
    """Whether the brokers answer at the addresses that they tell clients."""
    wrong = [one for one in found if one.failed or one.fenced]
    for one in wrong:
        if one.fenced:
            yield warning(
                "brokers",
                f"broker {one.id} ({one.address}) is fenced: it serves nobody",
                "read its log, restart it",
            )
        else:
            yield error(
                "brokers",
                f"broker {one.id} tells clients to reach it at {one.address}, which {one.failed} from this host",
                "start it, or correct its advertised.listeners, or the names and the firewall of this host",
            )
    if not wrong:
        yield ok("brokers", f"{len(found)} of {len(found)} answer: {', '.join(one.address for one in found)}")


def _topic_checks(
    place: LogUrl, settings: Mapping[str, str], store: str | None, timeout_s: float
) -> Iterator[Check]:
    """Partitions, replicas and settings of the topic, and the permissions."""
    from vacancy.streams.faust.group import group_of
    from vacancy.streams.kafka.survey import group_operations
    from vacancy.streams.kafka.topic import topic_state

    try:
        found = topic_state(place.url, timeout_s, settings)
    except LogError as raised:
        yield failed("log", raised)
        return
    change = "correct the topic's settings (`vacancy topics check` has all of them)"
    for problem in found.problems:
        make = error if problem.serious else warning
        yield make("topic", problem.text, change)
    if found.configuration is None:
        yield warning(
            "topic",
            "its settings were not checked: this user may not read them",
            "run this as an operator, with the permission DescribeConfigs",
        )
    if not found.problems:
        yield ok("topic", _topic_text(found.partitions, found.replicas, found.configuration))
    group = group_of(store) if store else None
    in_group = group_operations(place, settings, group, timeout_s) if group else None
    yield _permissions(found.operations, group, in_group)


def _topic_text(partitions: int, replicas: int, configuration: Mapping[str, str] | None) -> str:
    text = f"{partitions} partitions with {replicas} replica{'s' * (replicas > 1)}, all in sync"
    if configuration is None:
        return text
    return (
        f"{text}; min.insync.replicas {configuration.get('min.insync.replicas')}, retention unlimited, never compacted,"
        f" times by the brokers"
    )


def _permissions(topic: frozenset[str] | None, group: str | None, in_group: frozenset[str] | None) -> Check:
    """What this user may do, as the brokers say; nothing is tried."""
    if topic is None:
        return warning(
            "permissions", "the brokers do not say what this user may do", "see docs/threat-model.md"
        )
    lacks = [what for operation, what in _ALLOWED_TO if operation not in topic]
    if len(lacks) == len(_ALLOWED_TO):
        return error(
            "permissions", "this user can neither read the topic nor append to it", "see docs/threat-model.md"
        )
    if lacks:
        can = "publish inventory" if lacks == ["read"] else "read, replay and verify"
        return warning(
            "permissions",
            f"{CANNOT_READ if lacks == ['read'] else 'this user cannot append to'} the topic: it can {can}, and nothing else",
            "give it the permissions of its role (docs/threat-model.md), if it needs more",
        )
    if group is not None and in_group is not None and "READ" not in in_group:
        return warning(
            "permissions",
            f"this user can read and append; it cannot join group {group}, so it can claim but cannot run a worker",
            "give a worker's user Read on groups that begin with vacancy- (docs/threat-model.md)",
        )
    more = ", and join the group of the store's workers" if in_group else ""
    return ok("permissions", f"this user can read the topic and append to it{more}")


def content_checks(log: Log, now_ms: int) -> Iterator[Check]:
    """The log's identity and size, and its newest records' times against this host's clock."""
    identity = log.identity()
    starts, ends = log.start(), log.end()
    records = sum(ends[p] - starts[p] for p in ends)
    trimmed = ", and the oldest ones were trimmed" if any(starts.values()) else ""
    yield ok(
        "log",
        f"{identity.log}: {identity.partitions} partitions, {records:,} records{trimmed}",
    )
    newest: dict[int, int] = {}
    for partition, end in ends.items():
        if end > starts[partition]:
            for record in log.read(partition, end - 1, 1, timeout_s=_READ_S):
                newest[partition] = record.timestamp_ms
    yield _clock(newest, now_ms)


def _clock(newest: Mapping[int, int], now_ms: int) -> Check:
    """The log's clock can be seen to be ahead, by the timestamp of a record that is later than now. That it is behind can be
    seen only by appending, which schedulers and publishers do: they log it."""
    if not newest:
        return warning("clock", "no record of the log could be read", "see the other checks")
    partition, latest = max(newest.items(), key=lambda one: one[1])
    if latest - now_ms >= NOTICE_MS:
        return warning(
            "clock",
            f"the newest record (partition {partition}) is from {utc_text(latest, 'seconds')}, which is"
            f" {duration_text(latest - now_ms)} ahead of this host's clock",
            "set the clocks of the brokers and of this host (NTP)",
        )
    age = "now" if now_ms - latest < 1000 else f"{duration_text(now_ms - latest)} old"
    return ok("clock", f"the log's clock is not ahead of this host's; the newest record is {age}")
