"""What this project claims about itself, with what was measured, and whether it holds.

The claims are fixed; the values come from the results. A claim of which a part was not measured says so and does not hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from evaluation.reporting.comparison import HARM, Comparison, harm, is_vacancy, number_text
from evaluation.scenarios.result import Figure, ScenarioResult

NODES: Final = 10_000
LARGE_NODES: Final = 100_000
SCHEDULERS: Final = 4
IN_FLIGHT: Final = (1, 16, 96)
TIMES_PLACEMENT: Final = 500.0
TIMES_PLACEMENT_QUERY: Final = 1_000.0
LARGE_RATE: Final = 2_000.0
LARGE_P99_MS: Final = 100.0
LARGE_CONFLICTS: Final = 1.0
MINUTES: Final = 75.0
QUERY: Final = "query p99, upstream's request"

_KAFKA: Final = ("vacancy-kafka-1", "vacancy-kafka-3")
_WHY_POSTGRESQL: Final = (
    "PostgreSQL finds, checks and writes in the process that answers, and waits for one sync. A claim of vacancy is appended to the log"
    " (the same sync), read by the worker, folded and committed, and the scheduler waits until its reader sees the verdict: two more"
    " changes of processes, and over Kafka the broker and its client besides. In return no scheduler asks a server to find a node"
)

Holds = Literal["yes", "no", "not measured", "for information"]


@dataclass(frozen=True)
class Claim:
    """A claim, what was measured, and whether it holds."""

    text: str
    measured: str
    holds: Holds


def claims(comparison: Comparison) -> Iterator[Claim]:
    """All claims."""
    for in_flight in IN_FLIGHT:
        yield from _placements(comparison, in_flight)
    yield _queries(comparison)
    yield _large(comparison)
    yield _harm(comparison)
    yield _single(comparison)
    if comparison.machine.size == "full":
        minutes = comparison.machine.seconds / 60
        yield Claim(
            f"The whole comparison takes less than {MINUTES:.0f} minutes.",
            f"{minutes:.0f} minutes on {comparison.machine.cores} cores",
            _yes(minutes < MINUTES),
        )


def _yes(holds: bool) -> Holds:
    return "yes" if holds else "no"


def _placements(comparison: Comparison, in_flight: int) -> Iterator[Claim]:
    """vacancy on Kafka against three others, with equal numbers of claims in flight."""
    where = f"With {NODES:,} providers, {SCHEDULERS} schedulers and {in_flight} {'claims' if in_flight > 1 else 'claim'} in flight each"
    rates = {
        name: _median(comparison, "racing", name, "placements", NODES, SCHEDULERS, in_flight)
        for name in (*_KAFKA, "placement-best", "postgresql", "etcd")
    }
    for rival, least in (("placement-best", TIMES_PLACEMENT), ("postgresql", 1.0), ("etcd", 1.0)):
        more = (
            f"at least {least:,.0f} times as many placements a second as"
            if least > 1
            else "more placements a second than"
        )
        shown = [(name, rates[name]) for name in (*_KAFKA, rival)]
        measured = "; ".join(f"{name}: {_rate_text(rate)}" for name, rate in shown)
        ours, theirs = rates[_KAFKA[0]], rates[rival]
        if ours is None or theirs is None:
            yield Claim(f"{where}, vacancy on Kafka makes {more} {rival}.", measured, "not measured")
            continue
        times = ours / max(theirs, 1e-9)
        yield Claim(
            f"{where}, vacancy on Kafka makes {more} {rival}.",
            f"{measured}; one broker that flushes each append: {number_text(times)} times",
            _yes(times >= least if least > 1 else times > 1),
        )


def _rate_text(rate: float | None) -> str:
    return "not measured" if rate is None else f"{number_text(rate)}/s"


def _queries(comparison: Comparison) -> Claim:
    text = f"With {NODES:,} providers, the p99 of a query is at least {TIMES_PLACEMENT_QUERY:,.0f} times as fast as Placement's."
    ours = _median(comparison, "scale", _KAFKA[0], QUERY, NODES, 1, 1)
    theirs = _median(comparison, "scale", "placement-best", QUERY, NODES, 1, 1)
    if ours is None or theirs is None:
        return Claim(text, "", "not measured")
    times = theirs / max(ours, 1e-9)
    measured = f"{number_text(ours)} ms and {number_text(theirs)} ms, 90 % full, one scheduler: {number_text(times)} times"
    return Claim(text, measured, _yes(times >= TIMES_PLACEMENT_QUERY))


def _large(comparison: Comparison) -> Claim:
    text = (
        f"With {LARGE_NODES:,} providers that are 90 % full, three brokers and acks=all: at least {LARGE_RATE:,.0f} placements a second,"
        f" conflicts below {LARGE_CONFLICTS:.0f} %, p99 below {LARGE_P99_MS:.0f} ms, with a number of claims in flight that is chosen."
    )
    ways = []
    for one in comparison.of("scale"):
        figures = {figure.name: figure.median for figure in one.figures}
        if (one.candidate, one.conditions.nodes) == (
            "vacancy-kafka-3",
            LARGE_NODES,
        ) and "placement p99" in figures:
            values = (figures["placements"], figures["conflicts"], figures["placement p99"])
            ways.append((one.conditions, *values))
    if not ways:
        return Claim(text, "", "not measured")
    measured = "; ".join(
        f"{conditions.schedulers} × {conditions.claims_in_flight} in flight: {number_text(rate)}/s, {conflicts:.2f} % conflicts,"
        f" p99 {number_text(p99)} ms"
        for conditions, rate, conflicts, p99 in ways
    )
    good = [
        way for way in ways if way[1] >= LARGE_RATE and way[2] < LARGE_CONFLICTS and way[3] < LARGE_P99_MS
    ]
    return Claim(text, measured, _yes(bool(good)))


def _harm(comparison: Comparison) -> Claim:
    text = "In every scenario vacancy overcommits nothing, loses nothing and doubles nothing."
    counts = harm([one for one in comparison.results if is_vacancy(one.candidate)])
    if not counts:
        return Claim(text, "", "not measured")
    sums = {name: sum(one[name] for one in counts.values()) for name in HARM}
    scenarios = len({one.scenario for one in comparison.results if one.counts.keys() & set(HARM)})
    measured = ", ".join(f"{name} {count}" for name, count in sums.items())
    return Claim(text, f"{measured}; counted in {scenarios} scenarios", _yes(not any(sums.values())))


def _single(comparison: Comparison) -> Claim:
    names = ("postgresql", "vacancy-embedded", *_KAFKA)
    times = {
        one.candidate: (_figure(one, "placement p50"), one.conditions.nodes)
        for one in comparison.of("racing")
        if one.candidate in names and one.figures
        if (one.conditions.schedulers, one.conditions.claims_in_flight) == (1, 1)
    }
    found = {name: figure.median for name, (figure, _) in times.items() if figure is not None}
    text = "A single placement, one scheduler with one claim at a time: by how much PostgreSQL wins, and why."
    theirs = found.get("postgresql")
    if theirs is None or len(found) == 1:
        return Claim(text, "", "not measured")
    parts = [f"postgresql: {number_text(theirs)} ms"]
    parts += [
        f"{name}: {number_text(ms)} ms, {number_text(ms / theirs)} times as long"
        for name, ms in found.items()
        if name != "postgresql"
    ]
    return Claim(
        text,
        f"p50, {max(n for _, n in times.values()):,} providers: {'; '.join(parts)}. {_WHY_POSTGRESQL}",
        "for information",
    )


def _median(
    comparison: Comparison,
    scenario: str,
    candidate: str,
    figure: str,
    nodes: int,
    schedulers: int,
    in_flight: int,
) -> float | None:
    """The median of a figure under these conditions."""
    wanted = (candidate, nodes, schedulers, in_flight)
    results: Sequence[ScenarioResult] = comparison.of(scenario)
    for one in results:
        under = one.conditions
        if (one.candidate, under.nodes, under.schedulers, under.claims_in_flight) == wanted:
            found = _figure(one, figure)
            if found is not None:
                return found.median
    return None


def _figure(result: ScenarioResult, name: str) -> Figure | None:
    return next((one for one in result.figures if one.name == name), None)
