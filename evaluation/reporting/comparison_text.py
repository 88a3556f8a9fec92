"""A comparison as Markdown: what others do better comes first, and each figure has its conditions beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from evaluation.candidates.candidate import About
from evaluation.reporting.comparison import (
    HARM,
    Advantage,
    Comparison,
    Ratio,
    advantages,
    conditions_key,
    harm,
    number_text,
    ratio,
    reference,
    value_text,
)
from evaluation.reporting.published import PUBLISHED
from evaluation.scenarios.result import Conditions, ScenarioResult

ADVANTAGES_MAX = 12
"""Rows of one candidate and scenario in the first table. The others are in the tables of the scenarios."""


def comparison_text(comparison: Comparison) -> str:
    """The whole report."""
    parts = [
        "# Candidate stores compared",
        _introduction(comparison),
        "## What others do better than vacancy",
        _advantages(comparison),
        "## Overcommitted, lost, doubled",
        _harm(comparison),
    ]
    for name, proves in comparison.proves.items():
        parts += [f"## Scenario: {name}", proves]
        if results := comparison.of(name):
            parts.append(_scenario(results, reference(comparison)))
        parts += [
            f"**{candidate} did not finish:** {error}"
            for (scenario, candidate), error in comparison.failed.items()
            if scenario == name
        ]
        parts += [
            f"{candidate} did not run: {why}."
            for (scenario, candidate), why in comparison.skipped.items()
            if scenario == name
        ]
    parts += ["## What others published", _published(), "## The adapters", *_adapters(comparison.about)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _introduction(comparison: Comparison) -> str:
    machine = comparison.machine
    kind = reference(comparison)
    text = (
        f"Run on {machine.started}, size `{machine.size}`, in {machine.seconds / 60:.0f} minutes: {machine.cores} cores"
        f" ({machine.cpu}), which the store and the schedulers share; Python {machine.python}; load before the run"
        f" {machine.load:.1f}. Values are medians of runs, ± half of the range from least to most. In each scenario the"
        " candidates ran one after the other."
    )
    if kind:
        text += f" `times {kind}`: above 1 the candidate is better; in brackets the range over single runs."
    if comparison.left_out:
        left_out = "\n".join(f"* {name}: {why}" for name, why in comparison.left_out.items())
        text += f"\n\nNot on this machine:\n\n{left_out}"
    return text


def _advantages(comparison: Comparison) -> str:
    found = list(advantages(comparison))
    if not found:
        return "Nothing that was measured here under the same conditions."
    shown: list[Advantage] = []
    for place in dict.fromkeys((one.scenario, one.candidate) for one in found):
        shown += [one for one in found if (one.scenario, one.candidate) == place][:ADVANTAGES_MAX]
    rows = [
        (
            one.candidate,
            one.scenario,
            one.figure,
            one.value,
            f"{one.vacancy}: {one.vacancy_value}",
            _ratio_text(one.times),
            _conditions_text(one.conditions),
        )
        for one in shown
    ]
    head = ("candidate", "scenario", "figure", "candidate's", "vacancy's", "times as good", "conditions")
    left = len(found) - len(shown)
    return _table(head, rows) + (f"\n\n{left} more are in the tables of the scenarios." if left else "")


def _harm(comparison: Comparison) -> str:
    counted = harm(comparison.results)
    if not counted:
        return "No scenario that ran counts them."
    rows = [(name, *(str(counts[one]) for one in HARM)) for name, counts in counted.items()]
    return (
        "The sum over all scenarios. Overcommitted: amounts allocated beyond the capacity of a provider. Lost: acknowledged allocations"
        " that are not in the store. Doubled: consumers that hold more than they were placed for.\n\n"
        + _table(("candidate", *HARM), rows)
    )


def _scenario(results: Sequence[ScenarioResult], kind: str | None) -> str:
    """One row for each figure."""
    theirs = {
        (conditions_key(one.conditions), figure.name): figure
        for one in results
        if one.candidate == kind
        for figure in one.figures
    }
    rows = []
    for one in results:
        conditions = (_conditions_text(one.conditions), _conflicts_text(one), one.conditions.acknowledgement)
        if one.not_offered is not None:
            rows.append((one.candidate, "not offered", one.not_offered, "", *conditions))
        for figure in one.figures:
            other = theirs.get((conditions_key(one.conditions), figure.name))
            times = ratio(figure, other) if other is not None and one.candidate != kind else None
            rows.append((one.candidate, figure.name, value_text(figure), _ratio_text(times), *conditions))
    head = ("candidate", "figure", "median", f"times {kind}", "conditions", "conflicts", "acknowledged when")
    notes = [f"* {one.candidate}: {note}" for one in results for note in one.notes]
    return "\n\n".join((_table(head, rows), *(["\n".join(dict.fromkeys(notes))] if notes else [])))


def _ratio_text(times: Ratio | None) -> str:
    if times is None:
        return ""
    return f"{number_text(times.value)} ({number_text(times.low)} to {number_text(times.high)})"


def _conditions_text(one: Conditions) -> str:
    parts = [
        f"{one.nodes:,} nodes",
        f"{one.fill:.0%} full",
        f"{one.schedulers} × {one.claims_in_flight} in flight",
        f"{one.replicas} replica{'s' if one.replicas != 1 else ''}",
        f"{one.cores} cores",
    ]
    return ", ".join((*parts, f"{one.seconds:g} s") if one.seconds else parts)


def _conflicts_text(one: ScenarioResult) -> str:
    conflicts, placed = one.counts.get("conflicts", 0), one.counts.get("placed", 0)
    if not conflicts + placed:
        return ""
    return f"{conflicts} ({conflicts / (conflicts + placed):.1%})"


def _published() -> str:
    rows = [(one.system, one.figure, one.conditions, one.comparable, one.source) for one in PUBLISHED]
    head = ("system", "published", "its conditions", "comparable?", "source")
    return "None of these ran on this machine. The figures are their authors'.\n\n" + _table(head, rows)


def _adapters(about: Mapping[str, About]) -> Iterator[str]:
    for name, one in about.items():
        yield f"### {name}"
        yield (
            f"Version {one.version}. {one.code_lines} lines of code. Processes: {one.processes}."
            f" A placement is acknowledged when {one.acknowledgement}. It survives {one.durability}."
            f" Copies of the data at that time: {one.replicas}."
        )
        if one.settings:
            rows = [(f"`{each.name}`", f"`{each.value}`", each.source) for each in one.settings]
            yield _table(("setting", "value", "source"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())
