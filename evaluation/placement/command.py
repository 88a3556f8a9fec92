"""Runs OpenStack Placement and vacancy, one after the other, with the same fleet and load on the same machine.

Three things are measured for each: the time of a query for candidates; how many instances four schedulers place per
second; and whether anything is overcommitted when the schedulers request more than the fleet has. Placement is the real
package, over HTTP, with one API process per scheduler. Both systems choose candidates at random.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

from evaluation.benchmarks.trace import EXIT_DIFFERENCE
from evaluation.placement.client import MICROVERSION, PlacementClient
from evaluation.placement.fleet import PlacementFleet, brim_fleet, plain_fleet
from evaluation.placement.race import race_placement
from evaluation.placement.service import (
    SERVER_TRIES,
    database_kind,
    placement_service,
    placement_version,
)
from evaluation.statistics import check_counts, percentile
from vacancy.clients.demo.race_plan import Arrival, deal
from vacancy.clients.demo.race_trial import Trial, TrialOptions
from vacancy.clients.scheduler.client import Scheduler
from vacancy.resources.model.errors import UsageError, VacancyError
from vacancy.streams.log_url import parse_log_url

_WARM_UP = 20
_COUNTS = (
    "nodes",
    "queries",
    "instances",
    "brim_nodes",
    "schedulers",
    "limit",
    "in_flight",
    "server_tries",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--nodes", type=int, default=1_000, help="number of nodes of the plain fleet (default: %(default)s)"
    )
    parser.add_argument(
        "--queries", type=int, default=500, help="number of timed queries (default: %(default)s)"
    )
    parser.add_argument(
        "--instances",
        type=int,
        default=2_000,
        help="instances that all schedulers together place (default: %(default)s)",
    )
    parser.add_argument(
        "--brim-nodes",
        type=int,
        default=20,
        help="number of nodes of the small fleet that is filled completely (default: %(default)s)",
    )
    parser.add_argument(
        "--schedulers",
        type=int,
        default=4,
        help="number of racing scheduler processes (default: %(default)s)",
    )
    parser.add_argument(
        "--limit", type=int, default=10, help="maximum candidates per query (default: %(default)s)"
    )
    parser.add_argument(
        "--in-flight",
        type=int,
        default=1,
        help="concurrent claims of a vacancy scheduler; a Placement scheduler has one (default: %(default)s)",
    )
    parser.add_argument(
        "--database",
        help="empty database for Placement: an SQLAlchemy URL such as postgresql+psycopg2://USER@HOST/NAME (default:"
        " a temporary SQLite file, which is enough to try the benchmark but too slow to judge Placement)",
    )
    parser.add_argument(
        "--server-tries",
        type=int,
        default=SERVER_TRIES,
        help="Placement's allocation_conflict_retry_count: attempts to write a claim before it answers 409"
        " (default: %(default)s, Placement's own default)",
    )
    parser.add_argument(
        "--log",
        help="log of vacancy: kafka://host:port/NAME; creates logs NAME-FLEET-xxxx (default: a temporary SQLite file)",
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of random choices (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON (the only output format)")


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmark and print the result."""
    check_counts(arguments, _COUNTS)
    found: dict[str, Any] = {
        "benchmark": "beside",
        "cores": os.cpu_count(),
        "placement_version": placement_version(),
        "microversion": MICROVERSION,
        "database": database_kind(arguments.database),
        "log": "sqlite" if arguments.log is None else parse_log_url(arguments.log).scheme,
        **{name: getattr(arguments, name) for name in _COUNTS},
    }
    with tempfile.TemporaryDirectory(prefix="vacancy-beside-") as directory:
        placement = _measure_placement(arguments, Path(directory))
    vacancy, is_correct = _measure_vacancy(arguments)
    ratio = _speed_ratio(placement, vacancy)
    print(json.dumps({**found, "placement": placement, "vacancy": vacancy, "ratio": ratio}))
    return 0 if is_correct else EXIT_DIFFERENCE


def _speed_ratio(placement: dict[str, Any], vacancy: dict[str, Any]) -> dict[str, float]:
    """How many times as fast as Placement vacancy is."""
    waits = {
        f"candidates_{name}": round(placement["candidates_ms"][name] / vacancy["candidates_ms"][name], 1)
        for name in ("p50", "p99")
    }
    return {
        **waits,
        "placements_per_s": round(vacancy["placements_per_s"] / max(0.1, placement["placements_per_s"]), 1),
    }


def _brim_requests(fleet: PlacementFleet) -> int:
    """The number of requests for the small fleet: a quarter more than it can serve."""
    return fleet.places * 5 // 4


