"""Checks of this host's store, beside its workers: is it whole, of this log, up to date, and what its rows say of other hosts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from vacancy.clients.doctor.check import Check, error, failed, ok, warning
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store.integrity import check_directory
from vacancy.projections.store.manifest import Manifest, read_manifest
from vacancy.projections.store.metadata import (
    LOCAL_FAMILY,
    LOCAL_KEY,
    MetadataRow,
    checksum,
    decode_metadata,
)
from vacancy.projections.store.rocksdb import existing_families, is_locked, open_read_only
from vacancy.projections.store.state_digests import DIGESTS_KEY, decode_digests, difference_text
from vacancy.projections.store.store import partition_path
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import StoreError
from vacancy.resources.state.rows import PartitionRow
from vacancy.resources.state.tables import PARTITION, PARTITION_KEY
from vacancy.streams.clocks.log_clock import duration_text
from vacancy.streams.log import Log

_LATE_MS: Final = 60_000
"""From which age of the tables on, while records wait, the lag is named although a worker runs."""

_READ_S: Final = 5.0
_SHOWN: Final = 8


class StorePartition(NamedTuple):
    """What a store has of one partition. `row` is None before its first record. `folding`: a process has it open for writing.
    `builds` are those of other hosts by host, `differs` how their states differ."""

    number: int
    local: MetadataRow
    row: PartitionRow | None
    folding: bool
    builds: Mapping[str, str]
    differs: tuple[str, ...]


class StoreFound(NamedTuple):
    """A store, and those of its partitions that can be read."""

    manifest: Manifest
    partitions: tuple[StorePartition, ...]


def open_checks(path: Path, registry: Registry, into: list[Check]) -> StoreFound | None:
    """Read the store at `path` and add what that shows to `into`. None where there is none, or none that can be read."""
    try:
        manifest = read_manifest(path)
        if manifest is not None and not os.access(path, os.R_OK | os.X_OK):
            raise StoreError(
                "this user cannot read the store",
                where=str(path),
                do="run as the worker's user, or in its group",
            )
    except StoreError as raised:
        into.append(failed("store", raised))
        return None
    if manifest is None:
        do = "start `vacancy worker` where schedulers run; a host that only publishes needs none"
        into.append(warning("store", f"there is no store at {path}", do))
        return None
    found = []
    for number in range(manifest.partitions):
        try:
            found.append(_partition(path, registry, number))
        except StoreError as raised:
            into.append(failed("store", raised))
    if len(found) == manifest.partitions:
        folded = sum(one.local.position > 0 for one in found)
        text = (
            f"{manifest.store} of log {manifest.log}: {len(found)} partitions, {folded} of them with records"
        )
        into.append(ok("store", f"{text}; no commit is lost"))
    return StoreFound(manifest, tuple(found)) if found else None


def _partition(path: Path, registry: Registry, number: int) -> StorePartition:
    """Read one partition. Raises `StoreError` where its files do not belong together."""
    directory = partition_path(path, number)
    folding = is_locked(directory)
    if not folding and (names := existing_families(directory)) and check_directory(directory, names) is None:
        # A directory without any table counts as new. RocksDB knows whether there should be some.
        open_read_only(directory, names, ()).close()
    with StoreReader(path, registry, with_view=False, partitions=(number,)) as reader:
        own = dict(reader.raw(number, LOCAL_FAMILY))
        row = next((data for key, data in reader.raw(number, PARTITION.family) if key == PARTITION_KEY), None)
    digests = decode_digests(own.get(DIGESTS_KEY))
    return StorePartition(
        number,
        decode_metadata(own[LOCAL_KEY]) if LOCAL_KEY in own else MetadataRow(""),
        None if row is None else PARTITION.decode(row),
        folding,
        {one.host: one.build for one in digests.stores},
        tuple(difference_text(one) for one in digests.stores if one.differed),
    )


def log_match_checks(store: StoreFound, log: Log) -> Iterator[Check]:
    """Whether the store was folded from this log, and both still have the same record before each position."""
    identity = log.identity()
    if identity.log != store.manifest.log:
        yield error(
            "store",
            f"it was folded from log {store.manifest.log}, and {log.name} is log {identity.log}",
            "name the store's own log, or give this log another --store",
        )
        return
    starts, ends = log.start(), log.end()
    for one in store.partitions:
        position = one.local.position
        if position > ends[one.number]:
            yield error(
                "store",
                f"partition {one.number} is at {position}, and the log ends at {ends[one.number]}: it was cut or created"
                " again",
                "bring back the log that was, or rebuild the store: `vacancy replay --rebuild`",
            )
        elif position < starts[one.number]:
            yield error(
                "store",
                f"partition {one.number} is at {position}, and the log begins at {starts[one.number]}",
                "name the log's archive (VACANCY_ARCHIVE), or restore a snapshot: `vacancy snapshot restore --replace`",
            )
        elif position > starts[one.number]:
            before = log.read(one.number, position - 1, 1, timeout_s=_READ_S)
            if before and checksum(before[0]) != one.local.checksum:
                yield error(
                    "store",
                    f"partition {one.number}, offset {position - 1}: the log has another record than the one that was"
                    " folded",
                    "bring back the log that was, or rebuild the store: `vacancy replay --rebuild`",
                )


def lag_checks(store: StoreFound, log: Log, now_ms: int) -> Iterator[Check]:
    """How far the tables are behind the log, and whether somebody folds."""
    ends = log.end()
    folding = [one.number for one in store.partitions if one.folding]
    lags = {one.number: max(0, ends[one.number] - one.local.position) for one in store.partitions}
    idle = [one for one in store.partitions if not one.folding]
    behind = sum(lags.values())
    if not folding:
        text = f"no worker has this store open, and {behind:,} records of the log wait"
        start = "start `vacancy worker` (`vacancy replay` folds once)"
        yield error("worker", text, start) if behind else warning("worker", text, start)
        return
    if idle:
        numbers = _numbers([one.number for one in idle])
        waiting = sum(lags[one.number] for one in idle)
        yield warning(
            "worker",
            f"nobody folds {numbers}, where {waiting:,} records wait",
            "look for `partition stopped` in the worker's log, or wait until its group has settled; then restart the worker",
        )
    else:
        yield ok("worker", f"all {len(folding)} partitions are open for writing")
    late = [
        one
        for one in store.partitions
        if one.folding and lags[one.number] and one.row and now_ms - one.row.time_ms > _LATE_MS
    ]
    if late:
        oldest = min(one.row.time_ms for one in late if one.row)
        yield warning(
            "lag",
            f"{behind:,} records wait in {_numbers([one.number for one in late])}, and the tables are"
            f" {duration_text(now_ms - oldest)} old",
            "look for `partition stopped` and `log does not answer` in the worker's log; if it says neither, it is too slow"
            " or catching up: look again",
        )
    else:
        yield ok("lag", f"{behind:,} records wait")


def version_checks(store: StoreFound, newest: int) -> Iterator[Check]:
    """The rules that the partitions follow, plugin classes, and the builds of other hosts."""
    rows = {one.number: one.row for one in store.partitions if one.row is not None}
    versions = sorted({row.rules_version for row in rows.values()})
    classes = sorted({name for row in rows.values() for name in row.classes})
    extra = f"; plugin classes {', '.join(classes)}" if classes else ""
    if len(versions) > 1:
        yield warning(
            "rules",
            "the partitions follow different versions of the rules: " + ", ".join(map(str, versions)),
            f"run `vacancy rules activate {versions[-1]}` again: it raises those that are left",
        )
    elif versions:
        newer = f", and this build supports {newest} (`vacancy rules activate {newest}` raises it)"
        yield ok(
            "rules",
            f"the log follows rules version {versions[0]}{newer if versions[0] < newest else ', the newest of this build'}"
            f"{extra}",
        )
    builds: dict[str, str] = {}
    for one in store.partitions:
        builds.update(one.builds)
    if builds:
        shown = [f"{host} {build}" for host, build in sorted(builds.items())][:_SHOWN]
        more = f" and {len(builds) - len(shown)} more" if len(builds) > len(shown) else ""
        yield ok("rules", f"builds of other hosts: {', '.join(shown)}{more}")
    different = [f"partition {one.number}: {text}" for one in store.partitions for text in one.differs]
    if different:
        yield error(
            "digests",
            "; ".join(different[:_SHOWN]),
            "run `vacancy verify` on both hosts, and rebuild the store that is wrong",
        )


def clock_checks(store: StoreFound, now_ms: int, notice_ms: int) -> Iterator[Check]:
    """Partitions whose log time is ahead of this host's clock."""
    ahead = {one.number: one.row.time_ms - now_ms for one in store.partitions if one.row}
    far = {number: ms for number, ms in ahead.items() if ms >= notice_ms}
    if far:
        yield warning(
            "clock",
            f"log time of {_numbers(sorted(far))} is {duration_text(max(far.values()))} ahead of this host's clock: until it"
            " is reached, no deadline passes",
            "set the clocks of the brokers and of this host (NTP)",
        )


def _numbers(partitions: list[int]) -> str:
    shown = ", ".join(map(str, partitions[:_SHOWN]))
    more = f" and {len(partitions) - _SHOWN} more" if len(partitions) > _SHOWN else ""
    return f"partition{'s' * (len(partitions) > 1)} {shown}{more}"
