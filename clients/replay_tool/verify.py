"""Verification: fold the log again, compare the result with a store, and audit every allocation.

Verdicts are gathered while the log is folded, because the fold deletes them once their claims' deadlines have
passed: so claims of any age are audited, not those of the last minutes only.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from vacancy.clients.auditor import CANCELLED_OFFSET, AuditReport, audit
from vacancy.clients.replay_tool.differences import LogDigests, PartedPartition, parted
from vacancy.clients.replay_tool.replay import BATCH, Digest, Progress, digest, store_digests
from vacancy.clients.runtime.bootstrap import installed_class_auditors, open_store
from vacancy.projections.reader.partition_reader import PartitionReader
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store.state_digests import ComparedStore
from vacancy.projections.store.store import partition_path
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.log_time import advance
from vacancy.resources.model.errors import LogError, StoreMismatch
from vacancy.resources.model.record import Record
from vacancy.resources.state.rows import VerdictRow
from vacancy.resources.state.tables import VERDICTS, split_key
from vacancy.streams.log import Log

_SPAN_MS = 1000
"""A commit takes in no more log time than that: a verdict that comes and goes within one commit is not seen."""


@dataclass(frozen=True)
class Verification:
    """The result. `different` are the partitions whose tables differ from the log at `position`; `parted` says of each how.
    `hosts` are the stores that said something else in the log than the log gives here: partition -> store by store.
    `compared` counts what stores said and was compared."""

    position: dict[int, int]
    digest_store: str
    digest_rebuilt: str
    different: list[int]
    audit: AuditReport
    compared: int = 0
    parted: list[PartedPartition] = field(default_factory=list)
    hosts: dict[int, list[ComparedStore]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the store equals the log, what other hosts said does too, and every allocation was right."""
        return not self.different and not self.hosts and self.audit.ok


def verify(log: Log, store: Path, registry: Registry, *, progress: Progress | None = None) -> Verification:
    """Verify a store as its last commit left it; a worker may go on writing. Raises `LogError`, `StoreError`.

    The log is read from its first record, into a temporary directory that is removed afterwards.
    """
    with StoreReader(store, registry, with_view=False) as reader:
        manifest = reader.manifest
    if manifest.log != (named := log.identity().log):
        raise StoreMismatch(
            f"the store was folded from log {manifest.log}, this is log {named}",
            where=str(store),
            do="name the log that it came from",
        )
    live = digest(store, registry)
    with tempfile.TemporaryDirectory(prefix="vacancy-verify-") as scratch:
        path = Path(scratch) / "store"
        again = rebuild(log, path, registry, live.position, progress)
        different = [
            partition
            for partition, ours, theirs in zip(
                sorted(live.position), live.partitions, again.digest.partitions, strict=True
            )
            if ours != theirs
        ]
        found_parted = parted(log, store, path, registry, different, again.digests) if different else []
    records = {p: LogRecords(log, p, end) for p, end in live.position.items()}
    found = audit(records, again.verdicts, installed_class_auditors())
    return Verification(
        position=live.position,
        digest_store=live.whole,
        digest_rebuilt=again.digest.whole,
        different=different,
        audit=found,
        compared=again.compared,
        parted=found_parted,
        hosts=again.hosts,
    )


class LogRecords:
    """The records of one partition up to `end`, read again for each iteration."""

    def __init__(self, log: Log, partition: int, end: int) -> None:
        self._log, self._partition, self._end = log, partition, end

    def __iter__(self) -> Iterator[Record]:
        offset = 0
        while offset < self._end:
            records = self._log.read(self._partition, offset, min(BATCH, self._end - offset), timeout_s=10.0)
            if not records:
                raise LogError(
                    f"the log ends at offset {offset}, before {self._end}",
                    where=f"{self._log.name}, partition {self._partition}",
                    do="bring back the log, or rebuild the store from this one",
                )
            yield from records
            offset += len(records)


