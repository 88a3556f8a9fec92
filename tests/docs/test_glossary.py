"""The glossary is true: each type, function and module that it names exists, and each term has one entry."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/glossary.md").read_text()
ROWS = re.findall(r"^\| (?!term \|)([^|]+) \| ([^|]+) \| ([^|]+) \|$", PAGE, re.M)


@cache
def defined(path: str) -> frozenset[str]:
    """Every class, function, method and variable that a module defines."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return frozenset(found)


def test_it_has_the_terms() -> None:
    assert len(ROWS) > 60


def test_each_term_has_one_entry() -> None:
    terms = Counter(term for row in ROWS for term in re.split(r", (?![^(]*\))", row[0].lower()))
    assert {term for term, count in terms.items() if count > 1} == set()


@pytest.mark.parametrize(("term", "place"), [(row[0], row[2]) for row in ROWS], ids=[row[0] for row in ROWS])
def test_the_code_of_each_term_exists(term: str, place: str) -> None:
    found = re.fullmatch(r"(?:`(?P<name>\w+)` in )?`(?P<path>[\w/]+(?:\.py|/))`", place)
    assert found, f"{term}: write `Name` in `path.py`, or `path.py`"
    assert (ROOT / found["path"]).exists(), f"docs/glossary.md, {term}: {found['path']} does not exist"
    if found["name"]:
        assert found["name"] in defined(found["path"]), (
            f"docs/glossary.md, {term}: {found['path']} does not define {found['name']}"
        )
