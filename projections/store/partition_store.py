"""One partition's tables in RocksDB, open for writing.

A commit is one WriteBatch: the rows, the change feed's entry, the next offset. So a crash leaves all of a batch
or nothing of it, and no record is ever applied twice. The log is what is durable: the store does not fsync.
"""

from __future__ import annotations

import contextlib
import struct
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from msgspec.structs import replace
from rocksdict import Rdict, WriteBatch

from vacancy.projections.changefeed.bells import Bells
from vacancy.projections.changefeed.entries import BYTES_MAX, ENTRIES_MAX, FeedEntry, Images, encode_entry
from vacancy.projections.changefeed.shared_ring import RingWriter
from vacancy.projections.store.deadline_index import DeadlineIndex
from vacancy.projections.store.integrity import (
    ManifestFile,
    check_directory,
    check_tables,
    feed_hole,
    read_metadata,
)
from vacancy.projections.store.metadata import (
    FEED_FAMILY,
    LOCAL_FAMILY,
    LOCAL_KEY,
    MetadataRow,
    encode_metadata,
    new_epoch,
)
from vacancy.projections.store.rocksdb import (
    BULK_BUFFER_BYTES,
    WRITE_BUFFER_BYTES,
    checkpoint,
    create_family,
    existing_families,
    flush,
    open_primary,
    scan,
    translate,
    translated,
    without_wal,
)
from vacancy.projections.store.state_digests import DIGESTS_KEY, StateDigests
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.errors import StoreError, StoreMismatch
from vacancy.resources.model.limits import NO_LIMIT
from vacancy.resources.state.rule_set import RuleSet, RulesVersions
from vacancy.resources.state.tables import (
    ALLOCATIONS,
    DEADLINES,
    NODES,
    PARTITION,
    PARTITION_KEY,
    PROVIDER_DETAILS,
    REQUESTS,
    VERDICTS,
    Table,
)
from vacancy.resources.state.transaction import Changes

Row = TypeVar("Row")

ROWS_CACHED = 600_000
"""Rows kept in memory before the older half is dropped: those of a fleet of 100,000 nodes, some 300 MB."""

TABLES_CACHED = 4_096
"""Tables with rows in memory, before the older half is dropped: anybody can name many classes."""

PASSING_CACHED = 2_000
"""The same of each table whose rows come and go: they are asked for soon after they came, or hardly ever."""

PASSING_S = 5.0
"""And how long they are kept at least where fewer come: memory is that of what is under way, whatever came before."""

ROWS_STAGED = 250_000
"""Changed rows that a fold in bulk keeps in memory before it commits them."""

_PASSING = (ALLOCATIONS, VERDICTS, REQUESTS, DEADLINES)
_FED_WITH = {ALLOCATIONS: PROVIDER_DETAILS}
"""A table that is in the feed only under rules that have another table. Readers of builds before those rules do not know it there,
and they may follow this store: workers are upgraded before schedulers."""

_MISSING: Any = object()
_NO_ROWS: dict[bytes, Any] = {}
_SEQUENCE = struct.Struct(">Q")


def families(registry: Registry, rules: RuleSet) -> tuple[str, ...]:
    """All column families of a partition's store under these rules."""
    tables = (table.family for table in rules.tables)
    return (*tables, *registry.families_of(rules.classes), FEED_FAMILY, LOCAL_FAMILY)


def supported_rules(version: int, versions: RulesVersions, path: Path) -> RuleSet:
    """The version of the rules that a store's tables follow. Raises `StoreMismatch` where this build lacks it."""
    if version not in versions:
        raise StoreMismatch(
            f"the store's tables follow rules version {version}, this build supports up to {versions.newest.version}",
            where=str(path),
            do="upgrade vacancy on this host, or use another --store",
        )
    return versions.of(version)


def _count(changes: Changes) -> int:
    """The number of rows."""
    return sum(map(len, changes.values()))


def _nodes_last(image: Images) -> bool:
    """Readers apply a commit's tables in order, and a node opens or closes providers: they come first."""
    return image[0] == NODES.name


