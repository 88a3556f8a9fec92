"""The result of one check."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from vacancy.resources.model.errors import LogUnavailable, VacancyError


class CheckState(StrEnum):
    """`ok`; `warning`: it works, and something can go wrong or was not checked; `error`: something does not work."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Check(NamedTuple):
    """What a check found, as one sentence, and what to do about it. `about` is its subject: `settings`, `topic`, `store` …"""

    about: str
    state: CheckState
    found: str
    do: str = ""


def ok(about: str, found: str) -> Check:
    """A check that found nothing wrong."""
    return Check(about, CheckState.OK, found)


def warning(about: str, found: str, do: str) -> Check:
    """A check that found something that can go wrong."""
    return Check(about, CheckState.WARNING, found, do)


def error(about: str, found: str, do: str) -> Check:
    """A check that found something that does not work."""
    return Check(about, CheckState.ERROR, found, do)


def failed(about: str, raised: VacancyError) -> Check:
    """The check for an error that was raised while something was looked at."""
    where = f" ({raised.where})" if raised.where else ""
    do = raised.do or ("try again" if isinstance(raised, LogUnavailable) else "see the message")
    return error(about, f"{raised.what}{where}", do)
