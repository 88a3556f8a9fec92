"""What a view returns, and what it is asked with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from vacancy.resources.model.errors import UsageError, VacancyError

_NUMBER: Final = re.compile(r"[0-9]{1,9}")


class Withheld(VacancyError):
    """A view that a redacted site does not have."""


@dataclass(frozen=True)
class Ask:
    """The parameters of an address. `as_of` is a position as text, '' for now."""

    values: Mapping[str, str]
    as_of: str = ""

    def get(self, name: str, default: str = "") -> str:
        """A parameter, without blanks around it."""
        return self.values.get(name, "").strip() or default

    def needed(self, name: str) -> str:
        """A parameter that the address must have. Raises `UsageError`."""
        value = self.values.get(name, "")
        if not value:
            raise UsageError(f"the address has no {name!r}", do=f"add ?{name}=…")
        return value

    def count(self, name: str, default: int, most: int) -> int:
        """A number from 1 to `most`. Raises `UsageError`."""
        text = self.get(name, str(default))
        if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= most:
            raise UsageError(f"{name}={text[:80]!r} is invalid", do=f"write a number from 1 to {most}")
        return int(text)

    def partition(self) -> int | None:
        """The parameter `partition`, None where there is none. Raises `UsageError`."""
        text = self.get("partition")
        if text and not _NUMBER.fullmatch(text):
            raise UsageError(f"partition={text[:80]!r} is invalid", do="write its number")
        return int(text) if text else None

    def address(self, view: str, parameters: Mapping[str, str]) -> str:
        """The address of a view as of the same position."""
        kept = {name: value for name, value in parameters.items() if value}
        if self.as_of:
            kept["as_of"] = self.as_of
        return f"/{view}" + (f"?{urlencode(kept)}" if kept else "")


@dataclass(frozen=True)
class Page:
    """A view: `data` is its JSON, `words` its command line without `vacancy` (none: no command gives the same). `more` is
    for the template `view`.html beside the data. `takes_as_of`: whether the command takes --as-of."""

    view: str
    title: str
    data: Any
    words: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)
    takes_as_of: bool = True
    flags: tuple[str, ...] | None = None
