"""The store as its many readers see it: all partitions, one view, one position."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from vacancy.projections.changefeed.bells import bell_path
from vacancy.projections.changefeed.entries import FeedEntry, joined, verdicts
from vacancy.projections.changefeed.shared_ring import ring_path
from vacancy.projections.reader.partition_reader import PartitionReader
from vacancy.projections.store.manifest import FILE, Manifest, read_manifest
from vacancy.projections.store.store import partition_path
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.errors import StoreError, StoreMismatch
from vacancy.resources.model.events import Envelope
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.state.rule_set import RulesVersions
from vacancy.resources.state.tables import (
    CUSTOM_FAMILY,
    GROUPS,
    MACHINES,
    NODES,
    PARTITION,
    PARTITION_KEY,
    PROVIDERS,
    ClassTable,
    Table,
)
from vacancy.resources.state.tables import key as key_of

Row = TypeVar("Row")

Listener = Callable[[Sequence[tuple[bytes, bytes]]], None]
"""Receives verdicts: (key, encoded row)."""

Watcher = Callable[[str, Sequence[bytes]], None]
"""Receives the name of a table and keys of rows that changed; an empty name where any row may have changed."""

_log = logging.getLogger("vacancy.reader")

LEFT_OUT_S = 600.0
"""How often a reader that left names out loads its view again: perhaps there is memory for them now."""

_LOOK_AGAIN_S = 1.0
"""How often a reader checks whether the store was rebuilt, or has a new partition."""


class StoreReader:
    """Reads a store that a worker writes, or that stands still. Opening one raises `StoreError`.

    `catch_up` moves to the newest commit; until the next call everything read is as of `position`.
    New verdicts are passed to each listener (`listening`). `view_memory_mb` bounds the memory of the view's columns (None: in
    proportion to the fleet); `view.memory` shows what they use, and a warning is logged when names are left out. With
    `partitions`, only these are read; the others count as empty. With `still` nobody writes the store, as one of the past
    (`clients.history`): `catch_up` and `follow` cost nothing, and log time is the present.
    """

    def __init__(
        self,
        path: Path,
        registry: Registry,
        *,
        with_view: bool = True,
        versions: RulesVersions = RULES_VERSIONS,
        view_memory_mb: int | None = None,
        partitions: Collection[int] | None = None,
        still: bool = False,
    ) -> None:
        self.path = path
        self.registry = registry
        self.versions = versions
        self._not_in_view = _tables_beyond_view(versions)
        self._events = {rules.version: frozenset(rules.event_models) for rules in versions}
        self.with_view = with_view
        self._view_memory_mb = view_memory_mb
        self._loaded_at = 0.0
        self._left_out = 0
        self._only = partitions
        self.still = still
        self._partitions: dict[int, PartitionReader] = {}
        self._listeners: list[Listener] = []
        self._watchers: list[Watcher] = []
        self._behind = False
        self._times: dict[int, int] = {}
        self._position: dict[int, int] | None = None
        self.manifest = self._read_manifest()
        self._looked_at = 0.0
        self._stamp = self._look()
        self.view = FleetView(registry, self._class_row, view_memory_mb)
        try:
            self._open_partitions()
            self._load()
        except BaseException:
            self.close()
            raise

    # -- position -----------------------------------------------------------------------------------------------

    @property
    def position(self) -> dict[int, int]:
        """Partition -> next offset, as of the last `catch_up`."""
        if self._position is None:
            self._position = self._read_position()
        return self._position

    def _read_position(self) -> dict[int, int]:
        return {
            p: r.local.position if (r := self._partitions.get(p)) else 0
            for p in range(self.manifest.partitions)
        }

    def bell(self, claims: str) -> Path:
        """The file by which the worker announces the verdicts of claims whose ids have this beginning (`changefeed.bells`)."""
        return bell_path(self.path, claims.encode())

    def log_time_ms(self, partition: int) -> int:
        """A partition's log time as of the last `catch_up`, 0 before its first record."""
        return self._times.get(partition, 0)

    def takes(self, partition: int, event: type[Envelope]) -> bool:
        """Whether the rules of a partition allow an event, as of the last `catch_up`."""
        reader = self._partitions.get(partition)
        return reader is not None and event in self._events.get(reader.local.rules_version, ())

    @property
    def newest_ms(self) -> int:
        """The newest log time of all partitions as of the last `catch_up`, 0 before the first record."""
        return max(self._times.values(), default=0)

    def catch_up(self) -> None:
        """Move to the newest commit of every partition. Raises `StoreError`."""
        self._move(PartitionReader.catch_up)

    def follow(self) -> None:
        """As `catch_up` for those who ask all the time: the view, listeners and rows of the tables that are fed move.
        Scans, rows of other tables and verdicts may stay as of the last `catch_up`."""
        self._move(PartitionReader.follow)

    def _move(self, news: Callable[[PartitionReader], list[FeedEntry] | None]) -> None:
        if self.still and not self._behind:
            return
        now = time.monotonic()
        if now - self._looked_at > _LOOK_AGAIN_S:
            self._looked_at = now
            self._look_again()
        received: list[FeedEntry] = []
        try:
            for partition, reader in self._partitions.items():
                entries = news(reader)
                if entries is None:
                    self._behind = True
                elif entries:
                    self._position = None
                    self._times[partition] = entries[-1].time_ms
                    received += entries
        finally:  # one unreadable partition must not lose entries of the others, which come only once
            if received:
                self._feed(received)
        view = self.view
        may_have_room = view.left_out and now - self._loaded_at > LEFT_OUT_S
        if self._behind or may_have_room or (received and view.is_wasteful):
            self._load()

    @contextlib.contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """While this lasts, `listener` receives verdicts as they are read, each time before the view applies the rows that
        came with them. After a reload some may be missing: read those with `get`."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def watch(self, watcher: Watcher) -> None:
        """From now on, `watcher` receives the keys of changed rows of the tables that are fed, as they are read. It is called first
        for everything. Keep what it is given and read the rows later: it is called while the reader moves."""
        self._watchers.append(watcher)
        watcher("", ())

    def unwatch(self, watcher: Watcher) -> None:
        """End `watch`."""
        self._watchers.remove(watcher)

    # -- rows ---------------------------------------------------------------------------------------------------

    def get(self, table: Table[Row], key: bytes, *, cell: str | None = None) -> Row | None:
        """A row. Its partition is that of `cell`, or of the key's own cell."""
        name = key.partition(b"\0")[0] if cell is None else cell.encode()
        reader = self._partitions.get(partition_for(name, self.manifest.partitions))
        return None if reader is None else reader.get(table, key)

    def scan(self, table: Table[Row]) -> Iterator[tuple[int, bytes, Row]]:
        """(partition, key, row) of all rows of a table."""
        for partition, reader in sorted(self._partitions.items()):
            for key, data in reader.scan(table.family, table.prefix or None):
                if not key.startswith(table.prefix):
                    break
                yield partition, key, table.decode(data)

    def rows_of_cell(self, table: Table[Row], cell: str, start: str = "") -> Iterator[tuple[str, Row]]:
        """(id, row) of the rows of a cell, by id, whose ids begin with `start`."""
        reader = self._partitions.get(partition_for(cell.encode(), self.manifest.partitions))
        first = table.prefix + key_of(cell, start)
        skip = len(first) - len(start.encode())
        for key, data in () if reader is None else reader.scan(table.family, first):
            if not key.startswith(first):
                return
            yield key[skip:].decode(), table.decode(data)

    def raw(self, partition: int, family: str) -> Iterator[tuple[bytes, bytes]]:
        """(key, encoded row) of one family of a partition, by key."""
        reader = self._partitions.get(partition)
        return iter(()) if reader is None else reader.scan(family)

    def close(self) -> None:
        """Close all partitions."""
        for reader in self._partitions.values():
            reader.close()
        self._partitions = {}

    def __enter__(self) -> StoreReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- opening ------------------------------------------------------------------------------------------------

    def _read_manifest(self) -> Manifest:
        found = read_manifest(self.path)
        if found is None:
            raise StoreError(
                "there is no store", where=str(self.path), do="start `vacancy worker` with this --store"
            )
        missing = set(found.classes) - set(self.registry.plugins)
        if missing:
            raise StoreMismatch(
                f"the store has tables of resource class {', '.join(sorted(missing))}, which this build lacks",
                where=str(self.path),
                do="install the package that provides it",
            )
        return found

    def _look(self) -> tuple[int, int]:
        try:
            found = os.stat(self.path / FILE)  # noqa: PTH116 - once a second, and of a hot path
        except FileNotFoundError:
            return (0, 0)
        return found.st_ino, found.st_mtime_ns

    def _look_again(self) -> None:
        stamp = self._look()
        # While another store is put in place, there may be none for a moment.
        changed = stamp not in (self._stamp, (0, 0))
        if changed:
            self._stamp = stamp
            self.close()
            self.manifest = self._read_manifest()
        if len(self._partitions) < len(self._wanted()):
            changed = self._open_partitions() or changed
        if changed:
            self._behind = True  # also where loading fails, and the next call must try again
            self._load()

    def _wanted(self) -> Collection[int]:
        """The partitions that are read."""
        return range(self.manifest.partitions) if self._only is None else self._only

    def _open_partitions(self) -> bool:
        """Open the partitions that are there. Returns whether any was new."""
        new = False
        for partition in self._wanted():
            path = partition_path(self.path, partition)
            if partition in self._partitions or not path.exists():
                continue
            finished = ring_path(path).exists()  # its writer makes it last
            try:
                self._partitions[partition] = PartitionReader(path, self.registry, self.versions)
            except StoreError:
                if finished:
                    raise
                continue
            new = True
        return new

    # -- the view -----------------------------------------------------------------------------------------------

    def _load(self) -> None:
        self._position = None
        for reader in self._partitions.values():
            self._feed(reader.catch_up() or ())  # so that the rows are all as of one position
        pending, memberships = self.view.reservations, self.view.groups.reserved
        self.view = FleetView(self.registry, self._class_row, self._view_memory_mb)
        with _collector_off():
            self._load_partitions()
        self.view.loaded()
        for watcher in self._watchers:
            watcher("", ())
        self._loaded_at = time.monotonic()
        self._log_left_out()
        self.view.restore_reservations(pending)
        self.view.groups.reserved = memberships
        self._behind = False

    def _load_partitions(self) -> None:
        for partition, reader in self._partitions.items():
            self._remember_time(partition, reader)
            if self.with_view:
                self._load_partition(reader)

    def _load_partition(self, reader: PartitionReader) -> None:
        for providers in reader.chunks(PROVIDERS.family):
            self.view.load_providers(providers)
        for machines in reader.chunks(MACHINES.family):
            self.view.load_machines(machines)
        self.view.load_nodes(reader.chunks(NODES.family))
        for groups in reader.chunks(GROUPS.family):
            self.view.groups.feed(groups)
        skip = ClassTable.HEAD_BYTES
        for name in self.registry.names:
            table = self.registry.table(name)
            for items in reader.chunks(table.family):
                self.view.load_class(table, [key for key, _ in items], [data[skip:] for _, data in items])
        for items in reader.chunks(CUSTOM_FAMILY):
            customs: dict[bytes, tuple[list[bytes], list[bytes]]] = {}
            for key, data in items:
                name_bytes, _, rest = key.partition(b"\0")
                keys, values = customs.setdefault(name_bytes, ([], []))
                keys.append(rest)
                values.append(data[skip:])
            for name_bytes, (keys, values) in customs.items():
                self.view.load_class(self.registry.table(name_bytes.decode()), keys, values)

    def _remember_time(self, partition: int, reader: PartitionReader) -> None:
        row = reader.get(PARTITION, PARTITION_KEY)
        self._times[partition] = 0 if row is None else row.time_ms

    def _feed(self, entries: Sequence[FeedEntry]) -> None:
        for watcher in self._watchers:
            for entry in entries:
                for table, keys, _ in entry.images:
                    watcher(table, keys)
        if not entries or not self.with_view:
            return
        if self._listeners:
            came = verdicts(entries)
            for listener in self._listeners:
                listener(came)
        for table, keys, values in joined(entries):
            if table not in self._not_in_view:
                self.view.feed(table, keys, values)
        self._log_left_out()

    def _log_left_out(self) -> None:
        """Log once when the bound of the view's columns is reached, and once when it no longer is."""
        before, self._left_out = self._left_out, self.view.left_out
        if bool(before) == bool(self._left_out):
            return
        memory = self.view.memory
        if self._left_out:
            _log.warning(
                "the columns of %s reached their bound of %d MiB: %d names that few providers have are left out, for"
                " example %s; queries for them are refused; raise view_memory_mb, or remove names that nobody needs",
                self.path,
                memory.bytes_max // 2**20,
                memory.left_out,
                ", ".join(memory.examples),
            )
        else:
            _log.warning("the columns of %s have all names again", self.path)

    def _class_row(self, table: ClassTable, key: bytes) -> Any:
        cell = key[len(table.prefix) :].partition(b"\0")[0]
        reader = self._partitions.get(partition_for(cell, self.manifest.partitions))
        return None if reader is None else reader.get(table, key)


def _tables_beyond_view(versions: RulesVersions) -> frozenset[str]:
    """Tables that are fed and of which the view keeps nothing: readers only get rows of them."""
    viewed = {PROVIDERS.name, NODES.name, MACHINES.name, GROUPS.name}
    return frozenset(table.name for table in versions.newest.tables if table.fed) - viewed


@contextlib.contextmanager
def _collector_off() -> Iterator[None]:
    """Loading makes a million objects and no garbage: collecting meanwhile doubles its time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
