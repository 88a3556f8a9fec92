"""Replay on several cores: each process folds partitions of its own, into one store."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from vacancy.clients.replay_tool.replay import (
    BULK_RECORDS,
    Digest,
    Progress,
    fold_up_to,
    remaining,
    replay,
)
from vacancy.clients.runtime.bootstrap import installed_registry, unchecked_store
from vacancy.clients.runtime.child_process import ChildProcess, wait_for_any
from vacancy.clients.runtime.garbage_collector import spare_collector
from vacancy.projections.store.digest import partition_digest, store_digest
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import VacancyError
from vacancy.streams.log import open_log

_REPORT_EVERY_S = 0.2

PROCESS_RECORDS = 10_000
"""A process is started for at least this number of records: starting one takes as long as folding them."""


class _Folded(NamedTuple):
    """Records that a process has folded since it last sent this."""

    records: int


class _Finished(NamedTuple):
    """A partition is at its end. Its digest there."""

    partition: int
    digest: str


class _Failed(NamedTuple):
    """A partition has stopped before its end."""

    partition: int
    error: VacancyError


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def default_processes(records: int) -> int:
    """How many processes fold this number of records: one a core, fewer for few records."""
    return max(1, min(cores(), records // PROCESS_RECORDS))


def replay_processes(
    url: str,
    store: Path,
    registry: Registry,
    *,
    processes: int | None = None,
    until: Mapping[int, int] | None = None,
    progress: Progress | None = None,
    on_error: Callable[[int, VacancyError], None] | None = None,
    client_settings: Mapping[str, str] | None = None,
) -> Digest:
    """Like `replay`, on this number of processes (None: `default_processes`).

    A partition that fails is reported to `on_error` at once, as (partition, error); the others go on to their ends. Then the
    first error is raised. A process that is killed ends the others.
    """
    settings = dict(client_settings or {})
    with open_log(url, **settings) as log:
        ends, left = remaining(log, store, registry, until)
        total = sum(left.values())
        count = default_processes(total) if processes is None else processes
        if count == 1:
            return replay(log, store, registry, until=ends, progress=progress)
    bulk = total >= BULK_RECORDS
    shares = [{p: ends[p] for p in part} for part in deal(left, count)]
    with ExitStack() as running:
        children = [
            running.enter_context(
                ChildProcess(f"replay process {number}", _run, url, store, share, bulk, settings)
            )
            for number, share in enumerate(shares, start=1)
        ]
        digests = _collect(children, total, progress, on_error)
        for child in children:
            child.join()
    found = tuple(digests[p] for p in sorted(ends))
    return Digest(store_digest(found), found, dict(sorted(ends.items())))


def deal(left: Mapping[int, int], processes: int) -> list[list[int]]:
    """Assign partitions to processes: the largest first, each to the process with the least so far."""
    shares: list[list[int]] = [[] for _ in range(min(processes, len(left)))]
    for partition in sorted(left, key=lambda p: -left[p]):
        min(shares, key=lambda share: (sum(left[p] for p in share), len(share))).append(partition)
    return [share for share in shares if share]


def _collect(
    children: Sequence[ChildProcess],
    total: int,
    progress: Progress | None,
    on_error: Callable[[int, VacancyError], None] | None,
) -> dict[int, str]:
    """Add up what the processes have folded, until each has sent None at its end. Returns the digests of the partitions.
    Raises the first error of a partition."""
    done = 0
    digests: dict[int, str] = {}
    failed: list[VacancyError] = []
    running = list(children)
    while running:
        for child in wait_for_any(running):
            message: _Folded | _Finished | _Failed | None = child.receive()
            if message is None:
                running.remove(child)
            elif isinstance(message, _Finished):
                digests[message.partition] = message.digest
            elif isinstance(message, _Failed):
                failed.append(message.error)
                if on_error is not None:
                    on_error(message.partition, message.error)
            else:
                done += message.records
                if progress is not None:
                    progress(done, total)
    if failed:
        raise failed[0]
    return digests


def _run(
    parent: Connection, url: str, path: Path, ends: dict[int, int], bulk: bool, settings: dict[str, str]
) -> None:
    """The spawned process: sends `_Folded`, `_Finished` and `_Failed`, and None at the end."""
    with open_log(url, **settings) as log:
        registry = installed_registry()
        with unchecked_store(path, log, registry, bulk=bulk) as tables:
            spare_collector()
            for partition, end in ends.items():
                folded, sent_at = 0, time.monotonic()
                try:
                    for records in fold_up_to(log, tables, {partition: end}):
                        folded += records
                        if time.monotonic() - sent_at > _REPORT_EVERY_S:
                            parent.send(_Folded(folded))
                            folded, sent_at = 0, time.monotonic()
                    parent.send(_Folded(folded))
                    found = partition_digest(tables.partition(partition).scan, registry)
                    tables.release(partition)  # what it has in memory is not needed any more
                    parent.send(_Finished(partition, found))
                except VacancyError as error:
                    parent.send(_Failed(partition, error))
                    tables.release(partition)
    parent.send(None)
