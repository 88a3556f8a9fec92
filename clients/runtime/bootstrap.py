"""How the rooms are joined: classes from plugins, a log that is made or opened, a store to read or to write."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from uuid import uuid4

from vacancy.projections.store.store import Store
from vacancy.resources.classes.registry import RULES_VERSION, Registry
from vacancy.resources.classes.resource_class import ResourceClass
from vacancy.resources.model import events
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import Log, create_log
from vacancy.streams.position_check import check_position
from vacancy.streams.projection_protocol import WorkerParts

PLUGINS = "vacancy.resource_classes"
"""The entry point group by which another package adds a resource class: NAME = module:Class."""


@cache
def installed_registry() -> Registry:
    """All classes this build has, those of installed packages included. Raises `UsageError` on a broken one."""
    plugins = []
    for point in sorted(entry_points(group=PLUGINS)):
        try:
            made = point.load()()
        except Exception as error:
            raise UsageError(
                f"resource class {point.name} does not load: {error}",
                where=point.value,
                do="mend or remove its package",
            ) from error
        if not isinstance(made, ResourceClass) or made.name != point.name:
            raise UsageError(
                f"entry point {point.name} is not a ResourceClass of that name",
                where=point.value,
                do="mend its package",
            )
        plugins.append(made)
    return Registry(plugins)


def new_log(
    url: str, partitions: int, registry: Registry, *, replication: int | None = None, **client_settings: str
) -> Log:
    """Make a log: each partition starts with `log.opened`, whose rules allow the plugins' classes installed here."""
    name = uuid4().hex
    rules = events.Rules(version=RULES_VERSION, classes=registry.plugins)
    openings = [
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
    return create_log(url, partitions, openings, replication=replication, **client_settings)


def tick_entry(partition: int, partitions: int) -> NewRecord:
    """A tick for a partition: time passes there."""
    tick = events.Tick(id=uuid4().hex, source="/vacancy/worker")
    return NewRecord(covering_cells(partitions)[partition], events.encode(tick))


def open_store(path: Path, log: Log, registry: Registry) -> Store:
    """The store at `path`, to be written, checked against the log it follows.

    Raises `StoreMismatch` where the log is not the one it was folded from, `LogError` where the log ends before
    the store's position, or no longer has the records after it.
    """
    store = _unopened(path, log, registry)
    try:
        start, end = log.start(), log.end()
        for partition, position in store.position().items():
            check_position(log, store, partition, position, start=start, end=end)
    except BaseException:
        store.close()
        raise
    return store


def _unopened(path: Path, log: Log, registry: Registry) -> Store:
    identity = log.identity()
    return Store(path, log=identity.log, partitions=identity.partitions, registry=registry)


def worker_parts(log: Log, path: Path) -> WorkerParts:
    """What a worker on the store at `path` is given, where several may share it. No partition is opened yet."""
    store = _unopened(path, log, installed_registry())
    return WorkerParts(store, lambda partition: tick_entry(partition, store.partitions))
