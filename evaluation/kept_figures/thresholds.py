"""The file of figures that vacancy must keep, and the comparison of new measurements with it."""

from __future__ import annotations

import math
import statistics
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from evaluation.kept_figures.machine import Machine
from vacancy.resources.model.errors import VacancyError

FILE = Path(__file__).parents[1] / "thresholds.toml"

CONFIDENCE = 0.95

Scale = Literal["processor", "machine", "none"]
"""`processor`: processor time, which is compared in units of the calibration loop, so on any machine. `machine`: time on the clock
with disks and several processes: compared only on a machine of the same kind. `none`: a size, the same everywhere."""

Change = Literal["better", "worse", "unchanged", "not comparable"]


@dataclass(frozen=True)
class Threshold:
    """A figure as it was recorded: the mean of `trials` values and their standard deviation `spread`. `margin`: by which share the
    figure may be worse. `command` and `conditions`: how it was measured."""

    name: str
    unit: str
    better: Literal["more", "less"]
    scale: Scale
    trials: int
    mean: float
    spread: float
    margin: float
    command: str
    conditions: str


@dataclass(frozen=True)
class Thresholds:
    """The file: the machine that it was recorded on, and its figures by name."""

    recorded: str
    machine: Machine
    figures: Mapping[str, Threshold]


@dataclass(frozen=True)
class Verdict:
    """How a figure compares. `gain`: how much better than recorded it is, 1 if equal, with the interval `low` to `high` of 95 %.
    `beyond`: the whole interval is worse than the margin allows."""

    name: str
    change: Change
    gain: float
    low: float
    high: float
    beyond: bool
    mean: float
    spread: float


def load_thresholds(path: Path = FILE) -> Thresholds:
    """Read the file. Raises `VacancyError` with the place of the error."""
    try:
        data = tomllib.loads(path.read_text())
        figures = {name: Threshold(name=name, **found) for name, found in data["figures"].items()}
        for one in figures.values():
            _check(one)
        return Thresholds(str(data["recorded"]), Machine(**data["machine"]), figures)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise VacancyError(
            f"the thresholds cannot be read: {error}", where=str(path), do="record them again with --record"
        ) from None


def _check(one: Threshold) -> None:
    if one.trials < 2 or one.mean <= 0 or one.spread < 0 or not 0 < one.margin < 1:
        raise ValueError(f"{one.name}: trials are 2 or more, mean is positive, margin is between 0 and 1")


def thresholds_text(thresholds: Thresholds) -> str:
    """The file's text."""
    lines = [
        "# Figures that vacancy must keep. `make bench` compares with them; `python -m evaluation bench --record` writes this file.",
        "# mean and spread (standard deviation) are of the trials; margin is the share by which a figure may be worse.",
        f'recorded = "{thresholds.recorded}"',
        "",
        "[machine]",
        *(f"{name} = {_value(value)}" for name, value in asdict(thresholds.machine).items()),
    ]
    for name, one in thresholds.figures.items():
        lines += ["", f"[figures.{name}]"]
        lines += [
            f"{field.name} = {_value(getattr(one, field.name))}"
            for field in fields(one)
            if field.name != "name"
        ]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


def compare(threshold: Threshold, trials: Sequence[float], recorded_on: Machine, here: Machine) -> Verdict:
    """Compare new trials, at least two. Where the interval of the gain includes 1 the figure is unchanged."""
    mean, spread = statistics.fmean(trials), statistics.stdev(trials)
    if threshold.scale == "machine" and not here.is_same_kind(recorded_on):
        return Verdict(threshold.name, "not comparable", math.nan, math.nan, math.nan, False, mean, spread)
    ratio = mean / threshold.mean
    if threshold.scale == "processor":
        faster = recorded_on.loop_ms / here.loop_ms
        ratio = ratio / faster if threshold.better == "more" else ratio * faster
    wide = _relative_error(threshold, mean, spread, len(trials))
    gain = ratio if threshold.better == "more" else 1 / ratio
    low, high = gain * math.exp(-wide), gain * math.exp(wide)
    change: Change = "better" if low > 1 else "worse" if high < 1 else "unchanged"
    return Verdict(threshold.name, change, gain, low, high, high < 1 - threshold.margin, mean, spread)


def _relative_error(threshold: Threshold, mean: float, spread: float, trials: int) -> float:
    """Half of the interval of the logarithm of the ratio of two means, after Welch and Satterthwaite."""
    parts = [
        ((threshold.spread / threshold.mean) ** 2 / threshold.trials, threshold.trials),
        ((spread / mean) ** 2 / trials, trials),
    ]
    variance = sum(part for part, _ in parts)
    if not variance:
        return 0.0
    freedom = variance**2 / sum(part**2 / (count - 1) for part, count in parts)
    return student_t(freedom) * math.sqrt(variance)


def student_t(freedom: float) -> float:
    """The two-sided 95 % quantile of Student's distribution, by the expansion of Hill (1970) around the normal one. It is within
    1 % from 4 degrees of freedom on, and 7 % too small at 2."""
    z = statistics.NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    n = max(1.0, freedom)
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )
