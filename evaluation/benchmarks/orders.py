"""Measures how full each candidate order fills a cluster, with one scheduler that does not wait for verdicts.

Pods of a trace are drawn at random, by seed, until they request 130 % of the fleet, as in `trace --saturate`.
Each is placed on the first candidate and reserved in the scheduler's own view. So a seed takes seconds, and the result
depends on the order only.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evaluation.statistics import percentile
from evaluation.traces.arguments import add_trace_arguments, load_trace
from evaluation.traces.trace import Trace, Tree, saturation_draw
from vacancy.clients.demo.synthetic_fleet import node_reports
from vacancy.clients.replay_tool.replay import replay
from vacancy.clients.request_language.request_compiler import RequestCompiler
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.clients.scheduler.order_names import ORDERS, order_named
from vacancy.projections.query.engine import find
from vacancy.projections.query.order import Order
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.request import RequestSpec
from vacancy.resources.state.tables import key


class Filled(NamedTuple):
    """The result of one fill: the allocated share of the measured class, requests without a candidate, and query times."""

    allocated: float
    no_valid_host: int
    query_ms: list[float]


def fill(store: Path, order: Order, specs: Sequence[RequestSpec], seed: int, measured: str) -> Filled:
    """Place requests one after the other on the fleet of a store. The store itself is not changed. `measured` is the class of
    which the allocated share is returned."""
    import numpy as np

    rng = np.random.default_rng(seed)
    refused, times = 0, []
    registry = installed_registry()
    compiler = RequestCompiler(registry)
    with StoreReader(store, registry) as reader:
        view = reader.view
        for spec in specs:
            started = time.perf_counter()
            found = find(view, compiler.compile(spec), limit=1, order=order, rng=rng)
            times.append((time.perf_counter() - started) * 1e3)
            refused += not found
            for served in found[0].allocations if found else ():
                row = view.row_of[key(found[0].cell, served.provider)]
                for name, ask in served.resources.items():
                    view.reserve(row, name, ask)
        columns, size = view.classes[measured].arrays, view.size
        capacity = int(columns["capacity"][:size].sum())
        return Filled(1 - int(columns["free"][:size].sum()) / capacity, refused, times)


def fold_fleet(trees: Sequence[Tree], store: Path) -> None:
    """Create a store of these nodes by folding a log of their reports."""
    with new_log(f"memory://{store}", 1, installed_registry()) as log:
        log.append(list(node_reports(trees, 1, "/trace")))
        replay(log, store, installed_registry())


# -- the command ------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_trace_arguments(parser)
    parser.add_argument("--orders", default=",".join(ORDERS), help="orders to compare (default: all)")
    parser.add_argument(
        "--seeds", type=int, default=10, help="number of seeds, starting with 0 (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    if arguments.seeds < 1:
        raise UsageError(f"--seeds {arguments.seeds} is invalid", do="give 1 or more")
    trace = load_trace(arguments)
    orders = {name: order_named(name, trace.typical) for name in arguments.orders.split(",")}
    found = {}
    with tempfile.TemporaryDirectory(prefix="vacancy-orders-") as directory:
        store = Path(directory) / "store"
        fold_fleet(trace.trees, store)
        for name, order in orders.items():
            found[name] = _summary([_fill(store, order, trace, seed) for seed in range(arguments.seeds)])
            if not arguments.json:
                print(f"{name:20} " + ", ".join(f"{k} {v}" for k, v in found[name].items()), flush=True)
    if arguments.json:
        print(json.dumps(found))
    return 0


def _fill(store: Path, order: Order, trace: Trace, seed: int) -> Filled:
    drawn = saturation_draw(trace.pods, seed, trace.capacity)
    return fill(store, order, [pod.spec for pod in drawn], seed, trace.measured)


def _summary(fills: Sequence[Filled]) -> dict[str, Any]:
    shares = [one.allocated for one in fills]
    times = sorted(ms for one in fills for ms in one.query_ms)
    return {
        "mean": round(sum(shares) / len(shares), 4),
        "least": round(min(shares), 4),
        "most": round(max(shares), 4),
        "no_valid_host": round(sum(one.no_valid_host for one in fills) / len(fills)),
        "query_ms": {"p50": round(percentile(times, 0.5), 3), "p99": round(percentile(times, 0.99), 3)},
    }
