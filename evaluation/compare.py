"""Runs all scenarios with all candidate stores in turn, and writes a report.

In each scenario the candidates run one after the other, so that their runs are side by side. Each result is written as JSON when
it is there; the report is made of these files, as Markdown and as an HTML page with plots. `--render` makes it again without any
run. Candidates that are not installed are left out, with a line that says how to install them; `--require-all` makes that an error.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluation.candidates import registry
from evaluation.candidates.candidate import Candidate
from evaluation.kept_figures.machine import cpu_name
from evaluation.reporting.comparison import HARM, VACANCY, Comparison, Machine, about_from_json, harm
from evaluation.reporting.comparison_plots import comparison_plots
from evaluation.reporting.comparison_text import comparison_text
from evaluation.reporting.page import html_page
from evaluation.scenarios.registry import SCENARIOS
from evaluation.scenarios.result import ScenarioResult
from evaluation.scenarios.running import SharedSite
from evaluation.scenarios.scenario import Plan, Scenario, Size
from vacancy.resources.model.errors import UsageError

OUTPUT = Path(__file__).parent / "report"
BUDGET_S: Mapping[Size, float] = {"tiny": 20.0, "quick": 220.0, "full": 4_200.0}
"""How long the whole comparison may take: 4 and 75 minutes, less the report and what ends late."""

EXIT_HARM = 5
"""vacancy overcommitted, lost or doubled something, or a scenario failed: a verification found a difference."""

Progress = Callable[[str], None]
Pair = tuple[Scenario, str]
"""A scenario, and the name of a candidate."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--quick", action="store_true", help="all scenarios in 4 minutes, instead of 75")
    parser.add_argument("--candidates", metavar="NAME,…", help=f"only these of {','.join(registry.NAMES)}")
    parser.add_argument("--scenarios", metavar="NAME,…", help=f"only these of {','.join(SCENARIOS)}")
    parser.add_argument(
        "--require-all", action="store_true", help="a candidate that is not installed is an error"
    )
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, help="directory of the report (default: %(default)s)"
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
            "quick" if arguments.quick else "full", arguments.seed, require_all=arguments.require_all
        )
        run_comparison(scenarios, names, raw, options, _progress)
    comparison = load_comparison(raw)
    write_report(comparison, arguments.output)
    print(f"wrote {arguments.output / 'report.md'} and {arguments.output / 'index.html'}")
    return exit_code(comparison)


def exit_code(comparison: Comparison) -> int:
    """`EXIT_HARM` if vacancy did harm, or a scenario failed with any candidate."""
    counts = harm([one for one in comparison.results if one.candidate.startswith(VACANCY)])
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


# -- runs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ComparisonOptions:
    """`budget_s`: None: that of the size. `candidate`: makes a candidate by its name."""

    size: Size = "full"
    seed: int = 1
    budget_s: float | None = None
    require_all: bool = False
    candidate: Callable[[str], Candidate] = field(default=registry.candidate)


def run_comparison(
    scenarios: Sequence[Scenario],
    names: Sequence[str],
    raw: Path,
    options: ComparisonOptions,
    progress: Progress,
) -> None:
    """Run each scenario with each candidate that is installed, and write what was found to `raw`, which is emptied first.

    An error of a candidate ends its run of that scenario only, and is in the report. What is left when the time is over is skipped, and
    named in the report. Raises `UsageError` where one is missing and all
    are required.
    """
    raw.mkdir(parents=True, exist_ok=True)
    for old in raw.glob("*.json"):
        old.unlink()
    machine = Machine(
        started=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        cores=os.cpu_count() or 1,
        python=platform.python_version(),
        cpu=cpu_name(),
        load=round(os.getloadavg()[0], 1),
        size=options.size,
    )
    there, left_out = _installed(names, options)
    for name, why in left_out.items():
        progress(f"left out: {name}: {why}")
    about = {name: asdict(options.candidate(name).about()) for name in there}
    general = {"proves": {one.name: one.proves for one in scenarios}, "about": about, "left_out": left_out}
    _write(raw / "comparison.json", {**general, "machine": asdict(machine)})
    pairs = [(scenario, name) for scenario in scenarios for name in there]
    if options.size != "full":  # then scenarios share a candidate that runs
        pairs = [(scenario, name) for name in there for scenario in scenarios]
    budget_s = options.budget_s or BUDGET_S[options.size]
    started = time.monotonic()
    with SharedSite() as shared:
        for number, (scenario, name) in enumerate(pairs):
            worked_s = time.monotonic() - started
            progress(
                f"{number + 1} of {len(pairs)}: {scenario.name}, {name}; {_clock(budget_s - worked_s)} left"
            )
            each_s = share_s(pairs, number, budget_s, worked_s)
            if each_s <= 0:
                found = {**_nothing(scenario, name), "skipped": f"its share of {_clock(budget_s)} was over"}
            else:
                plan = Plan(options.size, each_s, raw, options.seed)
                plan = plan if options.size == "full" else replace(plan, shared=shared)
                found = _run_one(scenario, name, plan, progress)
            _write(raw / f"{number:03}-{scenario.name}-{name}.json", found)
            # After each, so that an interrupted comparison has a report of what it did.
            machine = replace(machine, seconds=round(time.monotonic() - started, 1))
            _write(raw / "comparison.json", {**general, "machine": asdict(machine)})


