"""The command line that gives the same as a page, for people to copy."""

from __future__ import annotations

import shlex
from collections.abc import Iterable


def command_line(words: Iterable[str], as_of: str, flags: Iterable[str]) -> str:
    """`vacancy`, these words, the position, and the options that name the store."""
    past = ("--as-of", as_of) if as_of else ()
    return shlex.join(("vacancy", *words, *past, *flags))


def id_words(id_: str) -> tuple[str, ...]:
    """An id as an argument: one that begins with a dash comes after `--`."""
    return ("--", id_) if id_.startswith("-") else (id_,)
