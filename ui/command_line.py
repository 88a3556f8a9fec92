"""The command line that gives the same as a page, for people to copy."""

from __future__ import annotations

import shlex
from collections.abc import Iterable


def command_line(words: Iterable[str], as_of: str, flags: Iterable[str]) -> str:
    """`vacancy`, these words, the position, and the options that name the store; '' where a word has control characters: a
    terminal would obey them. An id is the last word; one that begins with a dash comes after `--`."""
    kept = list(words)
    dashed = ["--", kept.pop()] if kept[-1].startswith("-") else []
    past = ("--as-of", as_of) if as_of else ()
    line = shlex.join(("vacancy", *kept, *past, *flags, *dashed))
    return line if line.isprintable() else ""
