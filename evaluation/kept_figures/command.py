"""Measures the figures that vacancy must keep, and compares them with `evaluation/thresholds.toml`.

Each figure has its trials, mean, spread and margin there. A figure has changed if the 95 % interval of the ratio of the means
excludes 1. The exit code is 1 if a whole interval is worse than the margin of its figure. Figures in processor time are
compared by their ratio to a calibration loop, so on any machine; others only on a machine of the same kind.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluation.kept_figures.figures import FIGURES, GROUPS, KeptFigure, measure_groups
from evaluation.kept_figures.machine import Machine, this_machine
from evaluation.kept_figures.thresholds import (
    FILE,
    Threshold,
    Thresholds,
    Verdict,
    compare,
    load_thresholds,
    thresholds_text,
)
from vacancy.resources.model.errors import UsageError

EXIT_WORSE = 1
TRIALS = 5
MARGINS = {"processor": 0.10, "machine": 0.20, "none": 0.02}
"""The margin of a figure that is recorded for the first time, by its scale."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--trials", type=int, default=TRIALS, help="trials of each figure (default: %(default)s)"
    )
    parser.add_argument("--figures", metavar="NAME,…", help="only these figures (default: all)")
    parser.add_argument("--thresholds", type=Path, default=FILE, help="the file (default: %(default)s)")
    parser.add_argument(
        "--record", action="store_true", help="write what is measured to the file, instead of comparing"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmark; returns its exit code."""
    if arguments.trials < 2:
        raise UsageError(f"{arguments.trials} trials have no spread", do="give 2 or more")
    names = _names(arguments.figures)
    before = load_thresholds(arguments.thresholds) if arguments.thresholds.exists() else None
    groups = {group: GROUPS[group] for group in dict.fromkeys(FIGURES[name].group for name in names)}
    here, load = this_machine(), os.getloadavg()[0]
    measured = measure_groups(groups, arguments.trials, _progress)
    trials = {name: measured[name] for name in names}
    if arguments.record:
        recorded = record(trials, here, before, load, FIGURES)
        arguments.thresholds.write_text(thresholds_text(recorded))
        print(f"wrote {len(trials)} figures to {arguments.thresholds}")
        return 0
    if before is None:
        raise UsageError(f"there is no {arguments.thresholds}", do="record the figures first, with --record")
    verdicts = judge(trials, before, here)
    print(_json(verdicts, before, here) if arguments.json else report_text(verdicts, before, here))
    return EXIT_WORSE if any(one.beyond for one in verdicts) else 0


def _names(given: str | None) -> list[str]:
    names = list(FIGURES) if given is None else given.split(",")
    for name in names:
        if name not in FIGURES:
            raise UsageError(f"there is no figure {name!r}", do=f"choose from {','.join(FIGURES)}")
    return names


def _progress(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr)


def record(
    trials: Mapping[str, Sequence[float]],
    here: Machine,
    before: Thresholds | None,
    load: float,
    figures: Mapping[str, KeptFigure],
) -> Thresholds:
    """New thresholds. Margins that the file has stay, and so do its other figures if they are of a machine of the same kind."""
    kept = dict(before.figures) if before and before.machine.is_same_kind(here) else {}
    for name, values in trials.items():
        one = figures[name]
        margin = before.figures[name].margin if before and name in before.figures else MARGINS[one.scale]
        kept[name] = Threshold(
            name=name,
            unit=one.unit,
            better=one.better,
            scale=one.scale,
            trials=len(values),
            mean=_rounded(statistics.fmean(values)),
            spread=_rounded(statistics.stdev(values)),
            margin=margin,
            command=f"python -m evaluation bench --record --figures {name} --trials {len(values)}",
            conditions=f"{one.conditions}; load of the machine before: {load:.1f}",
        )
    return Thresholds(datetime.now(UTC).strftime("%Y-%m-%d"), here, kept)


def _rounded(value: float) -> float:
    """Five digits."""
    return float(f"{value:.5g}")


def judge(trials: Mapping[str, Sequence[float]], thresholds: Thresholds, here: Machine) -> list[Verdict]:
    """A verdict for each figure. Raises `UsageError` for one that the file does not have."""
    for name in trials:
        if name not in thresholds.figures:
            raise UsageError(f"the thresholds have no figure {name}", do="record it with --record")
    return [
        compare(thresholds.figures[name], values, thresholds.machine, here) for name, values in trials.items()
    ]


def report_text(verdicts: Sequence[Verdict], thresholds: Thresholds, here: Machine) -> str:
    """One line for each figure: what moved first, then what did not."""
    order = {"worse": 0, "better": 1, "unchanged": 2, "not comparable": 3}
    lines = []
    for one in sorted(verdicts, key=lambda one: order[one.change]):
        kept = thresholds.figures[one.name]
        figure = f"{one.mean:,.5g} {kept.unit} (recorded {kept.mean:,.5g})"
        if one.change == "not comparable":
            lines.append(f"not comparable  {one.name}: {figure}, recorded on a machine of another kind")
            continue
        moved = f"{one.change:<14}  {one.name}: {figure}, {one.gain - 1:+.1%}, {one.low - 1:+.1%} to {one.high - 1:+.1%}"
        lines.append(moved + (f"; BEYOND THE MARGIN of {kept.margin:.0%}" if one.beyond else ""))
    speed = thresholds.machine.loop_ms / here.loop_ms
    lines.append(
        f"The machine runs the calibration loop at {speed:.2f} times the recorded speed ({thresholds.recorded});"
        " figures in processor time are corrected for it. + is better."
    )
    return "\n".join(lines)


def _json(verdicts: Sequence[Verdict], thresholds: Thresholds, here: Machine) -> str:
    found: dict[str, Any] = {
        "benchmark": "bench",
        "recorded": thresholds.recorded,
        "machine": asdict(here),
        "figures": {one.name: _without_nan(asdict(one)) for one in verdicts},
    }
    return json.dumps(found)


def _without_nan(found: dict[str, Any]) -> dict[str, Any]:
    return {name: None if value != value else value for name, value in found.items() if name != "name"}
