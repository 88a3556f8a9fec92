"""Errors. Each names what happened, where, and what to do.

Every error a person can meet is a `VacancyError`. Its text is one line; `exit_code` is what the `vacancy`
command ends with. `InvalidRecord` concerns the log (the record becomes a dead letter and folding continues);
`Halt` is this build's limit (the partition stops there, and nothing is guessed).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any


class VacancyError(Exception):
    """Base of all errors meant for people.

    Parameters: `what` happened, `where` (topic, partition, offset; file and line; provider, class) and
    what to `do` about it. Raised as one line: "what (where); do".
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", do: str = "") -> None:
        self.what, self.where, self.do = what, where, do
        place = f" ({where})" if where else ""
        action = f"; {do}" if do else ""
        super().__init__(f"{what}{place}{action}")


class UsageError(VacancyError):
    """The input is invalid: a bad query, an unknown trait, a wrong URL."""

    exit_code = 2


class InvalidRecord(VacancyError):
    """A record the active rules do not allow. Operator action: `vacancy dead-letters`, fix its producer."""


class Halt(VacancyError):
    """The rules name something this build does not support. Operator action: upgrade, or install the plugin."""


class LogError(VacancyError):
    """The log cannot be read or written as asked."""


class LogUnavailable(LogError):
    """The log did not answer in time. Operator action: none if it comes back; callers retry."""


class StoreError(VacancyError):
    """The store cannot be opened, read or written as asked."""


class StoreInUse(StoreError):
    """Another process holds the partition's lock. Operator action: stop it, or use another store directory."""


class StoreMismatch(StoreError):
    """The store was folded from another log, or by another version. Operator action: rebuild it."""


class StoreCorrupt(StoreError):
    """The store's files do not read back. Operator action: rebuild it from the log."""


class NoValidHost(VacancyError):
    """Nothing that matches the request has room, at the position given.

    `explain` computes the reason, where the code that raises it can. `explanation` calls it once, at first access.
    """

    exit_code = 3

    def __init__(
        self, what: str, *, where: str = "", do: str = "", explain: Callable[[], Any] | None = None
    ) -> None:
        super().__init__(what, where=where, do=do)
        self._explain = explain

    @cached_property
    def explanation(self) -> Any:
        """What each constraint removed and who missed by least (`projections.explain.Explanation`), or None where
        it is not known. It describes the tables as they are at first access, so access it before they change."""
        return None if self._explain is None else self._explain()

    def __reduce__(self) -> tuple[Any, ...]:
        """To be sent to another process, which cannot ask."""
        return type(self), self.args, {n: v for n, v in vars(self).items() if n != "_explain"}


class SearchGivenUp(VacancyError):
    """No place was found, but the search ended early, so there may be one.

    Parameters: why it ended (`gave_up_text`), and where.
    """

    def __init__(self, reason: str, where: str) -> None:
        super().__init__(
            f"no place was found, but {reason}",
            where=where,
            do="ask for fewer groups, or for more that are alike",
        )


class ClaimLost(VacancyError):
    """The claim was rejected and no other candidate was left to try."""

    exit_code = 4


class OutcomeUnknown(VacancyError):
    """No verdict was seen in time. The claim is decided once log time has passed its deadline, not before."""

    exit_code = 6
