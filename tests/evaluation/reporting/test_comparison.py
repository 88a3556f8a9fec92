"""The report of a comparison says what its results say."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from evaluation.comparison import command as compare
from evaluation.comparison.run import load_comparison
from evaluation.reporting.claims import claims
from evaluation.reporting.comparison import advantages, harm, ratio
from evaluation.reporting.comparison_plots import comparison_plots
from evaluation.reporting.comparison_text import comparison_text
from evaluation.reporting.page import html_page
from evaluation.reporting.published import PUBLISHED
from evaluation.scenarios.result import Figure, ScenarioResult
from tests.evaluation.reporting.fixed_comparison import COMPARISON, RESULTS, racing

GOLDEN = Path(__file__).parent / "fixed_report.md"


def test_the_markdown_is_as_committed() -> None:
    """After a change that is meant, write the file again: `python -m tests.evaluation.reporting.write_fixed_report`."""
    assert comparison_text(COMPARISON) == GOLDEN.read_text()


def test_what_others_do_better_comes_first_and_only_what_is_better() -> None:
    found = [(one.candidate, one.vacancy, one.figure) for one in advantages(COMPARISON)]
    assert found == [
        ("postgresql", "vacancy-kafka-1", "latency p50"),
        ("postgresql", "vacancy-embedded", "latency p50"),
        ("postgresql", "vacancy-embedded", "placements"),
    ]
    text = comparison_text(COMPARISON)
    assert text.index("## What others do better") < text.index("## Overcommitted") < text.index("## Scenario")


def test_a_difference_within_the_spread_is_no_advantage() -> None:
    close = replace(COMPARISON, results=(racing("vacancy-embedded", 500.0, 3.0), racing("etcd", 505.0, 3.0)))
    noisy = Figure.of("placements", "1/s", "more", (495.0, 505.0, 530.0))
    result = replace(close.results[1], figures=(noisy,))
    assert list(advantages(replace(close, results=(close.results[0], result)))) == []


def test_something_in_place_of_nothing_is_an_advantage_without_a_multiple() -> None:
    results = (racing("vacancy-embedded", 900.0, 1.0), racing("etcd", 500.0, 3.0))
    stopped = Figure.of("while it is cut off", "1/s", "more", (0.0, 0.0))
    goes_on = Figure.of("while it is cut off", "1/s", "more", (3.0, 5.0))
    figures = ((stopped,), (goes_on,))
    changed = [replace(one, figures=few) for one, few in zip(results, figures, strict=True)]
    (one,) = advantages(replace(COMPARISON, results=changed))
    assert (one.candidate, one.value, one.vacancy_value, one.times) == (
        "etcd",
        "4 1/s ± 1",
        "0 1/s ± 0",
        None,
    )


def test_cells_are_a_table_with_a_column_for_each_candidate() -> None:
    results = (racing("vacancy-embedded", 900.0, 1.0), racing("etcd", 500.0, 3.0))
    cells = ({"pinned CPUs": "one query", "order": "one query"}, {"pinned CPUs": "cannot | ever"})
    changed = [replace(one, cells=few) for one, few in zip(results, cells, strict=True)]
    text = comparison_text(replace(COMPARISON, results=changed))
    assert "|  | vacancy-embedded | etcd |" in text
    assert "| pinned CPUs | one query | cannot / ever |" in text
    assert "| order | one query |  |" in text


def test_what_vacancy_loses_and_another_does_not_is_an_advantage() -> None:
    results = (racing("vacancy-embedded", 900.0, 1.0, lost=3), racing("etcd", 500.0, 3.0))
    (one,) = advantages(replace(COMPARISON, results=results))
    assert (one.candidate, one.figure, one.value, one.vacancy_value) == ("etcd", "lost", "0", "3")


def test_harm_is_reported_for_all() -> None:
    assert harm(RESULTS)["postgresql"] == {"overcommitted": 0, "lost": 0, "doubled": 2}
    assert "| postgresql | 0 | 0 | 2 |" in comparison_text(COMPARISON)


def test_ratios_have_the_range_over_all_runs() -> None:
    one, two = Figure.of("x", "", "more", (10.0, 12.0)), Figure.of("x", "", "more", (5.0, 4.0))
    found = ratio(one, two)
    assert found is not None
    assert (found.low, found.high) == (2.0, 3.0)
    less = ratio(replace(one, better="less"), two)
    assert less is not None
    assert less.value == pytest.approx(4.5 / 11)
    assert ratio(replace(one, better="neither"), two) is None


def test_other_work_at_the_same_time_is_stated() -> None:
    busy = replace(COMPARISON, machine=replace(COMPARISON.machine, load=9.0))
    assert "Other work ran at the same time (load 9.0 on 2 cores)" in comparison_text(busy)
    assert "Other work" not in comparison_text(COMPARISON)


def test_each_published_figure_has_conditions_a_source_and_a_judgement() -> None:
    text = comparison_text(COMPARISON)
    for one in PUBLISHED:
        assert one.system in text
        assert one.comparable.startswith(("No.", "In part.", "Yes."))
        assert one.source
        assert one.conditions


def test_the_page_has_all_plots_and_loads_nothing() -> None:
    plots = list(comparison_plots(COMPARISON))
    assert [title for title, _ in plots] == ["racing: placements", "racing: latency p50"]
    page = html_page("Candidates", comparison_text(COMPARISON), plots)
    assert page.count("<svg") == 2
    assert "<script" not in page
    assert "src=" not in page
    loaded = re.findall(r'(?:href|url)[=(]"?([^")\s>]+)', page)
    assert all(one.startswith("#") for one in loaded)
    assert '<h2 id="what-others-do-better-than-vacancy">What others do better than vacancy</h2>' in page
    anchors = re.findall(r'<a href="#([^"]+)"', page)
    assert "what-others-do-better-than-vacancy" in anchors
    assert all(f'id="{one}"' in page for one in anchors)
    assert page == html_page("Candidates", comparison_text(COMPARISON), list(comparison_plots(COMPARISON)))


def test_markup_in_results_is_shown_as_text() -> None:
    page = html_page("<b>", "a `<script>` | b", [])
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_report_is_made_again_of_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for number, one in enumerate(RESULTS):
        found = {"scenario": one.scenario, "candidate": one.candidate, "results": [one.as_json()]}
        (raw / f"{number:03}-x.json").write_text(json.dumps({**found, "error": None, "skipped": None}))
    for number, candidate in enumerate(("postgresql", "vacancy-embedded")):
        ended = {
            "error": COMPARISON.failed.get(("crash", candidate)),
            "skipped": COMPARISON.skipped.get(("crash", candidate)),
        }
        found = {"scenario": "crash", "candidate": candidate, "results": []}
        (raw / f"90{number}-x.json").write_text(json.dumps({**found, **ended}))
    general = {
        "machine": asdict(COMPARISON.machine),
        "proves": COMPARISON.proves,
        "about": {name: asdict(one) for name, one in COMPARISON.about.items()},
        "left_out": COMPARISON.left_out,
    }
    (raw / "comparison.json").write_text(json.dumps(general))
    assert load_comparison(raw) == replace(COMPARISON, results=list(RESULTS))
    compare.write_report(load_comparison(raw), tmp_path)
    assert (tmp_path / "report.md").read_text() == GOLDEN.read_text()
    assert (tmp_path / "index.html").read_text().count("<svg") == 2


def test_the_exit_code_tells_harm_of_vacancy_and_failures() -> None:
    assert compare.exit_code(COMPARISON) == compare.EXIT_HARM  # a scenario failed
    unharmed = replace(COMPARISON, failed={})
    assert compare.exit_code(unharmed) == 0  # another store doubled something: that is a finding
    harmed = replace(unharmed, results=(racing("vacancy-embedded", 1.0, 1.0, lost=1),))
    assert compare.exit_code(harmed) == compare.EXIT_HARM


def race(
    candidate: str, schedulers: int, in_flight: int, rate: float, seconds: float = 2.0
) -> ScenarioResult:
    """A result of a race under these conditions."""
    one = racing(candidate, rate, 1.0)
    conditions = replace(
        one.conditions, nodes=10_000, schedulers=schedulers, claims_in_flight=in_flight, seconds=seconds
    )
    figures = (
        Figure.of("placements", "1/s", "more", (rate,)),
        Figure.of("placement p50", "ms", "less", (1e3 / rate,)),
    )
    return replace(one, conditions=conditions, figures=figures)


def test_where_two_conditions_vary_each_has_a_plot_with_the_other_one_fixed() -> None:
    ways = ((1, 1), (2, 1), (4, 1), (4, 16), (4, 96))
    results = [race("etcd", *way, 100.0) for way in ways] + [race("etcd", 4, 8, 7.0, seconds=0.0)]
    titles = [title for title, _ in comparison_plots(replace(COMPARISON, results=results))]
    assert titles[:2] == ["racing: placements, 1 claims in flight", "racing: placements, 4 schedulers"]


def test_claims_are_stated_with_what_was_measured_and_whether_they_hold() -> None:
    results = [
        race(name, 4, in_flight, rate)
        for name, rate in (
            ("vacancy-kafka-1", 3_000.0),
            ("placement-best", 5.0),
            ("postgresql", 2_900.0),
            ("etcd", 3_500.0),
        )
        for in_flight in (1, 16)
    ]
    results += [race("vacancy-kafka-1", 1, 1, 250.0), race("postgresql", 1, 1, 1_000.0)]
    way = race("vacancy-kafka-3", 4, 8, 2_500.0)
    figures = (
        Figure.of("placements", "1/s", "more", (2_500.0,)),
        Figure.of("conflicts", "% of claims", "less", (0.2,)),
        Figure.of("placement p99", "ms", "less", (60.0,)),
    )
    large = replace(
        way, scenario="scale", conditions=replace(way.conditions, nodes=100_000, fill=0.9), figures=figures
    )
    slower = replace(large, figures=(*figures[:2], Figure.of("placement p99", "ms", "less", (150.0,))))
    found = list(claims(replace(COMPARISON, results=[*results, slower, large])))
    held = {(one.text.partition(",")[0], one.holds) for one in found}
    assert ("With 100", "yes") in held
    by_rival = [(one.text.rpartition(" ")[2], one.holds) for one in found[:9]]
    each = [("placement-best.", "yes"), ("postgresql.", "yes"), ("etcd.", "no")]
    assert by_rival == [*each, *each, *[(rival, "not measured") for rival, _ in each]]
    (single,) = (one for one in found if one.holds == "for information")
    assert "postgresql: 1 ms; vacancy-kafka-1: 4 ms, 4 times as long" in single.measured
    (none,) = (one for one in found if one.text.startswith("In every scenario"))
    assert none.holds == "yes"
    lost = claims(replace(COMPARISON, results=[racing("vacancy-embedded", 1.0, 1.0, lost=1)]))
    assert ("In every scenario vacancy overcommits nothing, loses nothing and doubles nothing.", "no") in [
        (one.text, one.holds) for one in lost
    ]
    none_large = list(claims(replace(COMPARISON, results=[slower])))
    assert [one.holds for one in none_large if "acks=all" in one.text] == ["no"]
