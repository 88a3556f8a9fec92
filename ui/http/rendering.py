"""Renders the templates. Everything that is put into one is escaped: names come from any node, and records from anybody."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vacancy.clients.history.record_view import short_type, time_text
from vacancy.streams.clocks.clock import wall_ms

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))


def number(value: float | None) -> str:
    """A number with thin spaces between groups of three digits."""
    if value is None:
        return ""
    text = f"{value:,.1f}" if isinstance(value, float) and not value.is_integer() else f"{int(value):,}"
    return text.replace(",", "\u2009")


def short_number(value: float | None) -> str:
    """A number with at most four digits and a unit: 12.5 M."""
    if value is None:
        return ""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            scaled = value / (1e3 if unit == "k" else size)
            return f"{scaled:.3g}\u2009{unit}" if scaled < 1000 else f"{scaled:.0f}\u2009{unit}"
    return number(value)


def duration(seconds: float | None) -> str:
    """A duration for people: 3 s, 5 min, 2 h, 4 d."""
    if seconds is None:
        return ""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f}\u2009{unit}"
    return f"{seconds:.0f}\u2009s"


def latency_text(seconds: float | None) -> str:
    """A short time: 0.12 ms, 3.4 ms, 120 ms, 1.2 s; – for none."""
    if seconds is None:
        return "–"
    if seconds >= 1:
        return f"{seconds:.1f}\u2009s"
    return f"{1000 * seconds:.0f}\u2009ms" if seconds >= 0.01 else f"{1000 * seconds:.2g}\u2009ms"


def counted(count: int, what: str) -> str:
    """`1 trait`, `2 traits`."""
    return f"{number(count)} {what}{'' if count == 1 else 's'}"


def time_markup(ms: int) -> Markup:
    """A time as an element; nothing for 0."""
    if not ms:
        return Markup("")
    text = time_text(ms)
    return Markup('<time datetime="{}">{}</time>').format(text, text.replace("T", " ").replace("Z", ""))


def ask_text(ask: Any) -> str:
    """An ask or a grant as text."""
    return number(ask) if isinstance(ask, int) else json.dumps(ask, separators=(", ", ": "))


def pretty(value: Any) -> str:
    """JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False)


class Renderer:
    """The templates, with what is the same for all pages (`fixed`)."""

    def __init__(self, **fixed: Any) -> None:
        self._environment = Environment(
            loader=PackageLoader("vacancy.ui", "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(fixed, wall_ms=wall_ms)
        self._environment.filters.update(
            number=number,
            short=short_number,
            duration=duration,
            latency=latency_text,
            counted=counted,
            time=time_markup,
            ask=ask_text,
            pretty=pretty,
            short_type=short_type,
        )

    def render(self, template: str, context: Mapping[str, Any]) -> str:
        """A template as text."""
        return self._environment.get_template(template).render(context)
