"""Damage to the files of a site, and what became of it: noticed, harmless, or wrong."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tests.faults.site_on_disk import Site
from tests.fuzz.damage.sites import CELL, Reports, partition
from tests.support.models.memory_state import MemoryState
from vacancy.clients.replay_tool.replay import digest, fold_up_to
from vacancy.clients.runtime.bootstrap import installed_registry, open_store
from vacancy.projections.changefeed.shared_ring import ring_path
from vacancy.projections.store import rocksdb
from vacancy.projections.store.digest import as_scan, partition_digest
from vacancy.projections.store.manifest import FILE
from vacancy.projections.store.store import Store
from vacancy.resources.fold.fold import fold
from vacancy.resources.model.errors import LogError, StoreError, VacancyError
from vacancy.resources.model.record import Record

FOLDED: Final = 160
LEFT: Final = 40
"""Records that the store has, and records that are in the log and not yet in the store."""

FILES: Final[dict[str, Callable[[Site], Sequence[Path]]]] = {
    "table": lambda site: sorted(partition(site).glob("*.sst")),
    "write-ahead log": lambda site: sorted(partition(site).glob("*.log")),
    "manifest of tables": lambda site: sorted(partition(site).glob("MANIFEST-*")),
    "current": lambda site: [partition(site) / "CURRENT"],
    "ring": lambda site: [ring_path(partition(site))],
    "manifest": lambda site: [site.store / FILE],
    "log": lambda site: [site.file],
}
"""The files that can be damaged, by kind."""


class Twin:
    """A site that nothing happens to. Its worker was killed: some of its rows are in tables, some in the log that
    RocksDB writes ahead. `digests` has what its partition's digest is after each record."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.site = Site.made(home)
        self.site.append(CELL, *Reports(random.Random(1)).some(FOLDED + LEFT))
        records = self.site.records()[0]
        living = Site(home, 1).store.with_name("living")
        with self.site.log() as log, open_store(living, log, installed_registry()) as store:
            for half in (FOLDED // 2, FOLDED):
                fold_in_small_commits(store, records[:half])
                if half < FOLDED:
                    rocksdb.flush(store.partition(0)._db, home / "scratch")
            shutil.copytree(living, self.site.store)
        shutil.rmtree(living)
        self.digests = digests_of(records)

    def copied(self, home: Path) -> Site:
        """A site like this one, to be damaged."""
        shutil.copytree(self.site.home, home)
        return Site(home, 1)


def fold_in_small_commits(store: Store, records: Sequence[Record]) -> None:
    for at in range(0, len(records), 7):
        store.apply(0, records[at : at + 7])


def digests_of(records: Sequence[Record]) -> list[str]:
    """The digest after the first N records, for N from 0."""
    state, registry = MemoryState(), installed_registry()
    found = []
    for record in (None, *records):
        if record is not None:
            state.commit(fold(state, record, registry))
        found.append(partition_digest(as_scan(state.items), registry))
    return found


class Outcomes(Counter[str]):
    """How often damage was noticed, harmless, or wrong; `wrong` has the descriptions of the last."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []

    def judge(self, what: str, site: Site, look: Callable[[], bool]) -> str:
        """Count one look at a damaged site: `look` returns whether its answers are right. Returns the outcome."""
        try:
            outcome = "harmless" if look() else "wrong"
        except VacancyError as error:
            named = str(site.home) in str(error) or "partition" in str(error)
            # Whatever else it is, it is the death of a process.
            outcome = "noticed" if isinstance(error, LogError | StoreError) and named else "wrong"
            what = f"{what}: {type(error).__name__}: {error}"
        except Exception as error:  # an error that nobody translated
            outcome, what = "wrong", f"{what}: {error!r}"
        self[outcome] += 1
        if outcome == "wrong":
            self.wrong.append(what)
        return outcome


def reader_agrees(site: Site, digests: Sequence[str]) -> bool:
    """Whether what a new reader reads is what the log says up to its position."""
    rocksdb._caches.clear()  # what was cached of another file of this number must not hide this one
    found = digest(site.store, installed_registry())
    return found.partitions == (digests[found.position[0]],)


def worker_agrees(site: Site, digests: Sequence[str]) -> bool:
    """Whether a worker that folds the rest of the log ends where the clean twin ends."""
    rocksdb._caches.clear()
    with site.log() as log, open_store(site.store, log, installed_registry()) as store:
        end = log.end()
        for _ in fold_up_to(log, store, end):
            pass
        found = partition_digest(store.partition(0).scan, installed_registry())
    return end == {0: len(digests) - 1} and found == digests[-1]


def log_agrees(site: Site, digests: Sequence[str]) -> bool:
    """Whether a store that is rebuilt from the log is the clean twin's."""
    return digests_of(site.records()[0]) == digests
