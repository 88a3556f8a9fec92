"""`python -m evaluation COMMAND`: traces and benchmarks, each a module here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Protocol

from evaluation import call_path, end_to_end, fold, orders, placement, query, soak, trace
from vacancy.resources.model.errors import VacancyError


class Command(Protocol):
    """A module that is a command."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


COMMANDS: dict[str, tuple[Command, str]] = {
    "trace": (trace, "race schedulers for a real cluster, with its real requests"),
    "orders": (orders, "how full each order fills a real cluster, without a race"),
    "fold": (fold, "how fast one process folds node reports"),
    "live": (end_to_end, "the whole path over a real log: visible, drained, placed, replayed"),
    "soak": (soak, "a steady load for half an hour, with some part killed every minute"),
    "query": (query, "how fast a scheduler finds candidates while a worker folds"),
    "call-path": (call_path, "which modules one placement passes"),
    "beside": (placement, "the same load on OpenStack Placement and on this, on one machine"),
}
"""Name -> the module, and what it is for."""


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
