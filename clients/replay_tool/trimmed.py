"""Brings a store to the first record of its log: what was trimmed is folded from the log's archive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from vacancy.clients.replay_tool.parallel import replay_processes
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store.manifest import read_manifest
from vacancy.resources.classes.registry import Registry
from vacancy.streams.log import Log


def fold_trimmed(
    log: Log,
    store: Path,
    registry: Registry,
    *,
    archive: str,
    client_settings: Mapping[str, str] | None = None,
    report: Callable[[str], None],
) -> None:
    """Fold the records before the log's first one from its archive, where the store lacks some. The store is made if it is
    missing. A call that was killed is continued by the next one; `report` gets a line before it begins.

    Raises as `replay_processes` does; `LogError` also where the archive is of another log, or lacks records.
    """
    start = log.start()
    if not any(start.values()):
        return
    position = dict.fromkeys(start, 0)
    if read_manifest(store) is not None:
        with StoreReader(store, registry, with_view=False) as reader:
            position |= reader.position
    if all(position[p] >= first for p, first in start.items()):
        return
    until = {p: max(position[p], first) for p, first in start.items()}
    missing = sum(until.values()) - sum(position.values())
    report(
        f"the log was trimmed, and the store lacks {missing} of these records: folding them from {archive}"
    )
    settings = {**(client_settings or {}), "archive": archive}
    replay_processes(log.url, store, registry, until=until, client_settings=settings)
