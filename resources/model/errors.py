"""Errors. Each names what happened, where, and what to do.

Every error that is shown to people is a `VacancyError`. Its text is one line. `exit_code` is the exit code of the `vacancy`
command. After `InvalidRecord`, the record becomes a dead letter and folding continues. After `Halt`, folding of the
partition stops, because this build does not support what the log contains.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any


class VacancyError(Exception):
    """Base of all errors that are shown to people.

    Parameters: `what` happened, `where` (topic, partition, offset; file and line; provider, class) and
    what to `do` about it. Raised as one line: "what (where); do".
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", do: str = "") -> None:
        self.what, self.where, self.do = what, where, do
        place = f" ({where})" if where else ""
        action = f"; {do}" if do else ""
        super().__init__(f"{what}{place}{action}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the text and the fields: the parameters of `__init__` may be others in a class below this one."""
        return _unpickled, (type(self), self.args, vars(self))


def _unpickled(kind: type[VacancyError], args: tuple[Any, ...], fields: dict[str, Any]) -> VacancyError:
    error = kind.__new__(kind, *args)
    vars(error).update(fields)
    return error


class UsageError(VacancyError):
    """The input is invalid: a bad query, an unknown trait, a wrong URL."""

    exit_code = 2


class InvalidRecord(VacancyError):
    """A record that the rules in force do not allow. Operator action: run `vacancy dead-letters`, correct its producer."""


class Halt(VacancyError):
    """The log's rules need something that this build does not support. Operator action: upgrade, or install the plugin."""


class LogError(VacancyError):
    """The log cannot be read or written."""


class LogUnavailable(LogError):
    """The log did not answer in time. Operator action: none if it becomes available again; callers retry."""


class RecordTooLarge(LogError):
    """A record is larger than the log takes. Nothing was written. Operator action: send less in one record."""


class OldRules(UsageError):
    """The log's rules lack what is asked. Operator action: raise them with `vacancy rules activate`."""


class StoreError(VacancyError):
    """The store cannot be opened, read or written."""


class StoreInUse(StoreError):
    """Another process holds the partition's lock. Operator action: stop it, or use another store directory."""


class StoreReleased(StoreError):
    """A worker has closed its store, because another one takes its place. Operator action: none; the worker opens the new one."""


class StoreMismatch(StoreError):
    """The store was folded from another log, or by another version. Operator action: rebuild it."""


class StoreCorrupt(StoreError):
    """The store's files are damaged. Operator action: rebuild the store from the log."""


class NamesLeftOut(StoreError):
    """A request asks for a name that a reader left out of memory, because its bound was reached. Operator action: raise
    `view_memory_mb`, or remove names that nobody needs."""


class NoValidHost(VacancyError):
    """No provider tree satisfies the request at the position in `where`.

    `explain` computes the reason, if it is known. `explanation` calls it once, at first access.
    """

    exit_code = 3

    def __init__(
        self, what: str, *, where: str = "", do: str = "", explain: Callable[[], Any] | None = None
    ) -> None:
        super().__init__(what, where=where, do=do)
        self._explain = explain

    @cached_property
    def explanation(self) -> Any:
        """How many nodes each constraint removed, and the nearest misses (`diagnostics.summary.Explanation`), or None if
        it is not known. It is computed from the tables at first access, so access it before they change."""
        return None if self._explain is None else self._explain()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without `explain`: another process cannot call it."""
        return _unpickled, (type(self), self.args, {**vars(self), "_explain": None})


class SearchGivenUp(VacancyError):
    """No candidate was found, but the search ended early, so one may exist.

    Parameters: why the search ended (`gave_up_text`), and where.
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


class ConsumerExists(VacancyError):
    """A consumer that is to be placed holds something already. Operator action: release it, or choose another consumer."""

    exit_code = 7


class OverQuota(VacancyError):
    """A claim would exceed a limit of its project or its user (`fold.claims.quotas`). The text says used, asked and limit."""

    exit_code = 8


class OutcomeUnknown(VacancyError):
    """No verdict was received in time. The outcome is unknown until log time has passed the claim's deadline."""

    exit_code = 6
