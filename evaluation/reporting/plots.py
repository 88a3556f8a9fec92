"""Plots as SVG text, drawn by matplotlib, which is in the extra `report`. The same data gives the same text."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vacancy.resources.model.errors import UsageError

_STYLE: Any = {
    "svg.hashsalt": "vacancy",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.figsize": (7.0, 3.6),
}


@dataclass(frozen=True)
class Series:
    """A line, or the bars of one kind. `low` and `high`: the spread of each value of `y`, where it was measured. `dashed`: of a line."""

    name: str
    x: Sequence[Any]
    y: Sequence[float]
    low: Sequence[float] = field(default_factory=list)
    high: Sequence[float] = field(default_factory=list)
    dashed: bool = False


def line_plot(series: Sequence[Series], *, x: str, y: str, log_x: bool = False, log_y: bool = False) -> str:
    """Lines with a marker at each value. Raises `UsageError` where matplotlib is missing."""
    axes = _axes()
    for one in series:
        axes.plot(
            one.x, one.y, marker="o", markersize=4, label=one.name, linestyle="--" if one.dashed else "-"
        )
    if log_x:
        axes.set_xscale("log")
    return _finished(axes, x, y, log_y=log_y)


def bar_plot(
    series: Sequence[Series], *, y: str, log_y: bool = False, marked: Sequence[str] | None = None
) -> str:
    """Bars, one group for each value of `x`, with the spread as a line where there is one. `marked`: values of `x` whose bars have a
    colour, and the others none. Raises as `line_plot`."""
    axes = _axes()
    places = list(dict.fromkeys(str(value) for one in series for value in one.x))
    width = 0.8 / max(1, len(series))
    for number, one in enumerate(series):
        at = [places.index(str(value)) + (number - (len(series) - 1) / 2) * width for value in one.x]
        spread = None
        if one.low and one.high:
            spread = [
                [value - low for value, low in zip(one.y, one.low, strict=True)],
                [high - value for value, high in zip(one.y, one.high, strict=True)],
            ]
        colours = None if marked is None else ["C0" if str(value) in marked else "0.65" for value in one.x]
        axes.bar(at, one.y, width, label=one.name, yerr=spread, capsize=2, color=colours)
    axes.set_xticks(range(len(places)), places, rotation=20, ha="right")
    return _finished(axes, "", y, log_y=log_y)


def _axes() -> Any:
    try:
        import matplotlib as mpl
    except ImportError:
        raise UsageError(
            "plots need matplotlib", do="install the extra: pip install -e '.[report]'"
        ) from None
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        return Figure().subplots()


def _finished(axes: Any, x: str, y: str, *, log_y: bool) -> str:
    import matplotlib as mpl

    if log_y:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(axis="y", alpha=0.3)
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(frameon=False, fontsize=7)
    text = io.StringIO()
    with mpl.rc_context(_STYLE):
        axes.figure.tight_layout()
        axes.figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    # Within a page there is no declaration and no document type, which would name an address.
    return re.sub(r"^.*?(?=<svg)|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL).strip()
