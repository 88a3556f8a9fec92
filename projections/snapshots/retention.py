"""Which snapshots are kept, and the removal of the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime

from vacancy.projections.snapshots.manifest import SnapshotManifest
from vacancy.projections.snapshots.storage import SnapshotStorage

UNFINISHED_MS = 24 * 3_600_000
"""A snapshot that is not finished after this time was left behind."""


def furthest(snapshots: Iterable[SnapshotManifest]) -> list[SnapshotManifest]:
    """Snapshots of one log, the one with the most records folded first: a host that is behind may have made the last one."""
    return sorted(snapshots, key=lambda one: (sum(one.position.values()), one.made_ms), reverse=True)


def superfluous(
    snapshots: Iterable[SnapshotManifest], now_ms: int, *, keep: int | None, max_age_ms: int | None
) -> list[SnapshotManifest]:
    """The snapshots to remove. Of each log, `keep` stay, those with the most records folded, and none that are older than
    `max_age_ms`; but one always stays. None is no bound."""
    by_log: dict[str, list[SnapshotManifest]] = defaultdict(list)
    for one in snapshots:
        by_log[one.log].append(one)
    return [
        one
        for of_log in by_log.values()
        for rank, one in enumerate(furthest(of_log))
        if rank > 0
        and (
            (keep is not None and rank >= keep)
            or (max_age_ms is not None and now_ms - one.made_ms > max_age_ms)
        )
    ]


def prune(
    storage: SnapshotStorage, now_ms: int, *, keep: int | None, max_age_ms: int | None, dry_run: bool = False
) -> list[str]:
    """Remove superfluous snapshots, and what was left behind before `UNFINISHED_MS`. Returns the ids. Damaged snapshots
    are left alone, because nothing says of which log they are. Raises `StoreError`."""
    there = [one.manifest for one in storage.snapshots() if one.manifest is not None]
    names = [one.id for one in superfluous(there, now_ms, keep=keep, max_age_ms=max_age_ms)]
    names += [name for name in storage.unfinished() if now_ms - made_ms_of(name) > UNFINISHED_MS]
    if not dry_run:
        for name in names:
            storage.remove(name)
    return sorted(names)


def made_ms_of(name: str) -> int:
    """When the snapshot with this id was made."""
    at = datetime.strptime(name[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    return int(at.timestamp()) * 1000 + int(name[15:18])
