"""Draws docs/flow.svg from docs/flow.toml: `make docs`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

DOCS = Path(__file__).parents[3] / "docs"
SOURCE = DOCS / "flow.toml"
PICTURE = DOCS / "flow.svg"

_FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"
_INK, _LINE, _GREY = "#1f2937", "#64748b", "#475569"
_LINE_HEIGHT = 19


def picture() -> str:
    """The picture as SVG. It has a white ground of its own, so that it is legible on dark pages."""
    source = tomllib.loads(SOURCE.read_text())
    width, height = source["width"], source["height"]
    parts = [
        (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}'"
            f" role='img' aria-label={quoteattr(source['title'])} {_FONT}>"
        ),
        f"<title>{escape(source['title'])}</title>",
        (
            "<defs><marker id='head' viewBox='0 0 10 10' refX='9' refY='5' markerWidth='7' markerHeight='7'"
            f" orient='auto'><path d='M0 0 L10 5 L0 10 z' fill='{_LINE}'/></marker></defs>"
        ),
        f"<rect width='{width}' height='{height}' rx='10' fill='#ffffff'/>",
        *map(_frame, source["frame"]),
        *map(_box, source["box"]),
        *map(_arrow, source["arrow"]),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _frame(frame: dict[str, Any]) -> str:
    (x, y), (width, height) = frame["at"], frame["size"]
    return (
        f"<rect x='{x}' y='{y}' width='{width}' height='{height}' rx='10' fill='#f8fafc' stroke='{_LINE}'"
        " stroke-dasharray='6 5'/>" + _text(x + 16, y + 22, frame["title"], size=13, colour=_GREY)
    )


def _box(box: dict[str, Any]) -> str:
    (x, y), (width, height) = box["at"], box["size"]
    texts = [_text(x + 14, y + 26, box["title"], size=16, weight="600")]
    for number, line in enumerate(box["lines"]):
        if line:
            texts.append(_text(x + 14, y + 49 + number * _LINE_HEIGHT, line, size=13, colour=_GREY))
    rect = (
        f"<rect x='{x}' y='{y}' width='{width}' height='{height}' rx='8' fill='{box['colour']}'"
        f" stroke='{_LINE}'/>"
    )
    return "\n".join([rect, *texts])


def _arrow(arrow: dict[str, Any]) -> str:
    (x1, y1), (x2, y2) = arrow["from"], arrow["to"]
    line = (
        f"<line x1='{x1}' y1='{y1}' x2='{x2}' y2='{y2}' stroke='{_LINE}' stroke-width='1.8'"
        " marker-end='url(#head)'/>"
    )
    if x1 == x2:  # the text stands to the right of a vertical arrow, and above a horizontal one
        return line + _text(x1 + 12, (y1 + y2) // 2 + 4, arrow["text"], size=13)
    return line + _text((x1 + x2) // 2, y1 - 8, arrow["text"], size=13, anchor="middle")


def _text(
    x: int, y: int, text: str, *, size: int, colour: str = _INK, weight: str = "400", anchor: str = "start"
) -> str:
    return (
        f"<text x='{x}' y='{y}' font-size='{size}' font-weight='{weight}' fill='{colour}'"
        f" text-anchor='{anchor}'>{escape(text)}</text>"
    )


if __name__ == "__main__":
    PICTURE.write_text(picture())
