"""One HTML page of Markdown text and plots. It has no script, and nothing in it is loaded from another place."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<style>
body {{ font: 15px/1.5 sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; font-size: 13px; margin: 1rem 0; display: block; overflow-x: auto }}
th, td {{ border-bottom: 1px solid #ddd; padding: .3rem .6rem; text-align: left; vertical-align: top }}
th {{ background: #f5f5f5 }} figure {{ margin: 1.5rem 0 }} svg {{ max-width: 100%; height: auto }}
code {{ background: #f5f5f5 }}
</style></head><body>
{body}
</body></html>
"""


def html_page(title: str, markdown: str, plots: Sequence[tuple[str, str]]) -> str:
    """The page: the text, then each plot as (title, SVG)."""
    figures = [f"<figure><figcaption>{html.escape(name)}</figcaption>{svg}</figure>" for name, svg in plots]
    return _PAGE.format(title=html.escape(title), body="\n".join((*_blocks(markdown), *figures)))


def _blocks(markdown: str) -> Iterator[str]:
    """The parts of Markdown that reports use: headings, paragraphs, lists, tables, code in a line."""
    for block in re.split(r"\n\s*\n", markdown.strip()):
        lines = block.splitlines()
        if heading := re.match(r"(#{1,4}) (.*)", lines[0]):
            level = len(heading[1])
            yield f"<h{level}>{_inline(heading[2])}</h{level}>"
            lines = lines[1:]
        if not lines:
            continue
        if lines[0].startswith("|"):
            yield _table(lines)
        elif lines[0].startswith(("* ", "- ")):
            items = re.split(r"\n(?=[*-] )", "\n".join(lines))
            yield "<ul>" + "".join(f"<li>{_inline(item[2:])}</li>" for item in items) + "</ul>"
        else:
            yield f"<p>{_inline(chr(10).join(lines))}</p>"


def _table(lines: Sequence[str]) -> str:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    head = "".join(f"<th>{_inline(cell)}</th>" for cell in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{_inline(cell)}</td>" for cell in row) + "</tr>" for row in rows[2:]
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _inline(text: str) -> str:
    escaped = html.escape(text, quote=False)
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", escaped)
