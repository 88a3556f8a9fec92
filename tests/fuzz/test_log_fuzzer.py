"""Fuzzed logs: no record stops a partition, and what one worker folds every other way of folding finds too.

`VACANCY_FUZZ_RECORDS` is how many records are tried in all, in logs of the seeds from `VACANCY_FUZZ_FIRST` on (`make explore`);
`VACANCY_SEED` repeats one log.
"""

from __future__ import annotations

import os
import random
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fuzz.expensive.expensive_records import budget_s, fold_s
from tests.fuzz.expensive.test_expensive_records import NOISE
from tests.fuzz.fuzzed_log import BOUNDED, NEWEST, TICK, FuzzedLog
from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import event
from tests.support.logs.tape_log import TapeLog
from tests.support.models.memory_state import MemoryState
from tests.support.models.quota_counts import counted, recounted
from tests.support.processes.machine_speed import slowness
from tests.support.sites.temporary_stores import FAST
from vacancy.clients.replay_tool import verify as verify_module
from vacancy.clients.replay_tool.verify import verify
from vacancy.clients.runtime.bootstrap import open_store
from vacancy.projections.store.digest import as_scan, partition_digest
from vacancy.resources.fold.fold import fold
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import Record
from vacancy.resources.state.tables import (
    ALLOCATIONS,
    DEAD_LETTERS,
    PARTITION,
    PARTITION_KEY,
    QUOTA_AMOUNTS,
    split_key,
)
from vacancy.resources.state.transaction import Changes
from vacancy.streams.worker.embedded_worker import EmbeddedWorker

