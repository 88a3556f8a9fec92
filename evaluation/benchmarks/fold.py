"""Measures how fast one process folds node reports, each of which changes all three classes of its node.

The input is JSON; tables, change feed and position are committed to RocksDB in batches of 500. Nothing is fsynced,
because the log is the durable copy. Each run sends another report of each node; the first round, which creates the rows,
is not counted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from evaluation.statistics import median, report, rss_mb
from vacancy.clients.runtime.garbage_collector import spare_collector
from vacancy.projections.store.store import Store
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model import events
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import Record

BATCH = 500
RUNS = 5
CELL = covering_cells(1)[0].encode()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--providers", type=int, default=100_000, help="number of nodes (default: %(default)s)"
    )
    parser.add_argument("--records", type=int, default=100_000, help="reports per run (default: %(default)s)")
    parser.add_argument(
        "--runs", type=int, default=RUNS, help="runs of which the median is printed (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON (the only output format)")


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmark and print the result."""
    with tempfile.TemporaryDirectory(prefix="vacancy-fold-") as directory:
        rates = measure(Path(directory), arguments.providers, arguments.records, arguments.runs)
    found = {
        "benchmark": "fold",
        "providers": arguments.providers,
        "records": arguments.records,
        "records_per_s": round(median(rates)),
        "runs": [round(rate) for rate in rates],
        "rss_mb": round(rss_mb()),
    }
    print(json.dumps(found))
    return 0


def measure(
    directory: Path, providers: int, records: int, runs: int, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Records per second of each run, by `clock`."""
    opened = events.LogOpened(
        id="opened",
        source="/evaluation",
        data=events.LogOpenedData(log="evaluation", partition=0, partitions=1),
    )
    with Store(directory / "store", log="evaluation", partitions=1, registry=Registry()) as store:
        store.apply(0, [Record(0, 0, 1, CELL, events.encode(opened))])
        stream = reports(providers)
        _fold(store, stream, providers, clock)
        spare_collector()
        return [records / _fold(store, stream, records, clock) for _ in range(runs)]


def reports(providers: int) -> Iterator[Record]:
    """An endless stream of reports, each of which changes the totals of its node."""
    offset = 1
    sequence = 0
    while True:
        sequence += 1
        for number in range(providers):
            value = report(
                f"node-{number:07}",
                sequence,
                vcpu=8 + sequence % 100,
                memory=16384 + sequence % 100,
                disk=2000 + sequence % 100,
                traits=("CUSTOM_RACK_A", "HW_CPU_X86_AVX2", "HW_CPU_X86_SSE42"),
            )
            yield Record(0, offset, offset, CELL, value)
            offset += 1


def _fold(store: Store, stream: Iterator[Record], records: int, clock: Callable[[], float]) -> float:
    """Fold this many records. Returns the seconds spent folding, without the time to make the reports."""
    spent = 0.0
    for at in range(0, records, BATCH):
        batch = [next(stream) for _ in range(min(BATCH, records - at))]
        started = clock()
        store.apply(0, batch)
        spent += clock() - started
    return spent
