"""Measures questions of the past: the first answer as of a position, and the same from the cache, over a log with snapshots.

The log has reports of nodes, in a SQLite file with several partitions. A store follows it, and a snapshot is made after each
`--snapshot-every` records. Then candidates are asked as of random positions: first where no store of the past is near, which folds the records
since the nearest snapshot, with two processes where there are many; then again and again at the same position.

With `--directory` the log and the snapshots stay. A run that was ended is continued, and one that finds them complete
only asks. `--build-only` ends before the questions. The output has what each part of the log cost to fold, so what a fold of
the whole log takes up to any position. `--plot` draws that beside the cost of the answers (`docs/history-cost.svg`).
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

from evaluation.reporting.plots import Series, line_plot
from evaluation.statistics import check_counts, median, percentile, report
from vacancy.clients.history.past_queries import PastQueries
from vacancy.clients.past.historical_store import HistoricalStores, Processes
from vacancy.clients.past.store_cache import StoreCache
from vacancy.clients.replay_tool.parallel import replay_processes
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.projections.snapshots.creation import create_snapshot
from vacancy.projections.snapshots.storage import SnapshotStorage
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import Log, open_log

APPENDED = 10_000
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
    parser.add_argument(
        "--directory", type=Path, help="keep the log and the snapshots here (default: a temporary directory)"
    )
    parser.add_argument(
        "--build-only",
        action="store_true",
        help="make the log and the snapshots in --directory, and ask nothing",
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="draw the cost against the length of the log (needs matplotlib)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON (the only output format)")


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmark and print the result."""
    names = ("records", "snapshot_every", "nodes", "partitions", "positions", "questions")
    check_counts(arguments, names)
    if arguments.build_only and arguments.directory is None:
        raise UsageError("--build-only without --directory leaves nothing", do="give --directory")
    if arguments.build_only and arguments.plot is not None:
        raise UsageError("--build-only has no answers to draw", do="leave out --plot or --build-only")
    given = {name: getattr(arguments, name) for name in names}
    with ExitStack() as opened:
        made = opened.enter_context(tempfile.TemporaryDirectory(prefix="vacancy-history-"))
        directory: Path = arguments.directory or Path(made)
        log = opened.enter_context(build(directory, arguments))
        found = {} if arguments.build_only else ask(log, directory, Path(made), arguments)
        found["parts"] = _parts(directory)
    print(json.dumps({"benchmark": "history", **given, **found}))
    if arguments.plot is not None:
        arguments.plot.write_text(plot(found) + "\n")
    return 0


