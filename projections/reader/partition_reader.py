"""One partition's tables, read while another process writes them.

A RocksDB secondary of the worker's directory. `catch_up` returns what was committed since; between two calls
nothing moves, so whatever is read belongs to one position. `follow` is the same in a tenth of the time, for the
tables that are fed: it takes the feed's entries from the ring, and keeps the rows in them before those of the
secondary until it has caught up again.

A secondary that had read a part of the write-ahead log keeps those rows in memory, before the newer ones that a
flush wrote to files, until the new log has rows of their family: its position would run ahead of its rows.
So it is opened again when the worker has flushed, or when a log was deleted while it was read; and when the directory
was opened for writing again, or is another one: its files may have the names of those that were read.

A store may lose its last commits, and its next writer gives their numbers in the feed to others. So each opening for
writing is an epoch. In a new one a reader checks that what it has read is a beginning of what there is, by the
position and the checksum of the record before it; and it takes entries only where they start at its position.
Otherwise everything is loaded again.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from random import uniform
from time import monotonic, sleep, time
from typing import NamedTuple, TypeVar

from msgspec.structs import replace
from rocksdict import Rdict

from vacancy.projections.changefeed.entries import FeedEntry, decode_entry, joins
from vacancy.projections.changefeed.shared_ring import RingReader
from vacancy.projections.reader.overlay import Overlay
from vacancy.projections.store.integrity import (
    check_feed,
    check_manifest,
    check_tables,
    feed_hole,
    read_metadata,
)
from vacancy.projections.store.metadata import FEED_FAMILY, LOCAL_FAMILY, MetadataRow
from vacancy.projections.store.partition_store import families, supported_rules
from vacancy.projections.store.rocksdb import (
    check_files,
    existing_families,
    open_secondary,
    scan,
    scan_chunks,
    scratch_directory,
    translated,
)
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.errors import StoreError
from vacancy.resources.state.rule_set import RulesVersions
from vacancy.resources.state.tables import ALLOCATIONS, VERDICTS, Table

Row = TypeVar("Row")

TRUST_S = 0.05
"""How long a silent ring is believed by `catch_up`."""

SILENT_S = 5.0
"""The same by `follow`. A ring that gets new entries is believed: its entries are numbered, so none can be missing."""

FOLLOW_S = 20.0
"""About how long a reader follows the ring alone. A secondary that catches up replays all that was written since,
unless the writer has flushed it meanwhile: then it is opened again, at the writer's position."""

CHUNK_ROWS = 20_000
"""Rows of a table that are loaded at a time."""

NEWER_MAX = 50_000
"""Rows from the ring after which the reader asks RocksDB earlier than that."""

_NOT_KEPT = frozenset((VERDICTS.name, ALLOCATIONS.name))
"""Tables that are fed and not kept: a scheduler receives each verdict, and rarely reads one; which consumers changed is what an
index of them needs (`clients.transactions.consumer_index`)."""

_NEVER = float("-inf")
_SEQUENCE = struct.Struct(">Q")
_TRIES = 5
_SWEEP_S = 0.2
_OPEN_S = 2.0
"""How long an opening that fails is tried again, and that many times at least: on a busy machine one may take as long."""

_OPEN_AGAIN_S = 0.005
_SETTLED_S = 10.0
_FLUSHED = "rocksdb.min-log-number-to-keep"
"""A number that changes with each flush, because the write-ahead logs before it are of no more use."""


class _Tables(NamedTuple):
    """An open secondary: the directory's identity then, the database, its tables by name, and a number that changes
    with each flush."""

    identity: tuple[int, int, int]
    db: Rdict
    families: dict[str, Rdict]
    flushed: int | None

    def close(self) -> None:
        """Close the tables."""
        for db in (*self.families.values(), self.db):
            db.close()


