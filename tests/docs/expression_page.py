"""The tables of docs/expressions.md: its fleet, what each expression matches there, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

PAGE = (Path(__file__).parent.parent.parent / "docs/expressions.md").read_text()


def fleet() -> list[dict[str, Any]]:
    """The nodes of the page's examples."""
    (found,) = re.findall(r"^```json expressions.json\n(.*?)^```$", PAGE, re.M | re.S)
    nodes: list[dict[str, Any]] = json.loads(found)
    return nodes


def matches() -> list[tuple[str, set[str]]]:
    """Each expression with the nodes that it matches."""
    header, *rows = _table("| expression | node-1")
    return [
        (row[0].strip("`"), {node for node, cell in zip(header[1:], row[1:], strict=True) if cell == "yes"})
        for row in rows
    ]


def refused() -> list[tuple[str, str]]:
    """Each invalid expression, with its error."""
    return [(row[0].strip("`"), row[1]) for row in _table("| expression | error")[1:]]


def _table(head: str) -> list[list[str]]:
    """The cells of a table, without the line under its head; `\\|` is a bar within a cell."""
    lines = PAGE[PAGE.index(head) :].partition("\n\n")[0].splitlines()
    rows = [
        [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines
    ]
    return [rows[0], *rows[2:]]
