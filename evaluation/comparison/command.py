"""Runs all scenarios with all candidate stores in turn, and writes a report.

In each scenario the candidates run one after the other, so that their runs are side by side. Each result is written as JSON when
it is there; the report is made of these files, as Markdown and as an HTML page with plots. `--render` makes it again without any
run. `--resume` goes on where a comparison was interrupted, and runs again what failed. Candidates that are not installed are left out,
with a line that says how to install them; `--require-all` makes that an error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from evaluation.candidates import registry
from evaluation.comparison.run import BUDGET_S, ComparisonOptions, load_comparison, run_comparison
from evaluation.reporting.comparison import HARM, Comparison, harm, is_vacancy
from evaluation.reporting.comparison_plots import comparison_plots
from evaluation.reporting.comparison_text import comparison_text
from evaluation.reporting.page import html_page
from evaluation.scenarios.registry import SCENARIOS
from vacancy.resources.model.errors import UsageError

OUTPUT = Path(__file__).parents[1] / "report"

EXIT_HARM = 5
"""vacancy overcommitted, lost or doubled something, or a scenario failed: a verification found a difference."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--quick", action="store_true", help="all scenarios in 4 minutes")
    parser.add_argument("--candidates", metavar="NAME,…", help=f"only these of {','.join(registry.NAMES)}")
    parser.add_argument("--scenarios", metavar="NAME,…", help=f"only these of {','.join(SCENARIOS)}")
    parser.add_argument(
        "--require-all", action="store_true", help="a candidate that is not installed is an error"
    )
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, help="directory of the report (default: %(default)s)"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="N",
        help=f"how long it may take (default: {BUDGET_S['full'] / 60:.0f}, with --quick {BUDGET_S['quick'] / 60:.0f})",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep the results in the directory, and run only what has none or failed",
    )
    parser.add_argument(
        "--render", action="store_true", help="make the report again of the results in the directory"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of random choices (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    raw = arguments.output / "raw"
    if not arguments.render:
        scenarios = [SCENARIOS[name] for name in _chosen(arguments.scenarios, SCENARIOS, "scenario")]
        names = _chosen(arguments.candidates, registry.NAMES, "candidate")
        options = ComparisonOptions(
            "quick" if arguments.quick else "full",
            arguments.seed,
            budget_s=None if arguments.minutes is None else 60 * arguments.minutes,
            require_all=arguments.require_all,
            resume=arguments.resume,
        )
        run_comparison(scenarios, names, raw, options, _progress)
    comparison = load_comparison(raw)
    write_report(comparison, arguments.output)
    print(f"wrote {arguments.output / 'report.md'} and {arguments.output / 'index.html'}")
    return exit_code(comparison)


def exit_code(comparison: Comparison) -> int:
    """`EXIT_HARM` if vacancy did harm, or a scenario failed with any candidate."""
    counts = harm([one for one in comparison.results if is_vacancy(one.candidate)])
    harmed = any(found[name] for found in counts.values() for name in HARM)
    return EXIT_HARM if harmed or comparison.failed else 0


def _chosen(given: str | None, known: Mapping[str, object] | Sequence[str], kind: str) -> list[str]:
    names = list(known) if given is None else given.split(",")
    for name in names:
        if name not in known:
            raise UsageError(f"there is no {kind} {name!r}", do=f"choose from {','.join(known)}")
    return names


def _progress(text: str) -> None:
    print(f"compare: {text}", file=sys.stderr, flush=True)


def write_report(comparison: Comparison, directory: Path) -> None:
    """Write `report.md` and `index.html`. Without matplotlib the page has no plots, and says so."""
    text = comparison_text(comparison)
    (directory / "report.md").write_text(text)
    try:
        plots = list(comparison_plots(comparison))
    except UsageError as error:
        text += f"\n{error}\n"
        plots = []
    (directory / "index.html").write_text(html_page("Candidate stores compared", text, plots))
