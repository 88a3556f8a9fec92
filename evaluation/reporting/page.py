"""One HTML page of Markdown text and plots. It has no script, and nothing in it is loaded from another place."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<style>
body {{ font: 15px/1.5 sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
.table {{ overflow-x: auto; margin: 1rem 0 }} table {{ border-collapse: collapse; font-size: 13px }}
th, td {{ border-bottom: 1px solid #ddd; padding: .3rem .6rem; text-align: left; vertical-align: top; min-width: 4rem }}
td.long {{ min-width: 15rem }} td.middle {{ min-width: 9rem }} th {{ background: #f5f5f5 }} code {{ background: #f5f5f5 }}
.plots {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); gap: 1rem }}
figure {{ margin: 0 }} svg {{ width: 100%; height: auto }} nav ul {{ columns: 16rem; padding-left: 1.2rem }}
</style></head><body>
{body}
</body></html>
"""


_WIDTHS = ((60, "long"), (24, "middle"))
"""From how many characters on a cell is of a class."""


def html_page(title: str, markdown: str, plots: Sequence[tuple[str, str]]) -> str:
    """The page: the text, with a list of its chapters behind the first paragraph, then each plot as (title, SVG)."""
    figures = [f"<figure><figcaption>{html.escape(name)}</figcaption>{svg}</figure>" for name, svg in plots]
    if figures:
        figures = ['<h2 id="plots">Plots</h2>', '<div class="plots">', *figures, "</div>"]
    chapters = re.findall(r"^## (.*)$", markdown, re.MULTILINE) + (["Plots"] if figures else [])
    blocks = list(_blocks(markdown))
    if len(chapters) > 1:
        links = "".join(f'<li><a href="#{_anchor(one)}">{_inline(one)}</a></li>' for one in chapters)
        blocks.insert(2, f"<nav><ul>{links}</ul></nav>")
    return _PAGE.format(title=html.escape(title), body="\n".join((*blocks, *figures)))


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")


def _blocks(markdown: str) -> Iterator[str]:
    """The parts of Markdown that reports use: headings, paragraphs, lists, tables, code in a line."""
    for block in re.split(r"\n\s*\n", markdown.strip()):
        lines = block.splitlines()
        if heading := re.match(r"(#{1,4}) (.*)", lines[0]):
            level = len(heading[1])
            yield f'<h{level} id="{_anchor(heading[2])}">{_inline(heading[2])}</h{level}>'
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
        "<tr>" + "".join(f"<td{_width(cell)}>{_inline(cell)}</td>" for cell in row) + "</tr>"
        for row in rows[2:]
    )
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _width(cell: str) -> str:
    """A cell with much text is not made so narrow that its row gets high."""
    return next((f' class="{name}"' for least, name in _WIDTHS if len(cell) > least), "")


def _inline(text: str) -> str:
    escaped = html.escape(text, quote=False)
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", escaped)
