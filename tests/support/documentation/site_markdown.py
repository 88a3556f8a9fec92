"""The extension of Python-Markdown with which the site renders docs/ as the repository's view does.

The pages are written for the repository. Two things of theirs Python-Markdown does not know: names of code blocks
("```python scheduler.py"), and links to files outside docs/, which a site does not have.
"""

from __future__ import annotations

import re
from typing import Any, Final

from markdown import Extension, Markdown
from markdown.preprocessors import Preprocessor

_FENCE: Final = re.compile(r"^(?P<fence> *`{3,})(?P<kind>\w+) (?P<name>[\w./-]+)$")
_FENCE_EDGE: Final = re.compile(r"^ *`{3,}")
_OUTSIDE: Final = re.compile(r"\[(?P<text>[^\]]+)\]\((?:\.\./)+(?P<path>[A-Z][\w./-]*)(?:#[\w-]*)?\)")
_BEFORE_FENCES: Final = 40
"""A priority above that of the extension that reads code blocks (25)."""


def anchor(title: str, separator: str) -> str:
    """The anchor of a heading, as GitHub makes it: small letters, no punctuation, hyphens for spaces."""
    plain = re.sub(r"<[^>]+>", "", title)
    return re.sub(r"[^\w -]", "", plain.lower()).strip().replace(" ", separator)


class RepositoryPages(Preprocessor):
    """Makes lines of the repository's pages lines of Python-Markdown."""

    def run(self, lines: list[str]) -> list[str]:
        """The lines of a page. Code stays as it is, but for the name of its block."""
        found = []
        in_code = False
        for line in lines:
            if _FENCE_EDGE.match(line):
                in_code = not in_code
                line = _FENCE.sub(r'\g<fence>\g<kind> title="\g<name>"', line)
            elif not in_code:
                line = _OUTSIDE.sub(r"\g<text> (`\g<path>` in the repository)", line)
            found.append(line)
        return found


class RepositoryMarkdown(Extension):
    """The extension."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Called by Python-Markdown."""
        md.preprocessors.register(RepositoryPages(md), "repository_pages", _BEFORE_FENCES)


def makeExtension(**settings: Any) -> RepositoryMarkdown:
    """Called by Python-Markdown."""
    return RepositoryMarkdown(**settings)
