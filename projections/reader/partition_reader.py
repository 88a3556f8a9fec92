"""One partition's tables, read while another process writes them.

A RocksDB secondary of the worker's directory. `catch_up` returns what was committed since; between two calls
nothing moves, so whatever is read belongs to one position. `follow` is the same in a tenth of the time, for the
tables that are fed: it takes the feed's entries from the ring, and keeps the rows in them before those of the
secondary until it has caught up again.

A secondary that had read a part of the write-ahead log keeps those rows in memory, before the newer ones that a
flush wrote to files, until the new log has rows of their family: its position would run ahead of its rows.
So it is opened again when the worker has flushed, or when a log was deleted while it was read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from random import uniform
from time import monotonic, sleep, time
from typing import TypeVar

from msgspec.structs import replace
from rocksdict import Rdict

from vacancy.projections.changefeed.entries import FeedEntry, decode_entry
from vacancy.projections.changefeed.shared_ring import RingReader
from vacancy.projections.reader.overlay import Overlay
from vacancy.projections.store.metadata import (
    FEED_FAMILY,
    LOCAL_FAMILY,
    LOCAL_KEY,
    MetadataRow,
    decode_metadata,
)
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
from vacancy.resources.model.errors import StoreCorrupt, StoreError
from vacancy.resources.state.rule_set import RulesVersions
from vacancy.resources.state.tables import VERDICTS, Table

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

_NOT_KEPT = frozenset((VERDICTS.name,))
"""Tables that are fed and not kept: a scheduler receives each verdict, and rarely reads one."""

_NEVER = float("-inf")
_SEQUENCE = struct.Struct(">Q")
_TRIES = 5
_SWEEP_S = 0.2
_OPEN_S = 2.0
_OPEN_AGAIN_S = 0.005
_SETTLED_S = 10.0
_FLUSHED = "rocksdb.min-log-number-to-keep"
"""A number that changes with each flush, because the write-ahead logs before it are of no more use."""


class PartitionReader:
    """Raises `StoreError` where the directory cannot be read."""

    def __init__(self, path: Path, registry: Registry, versions: RulesVersions = RULES_VERSIONS) -> None:
        self.path = path
        self._registry = registry
        self._versions = versions
        self._known = families(registry, versions.newest)
        self._families: tuple[str, ...] = ()
        self._scratch = scratch_directory()
        self._left_out: set[str] = set()
        self._ring = RingReader(path)
        self._newer = Overlay(leave_out=_NOT_KEPT)
        # Those of all partitions should not ask at the same moment.
        self._follow_s = FOLLOW_S * uniform(0.75, 1.25)
        try:
            self._open()
            self.local = self._read_local()
        except BaseException:
            self._ring.close()
            self._scratch.cleanup()
            raise
        self._asked_at = self._received_at = 0.0

    def catch_up(self) -> list[FeedEntry] | None:
        """What was committed since the last call, oldest first; None where the feed no longer reaches back that
        far, or the store is another one: then reload everything."""
        if (
            self._received_at <= self._asked_at
            and self._ring.heard() == self.local.feed_next
            and monotonic() - self._asked_at < TRUST_S
        ):
            return []
        return self._ask()

    def follow(self) -> list[FeedEntry] | None:
        """As `catch_up`, but verdicts and rows of tables that are not fed may stay as they were then, and scans do."""
        before, now = self.local, monotonic()
        if len(self._newer) < NEWER_MAX and now - self._asked_at < self._follow_s:
            heard = self._ring.heard()
            if heard == before.feed_next and now - max(self._received_at, self._asked_at) < SILENT_S:
                return []
            received = self._ring.entries(before.feed_next, heard) if heard > before.feed_next else None
            if received is not None:
                self._received_at = now
                entries = [decode_entry(data) for data in received]
                if entries[-1].rules_version != before.rules_version:
                    return self._ask()  # it opens the tables that have come
                for entry in entries:
                    self._newer.add(entry)
                self.local = replace(before, position=entries[-1].position, feed_next=heard)
                return entries
        return self._ask()

    def _ask(self) -> list[FeedEntry] | None:
        """New entries, from RocksDB."""
        now, self._asked_at = monotonic(), _NEVER  # until it has answered
        entries = self._answer()
        self._asked_at = now
        self._newer.clear()
        return entries

    def _answer(self) -> list[FeedEntry] | None:
        before = self.local
        for _ in range(_TRIES):
            logs = self._names(".log")
            with translated(self.path):
                self._db.try_catch_up_with_primary()
                flushed = self._db.property_int_value(_FLUSHED) != self._flushed
                # The manifest is read first, then the logs: a flush between the two takes away the end of a log, and
                # the note that its rows are in a file now was not read yet.
                if flushed or not logs <= self._names(".log"):
                    self._reopen()
            local = self._read_local()
            if local.rules_version != before.rules_version and self._lacks_tables(local):
                self._reopen()
                local = self._read_local()
            if local.feed_next == before.feed_next and local.store == before.store:
                self.local = local
                return []
            # A directory that was empty when it was opened has no store's id yet.
            another = before.store not in ("", local.store)
            if another or not local.feed_first <= before.feed_next <= local.feed_next:
                self.local = local
                return None
            entries = self._entries(before.feed_next, local.feed_next)
            if entries is not None:
                self.local = local
                return entries
        raise StoreCorrupt(
            f"the change feed has a hole between {before.feed_next} and {local.feed_next}",
            where=str(self.path),
            do="rebuild the store from the log: `vacancy replay --rebuild`",
        )

    def get(self, table: Table[Row], key: bytes) -> Row | None:
        """A row as of the last `catch_up` or, of a table that is fed and not of verdicts, `follow`."""
        data = self.get_bytes(table, key)
        return None if data is None else table.decode(data)

    def get_bytes(self, table: Table[Row], key: bytes) -> bytes | None:
        """As `get`, encoded."""
        newer = self._newer.of(table.name)
        if key in newer:
            return newer[key]
        db = self._dbs.get(table.family)
        if db is None:  # the rules do not have it yet, or no worker has this plugin
            return None
        with translated(self.path):
            data: bytes | None = db.get(key)
        return data

    def scan(self, family: str, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """(key, encoded row) of a family, by key, from `start` on."""
        db = self._dbs.get(family)
        if db is not None:
            with translated(self.path):
                yield from scan(db, start)

    def chunks(self, family: str) -> Iterator[list[tuple[bytes, bytes]]]:
        """All of `scan`, faster, in lists of up to `CHUNK_ROWS`: a whole table at once would take several times the memory
        of the view that is made of it."""
        db = self._dbs.get(family)
        if db is not None:
            with translated(self.path):
                yield from scan_chunks(db, CHUNK_ROWS)

    def close(self) -> None:
        """Close the directory."""
        self._ring.close()
        for db in (*self._dbs.values(), self._db):
            db.close()
        self._scratch.cleanup()

    def _open(self, *, settled_s: float = 0.0) -> None:
        heard = self._ring.heard()
        for tries_left in reversed(range(_TRIES)):
            db, self._families = self._opened()
            self._db = db
            self._dbs = {name: db.get_column_family(name) for name in self._families}
            self._get_local = self._dbs[LOCAL_FAMILY].get
            self._get_entry = self._dbs[FEED_FAMILY].get
            local = self._read_local()
            if not self._lacks_tables(local):  # else they came after their names were read
                break
            for one in (*self._dbs.values(), db):
                one.close()
            if not tries_left:
                raise StoreCorrupt(
                    f"the store lacks tables of rules version {local.rules_version}",
                    where=str(self.path),
                    do="rebuild the store from the log: `vacancy replay --rebuild`",
                )
        self._flushed = db.property_int_value(_FLUSHED)
        self._check_whole(heard, settled_s)

    def _lacks_tables(self, local: MetadataRow) -> bool:
        """Whether the rules that the store follows have tables that are not open here. A plugin's class is none: the
        worker may do without it. Raises `StoreMismatch` where this build does not support those rules."""
        rules = supported_rules(local.rules_version, self._versions, self.path)
        needed = set(families(self._registry, rules)).difference(self._registry.plugins)
        return not needed <= set(self._families)

    def _reopen(self) -> None:
        before = [*self._dbs.values(), self._db]
        self._open(settled_s=_SETTLED_S)
        for db in before:
            db.close()

    def _check_whole(self, heard: int, settled_s: float) -> None:
        """A secondary passes over files that do not read back, and shows what there was before them. Where it leaves
        out files that are not being written, or has fewer commits than the ring published, find the reason."""
        used = {str(file["name"]).lstrip("/") for file in self._db.live_files()}
        left_out = {name for name in self._names(".sst", settled_s) if name not in used} - self._left_out
        if not left_out and self._read_local().feed_next >= heard:
            return
        for tries_left in reversed(range(_TRIES)):
            try:
                check_files(self.path, self._families, (FEED_FAMILY,))
                break
            except StoreError:  # perhaps only because the worker took away what it no longer needs
                if not tries_left:
                    raise
                sleep(_OPEN_AGAIN_S)
        self._left_out |= left_out  # a killed worker's, half done

    def _opened(self) -> tuple[Rdict, tuple[str, ...]]:
        """The directory as it is now, whole, and the tables in it that this build knows."""
        started = monotonic()
        while True:
            logs = self._names(".log")
            try:
                there = existing_families(self.path)
                names = tuple(name for name in self._known if name in there)
                db = open_secondary(self.path, names, self._scratch.name, (FEED_FAMILY,))
            except StoreError:
                # A worker that was just started may have swept up what was to be opened.
                if monotonic() - started > _SWEEP_S:
                    raise
            else:
                if logs <= self._names(".log"):
                    return db, names
                db.close()  # a flush took a log away, perhaps before it was read here
                if monotonic() - started > _OPEN_S:
                    raise StoreError(
                        f"the worker flushed whenever the store was opened, for {_OPEN_S:g} s",
                        where=str(self.path),
                        do="try again",
                    )
            sleep(_OPEN_AGAIN_S)

    def _names(self, suffix: str, settled_s: float = 0.0) -> set[str]:
        """Files of the directory that were not written to for so long."""
        with translated(self.path):
            names = {file.name for file in self.path.iterdir() if file.suffix == suffix}
        return {name for name in names if self._is_settled(name, settled_s)} if settled_s else names

    def _is_settled(self, name: str, settled_s: float) -> bool:
        try:
            return (self.path / name).stat().st_mtime < time() - settled_s
        except FileNotFoundError:
            return False

    def _read_local(self) -> MetadataRow:
        with translated(self.path):
            data = self._get_local(LOCAL_KEY)
        return MetadataRow("") if data is None else decode_metadata(data)

    def _entries(self, first: int, end: int) -> list[FeedEntry] | None:
        found = []
        for number in range(first, end):
            with translated(self.path):
                data = self._get_entry(_SEQUENCE.pack(number))
            if data is None:
                return None
            found.append(decode_entry(data))
        return found
