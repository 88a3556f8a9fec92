"""A comparison of candidates as data: results by scenario, ratios of runs side by side, and what is better than vacancy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluation.candidates.candidate import About, Setting
from evaluation.scenarios.result import Conditions, Figure, ScenarioResult

_VACANCY = "vacancy"

HARM = ("overcommitted", "lost", "doubled")
"""Counts that must be 0."""


def is_vacancy(candidate: str) -> bool:
    """Whether a candidate is a kind of vacancy: with its own client, or behind Placement's API. Their names say so."""
    return _VACANCY in candidate


@dataclass(frozen=True)
class Machine:
    """Where and when a comparison ran. `load`: of the machine before it."""

    started: str
    cores: int
    python: str
    cpu: str
    load: float
    size: str
    seconds: float = 0.0

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Machine:
        """Of a JSON object with these names."""
        return cls(**data)


@dataclass(frozen=True)
class Comparison:
    """All that a report says. `proves`: scenario -> its header. `left_out`: candidate -> why it was not run, in one line.
    `failed`: (scenario, candidate) -> the error that ended it. `skipped`: the same -> why it was not run."""

    machine: Machine
    proves: Mapping[str, str]
    results: Sequence[ScenarioResult]
    about: Mapping[str, About]
    left_out: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[tuple[str, str], str] = field(default_factory=dict)
    skipped: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def of(self, scenario: str) -> list[ScenarioResult]:
        """The results of a scenario."""
        return [one for one in self.results if one.scenario == scenario]

    @property
    def candidates(self) -> list[str]:
        """The candidates that have results."""
        return list(dict.fromkeys(one.candidate for one in self.results))


def about_from_json(data: Mapping[str, Any]) -> About:
    """What `dataclasses.asdict` made of an `About`."""
    return About(**{**data, "settings": tuple(Setting(**one) for one in data["settings"])})


@dataclass(frozen=True)
class Ratio:
    """How many times as good one candidate is as another: by medians, and between the runs that are farthest apart (`low`, `high`)."""

    value: float
    low: float
    high: float


def conditions_key(conditions: Conditions) -> tuple[float, ...]:
    """What must be equal for two results to be compared. Replicas and acknowledgements differ; the report names them."""
    return (conditions.nodes, conditions.fill, conditions.claims_in_flight, conditions.schedulers)


def ratio(figure: Figure, other: Figure) -> Ratio | None:
    """How many times as good `figure` is as `other`; None where neither is better, or a value is not positive."""
    if figure.better == "neither" or min(*figure.runs, *other.runs) <= 0:
        return None
    pairs = [_times(figure, one, two) for one in figure.runs for two in other.runs]
    return Ratio(_times(figure, figure.median, other.median), min(pairs), max(pairs))


def _times(figure: Figure, value: float, other: float) -> float:
    return value / other if figure.better == "more" else other / value


@dataclass(frozen=True)
class Advantage:
    """A candidate is better than a kind of vacancy in one figure or count."""

    scenario: str
    candidate: str
    vacancy: str
    figure: str
    value: str
    vacancy_value: str
    times: Ratio | None
    conditions: Conditions


def advantages(comparison: Comparison) -> Iterator[Advantage]:
    """Everything in which a candidate is better than a kind of vacancy under the same conditions, the largest first in each
    scenario. A difference within the spread is left out: then some run of the candidate was not better than some run of vacancy."""
    for scenario in comparison.proves:
        found = [
            one
            for result in comparison.of(scenario)
            if not is_vacancy(result.candidate)
            for other in comparison.of(scenario)
            if is_vacancy(other.candidate)
            and conditions_key(other.conditions) == conditions_key(result.conditions)
            for one in _advantages_over(result, other)
        ]
        yield from sorted(found, key=lambda one: -(one.times.value if one.times else float("inf")))


def _advantages_over(result: ScenarioResult, other: ScenarioResult) -> Iterator[Advantage]:
    place = (result.scenario, result.candidate, other.candidate)
    if other.not_offered is not None and result.not_offered is None:
        yield Advantage(*place, "it is offered", "yes", other.not_offered, None, result.conditions)
        return
    theirs = {figure.name: figure for figure in other.figures}
    for figure in result.figures:
        if figure.name in theirs:
            times = ratio(figure, theirs[figure.name])
            if (times is not None and times.value > 1 and times.low > 1) or (
                times is None and _is_always_better(figure, theirs[figure.name])
            ):
                values = (value_text(figure), value_text(theirs[figure.name]))
                yield Advantage(*place, figure.name, *values, times, result.conditions)
    for name in HARM:
        if result.counts.get(name, 0) < other.counts.get(name, 0):
            values = (str(result.counts.get(name, 0)), str(other.counts[name]))
            yield Advantage(*place, name, *values, None, result.conditions)


def _is_always_better(figure: Figure, other: Figure) -> bool:
    """Whether each run of a figure is better than each run of the other one. For values of which none is a multiple: 0."""
    if figure.better == "more":
        return min(figure.runs) > max(other.runs)
    return figure.better == "less" and max(figure.runs) < min(other.runs)


def value_text(figure: Figure) -> str:
    """The median with its unit, and the spread if there were several runs."""
    text = f"{number_text(figure.median)} {figure.unit}".strip()
    return f"{text} ± {number_text(figure.spread / 2)}" if len(figure.runs) > 1 else text


def number_text(value: float) -> str:
    """Three digits, or all digits before the point."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def harm(results: Sequence[ScenarioResult]) -> dict[str, dict[str, int]]:
    """Candidate -> the sums of what must be 0, of the results that counted."""
    found: dict[str, dict[str, int]] = {}
    for one in results:
        if one.counts:
            counts = found.setdefault(one.candidate, dict.fromkeys(HARM, 0))
            for name in HARM:
                counts[name] += one.counts.get(name, 0)
    return found


def reference(comparison: Comparison) -> str | None:
    """The kind of vacancy that ratios refer to: on one broker, or the first that ran."""
    kinds = [name for name in comparison.candidates if is_vacancy(name)]
    if not kinds:
        return None
    return "vacancy-kafka-1" if "vacancy-kafka-1" in kinds else kinds[0]