class FoldedAgain(NamedTuple):
    """What the fold of a log into a new store gave: the digests of the store, all verdicts that there ever were, the digests at
    boundaries by (partition, position), how many digests of stores were compared with them, and the stores that said
    something else."""

    digest: Digest
    verdicts: list[dict[str, Any]]
    digests: dict[tuple[int, int], str]
    compared: int
    hosts: dict[int, list[ComparedStore]]


def rebuild(
    log: Log, scratch: Path, registry: Registry, until: Mapping[int, int], progress: Progress | None
) -> FoldedAgain:
    """Fold the log into a new store. Raises `LogError`, `StoreError`."""
    done, total = 0, sum(until.values())
    found: list[dict[str, Any]] = []
    with open_store(scratch, log, registry) as tables:
        along = LogDigests(tables, registry)
        for partition, end in sorted(until.items()):
            tables.partition(partition)
            with closing(_Verdicts(scratch, partition, registry)) as verdicts:
                for batch in _batches(LogRecords(log, partition, end)):
                    tables.apply(partition, batch)
                    verdicts.gather()
                    done += len(batch)
                    if progress is not None:
                        progress(done, total)
                found += verdicts.exported(tables.log_time_ms(partition))
        rows = {p: tables.partition(p).digests.row for p in sorted(until)}
        differ = {p: [one for one in row.stores if one.differed] for p, row in rows.items()}
        return FoldedAgain(
            store_digests(tables, registry),
            found,
            along.digests,
            sum(row.compared for row in rows.values()),
            {p: stores for p, stores in differ.items() if stores},
        )


def _batches(records: LogRecords) -> Iterator[list[Record]]:
    batch: list[Record] = []
    time_ms: int | None = None
    started_ms = 0
    for record in records:
        # Log time, not the record's: after one stamp that is far ahead all others are within its second.
        time_ms = record.timestamp_ms if time_ms is None else advance(time_ms, record.timestamp_ms)
        if batch and (len(batch) == BATCH or time_ms > started_ms + _SPAN_MS):
            yield batch
            batch = []
        if not batch:
            started_ms = time_ms
        batch.append(record)
    if batch:
        yield batch


class _Verdicts:
    """The verdicts of one partition, as they come by."""

    def __init__(self, store: Path, partition: int, registry: Registry) -> None:
        self._partition = partition
        self._reader = PartitionReader(partition_path(store, partition), registry)
        self._found: dict[tuple[bytes, int], VerdictRow] = {}

    def gather(self) -> None:
        """Take in what the last commit decided."""
        entries = self._reader.catch_up()
        if (
            entries is None
        ):  # the first commit, or more than the feed holds: what is in the table is all there is
            for row_key, data in self._reader.scan(VERDICTS.family):
                self._take(row_key, data)
            return
        for entry in entries:
            for table, keys, values in entry.images:
                if table == VERDICTS.name:
                    for row_key, image in zip(keys, values, strict=True):
                        if image is not None:
                            self._take(row_key, image)
                        else:
                            # If it was a cancellation, its claim may have come and expired within this commit.
                            self._found.pop((row_key, CANCELLED_OFFSET), None)

    def _take(self, row_key: bytes, data: bytes) -> None:
        row = VERDICTS.decode(data)
        if row.offset != CANCELLED_OFFSET:
            # The claim has come that was cancelled before it came: this is the verdict on it now.
            self._found.pop((row_key, CANCELLED_OFFSET), None)
        self._found[(row_key, row.offset)] = row

    def exported(self, time_ms: int) -> list[dict[str, Any]]:
        """All of them, as `audit` reads them, but for cancellations of what did not come until log time
        `time_ms`, and cannot come any more."""
        exported = []
        for (row_key, offset), row in self._found.items():
            if offset == CANCELLED_OFFSET and row.deadline_ms < time_ms:
                continue
            cell, claim = split_key(row_key)
            exported.append(
                {
                    "claim": claim,
                    "cell": cell,
                    "partition": self._partition,
                    "offset": offset,
                    "accepted": row.accepted,
                    "reason": row.reason,
                    "grants": [part._asdict() for part in row.grants],
                }
            )
        return exported

    def close(self) -> None:
        """Close the partition."""
        self._reader.close()
