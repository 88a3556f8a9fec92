"""OpenStack Placement and vacancy, one after the other, with the same fleet and the same load on the same machine.

Three things are measured of each: how long a scheduler waits for candidates; how many instances four schedulers
place a second; and whether anything is handed out twice where they ask a full fleet for more. Placement is the real
package, over HTTP, with an API process for each scheduler; each system picks candidates at random.
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

from evaluation.placement_client import MICROVERSION, PlacementClient
from evaluation.placement_fleet import PlacementFleet, brim_fleet, plain_fleet
from evaluation.placement_race import race_placement
from evaluation.placement_service import (
    SERVER_TRIES,
    database_kind,
    placement_service,
    placement_version,
)
from evaluation.statistics import check_counts, percentile
from evaluation.trace import EXIT_DIFFERENCE
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
    parser.add_argument("--nodes", type=int, default=1_000, help="of the fleet (default: 1000)")
    parser.add_argument("--queries", type=int, default=500, help="timed queries (default: 500)")
    parser.add_argument(
        "--instances", type=int, default=2_000, help="placed by all schedulers together (default: 2000)"
    )
    parser.add_argument(
        "--brim-nodes", type=int, default=20, help="of the fleet that is filled to the brim (default: 20)"
    )
    parser.add_argument("--schedulers", type=int, default=4, help="processes that race (default: 4)")
    parser.add_argument("--limit", type=int, default=10, help="candidates of a query (default: 10)")
    parser.add_argument(
        "--in-flight",
        type=int,
        default=1,
        help="claims a scheduler of vacancy has under way at once; one of Placement has one (default: 1)",
    )
    parser.add_argument(
        "--database",
        help="Placement's, empty: an SQLAlchemy URL such as postgresql+psycopg2://USER@HOST/NAME (default: a"
        " temporary SQLite file, which is good for trying this out and not for judging Placement)",
    )
    parser.add_argument(
        "--server-tries",
        type=int,
        default=SERVER_TRIES,
        help="Placement's allocation_conflict_retry_count: how often it tries to write a claim before it answers 409"
        f" (default: {SERVER_TRIES}, as it is there)",
    )
    parser.add_argument(
        "--log", help="vacancy's: kafka://host:port/NAME, of which NAME-FLEET-xxxx are made (default: SQLite)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of choices (default: 1)")
    parser.add_argument("--json", action="store_true", help="print JSON (the only form there is)")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
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
        theirs = _measure_placement(arguments, Path(directory))
    ours, sound = _measure_vacancy(arguments)
    print(json.dumps({**found, "placement": theirs, "vacancy": ours, "ratio": _ratio(theirs, ours)}))
    return 0 if sound else EXIT_DIFFERENCE


def _ratio(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, float]:
    """How many times as fast vacancy is."""
    waits = {
        f"candidates_{name}": round(theirs["candidates_ms"][name] / ours["candidates_ms"][name], 1)
        for name in ("p50", "p99")
    }
    return {
        **waits,
        "placements_per_s": round(ours["placements_per_s"] / max(0.1, theirs["placements_per_s"]), 1),
    }


def _brim_asked(fleet: PlacementFleet) -> int:
    """A quarter more than it has."""
    return fleet.places * 5 // 4


def _timed(ask: Callable[[], int], queries: int) -> dict[str, float]:
    """How long it takes to ask. Raises `VacancyError` where nothing is found."""
    for _ in range(_WARM_UP):
        ask()
    times = []
    for _ in range(queries):
        started = time.perf_counter()
        found = ask()
        times.append((time.perf_counter() - started) * 1e3)
        if not found:
            raise VacancyError("no candidates were found, in a fleet that has room")
    times.sort()
    return {"p50": round(percentile(times, 0.5), 3), "p99": round(percentile(times, 0.99), 3)}


# -- Placement ------------------------------------------------------------------------------------------------------


def _measure_placement(arguments: argparse.Namespace, directory: Path) -> dict[str, Any]:
    plain, brim = plain_fleet(arguments.nodes), brim_fleet(arguments.brim_nodes)
    service = placement_service(directory, arguments.schedulers, arguments.database, arguments.server_tries)
    with service as ports:
        with PlacementClient(ports[0]) as client:
            if client.has_providers():
                raise UsageError("the database has providers already", do="give Placement an empty one")
        _add(ports, plain)
        query = plain.query(arguments.limit)
        with PlacementClient(ports[0]) as client:
            waits = _timed(lambda: len(client.candidates(query)), arguments.queries)
        placed = race_placement(ports, query, arguments.instances, arguments.seed)
        _add(ports, brim)
        filled = race_placement(ports, brim.query(arguments.limit), _brim_asked(brim), arguments.seed)
        with PlacementClient(ports[0]) as client:
            beyond = {
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
        "overcommitted": beyond[plain.name],
        "brim": {
            "asked": _brim_asked(brim),
            "places": brim.places,
            "accepted": filled.accepted,
            "conflicts": filled.conflicts,
            "errors": filled.errors,
            "overcommitted": beyond[brim.name],
        },
    }


def _add(ports: list[int], fleet: PlacementFleet) -> None:
    """Make the fleet, a part of it through each API process."""
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
    """What was measured, and whether the auditor found all of it sound."""
    placed, waits, sound = _place(arguments, plain_fleet(arguments.nodes), arguments.instances)
    brim = brim_fleet(arguments.brim_nodes)
    filled, _, brim_sound = _place(arguments, brim, _brim_asked(brim))
    names = ("accepted", "conflicts", "errors", "overcommitted")
    return {
        "candidates_ms": waits,
        **placed,
        "brim": {
            "asked": _brim_asked(brim),
            "places": brim.places,
            **{name: filled[name] for name in names},
        },
    }, sound and brim_sound


def _place(
    arguments: argparse.Namespace, fleet: PlacementFleet, instances: int
) -> tuple[dict[str, Any], dict[str, float], bool]:
    """Publish the fleet to a log of its own, time queries, race schedulers for it, and audit what they got."""
    log = arguments.log and f"{arguments.log}-{fleet.name}-{uuid4().hex[:6]}"
    options = TrialOptions(log=log, in_flight=arguments.in_flight, seed=arguments.seed)
    with Trial.prepared(options) as trial:
        trial.append(list(fleet.reports(trial.log.partitions)))
        trial.settle("publish")
        spec = fleet.spec()
        with Scheduler(trial.log, trial.stores[0], trial.registry, seed=arguments.seed) as scheduler:
            waits = _timed(
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