RECORDS = int(os.environ.get("VACANCY_FUZZ_RECORDS", "3000"))
SIZE = 2000 if "VACANCY_FUZZ_RECORDS" in os.environ else 1000
FIRST = int(os.environ.get("VACANCY_SEED", os.environ.get("VACANCY_FUZZ_FIRST", "1")))
SEEDS = [FIRST] if "VACANCY_SEED" in os.environ else range(FIRST, FIRST + RECORDS // SIZE)


class Folded:
    """A partition folded in memory. `letters` are the reasons for which records were refused, by offset. `behind` is whether
    anything that was past its deadline had to wait for a later record."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.state = MemoryState()
        self.letters: dict[int, list[str]] = {}
        self.behind = False
        for record in records:
            changes = self._fold(record)
            self.state.commit(changes)
            self.behind = self.behind or any(self.state.due(changes[PARTITION][PARTITION_KEY].time_ms - 1))
            if refused := [row.reason for row in changes.get(DEAD_LETTERS, {}).values() if row is not None]:
                self.letters[record.offset] = refused

    def _fold(self, record: Record) -> Changes:
        """Fold a record, and check what it costs if its rules have limits."""
        before = self.state.get(PARTITION, PARTITION_KEY)
        started = time.process_time()
        changes = fold(self.state, record, REGISTRY)
        most = budget_s(len(record.value))
        if time.process_time() - started > most and before is not None and before.rules_version >= BOUNDED:
            spent = min(fold_s(self.state, record, REGISTRY) / slowness() for _ in range(5))
            assert spent <= most * NOISE, f"{record.partition}:{record.offset} costs {spent:.3f} s"
        return changes

    def digest(self) -> str:
        return partition_digest(as_scan(self.state.items), REGISTRY)

    def uncounted(self) -> list[bytes]:
        """The keys of allocations that quotas do not count."""
        row = self.state.get(PARTITION, PARTITION_KEY)
        assert row is not None
        assert row.rules_version == NEWEST
        marked = {key for key, _ in self.state.rows(QUOTA_AMOUNTS)}
        return [
            key
            for key, held in self.state.rows(ALLOCATIONS)
            if held.offset < row.quotas_from and key not in marked
        ]

    def rows(self, cell: str = "") -> set[tuple[str, bytes, bytes]]:
        """All rows, or those of one cell, but for the dead letters and their number."""
        name = cell.encode() + b"\0"
        kept = (r for r in self.state.items() if r[0] not in (DEAD_LETTERS.family, PARTITION.family))
        return {row for row in kept if not cell or row[1].startswith(name) or b"|" + name in row[1]}


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for stores, also for the one that `verify` makes."""
    with tempfile.TemporaryDirectory(prefix="vacancy-test-", dir=FAST) as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        # A verdict that comes and goes within one commit is not audited, and for a class without a class auditor the
        # auditor cannot know it either.
        monkeypatch.setattr(verify_module, "_SPAN_MS", 0)
        yield Path(directory)


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """An error says how its log is repeated."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"VACANCY_SEED={seed} repeats this log")
        raise


@pytest.mark.parametrize("seed", SEEDS)
def test_no_record_stops_or_deceives_the_fold(seed: int, scratch: Path) -> None:
    with repeatable(seed):
        check(FuzzedLog(seed, SIZE), scratch)


@pytest.mark.parametrize("seed", SEEDS[: max(1, len(SEEDS) // 10)])
def test_no_record_stops_or_deceives_the_newest_rules(seed: int, scratch: Path) -> None:
    with repeatable(seed):
        check(FuzzedLog(seed, SIZE, newest=True), scratch)


@pytest.mark.parametrize("seed", SEEDS[: max(2, len(SEEDS) // 10)])
def test_no_record_stops_or_deceives_a_log_that_is_raised(seed: int, scratch: Path) -> None:
    """From any version to the newest one. At the end all is counted that was held before, and the sums are right."""
    with repeatable(seed):
        fuzzed = FuzzedLog(seed, SIZE, raised=True)
        count_all(fuzzed)
        check(fuzzed, scratch)


def check(fuzzed: FuzzedLog, scratch: Path) -> None:
    """All ways of folding agree, and the good records among the bad ones are applied."""
    check_all_agree(fuzzed, scratch / "store")
    for partition, records in fuzzed.records.items():
        check_good_among_bad(fuzzed, partition, records)


def count_all(fuzzed: FuzzedLog) -> None:
    """Count what is not counted yet, and check the rows of quotas."""
    for records in fuzzed.records.values():
        folded = Folded(records)
        for key in folded.uncounted():
            cell, consumer = split_key(key)
            fuzzed.tape.append(cell, event("quota.counted.v1", {"consumers": [consumer]}))
        folded = Folded(records)
        assert folded.uncounted() == []
        assert counted(folded.state) == recounted(folded.state, REGISTRY)


def check_all_agree(fuzzed: FuzzedLog, path: Path) -> None:
    """A live worker, a rebuild, the fold in memory and the auditor find the same."""
    with TapeLog(fuzzed.records) as log:
        with open_store(path, log, REGISTRY) as store:
            worker = EmbeddedWorker(log, store, batch_max=random.Random(fuzzed.seed).choice((7, 100, 500)))
            while worker.step():
                pass
            assert worker.errors == {}
            assert store.position() == log.end()
            live = [partition_digest(store.partition(p).scan, REGISTRY) for p in range(log.partitions)]
        found = verify(log, path, REGISTRY)
    assert found.different == []
    # These schedulers close requests as they like, and these operators set shares that no ledger gave.
    problems = [what for what in found.audit.problems if "no valid host" not in what]
    # Nor do the moves between cells add up that they end as they like.
    lies = re.compile(r"quotas partition|\d+:\d+ move m-")
    assert [what for what in problems if not lies.match(what)] == []
    assert live == [Folded(records).digest() for records in fuzzed.records.values()]


def check_good_among_bad(fuzzed: FuzzedLog, partition: int, records: Sequence[Record]) -> None:
    """A refused record changes nothing, and a cell knows nothing of what is written to others."""
    folded, quiet = Folded(records), fuzzed.quiet.encode()
    assert [why for at, why in folded.letters.items() if records[at].key == quiet] == []
    ticks = covering_cells(len(fuzzed.records))[partition].encode()
    whole = {at for at, why in folded.letters.items() if not any(_of_a_part(one) for one in why)}
    spared = Folded([r._replace(key=ticks, value=TICK) if r.offset in whole else r for r in records])
    assert folded.rows() == spared.rows()
    if folded.behind or fuzzed.newest or fuzzed.raised:
        return  # the quiet cell waits for the others, too, and quotas count the projects of all cells
    assert folded.rows(fuzzed.quiet) == Folded(fuzzed.without_bad()[partition]).rows(fuzzed.quiet)


def _of_a_part(reason: str) -> bool:
    """Whether only a part of the record was refused."""
    return "made before" in reason or "release" in reason
