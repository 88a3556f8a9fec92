"""A SQLite log with a store that is folded from it, for tests of snapshots."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from vacancy.clients.demo.synthetic_fleet import node_reports
from vacancy.clients.replay_tool.replay import Digest, digest, replay
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.resources.model.events import ProviderReport
from vacancy.streams.log import Log

REGISTRY = installed_registry()
PARTITIONS = 2


class SnapshotSite(NamedTuple):
    """The log, its directory, and the store."""

    log: Log
    home: Path

    @property
    def store(self) -> Path:
        return self.home / "store"

    def report(self, count: int = 20) -> None:
        """Append reports of new nodes."""
        mark = uuid.uuid4().hex[:8]
        trees = [
            (ProviderReport(id=f"node-{mark}-{n}", inventories={"VCPU": {"total": 4}}),) for n in range(count)
        ]
        self.log.append(list(node_reports(trees, PARTITIONS)))

    def fold(self) -> Digest:
        """Fold the whole log into the store."""
        return replay(self.log, self.store, REGISTRY)

    def folded_again(self, until: dict[int, int]) -> Digest:
        """What another store holds that was folded from the first record up to this position."""
        return replay(self.log, self.home / uuid.uuid4().hex, REGISTRY, until=until)

    def digest(self, store: Path | None = None) -> Digest:
        """What a store holds."""
        return digest(store or self.store, REGISTRY)


@contextmanager
def snapshot_site(home: Path) -> Iterator[SnapshotSite]:
    """A log in `home`, with the reports of 20 nodes that are in the store."""
    with new_log(f"sqlite://{home}/log.db", PARTITIONS, REGISTRY) as log:
        site = SnapshotSite(log, home)
        site.report()
        site.fold()
        yield site
