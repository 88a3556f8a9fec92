"""Measures snapshots of one partition: how long a commit waits for a checkpoint, and how long create and restore take.

The store is folded from reports in batches of 500, and a checkpoint is made after every 5,000 records, as a worker makes
it between two commits. What is in memory at that moment must be written to files, so the times differ.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

from evaluation.benchmarks.fold import BATCH, CELL, reports
from evaluation.statistics import median
from vacancy.projections.snapshots.creation import create_snapshot
from vacancy.projections.snapshots.restoring import restore_files
from vacancy.projections.snapshots.storage import SnapshotStorage
from vacancy.projections.store.store import Store
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model import events
from vacancy.resources.model.record import Record

BETWEEN = 5_000
CHECKPOINTS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--providers", type=int, default=100_000, help="number of nodes (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON (the only output format)")


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmark and print the result."""
    with tempfile.TemporaryDirectory(prefix="vacancy-snapshots-") as directory:
        found = measure(Path(directory), arguments.providers)
    print(json.dumps({"benchmark": "snapshots", "providers": arguments.providers, **found}))
    return 0


def measure(directory: Path, providers: int) -> dict[str, float]:
    """Times in ms and s, sizes in MiB."""
    registry, path = Registry(), directory / "store"
    opened = events.LogOpened(
        id="opened",
        source="/evaluation",
        data=events.LogOpenedData(log="evaluation", partition=0, partitions=1),
    )
    with Store(path, log="evaluation", partitions=1, registry=registry) as store:
        store.apply(0, [Record(0, 0, 1, CELL, events.encode(opened))])
        stream = reports(providers)
        for _ in range(0, providers, BATCH):
            store.apply(0, [next(stream) for _ in range(BATCH)])
        stalls = []
        for number in range(CHECKPOINTS):
            for _ in range(0, BETWEEN, BATCH):
                store.apply(0, [next(stream) for _ in range(BATCH)])
            into = directory / f"checkpoint-{number}"
            started = time.perf_counter()
            store.partition(0).checkpoint(into)
            stalls.append((time.perf_counter() - started) * 1000)
            shutil.rmtree(into)
    storage = SnapshotStorage(str(directory / "kept"))
    started, worked = time.perf_counter(), time.process_time()
    made = create_snapshot(path, storage, registry)
    created, creating = time.perf_counter() - started, time.process_time() - worked
    os.sync()
    started, worked = time.perf_counter(), time.process_time()
    restore_files(storage, made, directory / "restored", registry)
    return {
        "checkpoint_ms_median": round(median(stalls), 1),
        "checkpoint_ms_max": round(max(stalls), 1),
        "create_s": round(created, 2),
        "create_cpu_s": round(creating, 2),
        "restore_s": round(time.perf_counter() - started, 2),
        "restore_cpu_s": round(time.process_time() - worked, 2),
        "files_mib": round(sum(file.size for file in made.partitions[0].files) / 2**20, 1),
        "stored_mib": round(made.stored_size / 2**20, 1),
    }