class PartitionReader:
    """Raises `StoreError` where the directory cannot be read."""

    def __init__(self, path: Path, registry: Registry, versions: RulesVersions = RULES_VERSIONS) -> None:
        self.path = path
        self._registry = registry
        self._versions = versions
        self._known = families(registry, versions.newest)
        self._scratch = scratch_directory()
        self._current = path / "CURRENT"
        self._left_out: set[str] = set()
        self._ring = RingReader(path)
        self._newer = Overlay(leave_out=_NOT_KEPT)
        # Those of all partitions should not ask at the same moment.
        self._follow_s = FOLLOW_S * uniform(0.75, 1.25)
        try:
            self._open()
            self.local = self._read_local()
            check_feed(path, self._tables.families[FEED_FAMILY], self.local)
        except BaseException:
            self._ring.close()
            self._scratch.cleanup()
            raise
        self._asked_at = self._received_at = self._heard_at = 0.0

    def catch_up(self) -> list[FeedEntry] | None:
        """What was committed since the last call, oldest first; None where the feed no longer reaches back that
        far, or the store is another one: then reload everything."""
        if (
            self._received_at <= self._asked_at
            and self._ring.look() == (self.local.feed_next, self.local.epoch)
            and monotonic() - self._asked_at < TRUST_S
        ):
            return []
        return self._ask()

    def follow(self) -> list[FeedEntry] | None:
        """As `catch_up`, but rows of tables that are not fed, and those of `_NOT_KEPT`, may stay as they were then, and scans do."""
        before, now = self.local, monotonic()
        if now - self._asked_at < self._follow_s:
            heard, epoch = self._ring.look()
            if heard == before.feed_next and epoch == before.epoch and now - self._heard_at < SILENT_S:
                return []
            if epoch != before.epoch or len(self._newer) >= NEWER_MAX:
                return self._ask()
            received = self._ring.entries(before.feed_next, heard, epoch)
            if received is not None:
                entries = list(map(decode_entry, received))
                last = entries[-1]
                # Other rules have other tables, which are opened where RocksDB is asked.
                if last.rules_version == before.rules_version and joins(before.position, entries):
                    self._received_at = self._heard_at = now
                    for entry in entries:
                        self._newer.add(entry)
                    self.local = replace(
                        before, position=last.position, checksum=last.checksum, feed_next=heard
                    )
                    return entries
        return self._ask()

    def _ask(self) -> list[FeedEntry] | None:
        """New entries, from RocksDB."""
        now, self._asked_at = monotonic(), _NEVER  # until it has answered
        self._ring.check_path()
        entries = self._answer()
        self._asked_at = self._heard_at = now
        self._newer.clear()
        return entries

    def _answer(self) -> list[FeedEntry] | None:
        before = self.local
        for _ in range(_TRIES):
            logs = self._names(".log")
            with translated(self.path):
                identity = self._tables.identity
                same = self._identity() == identity
                if same:
                    try:
                        self._tables.db.try_catch_up_with_primary()
                    except Exception:
                        # Another store was put in place at this moment.
                        if self._identity() == identity:
                            raise
                        same = False
                flushed = self._tables.db.property_int_value(_FLUSHED) != self._tables.flushed
                # The manifest is read first, then the logs: a flush between the two takes away the end of a log, and
                # the note that its rows are in a file now was not read yet.
                if not same or flushed or not logs <= self._names(".log"):
                    self._reopen()
            local = self._read_local()
            if local.rules_version != before.rules_version and not self._needed(local) <= set(
                self._tables.families
            ):
                self._reopen()
                local = self._read_local()
            if not self._continues(before, local):
                self.local = local
                return None
            entries = self._entries(before.feed_next, local.feed_next)
            if entries is not None:
                self.local = local
                end = entries[-1].position if entries else before.position
                return entries if joins(before.position, entries) and end == local.position else None
        raise feed_hole(self.path, before.feed_next)

    def _continues(self, before: MetadataRow, local: MetadataRow) -> bool:
        """Whether what was read before is a beginning of what the store has, and the feed has the rest."""
        # A directory that was empty when it was opened has no store's id yet.
        if (
            before.store not in ("", local.store)
            or not local.feed_first <= before.feed_next <= local.feed_next
        ):
            return False
        if local.epoch == before.epoch:
            return True
        if before.feed_next == local.feed_next:
            return (before.position, before.checksum) == (local.position, local.checksum)
        if before.feed_next == 0:
            return True
        last = self._entries(before.feed_next - 1, before.feed_next)
        return last is not None and (last[0].position, last[0].checksum) == (
            before.position,
            before.checksum,
        )

    def get(self, table: Table[Row], key: bytes) -> Row | None:
        """A row as of the last `catch_up` or, of a table that is fed and is not one of `_NOT_KEPT`, `follow`."""
        data = self.get_bytes(table, key)
        return None if data is None else table.decode(data)

    def get_bytes(self, table: Table[Row], key: bytes) -> bytes | None:
        """As `get`, encoded."""
        newer = self._newer.of(table.name)
        if key in newer:
            return newer[key]
        db = self._tables.families.get(table.family)
        if db is None:  # the rules do not have it yet, or no worker has this plugin
            return None
        with translated(self.path):
            data: bytes | None = db.get(key)
        return data

    def scan(self, family: str, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """(key, encoded row) of a family, by key, from `start` on."""
        db = self._tables.families.get(family)
        if db is not None:
            with translated(self.path):
                yield from scan(db, start)

    def chunks(self, family: str) -> Iterator[list[tuple[bytes, bytes]]]:
        """All of `scan`, faster, in lists of up to `CHUNK_ROWS`: a whole table at once would take several times the memory
        of the view that is made of it."""
        db = self._tables.families.get(family)
        if db is not None:
            with translated(self.path):
                yield from scan_chunks(db, CHUNK_ROWS)

    def close(self) -> None:
        """Close the directory."""
        self._ring.close()
        self._tables.close()
        self._scratch.cleanup()

    def _open(self, *, settled_s: float = 0.0) -> None:
        """Open the directory. Where that fails, what was open before stays."""
        heard = self._ring.look()
        for tries_left in reversed(range(_TRIES)):
            tables = self._opened()
            try:
                local = read_metadata(self.path, tables.families) or MetadataRow("")
                check_manifest(self.path, local)
                lacks = not self._needed(local) <= set(tables.families)
                if lacks and not tries_left:
                    check_tables(self.path, tables.families, self._needed(local))
                if not lacks:  # else they came after their names were read
                    self._check_whole(tables, local, heard, settled_s)
                    self._tables = tables
                    self._get_entry = tables.families[FEED_FAMILY].get
                    return
            except BaseException:
                tables.close()
                raise
            tables.close()

    def _identity(self) -> tuple[int, int, int]:
        """What another opening for writing changes, and another directory at this path."""
        try:
            found = os.stat(self._current)  # noqa: PTH116 - at each catch-up
        except FileNotFoundError:  # another store is being put in place, and there is none for a moment
            sleep(_OPEN_AGAIN_S)
            found = os.stat(self._current)  # noqa: PTH116
        return found.st_ino, found.st_mtime_ns, found.st_dev

    def _needed(self, local: MetadataRow) -> set[str]:
        """The tables of the rules that the store follows. A plugin's class is none: the worker may do without it. Raises
        `StoreMismatch` where this build does not support those rules."""
        rules = supported_rules(local.rules_version, self._versions, self.path)
        return set(families(self._registry, rules)).difference(self._registry.plugins)

    def _reopen(self) -> None:
        before = self._tables
        self._open(settled_s=_SETTLED_S)
        before.close()

    def _check_whole(
        self, tables: _Tables, local: MetadataRow, heard: tuple[int, int], settled_s: float
    ) -> None:
        """A secondary passes over files that do not read back, and shows what there was before them. Where it leaves
        out files that are not being written, or has fewer commits than the ring published, find the reason."""
        used = {str(file["name"]).lstrip("/") for file in tables.db.live_files()}
        left_out = {name for name in self._names(".sst", settled_s) if name not in used} - self._left_out
        if not left_out and (local.feed_next >= heard[0] or local.epoch != heard[1]):
            return
        for tries_left in reversed(range(_TRIES)):
            try:
                check_files(self.path, tuple(tables.families), (FEED_FAMILY,))
                break
            except StoreError:  # perhaps only because the worker took away what it no longer needs
                if not tries_left:
                    raise
                sleep(_OPEN_AGAIN_S)
        self._left_out |= left_out  # a killed worker's, half done

    def _opened(self) -> _Tables:
        """The directory as it is now, whole, with the tables in it that this build knows."""
        started, tries = monotonic(), 0
        while True:
            tries += 1
            logs = self._names(".log")
            try:
                with translated(self.path):
                    identity = self._identity()
                there = existing_families(self.path)
                check_tables(self.path, there, (LOCAL_FAMILY, FEED_FAMILY))
                names = tuple(name for name in self._known if name in there)
                db = open_secondary(self.path, names, self._scratch.name, (FEED_FAMILY,))
            except StoreError:
                # A worker that was just started may have swept up what was to be opened.
                if tries >= _TRIES and monotonic() - started > _SWEEP_S:
                    raise
            else:
                if logs <= self._names(".log") and self._is_still(identity):
                    with translated(self.path):
                        tables = {name: db.get_column_family(name) for name in names}
                        return _Tables(identity, db, tables, db.property_int_value(_FLUSHED))
                db.close()  # a flush took a log away, perhaps before it was read here
                if tries >= _TRIES and monotonic() - started > _OPEN_S:
                    raise StoreError(
                        f"the worker flushed whenever the store was opened, for {_OPEN_S:g} s",
                        where=str(self.path),
                        do="try again",
                    )
            sleep(_OPEN_AGAIN_S)

    def _names(self, suffix: str, settled_s: float = 0.0) -> set[str]:
        """Files of the directory that were not written to for so long."""
        with translated(self.path):
            names = {name for name in os.listdir(self.path) if name.endswith(suffix)}  # noqa: PTH208 - at each catch-up
        return {name for name in names if self._is_settled(name, settled_s)} if settled_s else names

    def _is_settled(self, name: str, settled_s: float) -> bool:
        try:
            return (self.path / name).stat().st_mtime < time() - settled_s
        except FileNotFoundError:
            return False

    def _is_still(self, identity: tuple[int, int, int]) -> bool:
        with translated(self.path):
            return self._identity() == identity

    def _read_local(self) -> MetadataRow:
        return read_metadata(self.path, self._tables.families) or MetadataRow("")

    def _entries(self, first: int, end: int) -> list[FeedEntry] | None:
        found = []
        for number in range(first, end):
            with translated(self.path):
                data = self._get_entry(_SEQUENCE.pack(number))
            if data is None:
                return None
            found.append(decode_entry(data))
        return found
