"""Predicts what deployments larger than this machine do, from measured costs of each step.

A discrete-event model of requests, claims, log, workers and schedulers. It prints where each fleet saturates, the partitions that it
needs, latency against load, and conflicts against the lag of the log. `--calibrate` measures the costs on this machine; without it
those of the committed file are used. `--check` races real schedulers on this machine, too, and prints the error of the model.
`--start-kafka` starts the brokers that both need, with the settings of the comparison.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from evaluation.candidates.vacancy.kafka import VacancyKafka1, VacancyKafka3
from evaluation.model import sweeps
from evaluation.model.calibration import COMMITTED, costs_for, load_calibration, measure_costs
from evaluation.model.sweeps import Window
from evaluation.model.tables import model_plots, text_tables
from evaluation.model.validation import compare_with_runs
from evaluation.reporting.page import html_page
from tests.support.processes.kafka_server import KafkaCluster
from vacancy.resources.model.errors import UsageError

KAFKA = (VacancyKafka1, VacancyKafka3)
"""The candidates of the comparison whose brokers are started."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--calibration", type=Path, default=COMMITTED, help="file of costs (default: the committed one)"
    )
    parser.add_argument(
        "--calibrate", type=Path, metavar="FILE", help="measure the costs, write them to this file"
    )
    parser.add_argument(
        "--nodes", type=int, default=2_000, help="nodes of runs on this machine (default: %(default)s)"
    )
    parser.add_argument(
        "--placements", type=int, default=4_000, help="placements of a calibration (default: %(default)s)"
    )
    parser.add_argument(
        "--kafka",
        action="append",
        default=[],
        metavar="NAME=URL",
        help="calibrate a log on Kafka, too, under this name, for example kafka=kafka://host:port/calibration",
    )
    parser.add_argument(
        "--start-kafka",
        action="store_true",
        help="start brokers on this machine: one named kafka, and to calibrate three named kafka-3 (needs java and mvn)",
    )
    parser.add_argument(
        "--log", default="kafka", help="log of the predictions, by its name (default: %(default)s)"
    )
    parser.add_argument(
        "--check",
        type=_counts,
        metavar="N,…",
        help="race these numbers of schedulers on this machine and print the error of the model, for example 1,2,4",
    )
    parser.add_argument(
        "--in-flight", type=int, default=16, help="claims a scheduler in --check (default: %(default)s)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small fleets and short runs of the model, to try the command"
    )
    parser.add_argument("--no-sweeps", action="store_true", help="only calibrate or check")
    parser.add_argument("--seed", type=int, default=1, help="seed of random choices (default: %(default)s)")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="write an HTML page with plots (needs matplotlib)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def _counts(text: str) -> list[int]:
    return [int(one) for one in text.split(",")]


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    _logs_by_name(arguments.kafka)  # an error is said before anything is measured
    if arguments.calibrate is not None:
        with _kafka(arguments, KAFKA) as kafka:
            calibration = measure_costs(arguments.nodes, arguments.placements, kafka)
        arguments.calibrate.write_text(json.dumps(calibration, indent=1) + "\n")
    else:
        calibration = load_calibration(arguments.calibration)
    found: dict[str, Any] = {"model": "placements", "seed": arguments.seed, "calibration": calibration}
    if arguments.check:
        with _kafka(arguments, KAFKA[:1]) as kafka:
            found["check"] = _checked(arguments, calibration, kafka)
    if not arguments.no_sweeps:
        found |= run_sweeps(calibration, arguments.log, arguments.seed, quick=arguments.quick)
    print(json.dumps(found) if arguments.json else text_tables(found))
    if arguments.plot is not None:
        arguments.plot.write_text(
            html_page("Predictions of the model", text_tables(found), model_plots(found))
        )
    return 0


@contextmanager
def _kafka(arguments: argparse.Namespace, kinds: Sequence[type[VacancyKafka1]]) -> Iterator[dict[str, str]]:
    """Name -> URL of the logs to create: those that are given, and with `--start-kafka` on brokers of these kinds."""
    found = _logs_by_name(arguments.kafka)
    with ExitStack() as stack:
        for kind in kinds if arguments.start_kafka else ():
            name = "kafka" if kind.brokers == 1 else f"kafka-{kind.brokers}"
            print(f"model: starting {kind.brokers} brokers as {name}", file=sys.stderr)
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="vacancy-model-"))
            cluster = KafkaCluster(Path(directory) / "kafka", kind.brokers, properties=kind().properties())
            stack.enter_context(cluster)
            found[name] = f"kafka://{cluster.servers}/model"
        yield found


def _logs_by_name(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for one in given:
        name, equals, url = one.partition("=")
        if not (name and equals and url):
            raise UsageError(f"--kafka {one} is invalid", do="give NAME=URL")
        found[name] = url
    return found


def _checked(
    arguments: argparse.Namespace, calibration: Mapping[str, Any], kafka: Mapping[str, str]
) -> list[dict[str, Any]]:
    log = next(iter(kafka.items()), None)
    return compare_with_runs(
        calibration, arguments.check, arguments.nodes, arguments.in_flight, arguments.seed, log
    )


def run_sweeps(calibration: Mapping[str, Any], log: str, seed: int, *, quick: bool = False) -> dict[str, Any]:
    """All series, by name. `quick`: few small fleets, short."""
    costs = costs_for(calibration, log)
    window = Window(0.2, 0.05) if quick else Window()
    fleets, hosts = ((10_000,), (1, 4)) if quick else (sweeps.FLEETS, sweeps.HOSTS)
    rates, delays = (sweeps.ARRIVALS[:2], sweeps.LAGS_S[:2]) if quick else (sweeps.ARRIVALS, sweeps.LAGS_S)
    nodes = fleets[len(fleets) // 2]
    logs = [(name, costs_for(calibration, name)) for name in calibration["logs_us"] if name != "sqlite"]
    return {
        "log": log,
        "fleets": list(sweeps.fleets_and_hosts(costs, window, seed, fleets, hosts, _progress)),
        "heartbeats": list(sweeps.heartbeats(costs, window, seed, fleets, _progress)),
        "arrivals": list(sweeps.arrivals(costs, window, seed, nodes, rates, _progress)),
        "lags": list(sweeps.lags(costs, window, seed, min(nodes, 20_000), delays, _progress)),
        "replicas": list(sweeps.replicas(logs, window, seed, nodes, _progress)),
    }


def _progress(text: str) -> None:
    print(f"model: {text}", file=sys.stderr)
