"""Runs OpenStack Placement (MariaDB, uWSGI) and vacancy's API of it side by side, and measures both through HTTP.

Queries for candidates are asked of both in turns, on fleets of the sizes that are given. Then four clients place instances, again in
turns. `--partition` measures what one partition of vacancy bears. At last eight clients fill small fleets to the brim: Placement runs at its defaults there, where it may overcommit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from evaluation.candidates.candidate import Fleet
from evaluation.candidates.installed import missing_parts
from evaluation.candidates.placement import fill as placement_fill
from evaluation.candidates.placement.mariadb import PACKAGE, PROGRAMS, mariadb_version
from evaluation.candidates.placement.server import BEST, DEFAULTS, PlacementServer
from evaluation.candidates.vacancy_api import fill as vacancy_api_fill
from evaluation.candidates.vacancy_api.server import PROCESSES, VacancyApiServer
from evaluation.placement_api.brim import fill_rounds
from evaluation.placement_api.client import ApiClient, claim_of
from evaluation.placement_api.partition import measure_partition
from evaluation.statistics import check_counts, percentile
from vacancy.clients.replay_tool.parallel import replay_processes
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.resources.model.errors import UsageError, VacancyError
from vacancy.streams.log import open_log

SYSTEMS: Final = ("placement", "vacancy")
CLIENTS: Final = 4
LIMIT: Final = 10
QUERY: Final = f"/allocation_candidates?resources=VCPU:1,MEMORY_MB:256,DISK_GB:10&limit={LIMIT}"
_BLOCK: Final = 20
_ROUNDS: Final = 3

Ports = Mapping[str, int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--sizes",
        default="1000,10000",
        help="numbers of providers, separated by commas; 0 for none (default: %(default)s)",
    )
    parser.add_argument(
        "--queries", type=int, default=200, help="timed queries of each system (default: %(default)s)"
    )
    parser.add_argument(
        "--instances", type=int, default=300, help="instances that each system places (default: %(default)s)"
    )
    parser.add_argument(
        "--brims", type=int, default=0, help="fleets that are filled to the brim (default: %(default)s)"
    )
    parser.add_argument(
        "--partition",
        default="0",
        metavar="N,…",
        help="numbers of providers for what one partition of vacancy bears; 0 for none (default: %(default)s)",
    )
    parser.add_argument(
        "--writes", type=int, default=600, help="claims on such a partition (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of random choices (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON (the only output format)")


def run(arguments: argparse.Namespace) -> int:
    """Measure, and print the result."""
    check_counts(arguments, ("queries", "instances", "writes"))
    sizes, partitions = (
        [int(size) for size in text.split(",") if int(size)]
        for text in (arguments.sizes, arguments.partition)
    )
    modules = {"placement": "openstack-placement", "pyuwsgi": "pyuwsgi", "pymysql": "pymysql"}
    missing = missing_parts(PROGRAMS, PACKAGE, modules)
    if missing is not None:
        raise UsageError(missing)
    found: dict[str, Any] = {
        "benchmark": "placement-api",
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 1),
        "placement": f"openstack-placement {version('openstack-placement')}, MariaDB {mariadb_version()}",
        "processes": {"placement": f"{BEST.processes} x {BEST.threads}", "vacancy": PROCESSES},
        "sizes": {size: _measure(Fleet(size), arguments) for size in sizes},
    }
    if partitions:
        found["partition"] = [_measure_partition(size, arguments) for size in partitions]
    if arguments.brims:
        found["brim"] = _measure_brims(arguments.brims, arguments.seed)
    print(json.dumps({**found, "load_after": round(os.getloadavg()[0], 1)}))
    return 0


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vacancy-placement-api-") as directory:
        yield Path(directory)


def _measure_partition(size: int, arguments: argparse.Namespace) -> dict[str, Any]:
    with _directory() as directory:
        return measure_partition(directory, size, arguments.writes, CLIENTS, arguments.seed)


# -- queries and placements -------------------------------------------------------------------------------------------


def _measure(fleet: Fleet, arguments: argparse.Namespace) -> dict[str, Any]:
    with _directory() as directory, ExitStack() as stack:
        placement = PlacementServer(directory, BEST)
        stack.callback(placement.stop)
        placement.start()
        vacancy = VacancyApiServer(directory / "vacancy")
        stack.callback(vacancy.stop)
        vacancy.start()
        placement_fill.load(placement.port, placement.database, fleet, 0.5)
        vacancy_api_fill.load(vacancy.url, vacancy.store, fleet, 0.5)
        ports = {"placement": placement.port, "vacancy": vacancy.port}
        queries = _queries(ports, arguments.queries)
        placed = _placements(ports, arguments.instances, arguments.seed)
        folded = _records_a_second(vacancy)
    both = {name: {**queries[name], **placed[name]} for name in SYSTEMS}
    ratios = {
        name: round(both["placement"][name] / both["vacancy"][name], 2) for name in ("p50_ms", "p99_ms")
    }
    rate = round(both["vacancy"]["placements_per_s"] / both["placement"]["placements_per_s"], 2)
    return {**both, "times_as_fast": {**ratios, "placements_per_s": rate}, "folded_records_per_s": folded}


def _queries(ports: Ports, count: int) -> dict[str, dict[str, float]]:
    """The times of queries, in ms, in blocks that take turns."""
    times: dict[str, list[float]] = {name: [] for name in SYSTEMS}
    block = min(_BLOCK, count)
    for name in SYSTEMS:
        _timed_queries(ports[name], block)
    while len(times["vacancy"]) < count:
        for name in SYSTEMS:
            times[name] += _timed_queries(ports[name], block)
    return {
        name: {"p50_ms": round(percentile(of, 0.5), 3), "p99_ms": round(percentile(of, 0.99), 3)}
        for name, of in ((name, sorted(times[name])) for name in SYSTEMS)
    }


def _timed_queries(port: int, count: int) -> list[float]:
    api, found = ApiClient(port), []
    for _ in range(count):
        began = time.perf_counter()
        requests = api.must("GET", QUERY)["allocation_requests"]
        found.append((time.perf_counter() - began) * 1e3)
        if len(requests) != LIMIT:
            raise VacancyError(f"{len(requests)} candidates of {LIMIT} were found in a fleet with room")
    return found


def _placements(ports: Ports, instances: int, seed: int) -> dict[str, dict[str, Any]]:
    """Whole placements (a query and a claim) a second, by clients at once, in rounds that take turns."""
    share = max(CLIENTS, instances // _ROUNDS)
    rates: dict[str, list[float]] = {name: [] for name in SYSTEMS}
    conflicts = dict.fromkeys(SYSTEMS, 0)
    for number in range(_ROUNDS):
        for name in SYSTEMS:
            rate, lost = _place_all(ports[name], share, seed * 1_000 + number)
            rates[name].append(rate)
            conflicts[name] += lost
    return {
        name: {
            "placements_per_s": round(sorted(rates[name])[_ROUNDS // 2], 1),
            "rounds": [round(rate, 1) for rate in rates[name]],
            "conflicts": conflicts[name],
        }
        for name in SYSTEMS
    }


def _place_all(port: int, instances: int, seed: int) -> tuple[float, int]:
    """Placements a second, and the number of conflicts."""

    def work(number: int) -> int:
        rng, api, lost = random.Random(seed * 100 + number), ApiClient(port), 0
        for _ in range(instances // CLIENTS):
            consumer = UUID(int=rng.getrandbits(128), version=4)
            while True:
                one = rng.choice(api.must("GET", QUERY)["allocation_requests"])
                answer = api.ask("PUT", f"/allocations/{consumer}", claim_of(one["allocations"]))
                if answer.status < 300:
                    break
                lost += 1
                if answer.status != 409:
                    raise VacancyError(f"a claim was answered {answer.status}: {answer.body}")
        return lost

    began = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        lost = sum(pool.map(work, range(CLIENTS)))
    return instances // CLIENTS * CLIENTS / (time.perf_counter() - began), lost


def _records_a_second(vacancy: VacancyApiServer) -> float:
    """How many records a second one process folds of the log that this run has written."""
    with open_log(vacancy.url) as log:
        records = sum(log.end().values())
    began = time.perf_counter()
    replay_processes(vacancy.url, vacancy.directory / "again", installed_registry(), processes=1)
    return round(records / (time.perf_counter() - began), 1)


# -- to the brim ------------------------------------------------------------------------------------------------------


def _measure_brims(rounds: int, seed: int) -> dict[str, Any]:
    """Placement at its defaults and vacancy, one after the other."""
    makers: Mapping[str, Callable[[Path], PlacementServer | VacancyApiServer]] = {
        "placement at its defaults": lambda directory: PlacementServer(directory, DEFAULTS),
        "vacancy": VacancyApiServer,
    }
    found = {}
    for name, make in makers.items():
        with _directory() as directory, ExitStack() as stack:
            server = make(directory)
            stack.callback(server.stop)
            server.start()
            found[name] = asdict(fill_rounds(server.port, rounds, seed))
    return found
