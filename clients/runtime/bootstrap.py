"""Joins the packages: classes from plugins, a new or an existing log, a store to read or to write."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from vacancy.projections.store.store import Store, is_made
from vacancy.projections.store.swap import SwapWatch
from vacancy.resources.classes.registry import Registry
from vacancy.resources.classes.resource_class import ResourceClass
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.resources.model import events
from vacancy.resources.model.errors import UsageError, VacancyError
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.rules_answer import RulesAnswer
from vacancy.streams.log import Log, create_log
from vacancy.streams.log_identity import opening_rules_version
from vacancy.streams.log_url import parse_log_url
from vacancy.streams.worker.position_check import check_position
from vacancy.streams.worker.projection_protocol import WorkerParts
from vacancy.streams.worker.state_digests import DIGEST_INTERVAL, DigestEntries, DigestInterval

if TYPE_CHECKING:
    from vacancy.clients.auditor import ClassAuditors
    from vacancy.streams.settings import Settings

RESOURCE_CLASSES = "vacancy.resource_classes"
"""The entry point group by which another package adds a resource class: NAME = module:Class."""

CLASS_AUDITORS = "vacancy.class_auditors"
"""The entry point group by which it adds the class's auditor, a `ClassAuditor`: NAME = module:Class."""


@cache
def installed_registry() -> Registry:
    """All classes this build has, those of installed packages included. Raises `UsageError` on a broken one."""
    return Registry(_plugins(RESOURCE_CLASSES, ResourceClass))


@cache
def installed_class_auditors() -> ClassAuditors:
    """The class auditors of this build, those of installed packages included. Raises `UsageError` on a broken one."""
    from vacancy.clients.auditor import ClassAuditor, ClassAuditors  # here, because workers do not need it

    return ClassAuditors(_plugins(CLASS_AUDITORS, ClassAuditor))


def _plugins(group: str, kind: type[Any]) -> list[Any]:
    """One object of each entry point of a group, made without arguments."""
    plugins = []
    for point in sorted(entry_points(group=group)):
        try:
            made = point.load()()
        except Exception as error:
            raise UsageError(
                f"entry point {point.name} of {group} cannot be loaded: {error}",
                where=point.value,
                do="repair or remove its package",
            ) from error
        if not isinstance(made, kind) or getattr(made, "name", "") != point.name:
            raise UsageError(
                f"entry point {point.name} of {group} is not a {kind.__name__} with that name",
                where=point.value,
                do="repair its package",
            )
        plugins.append(made)
    return plugins


def new_log(
    url: str, partitions: int, registry: Registry, *, replication: int | None = None, **client_settings: str
) -> Log:
    """Create a log with the newest rules of this build. They allow the plugins' classes installed here."""
    rules = events.Rules(version=RULES_VERSION, classes=registry.plugins)
    return create_log(
        url, partitions, opening_records(partitions, rules), replication=replication, **client_settings
    )


def opening_records(partitions: int, rules: events.Rules) -> list[NewRecord]:
    """The first record of each partition of a new log: `log.opened` with these rules."""
    name = uuid4().hex
    return [
        NewRecord(
            cell,
            events.encode(
                events.LogOpened(
                    id=f"{name}-{partition}",
                    source="/vacancy/log",
                    data=events.LogOpenedData(
                        log=name, partition=partition, partitions=partitions, rules=rules
                    ),
                )
            ),
        )
        for partition, cell in enumerate(covering_cells(partitions))
    ]


def tick_entry(partition: int, partitions: int) -> NewRecord:
    """A tick for a partition: it advances log time there."""
    tick = events.Tick(id=uuid4().hex, source="/vacancy/worker")
    return NewRecord(covering_cells(partitions)[partition], events.encode(tick))


def answer_entry(partition: int, partitions: int, store: str, answer: RulesAnswer) -> NewRecord:
    """The answer of a store to proposed rules. It names this host."""
    data = events.RulesSupportedData(
        proposal=answer.proposal, store=store, host=socket.gethostname()[:255], missing=answer.missing
    )
    event = events.RulesSupported(id=uuid4().hex, source="/vacancy/worker", data=data)
    return NewRecord(covering_cells(partitions)[partition], events.encode(event))


def mark_entry(partition: int, store: Store) -> NewRecord:
    """A mark for a partition: it asks all stores for their digests. It names this host."""
    data = events.StateMarkedData(store=store.id, host=socket.gethostname()[:255])
    event = events.StateMarked(id=uuid4().hex, source="/vacancy/worker", data=data)
    return NewRecord(covering_cells(store.partitions)[partition], events.encode(event))


