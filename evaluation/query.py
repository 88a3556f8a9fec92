"""How fast a scheduler finds candidates, while a worker folds 1,000 reports a second.

A fleet of plain nodes; half have a trait that is asked for, one in a thousand a rare one, each is in one of
ten aggregates. Every query goes through `Scheduler.candidates`, which catches up with the store first. What is
found is checked against how the fleet was made.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from evaluation.measure import median, percentile, report, rss_mb
from vacancy.resources.errors import VacancyError
from vacancy.resources.partitioner import covering_cells
from vacancy.resources.record import Entry
from vacancy.resources.request import RequestGroup, RequestSpec

RUNS = 5
QUERIES = 10_000
LIMIT = 10
REPORTS_PER_S = 1_000
COMMON, RARE = "HW_CPU_X86_AVX2", "CUSTOM_RARE"
AGGREGATES = 10
RARE_EVERY = 1_000
UPSTREAM = {"VCPU": 1, "DISK_GB": 10, "MEMORY_MB": 256}

_spawn = multiprocessing.get_context("spawn")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--providers", type=int, default=100_000, help="nodes in the fleet")
    parser.add_argument("--queries", type=int, default=QUERIES, help="queries of each kind, over all runs")
    parser.add_argument("--runs", type=int, default=RUNS, help="runs; medians are printed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print JSON (the only form there is)")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    from vacancy.clients.worker_process import WorkerProcess

    with tempfile.TemporaryDirectory(prefix="vacancy-query-") as directory:
        url, store = f"sqlite://{directory}/log.db", Path(directory) / "store"
        _in_process(_build, url, store, arguments.providers)
        with WorkerProcess(url, store):
            feeder = _spawn.Process(target=_feed, args=(url, arguments.providers), daemon=True)
            feeder.start()
            try:
                runs = [
                    _in_process(
                        _measure,
                        url,
                        store,
                        arguments.providers,
                        arguments.queries // arguments.runs,
                        arguments.seed + n,
                    )
                    for n in range(arguments.runs)
                ]
            finally:
                feeder.terminate()
                feeder.join()
    print(json.dumps(_summary(arguments.providers, runs)))
    return 0


def _summary(providers: int, runs: list[dict[str, Any]]) -> dict[str, Any]:
    scenarios = {
        name: {
            "p50_ms": round(median([one["scenarios"][name]["p50_ms"] for one in runs]), 3),
            "p99_ms": round(median([one["scenarios"][name]["p99_ms"] for one in runs]), 3),
            "found": min(one["scenarios"][name]["found"] for one in runs),
        }
        for name in runs[0]["scenarios"]
    }
    return {
        "benchmark": "query",
        "providers": providers,
        "view_open_s": round(median([one["view_open_s"] for one in runs]), 3),
        "rss_mb": round(median([one["rss_mb"] for one in runs])),
        "reports_folded_per_s": round(median([one["reports_folded_per_s"] for one in runs])),
        "scenarios": scenarios,
    }


def _in_process(target: Callable[..., Any], *arguments: Any) -> Any:
    """Run it in a process of its own, so that memory is that of one job."""
    here, there = _spawn.Pipe(duplex=False)
    process = _spawn.Process(target=_report, args=(there, target, *arguments))
    process.start()
    there.close()
    try:
        found = here.recv()
    except EOFError:
        found = VacancyError("a benchmark process ended without a result")
    process.join()
    if isinstance(found, Exception):
        raise found
    return found


def _report(pipe: Connection, target: Callable[..., Any], *arguments: Any) -> None:
    pipe.send(target(*arguments))


# -- the fleet ----------------------------------------------------------------------------------------------


def _root(number: int) -> str:
    return f"node-{number:07}"


def _node(number: int, sequence: int) -> bytes:
    traits = (["CUSTOM_RACK"] if number % 3 else []) + ([COMMON] if number % 2 else [])
    if number % RARE_EVERY == 7:
        traits.append(RARE)
    return report(
        _root(number),
        sequence,
        vcpu=8 + number % 57,
        memory=16_384 + number % 1000 * 100 + sequence % 2,
        disk=500 + number % 1500,
        traits=sorted(traits),
    )


def _aggregate(number: int) -> str:
    return f"rack-{number // 2 % AGGREGATES}"


def _build(url: str, store: Path, providers: int) -> int:
    """Make the log and fold it."""
    from vacancy.clients.replay import replay
    from vacancy.clients.wiring import installed_registry, new_log
    from vacancy.resources import events

    registry = installed_registry()
    cell = covering_cells(1)[0]
    with new_log(url, 1, registry) as log:
        for start in range(0, providers, 1000):
            numbers = range(start, min(start + 1000, providers))
            log.append([Entry(cell, _node(number, 1)) for number in numbers])
            log.append(
                [
                    Entry(
                        cell,
                        events.encode_plain(
                            "vacancy.facts.set.v1",
                            f"facts-{number}",
                            "/evaluation",
                            {
                                "provider": _root(number),
                                "revision": 1,
                                "facts": {"aggregates": [_aggregate(number)]},
                            },
                        ),
                    )
                    for number in numbers
                ]
            )
        replay(log, store, registry)
    return providers


def _feed(url: str, providers: int) -> None:
    """Send reports that change the fleet, 1,000 a second, until ended."""
    from vacancy.streams.log import open_log

    rng = random.Random(2)
    sequences: dict[int, int] = {}
    cell = covering_cells(1)[0]
    with open_log(url) as log:
        due = time.monotonic()
        while True:
            entries = []
            for _ in range(10):
                number = rng.randrange(providers)
                sequences[number] = sequences.get(number, 1) + 1
                entries.append(Entry(cell, _node(number, sequences[number])))
            log.append(entries)
            due += len(entries) / REPORTS_PER_S
            time.sleep(max(0.0, due - time.monotonic()))


# -- the queries --------------------------------------------------------------------------------------------


def _measure(url: str, store: Path, providers: int, queries: int, seed: int) -> dict[str, Any]:
    from vacancy.clients.scheduler import Scheduler
    from vacancy.clients.wiring import installed_registry
    from vacancy.clients.worker_process import spare_collector
    from vacancy.streams.log import open_log

    registry = installed_registry()
    rng = random.Random(seed)
    with open_log(url) as log:
        started = time.perf_counter()
        scheduler = Scheduler(log, store, registry, seed=seed)
        view_open_s = time.perf_counter() - started
        with scheduler:
            spare_collector()
            position, began = sum(scheduler.reader.position.values()), time.perf_counter()
            scenarios = {name: _ask(scheduler, name, rng, providers, queries) for name in SCENARIOS}
            folded = sum(scheduler.reader.position.values()) - position
            return {
                "view_open_s": view_open_s,
                "rss_mb": rss_mb(),
                "reports_folded_per_s": folded / (time.perf_counter() - began),
                "scenarios": scenarios,
            }


def _ask(scheduler: Any, name: str, rng: random.Random, providers: int, queries: int) -> dict[str, Any]:
    make, order, check = SCENARIOS[name]
    times, found = [], LIMIT
    for _ in range(queries):
        spec = make(rng)
        started = time.perf_counter()
        answer = scheduler.candidates(spec, limit=LIMIT, order=order).candidates
        times.append((time.perf_counter() - started) * 1e3)
        found = min(found, len(answer))
        check(spec, answer, providers)
    times.sort()
    return {"p50_ms": percentile(times, 0.5), "p99_ms": percentile(times, 0.99), "found": found}


def _spec(
    resources: dict[str, int], required: tuple[str, ...] = (), aggregate: str | None = None
) -> RequestSpec:
    member_of = () if aggregate is None else ((aggregate,),)
    return RequestSpec(
        groups=(RequestGroup(resources=dict(resources), required=required, member_of=member_of),)
    )


def _upstream(rng: random.Random) -> RequestSpec:
    return _spec(UPSTREAM, (COMMON,), f"rack-{rng.randrange(AGGREGATES)}")


def _rare(rng: random.Random) -> RequestSpec:
    return _spec({**UPSTREAM, "VCPU": rng.randint(1, 8)}, (RARE,))


def _impossible(rng: random.Random) -> RequestSpec:
    return _spec({**UPSTREAM, "MEMORY_MB": 10_000_000 + rng.randrange(1000)}, (COMMON,))


def _any(rng: random.Random) -> RequestSpec:
    return _spec({**UPSTREAM, "VCPU": rng.randint(1, 4)})


def _check_found(spec: RequestSpec, answer: list[Any], providers: int) -> None:
    """Each candidate is a node that has what was asked for, by how the fleet was made, and no two are the same."""
    group = spec.groups[0]
    numbers = [int(candidate.root.removeprefix("node-")) for candidate in answer]
    if len(set(numbers)) != len(numbers):
        raise VacancyError("one candidate was found twice")
    for number in numbers:
        made = json.loads(_node(number, 1))["data"]["providers"][0]
        has_all = set(group.required) <= set(made["traits"])
        in_all = all(_aggregate(number) in some for some in group.member_of)
        fits = all(ask <= made["inventories"][name]["max_unit"] for name, ask in group.resources.items())
        if not (number < providers and has_all and in_all and fits):
            raise VacancyError(f"node {number} does not match the query")


def _check_nothing(_spec: RequestSpec, answer: list[Any], _providers: int) -> None:
    if answer:
        raise VacancyError("something was found that is not there")


def _check_best(spec: RequestSpec, answer: list[Any], providers: int) -> None:
    """The best by `spread` have the most free of all classes: no other node may have more of each."""
    _check_found(spec, answer, providers)
    shares = [_free_share(int(candidate.root.removeprefix("node-"))) for candidate in answer]
    if providers >= 1500 * 57 and min(shares) < 0.99 * max(shares):
        raise VacancyError("the best candidates are not alike")


def _free_share(number: int) -> float:
    made = json.loads(_node(number, 1))["data"]["providers"][0]["inventories"]
    vcpu, memory, disk = (int(made[name]["total"]) for name in ("VCPU", "MEMORY_MB", "DISK_GB"))
    return vcpu / 64 + (memory - 512) / (16_384 + 99_900 - 512) + disk / 1999


Check = Callable[[RequestSpec, list[Any], int], None]
SCENARIOS: dict[str, tuple[Callable[[random.Random], RequestSpec], str, Check]] = {
    "upstream": (_upstream, "random", _check_found),
    "rare_trait": (_rare, "random", _check_found),
    "nothing_fits": (_impossible, "random", _check_nothing),
    "best_of_all": (_any, "spread", _check_best),
}
