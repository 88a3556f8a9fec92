"""Measures how long queries for candidates take while a worker folds 1,000 reports per second.

Each fleet has nodes of one kind (`query_fleets`, `query_hardware`); scenarios are the requests (`query_scenarios`,
`query_hardware`). Every query is a call of `Scheduler.candidates`, which first catches up with the store. The answers
are checked against the rule by which the fleet was made.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from evaluation.query import fleets as query_fleets
from evaluation.query import hardware as query_hardware
from evaluation.query import scenarios as query_scenarios
from evaluation.query.fleets import Fleet
from evaluation.query.scenarios import LIMIT, Scenario
from evaluation.statistics import median, percentile, rss_mb
from vacancy.clients.runtime.child_process import ChildProcess
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord

SCENARIOS = (*query_scenarios.SCENARIOS, *query_hardware.SCENARIOS)
FLEETS = (*query_fleets.FLEETS, *query_hardware.FLEETS)
RUNS = 5
QUERIES = 10_000
REPORTS_PER_S = 1_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--providers", type=int, default=100_000, help="providers in each fleet (default: %(default)s)"
    )
    parser.add_argument(
        "--queries",
        type=int,
        default=QUERIES,
        help="queries per scenario, summed over all runs (default: %(default)s)",
    )
    parser.add_argument(
        "--runs", type=int, default=RUNS, help="runs of which the medians are printed (default: %(default)s)"
    )
    parser.add_argument("--scenarios", metavar="NAME,…", help="run only these scenarios (default: all)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the requests (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON (the only output format)")


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmark and print the result."""
    known = [scenario.name for scenario in SCENARIOS]
    names = known if arguments.scenarios is None else arguments.scenarios.split(",")
    for name in names:
        if name not in known:
            raise UsageError(f"there is no scenario {name!r}", do=f"choose from {','.join(known)}")
    found: dict[str, dict[str, Any]] = {}
    for kind in FLEETS:
        selected = [one.name for one in SCENARIOS if one.fleet is kind and one.name in names]
        if selected:
            fleet = kind(arguments.providers)
            found[kind.name] = _summary(fleet, _measure_fleet(fleet, selected, arguments))
    first = next(iter(found.values()))
    scenarios = {name: one for fleet_ in found.values() for name, one in fleet_.pop("scenarios").items()}
    print(
        json.dumps(
            {
                "benchmark": "query",
                "providers": arguments.providers,
                **{name: first[name] for name in ("view_open_s", "rss_mb", "reports_folded_per_s")},
                "scenarios": scenarios,
                "fleets": found,
            }
        )
    )
    return 0


def _measure_fleet(fleet: Fleet, names: list[str], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from vacancy.clients.runtime.worker_process import WorkerProcess

    with tempfile.TemporaryDirectory(prefix="vacancy-query-") as directory:
        url, store = f"sqlite://{directory}/log.db", Path(directory) / "store"
        _in_process(build, url, store, fleet)
        with WorkerProcess(url, store), ChildProcess("the feeder", _feed, url, fleet):
            queries = arguments.queries // arguments.runs
            return [
                _in_process(_measure, url, store, fleet, names, queries, arguments.seed + n)
                for n in range(arguments.runs)
            ]


def _summary(fleet: Fleet, runs: list[dict[str, Any]]) -> dict[str, Any]:
    scenarios = {
        name: {
            "p50_ms": round(median([one["scenarios"][name]["p50_ms"] for one in runs]), 3),
            "p99_ms": round(median([one["scenarios"][name]["p99_ms"] for one in runs]), 3),
            "found": min(one["scenarios"][name]["found"] for one in runs),
        }
        for name in runs[0]["scenarios"]
    }
    return {
        "nodes": fleet.nodes,
        "view_open_s": round(median([one["view_open_s"] for one in runs]), 3),
        "rss_mb": round(median([one["rss_mb"] for one in runs])),
        "reports_folded_per_s": round(median([one["reports_folded_per_s"] for one in runs])),
        "scenarios": scenarios,
    }


def _in_process(target: Callable[..., Any], *arguments: Any) -> Any:
    """Call `target` in a new process, so that its memory use is measured alone. Returns its result."""
    with ChildProcess("a benchmark process", _send_result, target, *arguments) as child:
        return child.receive()


def _send_result(parent: Connection, target: Callable[..., Any], *arguments: Any) -> None:
    parent.send(target(*arguments))


# -- the fleet ----------------------------------------------------------------------------------------------


def build(url: str, store: Path, fleet: Fleet) -> int:
    """Create the log and fold it into the store."""
    from vacancy.clients.replay_tool.replay import replay
    from vacancy.clients.runtime.bootstrap import installed_registry, new_log

    registry = installed_registry()
    with new_log(url, 1, registry) as log:
        entries = fleet.entries()
        while some := list(islice(entries, 1000)):
            log.append(some)
        replay(log, store, registry)
    return fleet.providers


def _feed(_parent: Connection, url: str, fleet: Fleet) -> None:
    """Send 1,000 reports per second that change the fleet, until terminated."""
    from vacancy.streams.log import open_log

    rng = random.Random(2)
    sequences: dict[int, int] = {}
    cell = covering_cells(1)[0]
    with open_log(url) as log:
        due = time.monotonic()
        while True:
            entries = []
            for _ in range(10):
                number = rng.randrange(fleet.nodes)
                sequences[number] = sequences.get(number, 1) + 1
                entries.append(NewRecord(cell, fleet.node(number, sequences[number])))
            log.append(entries)
            due += len(entries) / REPORTS_PER_S
            time.sleep(max(0.0, due - time.monotonic()))


# -- the queries --------------------------------------------------------------------------------------------


def _measure(
    url: str, store: Path, fleet: Fleet, names: list[str], queries: int, seed: int
) -> dict[str, Any]:
    from vacancy.clients.runtime.bootstrap import installed_registry
    from vacancy.clients.runtime.garbage_collector import spare_collector
    from vacancy.clients.scheduler.client import Scheduler
    from vacancy.streams.log import open_log

    registry = installed_registry()
    rng = random.Random(seed)
    with open_log(url) as log:
        started = time.perf_counter()
        scheduler = Scheduler(log, store, registry, seed=seed, spare_collector=False)
        view_open_s = time.perf_counter() - started
        with scheduler:
            spare_collector()
            position, began = sum(scheduler.reader.position.values()), time.perf_counter()
            scenarios = {
                one.name: _query(scheduler, one, rng, fleet, queries)
                for one in SCENARIOS
                if one.name in names
            }
            folded = sum(scheduler.reader.position.values()) - position
            return {
                "view_open_s": view_open_s,
                "rss_mb": rss_mb(),
                "reports_folded_per_s": folded / (time.perf_counter() - began),
                "scenarios": scenarios,
            }


def _query(
    scheduler: Any, scenario: Scenario, rng: random.Random, fleet: Fleet, queries: int
) -> dict[str, Any]:
    times, found = [], LIMIT
    for _ in range(queries):
        spec = scenario.make(rng, fleet)
        started = time.perf_counter()
        answer = scheduler.candidates(spec, limit=LIMIT, order=scenario.order).candidates
        times.append((time.perf_counter() - started) * 1e3)
        found = min(found, len(answer))
        scenario.check(fleet, spec, answer)
    times.sort()
    return {"p50_ms": percentile(times, 0.5), "p99_ms": percentile(times, 0.99), "found": found}