def share_s(pairs: Sequence[Pair], number: int, budget_s: float, worked_s: float) -> float:
    """The time of a pair. Those with the same candidate or scenario in a row share the time until their last one is due. The first of
    a row always has its part of the whole, so that no candidate is left out because others took too long. 0 or less: nothing is left."""
    start, end = number, number + 1
    for side in (0, 1):
        first = last = number
        while first > 0 and pairs[first - 1][side] == pairs[number][side]:
            first -= 1
        while last + 1 < len(pairs) and pairs[last + 1][side] == pairs[number][side]:
            last += 1
        start, end = min(start, first), max(end, last + 1)
    share = (budget_s * end / len(pairs) - worked_s) / (end - number)
    return max(share, budget_s / len(pairs)) if number == start else share


def _installed(names: Sequence[str], options: ComparisonOptions) -> tuple[list[str], dict[str, str]]:
    left_out = {name: why for name in names if (why := options.candidate(name).missing()) is not None}
    if left_out and options.require_all:
        missing = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise UsageError(f"candidates are missing: {missing}", do="install them, or leave out --require-all")
    return [name for name in names if name not in left_out], left_out


def _run_one(scenario: Scenario, name: str, plan: Plan, progress: Progress) -> dict[str, Any]:
    found = _nothing(scenario, name)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"vacancy-{name}-", ignore_cleanup_errors=True) as workdir:
        inner = replace(plan, workdir=Path(workdir), progress=lambda text: progress(f"  {text}"))
        try:
            found["results"] = [one.as_json() for one in scenario.run(name, inner)]
        except Exception as error:  # of any client library: the other candidates are to run
            found["error"] = " ".join(f"{type(error).__name__}: {error}".split())
            found["traceback"] = traceback.format_exc()
            progress(f"  it failed: {found['error']}")
    found["seconds"] = round(time.monotonic() - started, 1)
    found["budget_s"] = round(plan.budget_s, 1)
    return found


def _nothing(scenario: Scenario, name: str) -> dict[str, Any]:
    return {"scenario": scenario.name, "candidate": name, "results": [], "error": None, "skipped": None}


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02} min"


def _write(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n")


# -- the report ---------------------------------------------------------------------------------------------


def load_comparison(raw: Path) -> Comparison:
    """What `run_comparison` wrote. Raises `UsageError` where nothing is there."""
    general_path = raw / "comparison.json"
    if not general_path.exists():
        raise UsageError(f"there are no results in {raw}", do="run the comparison without --render")
    general = json.loads(general_path.read_text())
    results: list[ScenarioResult] = []
    failed, skipped = {}, {}
    for path in sorted(raw.glob("[0-9]*.json")):
        found = json.loads(path.read_text())
        results += [ScenarioResult.from_json(one) for one in found["results"]]
        if found["error"] is not None:
            failed[found["scenario"], found["candidate"]] = found["error"]
        if found["skipped"] is not None:
            skipped[found["scenario"], found["candidate"]] = found["skipped"]
    return Comparison(
        machine=Machine.from_json(general["machine"]),
        proves=general["proves"],
        results=results,
        about={name: about_from_json(one) for name, one in general["about"].items()},
        left_out=general["left_out"],
        failed=failed,
        skipped=skipped,
    )


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