def digest_entry(partition: int, store: Store) -> NewRecord | None:
    """What an open store says of a partition in the log: its digest at a boundary. It names this host and this build. None
    where it has nothing new to say."""
    found = store.unsaid_digest(partition)
    if found is None:
        return None
    data = events.StateDigestedData(
        store=store.id,
        host=socket.gethostname()[:255],
        build=version("vacancy")[:64],
        position=found.position,
        digest=found.digest,
    )
    event = events.StateDigested(id=uuid4().hex, source="/vacancy/worker", data=data)
    return NewRecord(covering_cells(store.partitions)[partition], events.encode(event))


def followers_of(settings: Settings) -> Callable[[], Mapping[str, bool]] | None:
    """A function that returns the stores whose workers follow the log of these settings, and whether a worker of each runs.
    None for a log whose workers are not known: only those of Kafka form consumer groups."""
    place = parse_log_url(settings.log)
    if place.scheme != "kafka":
        return None

    def followers() -> Mapping[str, bool]:
        from vacancy.streams.faust.group import (
            following_stores,
        )  # here, because other logs do not need Kafka's client

        return following_stores(place, settings.kafka)

    return followers


def open_store(path: Path, log: Log, registry: Registry, *, bulk: bool = False) -> Store:
    """Open the store at `path` for writing and check it against its log. `bulk`: see `Store`.

    Raises `StoreMismatch` if the store was folded from another log, and `LogError` if the log ends before the store's
    position or no longer has the records after it.
    """
    store = unchecked_store(path, log, registry, bulk=bulk)
    try:
        start, end = log.start(), log.end()
        for partition, position in store.position().items():
            check_position(log, store, partition, position, start=start, end=end)
    except BaseException:
        store.close()
        raise
    return store


def unchecked_store(path: Path, log: Log, registry: Registry, *, bulk: bool = False) -> Store:
    """The store at `path` for writing, as `open_store`, but no partition is opened yet, and no position is checked."""
    identity = log.identity()
    return Store(
        path,
        log=identity.log,
        partitions=identity.partitions,
        registry=registry,
        first_rules=_first_rules(path, log),
        bulk=bulk,
    )


def _first_rules(path: Path, log: Log) -> int:
    """The version of the rules with which the log begins. 1 where no partition has to be made, as the first record may be in
    an archive that nobody needs then; and where it cannot be read: that is reported where it is folded."""
    if all(is_made(path, partition) for partition in range(log.partitions)):
        return 1
    with contextlib.suppress(VacancyError):
        for partition, offset in log.start().items():
            for record in log.read(partition, offset, 1, timeout_s=1.0):
                return opening_rules_version(record)
    return 1


def worker_parts(
    log: Log, path: Path, digest_interval: DigestInterval = DIGEST_INTERVAL, *, tracing: bool | None = None
) -> WorkerParts:
    """The parts of a worker on the store at `path`, which several workers may share. No partition is opened yet. `tracing`: see
    `live_parts`; None: as the settings in force say."""
    if tracing is None:
        from vacancy.streams.settings import load_settings

        tracing = load_settings().tracing
    return live_parts(unchecked_store(path, log, installed_registry()), digest_interval, tracing=tracing)


def live_parts(
    store: Store, digest_interval: DigestInterval = DIGEST_INTERVAL, *, tracing: bool = False
) -> WorkerParts:
    """The parts of a worker on an open store: it logs contested nodes and stores that differ, appends ticks, answers proposed
    rules, compares digests, makes the checkpoints that snapshots need, and closes the store where another one takes its
    place (`StoreReleased`). With `tracing` it makes spans of the verdicts on traced claims; raises `UsageError` without the extra
    `otel`."""
    from vacancy.clients.runtime.contested_log import ContestedLog  # here, because only workers log
    from vacancy.clients.runtime.difference_log import log_difference
    from vacancy.clients.runtime.state_digester import StateDigester
    from vacancy.projections.snapshots.checkpoints import CheckpointServer

    checkpoints, swap, digester = CheckpointServer(store), SwapWatch(store.path), StateDigester(store)

    def between_commits() -> None:
        swap.check()
        checkpoints.answer()
        digester.step()

    if tracing:
        from vacancy.clients.tracing.switch import verdict_tracing

        store.on_judged = verdict_tracing(store.id)
    store.judged = {}
    store.on_contested = ContestedLog()
    store.on_difference = log_difference
    store.on_release = digester.release
    if digest_interval.seconds:
        store.on_boundary = digester.take
    return WorkerParts(
        store,
        lambda partition: tick_entry(partition, store.partitions),
        lambda partition, answer: answer_entry(partition, store.partitions, store.id, answer),
        between_commits,
        DigestEntries(
            lambda partition: digest_entry(partition, store),
            store.marked,
            lambda partition: mark_entry(partition, store),
        ),
        digest_interval,
    )