class PartitionStore:
    """Satisfies `resources.transaction.State`. One writer: RocksDB's lock on the directory is the fence.

    `stage` adds one record's changes; `commit` makes all that was staged durable at once; `abandon` forgets it.

    `first_rules` is the version of the rules with which the log begins. A new directory has their tables from the start:
    RocksDB makes many at once ten times as fast as one by one, which is what later versions need.

    With `bulk`, commits write no write-ahead log, no feed and no ring. A process that is killed leaves the commit of the last
    flush, and readers load all rows again. `close` raises `StoreError` where its flush fails, as later commits are lost then.
    """

    def __init__(
        self,
        path: Path,
        store: str,
        registry: Registry,
        versions: RulesVersions = RULES_VERSIONS,
        *,
        first_rules: int = 1,
        bulk: bool = False,
    ) -> None:
        self.path = path
        self._bulk = bulk
        self._registry = registry
        self._versions = versions
        names = self._names_to_open(first_rules)
        buffer_bytes = BULK_BUFFER_BYTES if bulk else WRITE_BUFFER_BYTES
        self._db = open_primary(path, names, (FEED_FAMILY,), buffer_bytes=buffer_bytes)
        self._handles = {name: self._db.get_column_family_handle(name) for name in names}
        self._dbs: dict[str, Rdict] = {name: self._db.get_column_family(name) for name in names}
        self._rows: Changes = defaultdict(dict)
        self._older: Changes = defaultdict(dict)
        self._staged: Changes = defaultdict(dict)
        self._rules_version = 0
        self._not_fed: frozenset[Table[Any]] = frozenset()
        self._passed_at = monotonic()
        try:
            self._read(store)
            self._begin_epoch()
        except BaseException:
            self._close_tables()
            raise

    def _read(self, store: str) -> None:
        """What the directory has. Raises `StoreMismatch` where it belongs to another store, `StoreCorrupt` where the feed
        has a hole."""
        self.local = read_metadata(self.path, self._dbs) or MetadataRow(store)
        if self.local.store != store:
            raise StoreMismatch(
                f"the partition belongs to store {self.local.store}, not to {store}",
                where=str(self.path),
                do="put back the directory that was here, or rebuild it: `vacancy replay --rebuild`",
            )
        with translated(self.path):
            self._deadlines = DeadlineIndex(self._dbs[DEADLINES.family])
            feed = self._dbs[FEED_FAMILY]
            self._feed_sizes = array("I")
            for number in range(self.local.feed_first, self.local.feed_next):
                entry = feed.get(_SEQUENCE.pack(number))
                if entry is None:
                    raise feed_hole(self.path, number)
                self._feed_sizes.append(len(entry))
        self._feed_bytes = sum(self._feed_sizes)
        partition = self.get(PARTITION, PARTITION_KEY)
        if partition is not None:
            self._follow_rules(partition.rules_version)
        with translated(self.path):
            self.digests = StateDigests(self._dbs[LOCAL_FAMILY].get(DIGESTS_KEY))

    def _begin_epoch(self) -> None:
        """Readers compare what they have with what there is now: commits may have been lost, and their numbers in the feed
        are given to others."""
        self._manifest = ManifestFile(self.path)
        number, size, checksum = self._manifest.state()
        self.local = replace(
            self.local,
            epoch=new_epoch(),
            manifest_number=number,
            manifest_bytes=size,
            manifest_checksum=checksum,
        )
        with translated(self.path):
            self._dbs[LOCAL_FAMILY][LOCAL_KEY] = encode_metadata(self.local)
            self._ring = RingWriter(self.path, self.local.epoch, self.local.feed_next)
        self._bells = Bells(self.path.parent)

    def _names_to_open(self, first_rules: int) -> tuple[str, ...]:
        """The tables that are there, as RocksDB opens only all of them, and those of version 1. In a new directory also those
        of `first_rules`, if this build supports them. Raises `StoreMismatch` where there is a table that this build does not know, `StoreCorrupt` where one was lost."""
        there = set(existing_families(self.path))
        known = families(self._registry, self._versions.newest)
        unknown = there.difference(known)
        if unknown:
            raise StoreMismatch(
                f"the store has tables that this build does not know: {', '.join(sorted(unknown))}",
                where=str(self.path),
                do="upgrade vacancy on this host, or use another --store",
            )
        if there:
            row = check_directory(self.path, there)
            if row is not None:
                rules = supported_rules(row.rules_version, self._versions, self.path)
                needed = set(families(self._registry, rules)).difference(self._registry.plugins)
                if (
                    not needed <= there
                ):  # perhaps another worker raised the rules since, and made the tables first
                    there = set(existing_families(self.path))
                check_tables(self.path, there, needed)
        version = first_rules if not there and first_rules in self._versions else 1
        first = families(self._registry, self._versions.of(version))
        return tuple(name for name in known if name in there or name in first)

    def _follow_rules(self, version: int) -> None:
        """Create the tables that this version of the rules has and the store lacks: once a partition, since no version
        takes a table away."""
        rules = supported_rules(version, self._versions, self.path)
        for name in families(self._registry, rules):
            if name not in self._dbs:
                with translated(self.path):
                    self._dbs[name] = create_family(self._db, name)
                    self._handles[name] = self._db.get_column_family_handle(name)
        self._rules_version = version
        self._not_fed = frozenset(one for one, other in _FED_WITH.items() if other not in rules.tables)

    # -- resources.transaction.State ------------------------------------------------------------------------------

    def get(self, table: Table[Row], key: bytes) -> Row | None:
        try:
            row: Row | None = self._rows[table][key]
        except KeyError:
            row = self._load(table, key)
        return row

    def _load(self, table: Table[Row], key: bytes) -> Row | None:
        """Read a row that is not among the rows in memory, and keep it there."""
        row: Row | None
        found = self._older[table].get(key, _MISSING)
        if found is _MISSING:
            try:
                data = self._dbs[table.family].get(key)
            except Exception as error:
                raise translate(error, self.path) from error
            row = None if data is None else table.decode(data)
        else:
            row = found
        self._rows[table][key] = row  # also that there is none: a claim's id is asked for more than once
        return row

    def due(self, until_ms: int, most: int = NO_LIMIT) -> Iterable[bytes]:
        try:
            return self._deadlines.due(until_ms, most)
        except Exception as error:
            raise translate(error, self.path) from error

    # -- writing --------------------------------------------------------------------------------------------

    def stage(self, changes: Changes) -> None:
        """Add one record's changes to the batch. Where it activates other rules, their tables are created first. Raises
        `StoreError`; then nothing is staged."""
        partition = changes.get(PARTITION, _NO_ROWS).get(PARTITION_KEY)
        if partition is not None and partition.rules_version != self._rules_version:
            self._follow_rules(partition.rules_version)
        for table, changed in changes.items():
            self._staged[table].update(changed)
            self._rows[table].update(changed)
        if (deadlines := changes.get(DEADLINES)) is not None:
            self._deadlines.stage(deadlines)

    @property
    def is_full(self) -> bool:
        """Whether a commit is due, to make room in memory."""
        return _count(self._staged) >= ROWS_STAGED or _count(self._rows) > ROWS_CACHED

    def staged(self, table: Table[Row]) -> dict[bytes, Row | None]:
        """The rows of a table that the next commit writes; None: it deletes the row."""
        return dict(self._staged.get(table, ()))

    def commit(self, position: int, time_ms: int, checksum: int) -> None:
        """Write what was staged, the feed's entry and the new position. Raises `StoreError`; then nothing of
        it was written."""
        if self._bulk:
            self._commit_in_bulk(position, checksum)
            return
        batch = WriteBatch(raw_mode=True)
        written = [self._write(batch, table, rows) for table, rows in self._staged.items()]
        images = [image for image in written if image is not None]
        images.sort(key=_nodes_last)
        rules_version = self._rules_version or 1
        before, handles = self.local, self._handles
        number = before.feed_next
        entry = encode_entry(FeedEntry(position, time_ms, images, rules_version, before.position, checksum))
        batch.put(_SEQUENCE.pack(number), entry, handles[FEED_FAMILY])
        first = self._trim(len(entry))
        manifest = self._manifest.state()
        local = MetadataRow(
            before.store, position, checksum, first, number + 1, rules_version, before.epoch, *manifest
        )
        self._write_own(batch, local)
        try:
            with translated(self.path):
                self._db.write(batch)
        except BaseException:
            self.abandon()
            raise
        self.local = local
        self._ring.add(number, entry)
        if (verdicts := self._staged.get(VERDICTS)) is not None:
            self._bells.ring([row_key for row_key, row in verdicts.items() if row is not None])
        if gone := first - (number - len(self._feed_sizes)):
            self._feed_bytes -= sum(self._feed_sizes[:gone])
            del self._feed_sizes[:gone]
        self._feed_sizes.append(len(entry))
        self._feed_bytes += len(entry)
        self._staged = defaultdict(dict)
        self._deadlines.commit()
        self.digests.written()
        self._drop_old_rows()

    def _commit_in_bulk(self, position: int, checksum: int) -> None:
        """As `commit`, but the feed is left empty: readers that find its numbers ahead load everything."""
        batch = WriteBatch(raw_mode=True)
        for table, rows in self._staged.items():
            put, encode, handle = batch.put, table.encode, self._handles[table.family]
            for key, row in rows.items():
                if row is None:
                    batch.delete(key, handle)
                else:
                    put(key, encode(row), handle)
        before = self.local
        number, manifest = before.feed_next + 1, self._manifest.state()
        local = MetadataRow(
            before.store,
            position,
            checksum,
            number,
            number,
            self._rules_version or 1,
            before.epoch,
            *manifest,
        )
        self._write_own(batch, local)
        try:
            with translated(self.path):
                self._db.write(batch, without_wal())
        except BaseException:
            self.abandon()
            raise
        self.local = local
        self._feed_sizes, self._feed_bytes = array("I"), 0
        self._staged = defaultdict(dict)
        self._deadlines.commit()
        self.digests.written()
        self._drop_old_rows()

    def _write_own(self, batch: WriteBatch, local: MetadataRow) -> None:
        """Put what the store records of itself into the batch."""
        handle = self._handles[LOCAL_FAMILY]
        batch.put(LOCAL_KEY, encode_metadata(local), handle)
        if (digests := self.digests.encoded) is not None:
            batch.put(DIGESTS_KEY, digests, handle)

    def _drop_old_rows(self) -> None:
        """Drop rows from memory that are not likely to be read again."""
        if len(self._rows) > TABLES_CACHED or _count(self._rows) > ROWS_CACHED:
            self._older, self._rows = self._rows, defaultdict(dict)
        now = monotonic()
        passed = now - self._passed_at > PASSING_S
        if passed:
            self._passed_at = now
        for passing in _PASSING:
            if passed or len(self._rows[passing]) > PASSING_CACHED:
                self._older[passing], self._rows[passing] = self._rows[passing], {}

    def abandon(self) -> None:
        """Forget what was staged: the state is that of the last commit."""
        self._staged = defaultdict(dict)
        self._rows, self._older = defaultdict(dict), defaultdict(dict)
        self._deadlines.abandon()
        self.digests.abandon()

    def next_deadline_ms(self) -> int | None:
        """The earliest time that something waits for, or None."""
        return self._deadlines.next_ms()

    def _write(self, batch: WriteBatch, table: Table[Any], rows: dict[bytes, Any]) -> Images | None:
        """Put a table's staged rows into the batch. Returns their images if the table is in the feed."""
        put, encode, handle = batch.put, table.encode, self._handles[table.family]
        values: list[bytes | None] = []
        for key, row in rows.items():
            if row is None:
                encoded = None
                batch.delete(key, handle)
            else:
                encoded = encode(row)
                put(key, encoded, handle)
            values.append(encoded)
        return (table.name, list(rows), values) if table.fed and table not in self._not_fed else None

    def _trim(self, added: int) -> int:
        """The feed's first entry once this number of bytes is added. Those before it are dropped: their files are deleted,
        whole and uncompacted, when enough newer ones came (`QUEUE_BYTES` is well beyond the feed's bound)."""
        first, total = self.local.feed_first, self._feed_bytes + added
        for size in self._feed_sizes:
            if total <= BYTES_MAX and self.local.feed_next - first < ENTRIES_MAX:
                break
            total -= size
            first += 1
        return first

    # -- reading all ----------------------------------------------------------------------------------------

    def scan(self, family: str) -> Iterator[tuple[bytes, bytes]]:
        """(key, encoded row) of a family, by key. A table that the rules do not have yet has no rows."""
        db = self._dbs.get(family)
        if db is not None:
            with translated(self.path):
                yield from scan(db)

    def checkpoint(self, into: Path) -> None:
        """Make a copy of the directory as of the last commit (see `rocksdb.checkpoint`). Raises `StoreError`."""
        with translated(self.path):
            checkpoint(self._db, into)

    def close(self) -> None:
        """Flush, so that the next to open it need not replay the write-ahead log, and release the lock."""
        self._ring.close()
        try:
            with translated(self.path):
                flush(self._db, self.path.with_suffix(".flush"))
        except StoreError:
            if self._bulk:
                raise
            # On a full disk the write-ahead log holds all.
        finally:
            self._close_tables()

    def _close_tables(self) -> None:
        with contextlib.suppress(StoreError), translated(self.path):
            for db in (*self._dbs.values(), self._db):
                db.close()
        # While any handle is left, RocksDB keeps the lock.
        self._handles.clear()
        self._dbs.clear()
        self.__dict__.pop("_deadlines", None)
        del self._db
