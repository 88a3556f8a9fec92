"""A comparison with kept figures notices a slowdown, and finds none where there is none."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.kept_figures import command as bench
from evaluation.kept_figures.figures import FIGURES, GROUPS, KeptFigure, measure_groups
from evaluation.kept_figures.machine import Machine, this_machine
from evaluation.kept_figures.thresholds import (
    FILE,
    Threshold,
    Thresholds,
    compare,
    load_thresholds,
    student_t,
    thresholds_text,
)
from vacancy.resources.model.errors import VacancyError

HERE = Machine("a processor", 2, "3.11", 10.0)
OTHER = replace(HERE, cpu="another one", loop_ms=5.0)


def threshold(**changes: object) -> Threshold:
    kept = Threshold(
        name="work_ms",
        unit="ms",
        better="less",
        scale="processor",
        trials=5,
        mean=10.0,
        spread=0.2,
        margin=0.10,
        command="",
        conditions="",
    )
    return replace(kept, **changes)  # type: ignore[arg-type]


def noisy(rng: random.Random, mean: float, trials: int = 5, spread: float = 0.02) -> list[float]:
    return [rng.gauss(mean, mean * spread) for _ in range(trials)]


def test_noise_alone_is_never_beyond_the_margin_and_seldom_a_change() -> None:
    rng = random.Random(1)
    verdicts = []
    for _ in range(1_000):
        before = noisy(rng, 10.0)
        mean = sum(before) / 5
        spread = (sum((one - mean) ** 2 for one in before) / 4) ** 0.5
        verdicts.append(compare(threshold(mean=mean, spread=spread), noisy(rng, 10.0), HERE, HERE))
    assert not any(one.beyond for one in verdicts)
    # The interval has 95 %.
    assert 0.92 <= sum(one.change == "unchanged" for one in verdicts) / len(verdicts) <= 0.98


def test_a_slowdown_beyond_the_margin_is_noticed() -> None:
    rng = random.Random(1)
    verdicts = [compare(threshold(), noisy(rng, 12.5), HERE, HERE) for _ in range(200)]
    assert all(one.change == "worse" for one in verdicts)
    assert sum(one.beyond for one in verdicts) >= 198


def test_a_slowdown_within_the_margin_is_reported_and_does_not_fail() -> None:
    rng = random.Random(1)
    verdicts = [compare(threshold(), noisy(rng, 10.6), HERE, HERE) for _ in range(200)]
    assert sum(one.change == "worse" for one in verdicts) > 180
    assert not any(one.beyond for one in verdicts)


def test_an_improvement_is_better_for_both_kinds_of_figures() -> None:
    rng = random.Random(1)
    faster = compare(threshold(), noisy(rng, 8.0), HERE, HERE)
    assert (faster.change, round(faster.gain, 1)) == ("better", 1.2)
    more = compare(threshold(better="more"), noisy(rng, 12.0), HERE, HERE)
    assert (more.change, round(more.gain, 1)) == ("better", 1.2)


@pytest.mark.parametrize(("better", "value"), [("less", 5.0), ("more", 20.0)])
def test_processor_time_on_a_machine_that_is_twice_as_fast(better: str, value: float) -> None:
    found = compare(threshold(better=better), [value * 0.99, value, value * 1.01], HERE, OTHER)
    assert found.change == "unchanged"
    assert found.gain == pytest.approx(1.0)


def test_time_on_the_clock_of_another_machine_is_not_comparable() -> None:
    on_clock = threshold(scale="machine")
    assert compare(on_clock, [50.0, 51.0], HERE, OTHER).change == "not comparable"
    assert not compare(on_clock, [50.0, 51.0], HERE, OTHER).beyond
    assert compare(on_clock, [50.0, 51.0], HERE, replace(HERE, loop_ms=12.0)).beyond


def test_sizes_are_compared_everywhere() -> None:
    size = threshold(scale="none", spread=0.0, margin=0.02)
    assert compare(size, [10.5, 10.5], HERE, OTHER).beyond
    assert compare(size, [10.0, 10.0], HERE, OTHER).change == "unchanged"


@pytest.mark.parametrize(("freedom", "expected"), [(4, 2.776), (8, 2.306), (30, 2.042)])
def test_quantiles_of_students_distribution(freedom: float, expected: float) -> None:
    assert student_t(freedom) == pytest.approx(expected, rel=0.01)


def _work(rounds: int) -> float:
    """The processor time of a small program, ms."""
    started, total = time.thread_time(), 0
    for number in range(rounds):
        total += number % 7
    return (time.thread_time() - started) * 1e3 + total * 0


def test_a_real_program_that_does_more_is_noticed_and_one_that_is_equal_is_not() -> None:
    figure = KeptFigure("work_ms", "ms", "less", "processor", "work", "a loop")
    rounds = [100_000]

    def measure(_: Path) -> dict[str, float]:
        return {"work_ms": min(_work(rounds[0]) for _ in range(9))}  # of a machine with other work, too

    def trials() -> dict[str, list[float]]:
        return measure_groups({"work": measure}, 8, lambda _: None)

    machine = this_machine()
    recorded = bench.record(trials(), machine, None, 0.0, {"work_ms": figure})
    wide = {
        "work_ms": replace(recorded.figures["work_ms"], margin=0.5)
    }  # of a processor that other work shares
    kept = Thresholds(recorded.recorded, recorded.machine, wide)
    (same,) = bench.judge(trials(), kept, machine)
    assert not same.beyond
    rounds[0] = 800_000
    (slower,) = bench.judge(trials(), kept, machine)
    assert slower.change == "worse"
    assert slower.beyond
    text = bench.report_text([slower], kept, machine)
    assert "BEYOND THE MARGIN of 50%" in text


def test_the_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    kept = Thresholds("2026-01-02", HERE, {"work_ms": threshold(conditions='a "quoted" one')})
    path = tmp_path / "thresholds.toml"
    path.write_text(thresholds_text(kept))
    assert load_thresholds(path) == kept


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("margin = 0.1", "margin = 2", "margin is between"),
        ("unit", "units", "units"),
        ("[machine]", "[m]", "machine"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "thresholds.toml"
    path.write_text(thresholds_text(Thresholds("x", HERE, {"work_ms": threshold()})).replace(old, new))
    with pytest.raises(VacancyError, match=message):
        load_thresholds(path)


def test_the_committed_file_has_every_figure() -> None:
    kept = load_thresholds(FILE)
    assert set(kept.figures) == set(FIGURES)
    for name, one in kept.figures.items():
        assert (one.unit, one.better, one.scale) == (
            FIGURES[name].unit,
            FIGURES[name].better,
            FIGURES[name].scale,
        )
    assert {one.group for one in FIGURES.values()} == set(GROUPS)
