"""Replay on several cores: each process folds partitions of its own, into one store."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

from vacancy.clients.replay_tool.replay import Digest, Progress, digest, fold_up_to
from vacancy.clients.runtime.bootstrap import installed_registry, open_store
from vacancy.clients.runtime.child_process import ChildProcess, wait_for_any
from vacancy.clients.runtime.garbage_collector import spare_collector
from vacancy.projections.store.store import Store
from vacancy.resources.classes.registry import Registry
from vacancy.streams.log import open_log

_REPORT_EVERY_S = 0.2


def replay_processes(
    url: str,
    store: Path,
    registry: Registry,
    *,
    processes: int,
    progress: Progress | None = None,
    client_settings: Mapping[str, str] | None = None,
) -> Digest:
    """Like `replay` up to the log's current end, on this number of processes. Raises the error of the first that
    fails; the others are ended then."""
    settings = dict(client_settings or {})
    with open_log(url, **settings) as log, open_store(store, log, registry) as tables:
        ends = log.end()
        left = {p: end - tables.position()[p] for p, end in ends.items()}
    shares = [{p: ends[p] for p in part} for part in _deal(left, processes)]
    with ExitStack() as running:
        children = [
            running.enter_context(ChildProcess(f"replay process {number}", _run, url, store, share, settings))
            for number, share in enumerate(shares, start=1)
        ]
        _collect(children, sum(left.values()), progress)
        for child in children:
            child.join()
    return digest(store, registry)


def _deal(left: Mapping[int, int], processes: int) -> list[list[int]]:
    """Assign partitions to processes: the largest first, each to the process with the least so far."""
    shares: list[list[int]] = [[] for _ in range(min(processes, len(left)))]
    for partition in sorted(left, key=lambda p: -left[p]):
        min(shares, key=lambda share: sum(left[p] for p in share)).append(partition)
    return [share for share in shares if share]


def _collect(children: Sequence[ChildProcess], total: int, progress: Progress | None) -> None:
    """Add up the records that the processes have folded, until each has sent None at its end."""
    done = 0
    running = list(children)
    while running:
        for child in wait_for_any(running):
            folded: int | None = child.receive()
            if folded is None:
                running.remove(child)
                continue
            done += folded
            if progress is not None:
                progress(done, total)


def _run(parent: Connection, url: str, path: Path, ends: dict[int, int], settings: dict[str, str]) -> None:
    """The spawned process: sends how many records it has folded since it last did, and None at the end."""
    with open_log(url, **settings) as log:
        identity = log.identity()
        registry = installed_registry()
        with Store(path, log=identity.log, partitions=identity.partitions, registry=registry) as tables:
            spare_collector()
            folded, sent_at = 0, time.monotonic()
            for records in fold_up_to(log, tables, ends):
                folded += records
                if time.monotonic() - sent_at > _REPORT_EVERY_S:
                    parent.send(folded)
                    folded, sent_at = 0, time.monotonic()
            parent.send(folded)
    parent.send(None)
