"""Measures a placement that waits for no other: one scheduler, one claim at a time, on several candidates in turns.

The candidates run side by side, and only the one that is measured is used, so that the ratios are of one run. Processor time is
that of the scheduler, and that of all processes of the store.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from evaluation.candidates import jobs
from evaluation.candidates.candidate import Candidate, Fleet
from evaluation.candidates.jobs import JobResult, all_ms
from evaluation.candidates.registry import candidate
from evaluation.candidates.schedulers import Schedulers
from evaluation.scenarios.running import at_share
from vacancy.resources.model.errors import VacancyError

_LONGER_S: Final = 60.0
_KEPT: Final = (
    "placements_per_s",
    "p50_ms",
    "p99_ms",
    "scheduler_cpu_ms",
    "store_cpu_ms",
    "conflicts_percent",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--candidates",
        default="vacancy-embedded,postgresql",
        help="names, separated by commas (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="runs of each candidate (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of one run (default: %(default)s)")
    parser.add_argument(
        "--nodes", type=int, default=10_000, help="number of providers (default: %(default)s)"
    )
    parser.add_argument(
        "--used", type=float, default=0.0, help="share of the capacity in use (default: %(default)s)"
    )
    parser.add_argument("--schedulers", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument(
        "--in-flight",
        default="1",
        help="claims at once of each scheduler; several numbers, separated by commas, in turns (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with all runs")


@dataclass(slots=True)
class _Measured:
    """A candidate that runs, and its figures so far."""

    store: Candidate
    schedulers: Schedulers
    runs: dict[str, list[dict[str, float]]] = field(default_factory=dict)


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmark and print the result."""
    names = arguments.candidates.split(",")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vacancy-single-")))
        measured = {name: _started(name, arguments, directory / name, stack) for name in names}
        for number in range(-1, arguments.rounds):  # the first round warms up
            for name, one in measured.items():
                for in_flight in map(int, arguments.in_flight.split(",")):
                    figures = _run_once(one, arguments, in_flight, number)
                    label = name if arguments.in_flight == "1" else f"{name}, {in_flight} in flight"
                    one.runs.setdefault(label, []).extend([figures] * (number >= 0))
    runs = {label: those for one in measured.values() for label, those in one.runs.items()}
    found = {label: _summary(those) for label, those in runs.items()}
    if arguments.json:
        conditions = _conditions(arguments)
        print(json.dumps({"benchmark": "single", **conditions, "median": found, "runs": runs}))
    else:
        print(_table(found))
    return 0


def _started(name: str, arguments: argparse.Namespace, workdir: Path, stack: ExitStack) -> _Measured:
    store = candidate(name)
    reason = store.missing()
    if reason is not None:
        raise VacancyError(reason, where=name)
    workdir.mkdir()
    stack.callback(store.stop)
    store.start(workdir)
    store.fill(Fleet(arguments.nodes, 1), arguments.used)
    return _Measured(store, stack.enter_context(Schedulers(store, arguments.schedulers)))


def _run_once(one: _Measured, arguments: argparse.Namespace, in_flight: int, number: int) -> dict[str, float]:
    placing = [
        jobs.Place(prefix=f"r{number}f{in_flight}s{at}", in_flight=in_flight, seconds=arguments.seconds)
        for at in range(arguments.schedulers)
    ]
    before = one.store.footprint().cpu_s
    done = one.schedulers.run(placing, arguments.seconds + _LONGER_S)
    time.sleep(0.2)  # what a store does after its answers is part of its cost
    return _figures(done, one.store.footprint().cpu_s - before)


def _figures(done: list[JobResult], store_cpu_s: float) -> dict[str, float]:
    placed = sum(len(one.placed) for one in done)
    if not placed:
        raise VacancyError(f"nothing was placed: {done[0].reasons}")
    times = all_ms(done)
    conflicts = sum(one.conflicts for one in done)
    took_s = max(one.ended for one in done) - min(one.started for one in done)
    values = (
        placed / took_s,
        at_share(times, 0.5),
        at_share(times, 0.99),
        1e3 * sum(one.cpu_s for one in done) / placed,
        1e3 * store_cpu_s / placed,
        100 * conflicts / (placed + conflicts),
    )
    return dict(zip(_KEPT, (round(value, 4) for value in values), strict=True))


def _summary(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(median(one[name] for one in runs), 4) for name in _KEPT}


def _conditions(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ("rounds", "seconds", "nodes", "used", "schedulers", "in_flight")
    return {"cores": os.cpu_count(), **{name: getattr(arguments, name) for name in names}}


def _table(found: dict[str, dict[str, float]]) -> str:
    rows: list[tuple[str, ...]] = [
        ("", "placements/s", "p50 ms", "p99 ms", "CPU scheduler ms", "CPU store ms", "conflicts %")
    ]
    rows += [(name, *(f"{one[kept]:.2f}" for kept in _KEPT)) for name, one in found.items()]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
    )
