"""Measures the complete path over a real log: visibility of reports, catch-up of workers, placements, replay.

Each stage creates its own log, `URL-STAGE-xxxx`, so that stages do not affect each other. Broker, worker and schedulers
share the cores of this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from uuid import uuid4

from evaluation.statistics import percentile, report
from vacancy.clients.demo.race import RaceOptions, race
from vacancy.clients.demo.race_plan import Arrival, deal
from vacancy.clients.replay_tool.parallel import replay_processes
from vacancy.clients.replay_tool.replay import replay
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.clients.runtime.child_process import ChildProcess
from vacancy.clients.runtime.worker_process import WorkerProcess
from vacancy.clients.scheduler.client import Scheduler
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import VacancyError
from vacancy.resources.model.partitioner import cell_for
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.request import RequestGroup, RequestSpec
from vacancy.resources.state.tables import key
from vacancy.streams.log import Log, open_log

PARTITIONS = 4
REPORTS_PER_S = 1_000
SCHEDULERS = 4
_BATCH = 500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--log", required=True, help="kafka://host:port/NAME; creates logs NAME-STAGE-xxxx")
    parser.add_argument(
        "--waiting",
        type=int,
        default=200_000,
        help="node reports in the log before a worker or a replay starts (default: %(default)s)",
    )
    parser.add_argument(
        "--placements", type=int, default=40_000, help="requests of all schedulers (default: %(default)s)"
    )
    parser.add_argument(
        "--in-flight", type=int, default=96, help="concurrent claims per scheduler (default: %(default)s)"
    )
    parser.add_argument("--nodes", type=int, default=5_000, help="number of nodes (default: %(default)s)")
    parser.add_argument(
        "--probes",
        type=int,
        default=2_000,
        help="reports whose time to become visible is measured (default: %(default)s)",
    )
    parser.add_argument(
        "--stages",
        default="visible,drain,place,one,replay",
        help="stages to run, separated by commas (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON (the only output format)")


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmark and print the result."""
    stages: dict[str, Callable[[argparse.Namespace, Path], dict[str, Any]]] = {
        "visible": _visible,
        "drain": _drain,
        "place": _place,
        "one": _place_one,
        "replay": _replay,
    }
    found: dict[str, Any] = {"benchmark": "live", "cores": os.cpu_count()}
    for name in arguments.stages.split(","):
        with tempfile.TemporaryDirectory(prefix="vacancy-live-") as directory:
            found |= stages[name](arguments, Path(directory))
    print(json.dumps(found))
    return 0


def _new_log(arguments: argparse.Namespace, stage: str) -> tuple[str, Log]:
    url = f"{arguments.log}-{stage}-{uuid4().hex[:6]}"
    return url, new_log(url, PARTITIONS, installed_registry(), replication=1)


def _root(number: int) -> str:
    return f"node-{number:06}"


def _entry(number: int, sequence: int, *, disk: int = 10_000, memory: int = 1_000_000) -> NewRecord:
    value = report(_root(number), sequence, vcpu=64, memory=memory, disk=disk, traits=("HW_CPU_X86_AVX2",))
    return NewRecord(cell_for(_root(number), PARTITIONS), value)


