"""Words that are not plain technical English stay out, with what to write instead.

Product code is checked as a whole: names, strings, docstrings and comments. Of the tests it is the docstrings.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
GENERATED = ROOT / "docs/reference/api.md"
PACKAGES = ("resources", "projections", "streams", "clients", "cli", "evaluation", "testing")


class Word(NamedTuple):
    """What is looked for, what to write instead, and where it is right: a pattern of the whole line."""

    pattern: str
    instead: str
    allowed: str = r"(?!)"


WORDS = (
    Word(r"cannot be meant", "is invalid"),
    Word(r"\banew\b", "again, reload"),
    Word(r"\bhears?\b|\bunheard\b", "receives"),
    Word(r"\bdear(ly)?\b", "expensive"),
    Word(r"\bso[- _]many\b", "a number of, that number, N"),
    Word(r"so-many-?th", "nth"),
    Word(r"\b(un)?told\b|_told\b", "rendered, reported, sent, set"),
    Word(r"\blenders?\b|lenders?_|_lenders?", "sharing providers"),
    Word(r"\bborrow(s|ed|er)?\b", "from_sharing", allowed=r"answer\["),  # a field of an answer in JSON
    Word(r"\blends?\b|\blent\b", "shares, serves"),
    Word(r"\buntake", "unreserve"),
    Word(r"\brooms\b", "packages"),
    Word(r"\bsuch a one\b", "name it again"),
    Word(r"\bthe (former|latter)\b", "name it again"),
    Word(r"\bthat which\b", "what"),
    Word(r"\bwhat is wrong\b", "the error"),
    Word(r"words in, words out", "command-line adapter"),
    Word(r"\bmend(s|ed|ing)?\b", "repair, correct"),
    Word(r"\bmade[- ]up\b", "synthetic, invented"),
    Word(r"\bfor ever\b", "without limit"),
    Word(r"\bwhoever\b", "the process that, the client that"),
    Word(r"\bhanded out\b", "allocated"),
    Word(r"\bby the way\b", "leave it out"),
    Word(r"\bnow and then\b", "at intervals"),
    Word(r"\bsees to it\b", "ensures"),
    Word(
        r"\b(the|of|or|and|operators?|new|their|its)'?s? facts\b|\bfacts of operators\b", "operator settings"
    ),
    Word(r"\bin the way\b", "conflicts"),
)


def sources() -> Iterator[tuple[Path, list[tuple[int, str]]]]:
    """Each file with its lines that are checked, as (number, text)."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path, list(enumerate(path.read_text().splitlines(), 1))
    for path in (
        *(path for path in sorted((ROOT / "docs").rglob("*.md")) if path != GENERATED),
        *(ROOT / n for n in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ):
        yield path, list(enumerate(path.read_text().splitlines(), 1))
    for path in sorted((ROOT / "tests").rglob("*.py")):
        yield path, list(_docstrings(path))


def _docstrings(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text is not None:
                first = node.body[0].lineno
                yield from enumerate(text.splitlines(), first)


SOURCES = list(sources())


def found(word: Word) -> list[str]:
    """Each place of a word, with what to write instead."""
    search, allowed = re.compile(word.pattern, re.I).search, re.compile(word.allowed).search
    return [
        f"{path.relative_to(ROOT)}:{number}: {match[0]!r}; write: {word.instead}"
        for path, lines in SOURCES
        for number, line in lines
        if path != Path(__file__) and (match := search(line)) and not allowed(line)
    ]


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.pattern)
def test_the_language_is_plain(word: Word) -> None:
    assert found(word) == []
