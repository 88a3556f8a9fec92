"""The store as its one writer sees it: partitions opened as needed, records folded, batches committed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol
from uuid import uuid4

from vacancy.projections.store.manifest import Manifest, check_manifest, read_manifest, write_manifest
from vacancy.projections.store.metadata import checksum
from vacancy.projections.store.partition_store import PartitionStore
from vacancy.projections.store.state_digests import (
    EVENT_BYTES_MAX,
    EVENT_MARK,
    ComparedStore,
    OwnDigest,
    difference_text,
    parse_state_event,
)
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.fold import fold
from vacancy.resources.fold.log_rules import unanswered
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.errors import LogError, StoreMismatch
from vacancy.resources.model.events import StateMarked
from vacancy.resources.model.record import Record
from vacancy.resources.model.rules_answer import RulesAnswer
from vacancy.resources.state.rows import ContestedRow, VerdictRow
from vacancy.resources.state.rule_set import RulesVersions
from vacancy.resources.state.tables import CONTESTED, DEAD_LETTERS, PARTITION, PARTITION_KEY, VERDICTS

BULK_RECORDS_A_COMMIT = 100_000
"""The records that a fold in bulk commits at once. They are fewer if they change too many rows (`PartitionStore.is_full`): a row that changes
with each report of its node is then encoded and written once for all of them."""

BULK_BYTES_A_COMMIT = 128 * 1024 * 1024
"""And they are fewer if their values have more bytes together: rows that are not written yet are in memory, and a record may be large."""


def partition_path(store: Path, partition: int) -> Path:
    """Where a partition's tables are."""
    return store / f"p{partition:05d}"


def is_made(store: Path, partition: int) -> bool:
    """Whether a partition's tables were made before."""
    return (partition_path(store, partition) / "CURRENT").exists()


class OnJudged(Protocol):
    """Receives a record, the verdicts that it changed (by their keys), the time at which its fold began (ns since 1970), and whether it
    was refused."""

    def __call__(
        self, record: Record, verdicts: Mapping[bytes, VerdictRow | None], folded_ns: int, *, refused: bool
    ) -> None: ...


class _Judged(NamedTuple):
    """The arguments of `OnJudged`."""

    record: Record
    verdicts: Mapping[bytes, VerdictRow | None]
    folded_ns: int
    refused: bool


class _Uncommitted(NamedTuple):
    """What a fold in bulk has staged of a partition: the position after it, the record before that position, and the bytes of its
    records."""

    position: int
    last: Record | None
    size: int


