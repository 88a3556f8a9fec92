"""A small comparison with fixed values: two kinds of vacancy and a database that is better in one figure."""

from __future__ import annotations

from dataclasses import replace

from evaluation.candidates.candidate import About, Setting
from evaluation.reporting.comparison import Comparison, Machine
from evaluation.scenarios.result import Conditions, Figure, ScenarioResult

FSYNC = "it is on disk (fsync)"
CONDITIONS = Conditions(1_000, 0.0, 1, 4, 1, FSYNC, seconds=2.0, cores=2)

COUNTS = {"placed": 990, "conflicts": 10, "overcommitted": 0, "lost": 0, "doubled": 0}


def racing(candidate: str, rate: float, p50_ms: float, **counts: int) -> ScenarioResult:
    """A result of the scenario `racing`."""
    figures = (
        Figure.of("placements", "1/s", "more", (rate * 0.98, rate, rate * 1.02)),
        Figure.of("latency p50", "ms", "less", (p50_ms * 0.99, p50_ms, p50_ms * 1.01)),
    )
    return ScenarioResult("racing", candidate, CONDITIONS, figures, {**COUNTS, **counts})


RESULTS = (
    racing("vacancy-embedded", 500.0, 3.0),
    racing("vacancy-kafka-1", 800.0, 4.0),
    racing("postgresql", 700.0, 1.5, doubled=2),
    ScenarioResult(
        "rebuild",
        "vacancy-kafka-1",
        replace(CONDITIONS, schedulers=0),
        (Figure.of("time", "s", "less", (1.25,)),),
        notes=("a replica from the log alone",),
    ),
    ScenarioResult(
        "rebuild", "postgresql", replace(CONDITIONS, schedulers=0), not_offered="this set-up has no replica"
    ),
)

COMPARISON = Comparison(
    machine=Machine("2026-01-02 03:04 UTC", 2, "3.11.9", "a processor", 0.3, "quick", 240.0),
    proves={"racing": "Schedulers race.", "rebuild": "A replica is made.", "crash": "A store is killed."},
    results=RESULTS,
    about={
        "postgresql": About(
            "15.1",
            (Setting("fsync", "on", "its manual, chapter 20.5"),),
            FSYNC,
            "a kill and a power failure",
            1,
            "one server",
            200,
            "A pool of four connections; commits share a flush.",
        )
    },
    left_out={"etcd": "etcd not found; install with: apt-get install etcd-server"},
    skipped={("crash", "vacancy-embedded"): "the 4:00 min were over"},
    failed={("crash", "postgresql"): "TimeoutError: it did not come back in 60 s"},
)
