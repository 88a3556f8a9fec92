"""Measures a full replay of node reports with several processes: records a second, processor time and memory.

The log has reports of as many nodes as a tenth of the records (`--nodes`), in turn, each with other totals. The time is that of
the whole call: it starts the processes, folds, writes the tables to files and computes the digest. Records are made before.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from evaluation.statistics import check_counts, report
from vacancy.clients.replay_tool.parallel import replay_processes
from vacancy.clients.replay_tool.replay import Digest, digest
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.clients.runtime.worker_process import WorkerProcess
from vacancy.resources.model.errors import VacancyError
from vacancy.resources.model.partitioner import cell_for
from vacancy.resources.model.record import NewRecord

PARTITIONS = 4
_BATCH = 2_000
_READY_S = 3_600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--records", type=int, default=1_000_000, help="node reports (default: %(default)s)")
    parser.add_argument("--nodes", type=int, help="number of nodes (default: a tenth of the records)")
    parser.add_argument("--processes", type=int, default=2, help="processes that fold (default: %(default)s)")
    parser.add_argument(
        "--log", help="kafka://host:port/NAME: replay from Kafka, too, where a topic NAME-xxxx is made"
    )
    parser.add_argument(
        "--check", action="store_true", help="fold each log with a worker, too, and compare the digests"
    )
    parser.add_argument("--json", action="store_true", help="print JSON (the only output format)")


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmark and print the result."""
    nodes = arguments.nodes or max(1, arguments.records // 10)
    check_counts(arguments, ("records", "processes"))
    found: dict[str, Any] = {
        "benchmark": "replay",
        "cores": len(os.sched_getaffinity(0)),
        "records": arguments.records,
        "nodes": nodes,
        "processes": arguments.processes,
    }
    with tempfile.TemporaryDirectory(prefix="vacancy-replay-") as directory:
        logs = {"sqlite": f"sqlite://{directory}/log.db"}
        if arguments.log:
            logs["kafka"] = f"{arguments.log}-{uuid4().hex[:6]}"
        for name, url in logs.items():
            found[name] = measure(
                url,
                Path(directory) / name,
                arguments.records,
                nodes,
                arguments.processes,
                check=arguments.check,
            )
    print(json.dumps(found))
    return 0


def measure(
    url: str, directory: Path, records: int, nodes: int, processes: int, *, check: bool
) -> dict[str, Any]:
    """Make a log of reports at `url`, and measure its replay into a store in `directory`."""
    fill(url, records, nodes)
    return measure_replay(url, directory, processes, check=check)


def fill(url: str, records: int, nodes: int) -> None:
    """Make a log of reports at `url`."""
    with new_log(url, PARTITIONS, installed_registry(), replication=1) as log:
        entries = _reports(records, nodes)
        while batch := [entry for entry, _ in zip(entries, range(_BATCH), strict=False)]:
            log.append(batch, 120)


def measure_replay(url: str, directory: Path, processes: int, *, check: bool) -> dict[str, Any]:
    """Measure the replay of a log into a store in `directory`."""
    registry = installed_registry()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began, own = time.perf_counter(), time.process_time()
    replayed = replay_processes(url, directory / "replayed", registry, processes=processes)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = time.process_time() - own
    cpu_s += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    folded = sum(replayed.position.values())
    found = {
        "records_per_s": round(folded / seconds),
        "seconds": round(seconds, 2),
        "cpu_us_per_record": round(cpu_s / folded * 1e6, 1),
        "records_per_cpu_s": round(folded / cpu_s),
        "peak_mb_per_process": round(after.ru_maxrss / 1024),
        "load_average": round(os.getloadavg()[0], 1),
    }
    if check:
        found["equals_the_worker"] = _folded_live(url, directory / "live", replayed)
    return found


def _reports(records: int, nodes: int) -> Iterator[NewRecord]:
    for number in range(records):
        root, round_ = f"node-{number % nodes:07}", number // nodes
        value = report(
            root,
            1 + round_,
            vcpu=8 + round_ % 100,
            memory=16_384 + round_ % 100,
            disk=2_000 + round_ % 100,
            traits=("CUSTOM_RACK_A", "HW_CPU_X86_AVX2", "HW_CPU_X86_SSE42"),
        )
        yield NewRecord(cell_for(root, PARTITIONS), value)


def _folded_live(url: str, store: Path, replayed: Digest) -> bool:
    """Fold the log with a worker. Raises `VacancyError` where its digest is another one."""
    with WorkerProcess(url, store) as worker:
        worker.wait_ready(_READY_S)
    if digest(store, installed_registry()) != replayed:
        raise VacancyError("a worker and a replay have different digests", where=url)
    return True
