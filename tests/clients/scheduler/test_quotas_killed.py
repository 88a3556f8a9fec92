"""Eight scheduler processes race for a limit over four cells, and some are killed while they move shares: the limit is never
exceeded, and nothing of it is lost. Each round ends with an audit, so that a run that is interrupted has audited all rounds
that it printed. `VACANCY_QUOTA_ROUNDS` is the number of seeded rounds for each log (`make explore`), `VACANCY_SEED` the first
seed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from tests.support.logs.followed_log import wait_for
from vacancy.clients.replay_tool.verify import verify
from vacancy.clients.runtime.bootstrap import open_store, opening_records, tick_entry
from vacancy.clients.scheduler.quotas import Quotas
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model import events
from vacancy.resources.model.events import QuotaScope
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.resources.state.tables import ALLOCATIONS, QUOTA_LIMITS
from vacancy.streams.log import Log, create_log
from vacancy.streams.worker.embedded_worker import EmbeddedWorker

PARTITIONS = 4
ROUNDS = int(os.environ.get("VACANCY_QUOTA_ROUNDS", "2"))
FIRST = int(os.environ.get("VACANCY_SEED", "1"))
SCRIPT = Path(__file__).parent / "quota_process.py"


@dataclass
class Race:
    """A node in each cell, a worker, and a process that forks schedulers."""

    log: Log
    store: Path
    reader: StoreReader
    forks: subprocess.Popen[str]

    def round(self, seed: int) -> list[int]:
        """One round, and what must hold after it. Returns the exit codes of the schedulers."""
        assert self.forks.stdin is not None
        assert self.forks.stdout is not None
        project, limit = f"p{seed}", 6 + seed % 7
        scope, quotas = QuotaScope(project=project, unit="VCPU"), Quotas(self.log, self.reader, timeout_s=120)
        quotas.set_limit(scope, limit)
        self.forks.stdin.write(f"{seed} {project}\n")
        self.forks.stdin.flush()
        codes: list[int] = json.loads(self.forks.stdout.readline())
        assert set(codes) <= {0, -signal.SIGKILL}, f"round {seed}: {codes}"
        wait_for(self.reader, self.log.end())
        held = sum(
            part.grant
            for _, _, row in self.reader.scan(ALLOCATIONS)
            for part in row.parts
            if row.project == project
        )
        (row,) = [row for _, _, row in self.reader.scan(QUOTA_LIMITS) if row.project == project]
        assert held <= limit, f"round {seed}"
        assert sum(share.amount for share in row.shares) <= limit, f"round {seed}"
        settled = quotas.set_limit(scope, limit)  # what the killed ones left to do is done
        assert settled.used == held
        assert sum(one.share or 0 for one in settled.shares) == limit, f"round {seed}: a share is lost"
        report = verify(self.log, self.store, self.reader.registry)
        assert report.ok, f"round {seed}: {report.different} {report.audit.problems}"
        sys.stdout.write(f"round {seed}: audited {sum(report.position.values())} records\n")
        return codes


@contextmanager
def racing(url: str, directory: Path) -> Iterator[Race]:
    registry, store_path = Registry(), directory / "store"
    openings = opening_records(PARTITIONS, events.Rules(version=RULES_VERSIONS.newest.version))
    with create_log(url, PARTITIONS, openings) as log, open_store(store_path, log, registry) as store:
        for at, cell in enumerate(covering_cells(PARTITIONS)):
            node = events.ProviderReport(id=f"n{at}", inventories={"VCPU": {"total": 1_000_000}})
            data = events.NodeReportedData(
                root=f"n{at}", incarnation=uuid.uuid4().hex[:16], sequence=1, providers=(node,)
            )
            event = events.NodeReported(id=uuid.uuid4().hex, source="/test", data=data)
            log.append([NewRecord(cell, events.encode(event))])
        worker = EmbeddedWorker(log, store, tick_entry=lambda p: tick_entry(p, PARTITIONS), poll_s=0.001)
        while worker.step():
            pass
        thread = threading.Thread(target=worker.run)
        thread.start()
        forks = subprocess.Popen(
            [sys.executable, str(SCRIPT), url, str(store_path)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            with StoreReader(store_path, registry) as reader:
                wait_for(reader, log.end())
                yield Race(log, store_path, reader, forks)
        finally:
            forks.communicate()
            worker.stop()
            thread.join()


def play(race: Race) -> None:
    """Further rounds where no scheduler was killed: those that were to be came late, and found the limit full."""
    seen: Counter[int] = Counter()
    for seed in count(FIRST):
        if seed >= FIRST + ROUNDS and seen[-signal.SIGKILL]:
            break
        seen.update(race.round(seed))
    assert seen[0], "all schedulers were killed"


def test_a_limit_is_kept_by_processes_that_race_and_are_killed_on_sqlite(tmp_path: Path) -> None:
    with racing(f"sqlite:///{tmp_path}/log.db", tmp_path) as race:
        play(race)


@pytest.mark.kafka
def test_a_limit_is_kept_by_processes_that_race_and_are_killed_on_kafka(kafka: str, tmp_path: Path) -> None:
    with racing(f"kafka://{kafka}/quotas-{uuid.uuid4().hex[:8]}", tmp_path) as race:
        play(race)
