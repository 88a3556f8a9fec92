"""A comparison as Markdown: what others do better comes first, and each figure has its conditions beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from evaluation.candidates.candidate import About
from evaluation.reporting.claims import claims
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


def comparison_text(comparison: Comparison) -> str:
    """The whole report."""
    parts = [
        "# Candidate stores compared",
        _introduction(comparison),
        "## What others do better than vacancy",
        _advantages(comparison),
        "## What vacancy claims, and what was measured",
        _claims(comparison),
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
        parts += _skipped(comparison, name)
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
    if machine.load > machine.cores:
        text += (
            f" **Other work ran at the same time (load {machine.load:.1f} on {machine.cores} cores): times and rates are bounds, and"
            " differences between candidates may be those of the other work.**"
        )
    if kind:
        text += (
            f" In brackets: how many times as good as {kind} under the same conditions, above 1 is better; then the range over"
            " single runs, where there were several."
        )
    if comparison.left_out:
        left_out = "\n".join(f"* {name}: {why}" for name, why in comparison.left_out.items())
        text += f"\n\nNot on this machine:\n\n{left_out}"
    return text


def _advantages(comparison: Comparison) -> str:
    found = list(advantages(comparison))
    if not found:
        return "Nothing that was measured here under the same conditions."
    groups: dict[tuple[str, str, str], list[Advantage]] = {}
    for one in found:  # the largest of a scenario come first
        groups.setdefault((one.scenario, one.candidate, one.figure), []).append(one)
    rows = []
    for (scenario, candidate, figure), group in sorted(
        groups.items(), key=lambda one: _order(comparison, *one[0][:2])
    ):
        under = conditions_key(group[0].conditions)
        same = [one for one in group if conditions_key(one.conditions) == under]
        others = len({conditions_key(one.conditions) for one in group}) - 1
        beaten = "; ".join(f"{one.vacancy}: {one.vacancy_value}{_bracket(one.times)}" for one in same)
        more = f"; better under {others + 1} sets of conditions" if others else ""
        rows.append(
            (candidate, scenario, figure, same[0].value, beaten, _conditions_text(same[0].conditions) + more)
        )
    head = ("candidate", "scenario", "figure", "candidate's", "vacancy's", "conditions")
    return (
        "Every figure in which each run of a candidate was better than each run of a kind of vacancy, with the conditions under which the"
        " difference is largest. In brackets: how many times as good.\n\n" + _table(head, rows)
    )


def _order(comparison: Comparison, scenario: str, candidate: str) -> tuple[int, int]:
    return list(comparison.proves).index(scenario), comparison.candidates.index(candidate)


def _bracket(times: Ratio | None) -> str:
    return f" [{_ratio_text(times)} times]" if times is not None else ""


def _claims(comparison: Comparison) -> str:
    rows = [(one.text, one.holds, one.measured) for one in claims(comparison)]
    return (
        "The values are those of the scenarios `racing` and `scale` below, where their conditions and their spread are.\n\n"
        + _table(("claim", "holds?", "measured"), rows)
    )


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


def _skipped(comparison: Comparison, scenario: str) -> Iterator[str]:
    """One line for each reason why candidates did not run a scenario."""
    reasons: dict[str, list[str]] = {}
    for (name, candidate), why in comparison.skipped.items():
        if name == scenario:
            reasons.setdefault(why, []).append(candidate)
    for why, candidates in reasons.items():
        yield f"Did not run: {', '.join(candidates)} ({why})."


def _scenario(results: Sequence[ScenarioResult], kind: str | None) -> str:
    """A table for each set of figures, with a row for each candidate under each conditions."""
    theirs = {
        (conditions_key(one.conditions), figure.name): figure
        for one in results
        if one.candidate == kind
        for figure in one.figures
    }
    tables: dict[tuple[str, ...], list[list[str]]] = {}
    for one in sorted(results, key=lambda one: conditions_key(one.conditions)):  # side by side
        if one.not_offered is not None:
            continue
        row = [one.candidate, _conditions_text(one.conditions)]
        for figure in one.figures:
            other = theirs.get((conditions_key(one.conditions), figure.name))
            times = ratio(figure, other) if other is not None and one.candidate != kind else None
            row.append(value_text(figure) + _bracket(times))
        row += [_conflicts_text(one), one.conditions.acknowledgement]
        tables.setdefault(tuple(figure.name for figure in one.figures), []).append(row)
    parts = [
        _table(("candidate", "conditions", *names, "claims refused", "acknowledged when"), rows)
        for names, rows in tables.items()
    ]
    if any(one.cells for one in results):
        parts.append(_cells([one for one in results if one.cells]))
    notes = [
        f"* {one.candidate}: not offered: {one.not_offered}" for one in results if one.not_offered is not None
    ]
    notes += [f"* {one.candidate}: {note}" for one in results for note in one.notes]
    return "\n\n".join((*parts, *(["\n".join(dict.fromkeys(notes))] if notes else [])))


def _cells(results: Sequence[ScenarioResult]) -> str:
    """A table with a column for each candidate."""
    names = dict.fromkeys(name for one in results for name in one.cells)
    rows = [(name, *(one.cells.get(name, "") for one in results)) for name in names]
    return _table(("", *(one.candidate for one in results)), rows)


def _ratio_text(times: Ratio | None) -> str:
    """The ratio, and its range where there were several runs."""
    if times is None:
        return ""
    text = number_text(times.value)
    if times.low == times.high:
        return text
    return f"{text} ({number_text(times.low)} to {number_text(times.high)})"


def _conditions_text(one: Conditions) -> str:
    parts = [
        f"{one.nodes:,} nodes",
        f"{one.fill:.0%} full",
        f"{one.schedulers} × {one.claims_in_flight} in flight" if one.schedulers else "no scheduler",
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
        yield f"**Review.** {one.review}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())
