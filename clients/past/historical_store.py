"""The tables as they were at a position: a store in a cache, made of the nearest snapshot and the records after it.

A store of the cache that is at an earlier position serves as well as a snapshot: its files are linked, not copied. Nothing
here writes to the log or to the store of a worker.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from vacancy.clients.past.points import Point, check_position_exists, parse_point, point_text, resolve
from vacancy.clients.past.store_cache import Lease, StoreCache
from vacancy.clients.replay_tool.parallel import default_processes, replay_processes
from vacancy.clients.replay_tool.replay import BULK_RECORDS, fold_up_to
from vacancy.clients.runtime.bootstrap import unchecked_store
from vacancy.projections.changefeed.shared_ring import ring_path
from vacancy.projections.snapshots.manifest import SnapshotManifest
from vacancy.projections.snapshots.restoring import check_supported, restore_files
from vacancy.projections.snapshots.storage import SnapshotStorage
from vacancy.projections.store.manifest import FORMAT
from vacancy.projections.store.rocksdb import DIRECTORY_MODE, translated
from vacancy.projections.store.store import partition_path
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.errors import LogError, StoreError
from vacancy.streams.log import Log, open_log
from vacancy.streams.log_identity import LogIdentity
from vacancy.streams.worker.position_check import check_position

if TYPE_CHECKING:
    from vacancy.streams.settings import Settings

Progress = Callable[[int, int], None]
"""Called with (records folded, records in total) after each batch."""

_log = logging.getLogger("vacancy.history")


class HistoricalStore:
    """A store at `path` that is exactly at `position` (partition -> next offset). It stays as it is until this is closed;
    later another call may remove it. Open it with `StoreReader(still=True)`."""

    def __init__(self, path: Path, position: Mapping[int, int], lease: Lease) -> None:
        self.path = path
        self.position = dict(position)
        self._lease = lease

    def close(self) -> None:
        """Let it be removed when there is no room for it."""
        self._lease.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Base(NamedTuple):
    """Tables of an earlier position to start with: a snapshot, or the key of a store of the cache. None: no tables."""

    position: Mapping[int, int]
    source: SnapshotManifest | str | None


class Processes(NamedTuple):
    """Other processes that fold: how they open the log, and how many (None: as many as there are cores, if there is enough to
    fold)."""

    url: str
    client_settings: Mapping[str, str]
    number: int | None = None


class HistoricalStores:
    """Makes tables of the past of one log, and keeps them in `cache`. `storage` are the snapshots to start with. Without
    `processes` all is folded in this process; a program that lets others fold must guard its main module, as for every use of
    `multiprocessing` that spawns."""

    def __init__(
        self,
        log: Log,
        registry: Registry,
        cache: StoreCache,
        storage: SnapshotStorage | None = None,
        *,
        processes: Processes | None = None,
    ) -> None:
        self._processes = processes
        self._log, self._registry, self._cache, self._storage = log, registry, cache, storage
        rules = RULES_VERSIONS.newest.version
        self._build = json.dumps([FORMAT, rules, *registry.plugins])

    def at(self, position: Mapping[int, int], progress: Progress | None = None) -> HistoricalStore:
        """The tables at a position, which names all partitions.

        Raises `UsageError` for a position that does not exist; `LogError`, with the earliest position that can be had, where
        the log no longer has records that are needed; `StoreError`; `Halt` where this build does not support the rules of
        that time.
        """
        identity = self._log.identity()
        check_position_exists(position, self._log)
        what = [self._build, identity.log, sorted(position.items())]
        key = blake2b(json.dumps(what).encode(), digest_size=16).hexdigest()
        lease = self._cache.get_or_make(
            key,
            identity.log,
            self._build,
            position,
            lambda into: self._make(identity, position, into, progress),
        )
        return HistoricalStore(self._cache.store_path(key), position, lease)

    def nearest(self, position: Mapping[int, int]) -> dict[int, int]:
        """The latest position not after this one whose tables are there, as a snapshot or in the cache. Without one it is the
        beginning of the log. The log has the records from there on. Raises as `at` does."""
        identity, start = self._log.identity(), self._log.start()
        bases = self._bases(identity)
        usable = [one.position for one in bases if _leads_to(one.position, position, start)]
        if not usable:
            raise self._out_of_reach(position, start, bases)
        return dict(sorted(usable, key=lambda one: sum(one.values()))[-1])

    def _make(
        self, identity: LogIdentity, position: Mapping[int, int], into: Path, progress: Progress | None
    ) -> None:
        start = self._log.start()
        bases = self._bases(identity)
        usable = [one for one in bases if _leads_to(one.position, position, start)]
        if not usable:
            raise self._out_of_reach(position, start, bases)
        # The fewest records to fold; of equals, a store of the cache.
        usable.sort(key=lambda one: (-sum(one.position.values()), not isinstance(one.source, str)))
        first: StoreError | None = None
        for base in usable:
            try:
                self._begin(base, into)
            except StoreError as error:
                _log.warning("passed over: %s", error)
                first = first or error
                shutil.rmtree(into, ignore_errors=True)
                continue
            self._fold(base, position, into, start, progress)
            return
        raise first or StoreError("there are no tables to start with", where=str(into))

    def _bases(self, identity: LogIdentity) -> list[_Base]:
        """All tables to start with: none, the snapshots of the log, and the stores of the cache."""
        found = [_Base(dict.fromkeys(range(identity.partitions), 0), None)]
        found += [
            _Base(one.position, one.key)
            for one in self._cache.entries()
            if one.log == identity.log and one.build == self._build
        ]
        for snapshot in () if self._storage is None else self._storage.snapshots():
            manifest = snapshot.manifest
            if manifest is None:
                _log.warning("passed over: %s", snapshot.error)
            elif manifest.log == identity.log and len(manifest.partitions) == identity.partitions:
                found.append(_Base(manifest.position, manifest))
        return found

    def _begin(self, base: _Base, into: Path) -> None:
        """Put the tables of a base at `into`. Raises `StoreError` where they cannot be used."""
        if isinstance(base.source, str):
            lease = self._cache.get(base.source)
            if lease is None:
                raise StoreError("the store was removed meanwhile", where=base.source)
            try:
                _link_store(self._cache.store_path(base.source), into)
            finally:
                lease.close()
        elif base.source is not None and self._storage is not None:
            check_supported(base.source, f"{self._storage.url}/{base.source.id}", self._registry)
            restore_files(self._storage, base.source, into, self._registry)

    def _fold(
        self,
        base: _Base,
        position: Mapping[int, int],
        into: Path,
        start: Mapping[int, int],
        progress: Progress | None,
    ) -> None:
        total = sum(position.values()) - sum(base.position.values())
        others = self._processes
        count = 1 if others is None else others.number or default_processes(total)
        if (
            others is not None
            and count > 1
            and all(base.position[p] >= offset for p, offset in start.items())
        ):
            replay_processes(
                others.url,
                into,
                self._registry,
                processes=count,
                until=position,
                progress=progress,
                client_settings=others.client_settings,
            )
        else:
            self._fold_here(position, into, start, total, progress)
        for partition in position:
            # Nobody will write it, so nobody needs its 4 MiB. Its name says that the partition is whole.
            os.truncate(ring_path(partition_path(into, partition)), 0)

    def _fold_here(
        self,
        position: Mapping[int, int],
        into: Path,
        start: Mapping[int, int],
        total: int,
        progress: Progress | None,
    ) -> None:
        end, done = self._log.end(), 0
        with unchecked_store(into, self._log, self._registry, bulk=total >= BULK_RECORDS) as tables:
            for partition, at in tables.position().items():
                # Where the log has lost the next record, nothing is folded, and there is nothing to compare with.
                if at >= start[partition]:
                    check_position(self._log, tables, partition, at, start=start, end=end)
            for folded in fold_up_to(self._log, tables, position):
                done += folded
                if progress is not None:
                    progress(done, total)

    def _out_of_reach(
        self, position: Mapping[int, int], start: Mapping[int, int], bases: list[_Base]
    ) -> LogError:
        partition = next(p for p, offset in sorted(start.items()) if offset > 0 and position[p] > 0)
        reachable = [
            one.source
            for one in bases
            if isinstance(one.source, SnapshotManifest) and all(one.position[p] >= start[p] for p in start)
        ]
        earliest = min(reachable, key=lambda one: sum(one.position.values()), default=None)
        if earliest is None:
            do = "no snapshot leads there: make one (`vacancy snapshot create`), so that later positions can be had"
        else:
            do = f"the earliest position that can be had is {point_text(earliest.position)}, that of snapshot {earliest.id}"
        return LogError(
            f"the log no longer has records that the tables at {point_text(position)} are made of",
            where=f"{self._log.name}, partition {partition}, log holds {start[partition]} to {self._log.end()[partition]}",
            do=f"{do}; or name the log's archive with --archive",
        )


def _leads_to(base: Mapping[int, int], position: Mapping[int, int], start: Mapping[int, int]) -> bool:
    """Whether the log has the records from a base to a position, and there is nothing in it that comes after."""
    return all(
        base.get(p, 0) == offset or start[p] <= base.get(p, 0) < offset for p, offset in position.items()
    )


def _link_store(store: Path, into: Path) -> None:
    """Copy a store that nobody writes. Files with rows are never changed, so they are linked."""
    with translated(into):
        into.mkdir(DIRECTORY_MODE)
        for path in sorted(store.rglob("*")):
            target = into / path.relative_to(store)
            if path.is_dir():
                target.mkdir(DIRECTORY_MODE)
            elif path.suffix == ".sst":
                os.link(path, target)
            elif path.name != "LOCK":
                shutil.copyfile(path, target)


def open_stores(
    log: Log, settings: Settings, registry: Registry, *, in_parallel: bool = False
) -> HistoricalStores:
    """The tables of the past of a log, with the cache and the snapshots of these settings. With `in_parallel` other processes
    fold, too, where there is much to fold."""
    cache = StoreCache(
        settings.history, stores_max=settings.history_stores, bytes_max=settings.history_mb * 2**20
    )
    processes = Processes(settings.log, settings.log_options) if in_parallel else None
    return HistoricalStores(log, registry, cache, SnapshotStorage(settings.snapshots), processes=processes)


def historical_store(
    settings: Settings,
    registry: Registry,
    as_of: str | Point | Mapping[int, int],
    *,
    progress: Progress | None = None,
    in_parallel: bool = False,
) -> HistoricalStore:
    """The tables of the log of these settings as of a point, or as of a position of all partitions. With `in_parallel` other
    processes fold, too, where there is much to fold. Raises as
    `parse_point`, `resolve` and `HistoricalStores.at` do."""
    point = parse_point(as_of) if isinstance(as_of, str) else as_of
    with ExitStack() as opened:
        log = opened.enter_context(open_log(settings.log, **settings.log_options))
        position = resolve(point, log) if isinstance(point, Point) else point
        return open_stores(log, settings, registry, in_parallel=in_parallel).at(position, progress)
