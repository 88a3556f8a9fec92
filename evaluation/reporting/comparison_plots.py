"""Plots of a comparison: each figure of each scenario against what varies in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from evaluation.reporting.comparison import Comparison, is_vacancy
from evaluation.reporting.plots import Series, bar_plot, line_plot
from evaluation.scenarios.result import Figure, ScenarioResult

_AXES = ("schedulers", "nodes", "claims_in_flight", "fill")
_LOGARITHMIC = ("nodes", "claims_in_flight")

_WIDE = 50.0
"""From this ratio of the largest to the smallest value on, the axis is logarithmic."""

Point = tuple[ScenarioResult, Figure]


def comparison_plots(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """(title, SVG) of each figure that several candidates have, or that varies. Where two conditions vary, there is a plot for each of
    them, with the other one fixed. Raises `UsageError` without matplotlib."""
    for scenario in comparison.proves:
        results = comparison.of(scenario)
        for name in dict.fromkeys(figure.name for one in results for figure in one.figures):
            points = [(one, figure) for one in results for figure in one.figures if figure.name == name]
            yield from _plots(f"{scenario}: {name}", points)


def _plots(title: str, points: Sequence[Point]) -> Iterator[tuple[str, str]]:
    # A race that ends by itself is not compared with runs of a fixed time.
    timed = [point for point in points if point[0].conditions.seconds]
    points = timed or points
    varying = [name for name in _AXES if len({_value(point, name) for point in points}) > 1]
    if not varying and len(points) > 1:
        yield title, _bars(points)
    for axis in varying:
        fixed, shown = "", points
        for other in varying:
            if other != axis:
                value = _most_points(shown, axis, other)
                shown = [point for point in shown if _value(point, other) == value]
                fixed += f", {value:,.0f} {other.replace('_', ' ')}"
        if len({_value(point, axis) for point in shown}) > 1:
            yield title + fixed, _lines(shown, axis)


def _most_points(points: Sequence[Point], axis: str, other: str) -> float:
    """The value of `other` at which the most values of `axis` were measured; the largest of several."""
    found = Counter(value for _, value in {(_value(one, axis), _value(one, other)) for one in points})
    return max(found, key=lambda value: (found[value], value))


def _bars(points: Sequence[Point]) -> str:
    names = list(dict.fromkeys(one.candidate for one, _ in points))
    firsts = [next(one for result, one in points if result.candidate == name) for name in names]
    low: list[float] = []
    high: list[float] = []
    if any(len(one.runs) > 1 for one in firsts):
        low, high = [min(one.runs) for one in firsts], [max(one.runs) for one in firsts]
    series = [Series("median", names, [one.median for one in firsts], low, high)]
    marked = [name for name in names if is_vacancy(name)]
    return bar_plot(series, y=_label(points), log_y=_is_wide(points), marked=marked)


def _lines(points: Sequence[Point], axis: str) -> str:
    lines = []
    for name in dict.fromkeys(one.candidate for one, _ in points):
        mine = sorted((p for p in points if p[0].candidate == name), key=lambda p: _value(p, axis))
        lines.append(
            Series(
                name,
                [_value(p, axis) for p in mine],
                [p[1].median for p in mine],
                dashed=not is_vacancy(name),
            )
        )
    return line_plot(
        lines,
        x=axis.replace("_", " "),
        y=_label(points),
        log_x=axis in _LOGARITHMIC,
        log_y=_is_wide(points),
    )


def _label(points: Sequence[Point]) -> str:
    figure = points[0][1]
    return f"{figure.name} ({figure.unit})" if figure.unit else figure.name


def _is_wide(points: Sequence[Point]) -> bool:
    values = [one.median for _, one in points]
    return min(values) > 0 and max(values) / min(values) > _WIDE


def _value(point: Point, name: str) -> float:
    return float(getattr(point[0].conditions, name))