def _publish(log: Log, nodes: int, records: int) -> None:
    """Append `records` reports of `nodes` nodes, in turn."""
    for start in range(0, records, _BATCH):
        numbers = range(start, min(records, start + _BATCH))
        log.append([_entry(n % nodes, 1 + n // nodes, disk=10_000 + n // nodes) for n in numbers], 120)


# -- a report becomes visible -------------------------------------------------------------------------------


def _visible(arguments: argparse.Namespace, directory: Path) -> dict[str, Any]:
    url, log = _new_log(arguments, "visible")
    with log, WorkerProcess(url, directory / "store") as worker:
        _publish(log, 1000, 1000)
        worker.wait_ready()
        with ChildProcess("the feeder", _feed, url):
            times = sorted(_probe(log, directory / "store", arguments.probes))
    return {"visible_ms": {"p50": round(percentile(times, 0.5), 2), "p99": round(percentile(times, 0.99), 2)}}


def _feed(_parent: Connection, url: str) -> None:
    """Send 1,000 reports per second of nodes 1 to 999, until terminated."""
    with open_log(url) as log:
        due, number = time.monotonic(), 0
        while True:
            entries = []
            for _ in range(5):
                number += 1
                entries.append(_entry(1 + number % 999, 2 + number // 999, disk=10_000 + number))
            log.send(entries)
            due += len(entries) / REPORTS_PER_S
            time.sleep(max(0.0, due - time.monotonic()))


def _probe(log: Log, store: Path, probes: int) -> Iterator[float]:
    """Yield the milliseconds from sending a report of node 0 until a reader's view has it."""
    with StoreReader(store, installed_registry()) as reader:
        row_key = key(cell_for(_root(0), PARTITIONS), _root(0))
        _wait(lambda: _has_row(reader, row_key), 30.0)
        time.sleep(1.0)
        for number in range(probes):
            disk = 20_000 + number
            started = time.perf_counter()
            log.send([_entry(0, 2 + number, disk=disk)])
            while True:
                reader.follow()  # as a scheduler does before each query
                row = reader.view.row_of[row_key]
                if reader.view.classes["DISK_GB"].arrays["capacity"][row] == disk:
                    break
                if time.perf_counter() - started > 10:
                    raise VacancyError("a report was not seen within 10 s")
                time.sleep(0.0002)
            yield (time.perf_counter() - started) * 1e3
            time.sleep(0.003)


def _has_row(reader: StoreReader, row_key: bytes) -> bool:
    reader.catch_up()
    return row_key in reader.view.row_of


def _wait(done: Callable[[], bool], timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > end:
            raise VacancyError(f"timeout after {timeout_s:g} s")
        time.sleep(0.002)


# -- workers catch up ---------------------------------------------------------------------------------------


def _drain(arguments: argparse.Namespace, directory: Path) -> dict[str, Any]:
    url, log = _new_log(arguments, "drain")
    with log:
        _publish(log, arguments.nodes, arguments.waiting)
        ends = log.end()
    rates = {str(n): _drain_with(n, url, directory / f"store{n}", ends) for n in (1, 2)}
    return {"worker_records_per_s": rates["1"], "workers": rates}


def _drain_with(workers: int, url: str, store: Path, ends: dict[int, int]) -> int:
    """Records per second from the first commit to the last, so that start-up is not counted."""
    running = [WorkerProcess(url, store) for _ in range(workers)]
    for worker in running:
        worker.start()
    try:
        _wait(lambda: (store / "store.json").exists(), 60.0)
        with StoreReader(store, installed_registry(), with_view=False) as reader:
            began_at, began = 0.0, 0
            deadline = time.monotonic() + 600
            while True:
                reader.catch_up()
                now, folded = time.monotonic(), sum(reader.position.values())
                if folded and not began_at:
                    began_at, began = now, folded
                if all(reader.position[p] >= end for p, end in ends.items()):
                    return round((folded - began) / max(1e-9, now - began_at))
                if now > deadline:
                    raise VacancyError(f"{workers} workers folded {folded} of {sum(ends.values())} in 600 s")
                time.sleep(0.02)
    finally:
        for worker in running:
            worker.stop()


# -- schedulers place ---------------------------------------------------------------------------------------


def _place(arguments: argparse.Namespace, directory: Path) -> dict[str, Any]:
    url, log = _new_log(arguments, "place")
    spec = RequestSpec(
        groups=(
            RequestGroup(
                resources={"VCPU": 1, "DISK_GB": 10, "MEMORY_MB": 256}, required=("HW_CPU_X86_AVX2",)
            ),
        )
    )
    store = directory / "store"
    with log:
        _publish(log, arguments.nodes, arguments.nodes)
        with WorkerProcess(url, store) as worker:
            worker.wait_ready()
            options = RaceOptions(log=url, stores=[store], in_flight=arguments.in_flight, seed=1)
            worker_before_s = _cpu_s(worker)
            found = race(options, deal([Arrival(spec)] * arguments.placements, SCHEDULERS))
            worker_s = _cpu_s(worker) - worker_before_s
    claims = found.accepted + found.lost_claims
    return {
        "placements_per_s": round(found.accepted / found.seconds),
        "place_many_ms": {"p50": round(found.claim_ms.p50, 1), "p99": round(found.claim_ms.p99, 1)},
        "lost_claims": found.lost_claims,
        "lost_share": round(found.lost_claims / max(1, claims), 4),
        "accepted": found.accepted,
        "cpu_us_per_placement": {
            "worker": round(worker_s / found.accepted * 1e6, 1),
            "schedulers": round(found.cpu_s / found.accepted * 1e6, 1),
            "both": round((worker_s + found.cpu_s) / found.accepted * 1e6, 1),
        },
    }


def _cpu_s(worker: WorkerProcess) -> float:
    """The processor time of the worker so far, in user and kernel mode, from Linux's /proc."""
    fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _place_one(arguments: argparse.Namespace, directory: Path) -> dict[str, Any]:
    url, log = _new_log(arguments, "one")
    spec = RequestSpec(groups=(RequestGroup(resources={"VCPU": 1, "DISK_GB": 10, "MEMORY_MB": 256}),))
    with log:
        _publish(log, arguments.nodes, arguments.nodes)
        with WorkerProcess(url, directory / "store") as worker:
            worker.wait_ready()
            with Scheduler(log, directory / "store", installed_registry(), seed=1) as scheduler:
                times = []
                for _ in range(500):
                    started = time.perf_counter()
                    scheduler.place(spec)
                    times.append((time.perf_counter() - started) * 1e3)
    times.sort()
    return {
        "place_one_ms": {"p50": round(percentile(times, 0.5), 2), "p99": round(percentile(times, 0.99), 2)}
    }


# -- replay -------------------------------------------------------------------------------------------------


def _replay(arguments: argparse.Namespace, directory: Path) -> dict[str, Any]:
    url, log = _new_log(arguments, "replay")
    registry = installed_registry()
    with log:
        _publish(log, arguments.nodes, arguments.waiting)
        total = sum(log.end().values())
        started = time.perf_counter()
        digest_of_one = replay(log, directory / "one", registry)
        rate_of_one = total / (time.perf_counter() - started)
    started = time.perf_counter()
    digest_of_two = replay_processes(url, directory / "two", registry, processes=2)
    rate_of_two = total / (time.perf_counter() - started)
    if digest_of_one != digest_of_two:
        raise VacancyError("a replay with two processes and one with one process have different digests")
    return {
        "replay_records_per_s": round(max(rate_of_one, rate_of_two)),
        "replay": {"1": round(rate_of_one), "2": round(rate_of_two)},
    }
