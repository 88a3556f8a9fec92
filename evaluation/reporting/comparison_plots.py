"""Plots of a comparison: each figure of each scenario against what varies in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evaluation.reporting.comparison import Comparison
from evaluation.reporting.plots import Series, bar_plot, line_plot
from evaluation.scenarios.result import Figure, ScenarioResult

_AXES = ("schedulers", "nodes", "claims_in_flight", "fill")

_WIDE = 50.0
"""From this ratio of the largest to the smallest value on, the axis is logarithmic."""

Point = tuple[ScenarioResult, Figure]


def comparison_plots(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """(title, SVG) of each figure that several candidates have, or that varies. Raises `UsageError` without matplotlib."""
    for scenario in comparison.proves:
        results = comparison.of(scenario)
        for name in dict.fromkeys(figure.name for one in results for figure in one.figures):
            points = [(one, figure) for one in results for figure in one.figures if figure.name == name]
            if len(points) > 1:
                yield f"{scenario}: {name}", _plot(points)


def _plot(points: Sequence[Point]) -> str:
    figure = points[0][1]
    values = [one.median for _, one in points if one.median > 0]
    log_y = bool(values) and len(values) == len(points) and max(values) / min(values) > _WIDE
    label = f"{figure.name} ({figure.unit})" if figure.unit else figure.name
    axis = next((name for name in _AXES if len({_value(point, name) for point in points}) > 1), None)
    names = list(dict.fromkeys(one.candidate for one, _ in points))
    if axis is None:
        medians = [[one.median for result, one in points if result.candidate == name] for name in names]
        series = [
            Series("median", names, [found[0] for found in medians], *_spread(points, names)),
        ]
        return bar_plot(series, y=label, log_y=log_y)
    lines = []
    for name in names:
        mine = sorted((p for p in points if p[0].candidate == name), key=lambda p: _value(p, axis))
        lines.append(Series(name, [_value(p, axis) for p in mine], [p[1].median for p in mine]))
    return line_plot(lines, x=axis.replace("_", " "), y=label, log_x=axis == "nodes", log_y=log_y)


def _value(point: Point, name: str) -> float:
    return float(getattr(point[0].conditions, name))


def _spread(points: Sequence[Point], names: Sequence[str]) -> tuple[list[float], list[float]]:
    firsts = [next(one for result, one in points if result.candidate == name) for name in names]
    return [min(one.runs) for one in firsts], [max(one.runs) for one in firsts]
