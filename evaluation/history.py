"""Measures questions of the past: the first answer as of a position, and the same from the cache, over a log with snapshots.

The log has reports of nodes, in a SQLite file with several partitions. A store follows it, and a snapshot is made after each
`--snapshot-every` records. Then candidates are asked as of random positions: first where no store of the past is near, which folds the records
since the nearest snapshot; then again and again at the same position.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from evaluation.fold import reports
from evaluation.statistics import check_counts, median, percentile
from vacancy.clients.history.past_queries import PastQueries
from vacancy.clients.past.historical_store import HistoricalStores
from vacancy.clients.past.store_cache import StoreCache
from vacancy.clients.replay_tool.replay import replay
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.projections.snapshots.creation import create_snapshot
from vacancy.projections.snapshots.storage import SnapshotStorage
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import Log

APPENDED = 2_000
"""Records in one append."""

ASK = "resources=VCPU:1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--records", type=int, default=200_000, help="records of the log (default: %(default)s)"
    )
    parser.add_argument(
        "--snapshot-every", type=int, default=50_000, help="records between snapshots (default: %(default)s)"
    )
    parser.add_argument("--nodes", type=int, default=10_000, help="number of nodes (default: %(default)s)")
    parser.add_argument("--partitions", type=int, default=2, help="partitions (default: %(default)s)")
    parser.add_argument(
        "--positions", type=int, default=3, help="positions that are asked (default: %(default)s)"
    )
    parser.add_argument(
        "--questions", type=int, default=2_000, help="answers from the cache (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the positions (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON (the only output format)")


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmark and print the result."""
    names = ("records", "snapshot_every", "nodes", "partitions", "positions", "questions")
    check_counts(arguments, names)
    with tempfile.TemporaryDirectory(prefix="vacancy-history-") as directory:
        found = measure(Path(directory), arguments)
    given = {name: getattr(arguments, name) for name in names}
    print(json.dumps({"benchmark": "history", **given, **found}))
    return 0


def measure(directory: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Times in s and ms."""
    registry = installed_registry()
    storage = SnapshotStorage(str(directory / "kept"))
    choices = random.Random(arguments.seed)
    with new_log(f"sqlite://{directory}/log.db", arguments.partitions, registry) as log:
        build(log, directory / "store", storage, arguments)
        end = log.end()
        wanted = [
            {p: int(offset * share) for p, offset in end.items()}
            for share in (choices.uniform(0.1, 1) for _ in range(arguments.positions))
        ]
        first, cpu, folded, cached, cached_cpu = [], [], [], [], []
        for number, position in enumerate(wanted):
            cache = StoreCache(directory / f"history-{number}", stores_max=4, bytes_max=2**40)
            stores = HistoricalStores(log, registry, cache, storage)
            tail = Tail()
            with PastQueries(log, stores, registry) as past:
                began, worked = time.perf_counter(), time.process_time()
                past.at(position, tail).candidates(ASK)
                first.append(time.perf_counter() - began)
                cpu.append(time.process_time() - worked)
                folded.append(tail.records)
                for _ in range(arguments.questions):
                    began, worked = time.perf_counter(), time.thread_time()
                    past.at(position).candidates(ASK)
                    cached_cpu.append((time.thread_time() - worked) * 1000)
                    cached.append((time.perf_counter() - began) * 1000)
    cached.sort()
    cached_cpu.sort()
    return {
        "first_s": [round(one, 2) for one in first],
        "first_cpu_s": [round(one, 2) for one in cpu],
        "folded": folded,
        "first_s_median": round(median(first), 2),
        "cached_ms_p50": round(median(cached), 3),
        "cached_ms_p99": round(percentile(cached, 0.99), 3),
        "cached_cpu_ms_p50": round(median(cached_cpu), 3),
        "cached_cpu_ms_p99": round(percentile(cached_cpu, 0.99), 3),
    }


class Tail:
    """How many records were folded for an answer."""

    records = 0

    def __call__(self, done: int, total: int) -> None:
        del done
        self.records = total


def build(log: Log, store: Path, storage: SnapshotStorage, arguments: argparse.Namespace) -> None:
    """Append the reports, and fold them with a snapshot after each `snapshot_every`."""
    registry = installed_registry()
    records = entries(arguments.nodes, arguments.partitions)
    left, since = arguments.records, 0
    while left:
        count = min(APPENDED, left, arguments.snapshot_every - since)
        log.append(list(islice(records, count)))
        left, since = left - count, since + count
        if since == arguments.snapshot_every:
            replay(log, store, registry)
            create_snapshot(store, storage, registry)
            since = 0


def entries(nodes: int, partitions: int) -> Iterator[NewRecord]:
    """An endless stream of reports: each node is in one partition, and the nodes take turns."""
    cells = covering_cells(partitions)
    for number, record in enumerate(reports(nodes)):
        yield NewRecord(cells[number % nodes % partitions], record.value)