def ask(log: Log, directory: Path, temporary: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The answers at random positions. Times in s and ms."""
    registry = installed_registry()
    storage = SnapshotStorage(str(directory / "kept"))
    choices = random.Random(arguments.seed)
    end = log.end()
    answers, cached, cached_cpu = [], [], []
    for number in range(arguments.positions):
        share = choices.uniform(0.1, 1)
        position = {p: int(offset * share) for p, offset in end.items()}
        cache = StoreCache(temporary / f"history-{number}", stores_max=4, bytes_max=2**40)
        stores = HistoricalStores(log, registry, cache, storage, processes=Processes(log.url, {}))
        tail = Tail()
        with PastQueries(log, stores, registry) as past:
            began, worked = time.perf_counter(), _cpu_s()
            past.at(position, tail).candidates(ASK)
            answers.append(
                {
                    "position": sum(position.values()),
                    "folded": tail.records,
                    "first_s": round(time.perf_counter() - began, 2),
                    "first_cpu_s": round(_cpu_s() - worked, 2),
                }
            )
            for _ in range(arguments.questions):
                began, worked = time.perf_counter(), time.thread_time()
                past.at(position).candidates(ASK)
                cached_cpu.append((time.thread_time() - worked) * 1000)
                cached.append((time.perf_counter() - began) * 1000)
    cached.sort()
    cached_cpu.sort()
    return {
        "answers": answers,
        "first_s_median": round(median([one["first_s"] for one in answers]), 2),
        "first_s_max": max(one["first_s"] for one in answers),
        "cached_ms_p50": round(median(cached), 3),
        "cached_ms_p99": round(percentile(cached, 0.99), 3),
        "cached_cpu_ms_p50": round(median(cached_cpu), 3),
        "cached_cpu_ms_p99": round(percentile(cached_cpu, 0.99), 3),
    }


def _cpu_s() -> float:
    """The processor time of this process and of those that it waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def plot(found: Mapping[str, Any]) -> str:
    """The output as an SVG: processor time against the records before a position. Raises as `line_plot` does."""
    parts, answers = found["parts"], sorted(found["answers"], key=lambda one: one["position"])
    records = [part["records"] for part in parts]
    folded = list(accumulate(part["fold_cpu_s"] for part in parts))
    asked = [one["position"] for one in answers]
    cached_s = found["cached_cpu_ms_p99"] / 1000
    return line_plot(
        [
            Series("fold of the whole log", records, folded),
            Series("first answer as of a position", asked, [one["first_cpu_s"] for one in answers]),
            Series("snapshot", records, [part["snapshot_cpu_s"] for part in parts]),
            Series("answer from the cache, p99", asked, [cached_s] * len(asked)),
        ],
        x="records of the log before the position",
        y="processor time (s)",
        log_x=True,
        log_y=True,
    )


class Tail:
    """How many records were folded for an answer."""

    records = 0

    def __call__(self, done: int, total: int) -> None:
        del done
        self.records = total


def build(directory: Path, arguments: argparse.Namespace) -> Log:
    """Append the reports that are not there yet, then fold those that are not folded yet, with a snapshot after each
    `snapshot_every`."""
    url, store = f"sqlite://{directory.absolute()}/log.db", directory / "store"
    registry, storage = installed_registry(), SnapshotStorage(str(directory / "kept"))
    there = (directory / "log.db").exists()
    log = open_log(url) if there else new_log(url, arguments.partitions, registry)
    appended = sum(log.end().values()) - log.partitions
    records = entries(arguments.nodes, log.partitions, appended)
    while appended < arguments.records:
        appended += len(log.append(list(islice(records, min(APPENDED, arguments.records - appended)))))
    every, done = arguments.snapshot_every, len(_parts(directory))
    for end in range(every * (done + 1), arguments.records + 1, every):
        worked, began = _cpu_s(), time.perf_counter()
        replay_processes(url, store, registry, until=_position(end, arguments.nodes, log.partitions))
        fold_cpu_s, fold_s, worked = _cpu_s() - worked, time.perf_counter() - began, _cpu_s()
        made = create_snapshot(store, storage, registry)
        part = {
            "records": end,
            "fold_cpu_s": round(fold_cpu_s, 2),
            "fold_s": round(fold_s, 2),
            "snapshot_cpu_s": round(_cpu_s() - worked, 2),
            "snapshot_bytes": made.stored_size,
        }
        with (directory / "parts.jsonl").open("a") as parts:
            parts.write(json.dumps(part) + "\n")
    return log


def _position(count: int, nodes: int, partitions: int) -> dict[int, int]:
    """The position of the log after its first `count` reports. Each partition begins with its opening record."""
    rounds, rest = divmod(count, nodes)
    return {
        p: 1 + rounds * len(range(p, nodes, partitions)) + len(range(p, rest, partitions))
        for p in range(partitions)
    }


def _parts(directory: Path) -> list[dict[str, Any]]:
    """What each part of the log cost, by its last record."""
    file = directory / "parts.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def entries(nodes: int, partitions: int, first: int = 0) -> Iterator[NewRecord]:
    """An endless stream of reports from the one with number `first`: each node is in one partition, and the nodes take turns."""
    cells, number = covering_cells(partitions), first
    while True:
        node, round_ = number % nodes, number // nodes
        value = report(
            f"node-{node:07}",
            1 + round_,
            vcpu=8 + round_ % 100,
            memory=16_384 + round_ % 100,
            disk=2_000 + round_ % 100,
            traits=("CUSTOM_RACK_A", "HW_CPU_X86_AVX2", "HW_CPU_X86_SSE42"),
        )
        yield NewRecord(cells[node % partitions], value)
        number += 1
