"""A move between cells is killed at each of its records, and resumed by others that are killed too: it ends finished or undone,
never both, never neither. Each round ends with an audit. `VACANCY_CELL_MOVE_ROUNDS` is the number of seeded rounds for each log,
`VACANCY_SEED` the first seed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.scheduler.moves.cell_move_process import GAVE_UP, MOMENTS
from tests.support.logs.followed_log import wait_for
from vacancy.clients.inspection.cell_moves import CellMove, cell_moves
from vacancy.clients.replay_tool.verify import verify
from vacancy.clients.runtime.bootstrap import open_store, opening_records, tick_entry
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.moves.cell_moves import CellMoves
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.clients.scheduler.store_query import StoreQuery
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model import events
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.resources.state.tables import ALLOCATIONS, key
from vacancy.streams.log import Log, create_log
from vacancy.streams.worker.embedded_worker import EmbeddedWorker

PARTITIONS = 3
RECORDS = 5
"""Records of a move: begun, claim, confirmation, release, ended."""
ROUNDS = int(os.environ.get("VACANCY_CELL_MOVE_ROUNDS", "0"))
FIRST = int(os.environ.get("VACANCY_SEED", "0"))
SCRIPT = Path(__file__).parent / "cell_move_process.py"
A, B, _ = covering_cells(PARTITIONS)


@dataclass
class Site:
    """Two nodes in two cells, a worker, and a scheduler."""

    url: str
    store: Path
    log: Log
    reader: StoreReader
    scheduler: Scheduler

    def end(self, action: str, consumer: str, record: int, moment: str) -> subprocess.Popen[bytes]:
        """Start a process that moves a consumer or resumes its move, and ends itself at a record."""
        words = [
            sys.executable,
            str(SCRIPT),
            self.url,
            str(self.store),
            action,
            consumer,
            str(record),
            moment,
        ]
        root = Path(__file__).parents[4]
        return subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(root)}, stderr=subprocess.PIPE)

    def claims(self, consumer: str) -> dict[str, str]:
        """Cell -> the claim by which the consumer holds something there."""
        wait_for(self.reader, self.log.end())
        rows = {cell: self.reader.get(ALLOCATIONS, key(cell, consumer)) for cell in (A, B)}
        return {cell: row.claim for cell, row in rows.items() if row is not None}


@contextmanager
def running(url: str, directory: Path) -> Iterator[Site]:
    registry = Registry()
    openings = opening_records(PARTITIONS, events.Rules(version=RULES_VERSIONS.newest.version))
    with (
        create_log(url, PARTITIONS, openings) as log,
        open_store(directory / "store", log, registry) as store,
    ):
        for cell, root in ((A, "src"), (B, "dst")):
            node = events.ProviderReport(id=root, inventories={"VCPU": {"total": 100_000}})
            data = events.NodeReportedData(
                root=root, incarnation=uuid.uuid4().hex[:16], sequence=1, providers=(node,)
            )
            event = events.NodeReported(id=uuid.uuid4().hex, source="/test", data=data)
            log.append([NewRecord(cell, events.encode(event))])
        worker = EmbeddedWorker(log, store, tick_entry=lambda p: tick_entry(p, PARTITIONS), poll_s=0.001)
        while worker.step():
            pass
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            with Scheduler(log, directory / "store", registry, seed=1) as scheduler:
                wait_for(scheduler.reader, log.end())
                yield Site(url, directory / "store", log, scheduler.reader, scheduler)
        finally:
            worker.stop()
            thread.join()


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Iterator[Site]:
    with running(f"sqlite:///{tmp_path}/log.db", tmp_path) as site:
        yield site


@pytest.fixture
def on_kafka(kafka: str, tmp_path: Path) -> Iterator[Site]:
    with running(f"kafka://{kafka}/moves-{uuid.uuid4().hex[:8]}", tmp_path) as site:
        yield site


def killed(process: subprocess.Popen[bytes]) -> bool:
    """Wait for a process, and return whether it ended before it was done: with SIGKILL, or because the log did not answer in
    time. Raises where it failed."""
    _, error = process.communicate(timeout=300)
    assert process.returncode in (0, -signal.SIGKILL, GAVE_UP), error.decode()
    return process.returncode != 0


def check(site: Site, consumer: str, claim: str) -> CellMove | None:
    """The move has ended, and the consumer holds what that says: one half."""
    held = site.claims(consumer)
    found = cell_moves(site.reader, consumer, ended=True)
    if not found:  # it was killed before its first record
        assert held == {A: claim}
        return None
    (move,) = found
    assert move.status in ("finished", "undone"), move
    assert held == ({B: move.id} if move.status == "finished" else {A: claim}), move
    return move


def play(site: Site, seed: int, record: int, moment: str) -> str:
    """One round: a move is killed, up to three others resume it and are killed or race, and a last one ends it."""
    random_ = random.Random(seed)
    consumer = f"vm-{seed}-{record}-{moment}"
    placed = site.scheduler.place(PlacementRequest("resources=VCPU:4&in_tree=src", consumer))
    assert killed(site.end("move", consumer, record, moment))
    others = [
        site.end(
            random_.choice(("resume", "resume", "undo")),
            consumer,
            random_.randrange(4),
            random_.choice(MOMENTS),
        )
        for _ in range(random_.choice((0, 1, 1, 2)))
    ]
    for other in others:
        killed(other)
    with StoreQuery(site.store, Registry()) as query:
        moves = CellMoves(site.log, query, timeout_s=60.0)
        for one in cell_moves(query.reader, consumer):
            moves.resume(one.id, undo=random_.random() < 0.3)
    ended = check(site, consumer, placed.claim)
    report = verify(site.log, site.store, site.reader.registry)
    assert report.ok, f"round {seed}: {report.different} {report.audit.problems}"
    assert report.audit.open_moves == []
    how = "not begun" if ended is None else ended.status
    sys.stdout.write(
        f"round {seed}, record {record} {moment}: {how}, audited {sum(report.position.values())} records\n"
    )
    return how


def play_all(site: Site, points: dict[int, tuple[int, str]]) -> set[str]:
    found = {play(site, seed, *point) for seed, point in points.items()}
    for cell, root in ((A, "src"), (B, "dst")):  # what is in use is what consumers hold
        row = site.reader.get(site.reader.registry.table("VCPU"), key(cell, root))
        held = [
            row for _, name, row in site.reader.scan(ALLOCATIONS) if name.startswith(f"{cell}\0".encode())
        ]
        assert row is not None
        assert row.record.used == 4 * len(held)
    return found


def points(most: int) -> dict[int, tuple[int, str]]:
    """Seed -> where the first process is killed: one after the other each moment of each record."""
    every = [(record, moment) for record in range(RECORDS) for moment in MOMENTS]
    if ROUNDS:
        return {seed: every[seed % len(every)] for seed in range(FIRST, FIRST + ROUNDS)}
    return dict(enumerate(every[:: len(every) // most]))


def test_a_killed_move_ends_with_one_half_on_sqlite(on_sqlite: Site) -> None:
    found = play_all(on_sqlite, points(7))
    assert {"finished", "undone"} <= found


@pytest.mark.kafka
def test_a_killed_move_ends_with_one_half_on_kafka(on_kafka: Site) -> None:
    found = play_all(on_kafka, points(3))
    assert "finished" in found
