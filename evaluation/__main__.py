"""`python -m evaluation COMMAND`: benchmarks and replays of recorded traces. Each command is a module."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Protocol

from evaluation.benchmarks import (
    call_path,
    end_to_end,
    fold,
    history,
    orders,
    page,
    rebuilds,
    replay,
    signatures,
    single,
    snapshots,
    trace,
)
from evaluation.comparison import command as compare
from evaluation.kept_figures import command as bench
from evaluation.model import command as model
from evaluation.placement import command as placement
from evaluation.placement_api import command as placement_api
from evaluation.query import command as query
from evaluation.soak import command as soak
from vacancy.resources.model.errors import VacancyError


class Command(Protocol):
    """A module that implements a command."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


COMMANDS: dict[str, tuple[Command, str]] = {
    "trace": (trace, "schedulers race for the nodes of a recorded cluster, with its recorded requests"),
    "orders": (orders, "how full each candidate order fills the recorded cluster, with one scheduler"),
    "fold": (fold, "how many node reports one process folds per second"),
    "signatures": (signatures, "what it costs the fold that nodes sign, and that they could"),
    "rebuilds": (rebuilds, "whether every way to have the state of a position gives the same digest"),
    "snapshots": (snapshots, "how long a commit waits for a snapshot, and how long create and restore take"),
    "history": (history, "how long an answer of the past takes, the first time and from the cache"),
    "replay": (replay, "a full replay of node reports with several processes: records a second, CPU, memory"),
    "live": (end_to_end, "the complete path over a real log: visibility, catch-up, placement, replay"),
    "soak": (soak, "a constant load for half an hour while processes are killed, one every minute"),
    "single": (single, "what a placement costs that waits for no other, on several stores in turns"),
    "page": (page, "the page with a large fleet, in a real browser: first view, bytes, frames a second"),
    "query": (query, "how long a query for candidates takes while a worker folds"),
    "compare": (compare, "runs all scenarios with all candidate stores and writes a report"),
    "model": (model, "what larger fleets and more schedulers would do, by measured costs of each step"),
    "bench": (
        bench,
        "measures the figures that vacancy must keep, and compares them with the file that has them",
    ),
    "call-path": (call_path, "which modules one placement runs through"),
    "placement-api": (
        placement_api,
        "OpenStack Placement and vacancy's API of it, side by side through HTTP",
    ),
    "beside": (placement, "the same load on OpenStack Placement and on vacancy, on one machine"),
}
"""Name -> the module, and its purpose."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m evaluation", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, purpose) in COMMANDS.items():
        module.add_arguments(commands.add_parser(name, help=purpose, description=module.__doc__))
    parsed = parser.parse_args(arguments)
    try:
        return COMMANDS[parsed.command][0].run(parsed)
    except VacancyError as error:
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