def _time_queries(query: Callable[[], int], queries: int) -> dict[str, float]:
    """The times of `query`, in ms. It returns the number of candidates; raises `VacancyError` if that is 0."""
    for _ in range(_WARM_UP):
        query()
    times = []
    for _ in range(queries):
        started = time.perf_counter()
        found = query()
        times.append((time.perf_counter() - started) * 1e3)
        if not found:
            raise VacancyError("no candidates were found in a fleet with free capacity")
    times.sort()
    return {"p50": round(percentile(times, 0.5), 3), "p99": round(percentile(times, 0.99), 3)}


# -- Placement ------------------------------------------------------------------------------------------------------


def _measure_placement(arguments: argparse.Namespace, directory: Path) -> dict[str, Any]:
    plain, brim = plain_fleet(arguments.nodes), brim_fleet(arguments.brim_nodes)
    service = placement_service(directory, arguments.schedulers, arguments.database, arguments.server_tries)
    with service as ports:
        with PlacementClient(ports[0]) as client:
            if client.has_providers():
                raise UsageError("the database of Placement is not empty", do="give an empty database")
        _create_fleet(ports, plain)
        query = plain.query(arguments.limit)
        with PlacementClient(ports[0]) as client:
            waits = _time_queries(lambda: len(client.candidates(query)), arguments.queries)
        placed = race_placement(ports, query, arguments.instances, arguments.seed)
        _create_fleet(ports, brim)
        filled = race_placement(ports, brim.query(arguments.limit), _brim_requests(brim), arguments.seed)
        with PlacementClient(ports[0]) as client:
            overcommitted = {
                fleet.name: sum(client.overcommitted(node) for node in fleet.node_names())
                for fleet in (plain, brim)
            }
    return {
        "candidates_ms": waits,
        "placements_per_s": round(placed.accepted / placed.seconds, 1),
        "place_ms": placed.place_ms._asdict(),
        "accepted": placed.accepted,
        "conflicts": placed.conflicts,
        "errors": placed.errors,
        "overcommitted": overcommitted[plain.name],
        "brim": {
            "asked": _brim_requests(brim),
            "places": brim.places,
            "accepted": filled.accepted,
            "conflicts": filled.conflicts,
            "errors": filled.errors,
            "overcommitted": overcommitted[brim.name],
        },
    }


def _create_fleet(ports: list[int], fleet: PlacementFleet) -> None:
    """Create the nodes of a fleet, distributed over the API processes."""
    if fleet.trait.startswith("CUSTOM_"):
        with PlacementClient(ports[0]) as client:
            client.must("PUT", f"/traits/{fleet.trait}")
    nodes = fleet.node_names()

    def add(number: int) -> None:
        with PlacementClient(ports[number]) as client:
            for node in nodes[number :: len(ports)]:
                client.add_node(fleet, node)

    with ThreadPoolExecutor(len(ports)) as pool:
        list(pool.map(add, range(len(ports))))


# -- vacancy --------------------------------------------------------------------------------------------------------


def _measure_vacancy(arguments: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """The measurements, and whether the auditor found no problem."""
    placed, waits, is_correct = _place(arguments, plain_fleet(arguments.nodes), arguments.instances)
    brim = brim_fleet(arguments.brim_nodes)
    filled, _, brim_is_correct = _place(arguments, brim, _brim_requests(brim))
    names = ("accepted", "conflicts", "errors", "overcommitted")
    return {
        "candidates_ms": waits,
        **placed,
        "brim": {
            "asked": _brim_requests(brim),
            "places": brim.places,
            **{name: filled[name] for name in names},
        },
    }, is_correct and brim_is_correct


def _place(
    arguments: argparse.Namespace, fleet: PlacementFleet, instances: int
) -> tuple[dict[str, Any], dict[str, float], bool]:
    """Publish the fleet to a new log, time queries, let schedulers race, and audit the allocations."""
    log = arguments.log and f"{arguments.log}-{fleet.name}-{uuid4().hex[:6]}"
    options = TrialOptions(log=log, in_flight=arguments.in_flight, seed=arguments.seed)
    with Trial.prepared(options) as trial:
        trial.append(list(fleet.reports(trial.log.partitions)))
        trial.settle("publish")
        spec = fleet.spec()
        with Scheduler(trial.log, trial.stores[0], trial.registry, seed=arguments.seed) as scheduler:
            waits = _time_queries(
                lambda: len(scheduler.candidates(spec, limit=arguments.limit).candidates), arguments.queries
            )
        raced = trial.race(deal([Arrival(spec)] * instances, arguments.schedulers))
        trial.settle("settle")
        trial.stop_workers()
        result = trial.concluded(raced)
    return (
        {
            "placements_per_s": round(raced.accepted / raced.seconds, 1),
            "place_ms": raced.claim_ms._asdict(),
            "accepted": raced.accepted,
            "conflicts": raced.lost_claims,
            "errors": raced.unknown,
            "overcommitted": result.audit.overcommitted,
        },
        waits,
        result.ok,
    )
