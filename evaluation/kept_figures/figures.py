"""The figures, and how one trial of each is measured. Each trial starts from nothing, so trials are independent."""

from __future__ import annotations

import gc
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evaluation.benchmarks import fold, snapshots
from evaluation.kept_figures.thresholds import Scale
from evaluation.query import command as query
from evaluation.query.fleets import FLEETS, Fleet
from evaluation.query.scenarios import LIMIT, Scenario
from evaluation.statistics import percentile, report
from vacancy.clients.demo.race_plan import Arrival, deal
from vacancy.clients.demo.race_trial import Trial, TrialOptions
from vacancy.clients.replay_tool.replay import read_all
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.runtime.worker_process import WorkerProcess
from vacancy.clients.scheduler.client import Scheduler
from vacancy.resources.model.partitioner import cell_for
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.request import RequestGroup, RequestSpec
from vacancy.streams.log import open_log

FOLD_NODES = 10_000
QUERY_NODES = 10_000
QUERIES = 300
PLACE_NODES = 1_000
PLACEMENTS = 4_000
ALONE = 200
SCHEDULERS = 4
IN_FLIGHT = 16
PARTITIONS = 4
SPEC = RequestSpec(groups=(RequestGroup(resources={"VCPU": 1, "DISK_GB": 10, "MEMORY_MB": 256}),))

Values = dict[str, float]


@dataclass(frozen=True)
class KeptFigure:
    """A figure. `group`: figures of one group are measured by one run. `conditions`: what the run does, for the file."""

    name: str
    unit: str
    better: Literal["more", "less"]
    scale: Scale
    group: str
    conditions: str


def measure_fold(directory: Path) -> Values:
    """Reports a second of processor time."""
    (rate,) = fold.measure(directory, FOLD_NODES, FOLD_NODES, 1, clock=time.thread_time)
    return {"fold_records_per_s": rate}


def measure_queries(directory: Path) -> Values:
    """Processor time of queries for 10 candidates. A worker runs, and nothing arrives, so that each query looks for news."""
    fleet = FLEETS[0](QUERY_NODES)
    url, store = f"sqlite://{directory}/log.db", directory / "store"
    query.build(url, store, fleet)
    found = {}
    with (
        WorkerProcess(url, store) as worker,
        open_log(url) as log,
        Scheduler(log, store, installed_registry(), seed=1) as scheduler,
    ):
        worker.wait_ready()
        for scenario in query.SCENARIOS:
            name = f"query_{scenario.name}_p50_ms"
            if name in FIGURES:
                found[name] = _query_p50_ms(scheduler, scenario, fleet)
    return found


def _query_p50_ms(scheduler: Scheduler, scenario: Scenario, fleet: Fleet) -> float:
    rng, times = random.Random(1), []
    for number in range(QUERIES + 20):
        spec = scenario.make(rng, fleet)
        started = time.thread_time()
        scheduler.candidates(spec, limit=LIMIT, order=scenario.order)
        if number >= 20:  # the first ones load what others find
            times.append((time.thread_time() - started) * 1e3)
    return percentile(sorted(times), 0.5)


def measure_placements(directory: Path) -> Values:
    """One placement alone, then four schedulers at once, on a SQLite log with one worker; and what that left in the log."""
    options = TrialOptions(directory=directory, partitions=PARTITIONS, in_flight=IN_FLIGHT, seed=1)
    with Trial.prepared(options) as trial:
        trial.append([_node(number) for number in range(PLACE_NODES)])
        trial.settle("publish")
        with Scheduler(trial.log, trial.stores[0], trial.registry, seed=1) as scheduler:
            times = []
            for _ in range(ALONE):
                started = time.perf_counter()
                scheduler.place(SPEC)
                times.append((time.perf_counter() - started) * 1e3)
        before = trial.log.end()
        raced = trial.race(deal([Arrival(SPEC)] * PLACEMENTS, SCHEDULERS))
        records = read_all(trial.log)
    written = sum(
        len(record.key) + len(record.value)
        for partition, found in records.items()
        for record in found[before[partition] :]
    )
    return {
        "place_embedded_p50_ms": percentile(sorted(times), 0.5),
        "placements_per_s": raced.accepted / raced.seconds,
        "log_bytes_per_placement": written / raced.accepted,
    }


def _node(number: int) -> NewRecord:
    root = f"node-{number:06}"
    return NewRecord(cell_for(root, PARTITIONS), report(root, 1, vcpu=64, memory=1_000_000, disk=100_000))


def measure_snapshots(directory: Path) -> Values:
    """How long a commit waits for a checkpoint."""
    return {"snapshot_stall_ms": snapshots.measure(directory, FOLD_NODES)["checkpoint_ms_median"]}


GROUPS: dict[str, Callable[[Path], Values]] = {
    "fold": measure_fold,
    "queries": measure_queries,
    "placements": measure_placements,
    "snapshots": measure_snapshots,
}
"""Group -> a function that runs one trial in an empty directory."""

_QUERY = f"10 candidates among {QUERY_NODES:,} nodes with an idle worker, median of {QUERIES} queries, processor time"
_RACE = f"SQLite log, one worker, {PLACE_NODES:,} nodes"

FIGURES: dict[str, KeptFigure] = {
    one.name: one
    for one in (
        KeptFigure(
            "fold_records_per_s",
            "records/s",
            "more",
            "processor",
            "fold",
            f"{FOLD_NODES:,} reports of {FOLD_NODES:,} nodes, each changing three classes, one thread, processor time",
        ),
        *(
            KeptFigure(f"query_{name}_p50_ms", "ms", "less", "processor", "queries", _QUERY)
            for name in ("upstream", "nothing_fits", "best_of_all")
        ),
        KeptFigure(
            "place_embedded_p50_ms",
            "ms",
            "less",
            "machine",
            "placements",
            f"{_RACE}; {ALONE} placements alone",
        ),
        KeptFigure(
            "placements_per_s",
            "placements/s",
            "more",
            "machine",
            "placements",
            f"{_RACE}; {PLACEMENTS:,} placements by {SCHEDULERS} schedulers with {IN_FLIGHT} claims in flight each",
        ),
        KeptFigure(
            "log_bytes_per_placement",
            "bytes",
            "less",
            "none",
            "placements",
            f"{_RACE}; keys and values of all records of the same placements",
        ),
        KeptFigure(
            "snapshot_stall_ms",
            "ms",
            "less",
            "machine",
            "snapshots",
            f"median of 20 checkpoints of {FOLD_NODES:,} nodes, one after every 5,000 reports",
        ),
    )
}


def measure_groups(
    groups: dict[str, Callable[[Path], Values]], trials: int, progress: Callable[[str], None]
) -> dict[str, list[float]]:
    """Run each group a number of times, in turn, so that a machine that becomes slower affects all. Name -> values."""
    found: dict[str, list[float]] = {}
    for trial in range(trials):
        for group, measure in groups.items():
            progress(f"trial {trial + 1} of {trials}: {group}")
            with tempfile.TemporaryDirectory(prefix="vacancy-bench-") as directory:
                for name, value in measure(Path(directory)).items():
                    found.setdefault(name, []).append(value)
            gc.collect()
    return found