class Store:
    """A directory of partitions, folded from one log. Satisfies the worker's projection protocol.

    Opening one that was folded from another log raises `StoreMismatch`. `first_rules` is the version of the rules with which
    the log begins: the tables of new partitions are made for it (`PartitionStore`). `bulk` is for folding many records that nobody follows
    (`PartitionStore`).
    """

    def __init__(
        self,
        path: Path,
        *,
        log: str,
        partitions: int,
        registry: Registry,
        versions: RulesVersions = RULES_VERSIONS,
        first_rules: int = 1,
        bulk: bool = False,
    ) -> None:
        self.path = path
        self._first_rules, self._bulk = first_rules, bulk
        self.registry = registry
        self.versions = versions
        found = read_manifest(path)
        if found is None:
            manifest = Manifest(store=uuid4().hex, log=log, partitions=partitions, classes=registry.plugins)
        else:
            manifest = check_manifest(path, found, log, partitions, registry)
        if manifest != found:
            write_manifest(path, manifest)
        self.manifest = manifest
        self._open: dict[int, PartitionStore] = {}
        self._judged: list[_Judged] = []
        self._uncommitted: dict[int, _Uncommitted] = {}
        """Only in bulk, by partition."""

        self.on_contested: Callable[[int, bytes, ContestedRow], None] | None = None
        """Called after each commit with the rows of `CONTESTED` that it wrote: (partition, key, row)."""

        self.judged: dict[int, Counter[str]] | None = None
        """Partition -> how many claims were accepted, and rejected for which reason, since it was set to {}. None: not counted."""

        self.on_difference: Callable[[int, ComparedStore], None] | None = None
        """Called for each digest by which a store of another host says that its state differs: (partition, what it said)."""

        self.on_judged: OnJudged | None = None
        """Called after each commit for each of its records that had verdicts, or was refused. None: no record is kept for it."""

        self.on_boundary: Callable[[int, int], None] | None = None
        """Called after each commit that ends at a boundary (`state_digests`): (partition, position)."""

        self.on_release: Callable[[int], None] | None = None
        """Called before a partition is closed."""

    def partition(self, partition: int) -> PartitionStore:
        """A partition's tables as of its last record, opened if they are not. Raises `StoreInUse` and other `StoreError`s."""
        tables = self._tables(partition)
        self._commit_uncommitted(partition, tables)
        return tables

    def _tables(self, partition: int) -> PartitionStore:
        found = self._open.get(partition)
        if found is None:
            path = partition_path(self.path, partition)
            found = PartitionStore(
                path,
                self.manifest.store,
                self.registry,
                self.versions,
                first_rules=self._first_rules,
                bulk=self._bulk,
            )
            self._open[partition] = found
        return found

    @property
    def id(self) -> str:
        """The store's own id: a restored or new store has a new one."""
        return self.manifest.store

    @property
    def partitions(self) -> int:
        """How many partitions it has."""
        return self.manifest.partitions

    def open(self, partition: int) -> int:
        """Open a partition, if it is not, and return its position. Raises as `partition` does."""
        return self.partition(partition).local.position

    @property
    def opened(self) -> tuple[int, ...]:
        """The partitions that are open here."""
        return tuple(self._open)

    def release(self, partition: int) -> None:
        """Close a partition, for another worker to open."""
        found = self._open.pop(partition, None)
        if found is None:
            return
        if self.on_release is not None:
            self.on_release(partition)
        try:
            self._commit_uncommitted(partition, found)
        finally:
            found.close()

    # -- streams.worker.projection_protocol.Projection ---------------------------------------------------------------

    def position(self) -> Mapping[int, int]:
        """Partition -> the next offset to apply, of all partitions: those that are not open are opened."""
        return {p: self.partition(p).local.position for p in range(self.manifest.partitions)}

    def apply(self, partition: int, records: Sequence[Record]) -> None:
        """Fold the next records of a partition and commit them, all or nothing; in bulk they may be committed later, with others.

        Records before the position are skipped; a gap raises `LogError`; `Halt` commits what came before.
        """
        tables = self._tables(partition)
        nothing = _Uncommitted(tables.local.position, None, 0)
        position, last, size = self._uncommitted.pop(partition, nothing)
        self._judged.clear()  # of a commit that failed
        try:
            for record in records:
                if record.offset < position:
                    continue
                if record.offset > position:
                    raise LogError(
                        f"the log has a gap: offset {position} is missing before {record.offset}",
                        where=f"partition {partition}",
                        do="the log is damaged or was cleaned: restore it, or make a new one",
                    )
                refused = self._fold(tables, record)
                last, position, size = record, position + 1, size + len(record.value)
                if not refused and self._is_mark(tables, record):
                    last, size = None, 0
                    self._commit(tables, partition, position, record)
                    if self.on_boundary is not None:
                        self.on_boundary(partition, position)
        except BaseException:
            if last is not None:
                self._commit(tables, partition, position, last)
            tables.abandon()  # the failed record may have read what is due
            raise
        if last is None:
            return
        few = position - tables.local.position < BULK_RECORDS_A_COMMIT and size < BULK_BYTES_A_COMMIT
        if self._bulk and few and not tables.is_full:
            self._uncommitted[partition] = _Uncommitted(position, last, size)
        else:
            self._commit(tables, partition, position, last)

    def _fold(self, tables: PartitionStore, record: Record) -> bool:
        """Fold one record and stage its changes. Returns whether it was refused."""
        changes = fold(tables, record, self.registry, self.versions)
        tables.stage(changes)
        refused = DEAD_LETTERS in changes
        if self.judged is not None and (verdicts := changes.get(VERDICTS)):
            self._count(record.partition, verdicts)
        if self.on_judged is not None and (VERDICTS in changes or refused):
            self._judged.append(_Judged(record, changes.get(VERDICTS, {}), time.time_ns(), refused))
        return refused

    def _commit_uncommitted(self, partition: int, tables: PartitionStore) -> None:
        """Commit what a fold in bulk has left for later."""
        left = self._uncommitted.pop(partition, None)
        if left is not None and left.last is not None:
            self._commit(tables, partition, left.position, left.last)

    def _commit(self, tables: PartitionStore, partition: int, position: int, last: Record) -> None:
        contested = {} if self.on_contested is None else tables.staged(CONTESTED)
        now = tables.get(PARTITION, PARTITION_KEY)
        tables.commit(position, 0 if now is None else now.time_ms, checksum(last))
        if self.on_contested is not None:
            for name, row in contested.items():
                if row is not None:
                    self.on_contested(partition, name, row)
        if self.on_judged is not None and self._judged:
            judged, self._judged = self._judged, []
            for one in judged:
                self.on_judged(one.record, one.verdicts, one.folded_ns, refused=one.refused)

    def _count(self, partition: int, verdicts: Mapping[bytes, VerdictRow | None]) -> None:
        """Count the claims that a record had judged."""
        if self.judged is not None:
            counts = self.judged.setdefault(partition, Counter())
            for row in verdicts.values():
                if row is not None:  # otherwise a verdict that nobody needs any more
                    counts["accepted" if row.accepted else row.reason] += 1

    def _is_mark(self, tables: PartitionStore, record: Record) -> bool:
        """Take in an event of a store, if it is one. Returns whether there is a boundary after it."""
        if len(record.value) > EVENT_BYTES_MAX or EVENT_MARK not in record.value:
            return False
        said = parse_state_event(record.value)
        if isinstance(said, StateMarked):
            tables.digests.mark(record.offset + 1)
            return True
        if said is not None:
            differs = tables.digests.read(record.offset, self.id, said.data)
            if differs is not None and self.on_difference is not None:
                self.on_difference(record.partition, differs)
        return False

    def add_digest(self, partition: int, position: int, digest: str) -> None:
        """The partition's digest at a boundary is known: it is compared with what other stores said, and kept with the next
        commit."""
        for differs in self.partition(partition).digests.add(position, digest):
            if self.on_difference is not None:
                self.on_difference(partition, differs)

    def unsaid_digest(self, partition: int) -> OwnDigest | None:
        """The newest digest of the partition that is not in the log yet, once."""
        return self.partition(partition).digests.unsaid()

    def marked(self, partition: int) -> tuple[int, int] | None:
        """The partition's last boundary (0: none yet), and the number of records since then without digests. None under rules
        that have no marks."""
        tables = self.partition(partition)
        row = tables.get(PARTITION, PARTITION_KEY)
        if row is None or StateMarked not in self.versions.of(row.rules_version).handlers:
            return None
        digests = tables.digests
        return digests.row.marked, digests.changes(tables.local.position)

    def differences(self, partition: int) -> Mapping[str, str]:
        """The stores of other hosts whose state of the partition differs from this one (see `SharedProjection`)."""
        stores = self.partition(partition).digests.row.stores
        return {one.store: difference_text(one) for one in stores if one.differed}

    def next_deadline_ms(self, partition: int) -> int | None:
        """The earliest log time that something in the partition waits for, or None."""
        return self.partition(partition).next_deadline_ms()

    def overdue(self, partition: int) -> bool:
        """Whether something was due at the partition's last record and waits for the next one (`Limits.expiries`)."""
        next_ms = self.partition(partition).next_deadline_ms()
        return next_ms is not None and next_ms < self.log_time_ms(partition)

    def log_time_ms(self, partition: int) -> int:
        """How far the partition's log time has come, 0 before its first record."""
        row = self.partition(partition).get(PARTITION, PARTITION_KEY)
        return 0 if row is None else row.time_ms

    def unanswered(self, partition: int) -> Sequence[RulesAnswer]:
        """What this store still has to answer to the rules that are proposed in the partition."""
        return unanswered(self.partition(partition), self.id, self.versions, self.registry)

    def dead_letters(self, partition: int) -> int:
        """How many of the partition's records were refused since its first."""
        row = self.partition(partition).get(PARTITION, PARTITION_KEY)
        return 0 if row is None else row.dead_letters

    def claims(self, partition: int) -> Mapping[str, int]:
        """How many claims were accepted, and rejected for which reason, since `judged` was set; none where it is not."""
        return {} if self.judged is None else self.judged.get(partition, {})

    def contested(self, partition: int) -> Mapping[str, int]:
        """The partition's nodes whose names two publishers use, counted (see `SharedProjection`)."""
        rows = [CONTESTED.decode(data) for _, data in self.partition(partition).scan(CONTESTED.family)]
        return {
            "closed": sum(row.until_ms > 0 for row in rows),
            "dropped": sum(row.dropped for row in rows),
            "dropped_reports": sum(row.dropped_reports for row in rows),
        }

    def check_log(self, partition: int, before: Iterable[Record]) -> None:
        """Check that the log is still the one that was folded: `before` is the record before the position.

        Raises `StoreMismatch` where it is missing or another one: the log was truncated or created again.
        """
        local = self.partition(partition).local
        if local.position == 0:
            return
        found = next(iter(before), None)
        where = f"partition {partition}, offset {local.position - 1}"
        do = "bring back the log that was, or rebuild the store from this one: `vacancy replay --rebuild`"
        if found is None:
            raise StoreMismatch("the log ends before the store's position", where=where, do=do)
        if checksum(found) != local.checksum:
            raise StoreMismatch(
                "the log holds another record than the one that was folded", where=where, do=do
            )

    def close(self) -> None:
        """Flush and close all partitions."""
        for partition in list(self._open):
            self.release(partition)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
