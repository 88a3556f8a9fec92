"""Replay on several cores: each process folds partitions of its own, into one store."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection, wait
from pathlib import Path

from vacancy.clients.replay_tool.replay import Digest, Progress, digest, fold_up_to
from vacancy.clients.runtime.bootstrap import installed_registry, open_store
from vacancy.clients.runtime.garbage_collector import spare_collector
from vacancy.projections.store.store import Store
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import VacancyError
from vacancy.streams.log import open_log

_TOLD_EVERY_S = 0.2
_spawn = multiprocessing.get_context("spawn")


def replay_processes(
    url: str,
    store: Path,
    registry: Registry,
    *,
    processes: int,
    progress: Progress | None = None,
    client_settings: Mapping[str, str] | None = None,
) -> Digest:
    """As `replay`, up to the log's end as it is now, with so many processes. Raises what any of them raised."""
    settings = dict(client_settings or {})
    with open_log(url, **settings) as log, open_store(store, log, registry) as tables:
        ends = log.end()
        left = {p: end - tables.position()[p] for p, end in ends.items()}
    shares = [{p: ends[p] for p in part} for part in _deal(left, processes)]
    pipes: list[Connection] = []
    workers = []
    for share in shares:
        here, there = _spawn.Pipe(duplex=False)
        worker = _spawn.Process(target=_run, args=(there, url, store, share, settings))
        worker.start()
        there.close()
        pipes.append(here)
        workers.append(worker)
    try:
        _hear(pipes, sum(left.values()), progress)
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
    return digest(store, registry)


def _deal(left: Mapping[int, int], processes: int) -> list[list[int]]:
    """Partitions to processes: the largest first, each to the one that has least so far."""
    shares: list[list[int]] = [[] for _ in range(min(processes, len(left)))]
    for partition in sorted(left, key=lambda p: -left[p]):
        min(shares, key=lambda share: sum(left[p] for p in share)).append(partition)
    return [share for share in shares if share]


def _hear(pipes: list[Connection], total: int, progress: Progress | None) -> None:
    """Add up what the processes tell, until each has ended. Raises what one of them failed with."""
    done = 0
    open_pipes = list(pipes)
    while open_pipes:
        for pipe in wait(open_pipes):
            assert isinstance(pipe, Connection)  # noqa: S101 - nothing else was waited for
            try:
                told = pipe.recv()
            except EOFError:
                raise VacancyError(
                    "a replay process ended before it was done", do="see its output above"
                ) from None
            if told is None:
                open_pipes.remove(pipe)
            elif isinstance(told, str):
                raise VacancyError(told)
            else:
                done += told
                if progress is not None:
                    progress(done, total)


def _run(pipe: Connection, url: str, path: Path, ends: dict[int, int], settings: dict[str, str]) -> None:
    registry = installed_registry()
    try:
        with open_log(url, **settings) as log:
            identity = log.identity()
            with Store(path, log=identity.log, partitions=identity.partitions, registry=registry) as tables:
                spare_collector()
                folded, told_at = 0, time.monotonic()
                for records in fold_up_to(log, tables, ends):
                    folded += records
                    if time.monotonic() - told_at > _TOLD_EVERY_S:
                        pipe.send(folded)
                        folded, told_at = 0, time.monotonic()
                pipe.send(folded)
    except VacancyError as error:
        pipe.send(str(error))
    else:
        pipe.send(None)
