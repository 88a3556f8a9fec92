"""Several schedulers race for the nodes of a real cluster, with its recorded requests.

Every node of the trace is a provider tree, every pod a request. The requests are distributed round robin over the
schedulers, in the order of the trace (see `evaluation/traces`). With `--recorded` each is released when it ended; with the
times of openb the fleet is nearly empty then.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.statistics import check_counts
from evaluation.traces.arguments import add_trace_arguments, load_trace
from evaluation.traces.gpu_models import with_models
from evaluation.traces.trace import Pod, Trace, fill_schedule, recorded_schedule, saturation_draw
from vacancy.clients.demo.race_plan import Arrival, deal
from vacancy.clients.demo.race_trial import Progress, Step, Trial, TrialOptions, TrialResult, run_trial
from vacancy.clients.demo.synthetic_fleet import node_reports
from vacancy.clients.scheduler.order_names import ORDERS, order_named
from vacancy.projections.query.order import Order
from vacancy.projections.ranking.orders import RANDOM
from vacancy.resources.model.errors import UsageError

EXIT_DIFFERENCE = 5
"""The exit code if something was overcommitted, wrongly rejected, or has another digest after the rebuild."""


@dataclass(frozen=True)
class TraceOptions:
    """The options of a run.

    With neither `fill`, `saturate` nor `recorded`, nothing is released. `fill`: the oldest pods are released so that the
    live pods request at most this share of the fleet, by the trace's measured class. `saturate`: pods are drawn from the
    trace at random, by `seed`, and never released, until they request 130 % of the fleet. `recorded`: a pod is released
    before the first arrival that comes after its end. `hosts`: number of stores that follow the log; the
    schedulers are distributed over them. `gpu_spec_share`: this share of the pods with GPUs is restricted to some GPU
    models, in addition to those with a `gpu_spec`. `order` may be a name: least_fragmentation then uses the file's pods
    as the typical workload.
    """

    trace: Trace
    fill: float | None = None
    saturate: bool = False
    recorded: bool = False
    schedulers: int = 4
    seed: int = 0
    order: Order | str = RANDOM
    in_flight: int = 1
    hosts: int = 1
    gpu_spec_share: float = 0.0
    partitions: int = 4
    log: str | None = None
    client_settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.fill is not None) + self.saturate + self.recorded > 1:
            raise UsageError("fill, saturate and recorded exclude each other", do="give one of them")
        if self.fill is not None and not 0 < self.fill <= 1:
            raise UsageError(
                f"a fill of {self.fill:g} is invalid", do="give more than 0 and at most 1, for example 0.9"
            )
        if not 0 <= self.gpu_spec_share <= 1:
            raise UsageError(f"a gpu_spec share of {self.gpu_spec_share:g} is invalid", do="give 0 to 1")
        check_counts(self, ("schedulers", "in_flight", "partitions", "hosts"))


def run_trace(options: TraceOptions, progress: Progress | None = None) -> TrialResult:
    """Run the trace. Raises `VacancyError` on a failure; differences that the audit finds are in the result."""
    trace = options.trace
    if options.gpu_spec_share:
        pods = with_models(trace.pods, trace.trees, options.gpu_spec_share, options.seed)
        trace = trace._replace(pods=pods)
    arrivals = _arrivals(options, trace)
    trial = TrialOptions(
        log=options.log,
        partitions=options.partitions,
        hosts=options.hosts,
        order=order_named(options.order, trace.typical),
        in_flight=options.in_flight,
        # Releases are sent with the claims of one round: collected for longer, they would leave the fleet fuller than
        # intended.
        release_batch=options.in_flight,
        seed=options.seed,
        client_settings=options.client_settings,
    )

    def publish(trial: Trial) -> None:
        trial.append(list(node_reports(trace.trees, trial.log.partitions, "/trace")), "publishing the nodes")

    return run_trial(trial, publish, deal(arrivals, options.schedulers), progress)


def _arrivals(options: TraceOptions, trace: Trace) -> list[Arrival]:
    pods, capacity = trace.pods, trace.capacity
    if options.saturate:
        return [Arrival(pod.spec) for pod in saturation_draw(pods, options.seed, capacity)]
    return [
        Arrival(pod.spec, before)
        for pod, before in zip(pods, _released(options, pods, capacity), strict=True)
    ]


def _released(options: TraceOptions, pods: list[Pod], capacity: int) -> list[int | None]:
    if options.recorded:
        return recorded_schedule(pods)
    return [None] * len(pods) if options.fill is None else fill_schedule(pods, capacity, options.fill)


def as_json(result: TrialResult) -> dict[str, Any]:
    """The keys of `vacancy demo --json`, plus three.

    `misplaced`: allocations that do not match their request (another GPU model, a share split over GPUs). `allocated`:
    the share of each class that is allocated at the end. `not_judged`: outcomes that the auditor cannot judge.
    """
    allocated = {name: round(share, 4) for name, share in result.audit.allocated.items()}
    audit = result.audit
    return {
        **result.as_json(),
        "misplaced": audit.misplaced,
        "not_judged": audit.unverifiable,
        "allocated": allocated,
    }


# -- the command ------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_trace_arguments(parser)
    filling = parser.add_mutually_exclusive_group()
    filling.add_argument(
        "--fill",
        type=float,
        metavar="SHARE",
        help="release the oldest pods, to keep the requested share of the fleet at or below SHARE: of its GPUs, or of its CPU"
        " if it has none",
    )
    filling.add_argument(
        "--saturate",
        action="store_true",
        help="draw pods at random until they request 130 %% of the fleet; release none",
    )
    filling.add_argument(
        "--recorded", action="store_true", help="release each pod when it ended, by the times of the trace"
    )
    parser.add_argument(
        "--schedulers",
        type=int,
        default=4,
        help="number of racing scheduler processes (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of random choices (default: %(default)s)")
    names = ", ".join(ORDERS)
    parser.add_argument(
        "--order",
        default="random",
        help=f"order of the candidates: {names}; NAME:N chooses among the best N (default: %(default)s)",
    )
    parser.add_argument(
        "--typical",
        type=Path,
        metavar="FILE",
        help="typical workload for least_fragmentation (default: the pods of the file)",
    )
    parser.add_argument(
        "--gpu-spec-share",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="restrict this share of the pods with GPUs to some GPU models (default: %(default)s)",
    )
    parser.add_argument(
        "--hosts",
        type=int,
        default=1,
        help="number of stores, each with some of the schedulers (default: %(default)s)",
    )
    parser.add_argument(
        "--in-flight", type=int, default=1, help="concurrent claims per scheduler (default: %(default)s)"
    )
    parser.add_argument(
        "--partitions", type=int, default=4, help="partitions of the new log (default: %(default)s)"
    )
    parser.add_argument(
        "--log", help="URL of the log; created if it does not exist (default: a temporary file)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    options = TraceOptions(
        trace=load_trace(arguments),
        fill=arguments.fill,
        saturate=arguments.saturate,
        recorded=arguments.recorded,
        schedulers=arguments.schedulers,
        seed=arguments.seed,
        order=order_named(arguments.order, arguments.typical) if arguments.typical else arguments.order,
        in_flight=arguments.in_flight,
        partitions=arguments.partitions,
        hosts=arguments.hosts,
        gpu_spec_share=arguments.gpu_spec_share,
        log=arguments.log,
    )
    result = run_trace(options, _show if sys.stderr.isatty() else None)
    if arguments.json:
        print(json.dumps(as_json(result)))
    else:
        for name, value in as_json(result).items():
            shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
            print(f"{name:17} {shown}")
    for problem in result.audit.problems[:10]:
        print(problem, file=sys.stderr)
    return 0 if result.ok else EXIT_DIFFERENCE


def _show(step: Step) -> None:
    end = "\n" if step.done == step.total else ""
    print(f"\r{step.stage:8} {step.done}/{step.total} {step.note:60}", end=end, file=sys.stderr, flush=True)
