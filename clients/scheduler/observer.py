"""What can watch a scheduler at work: its metrics (`clients.metrics`) and its traces (`clients.tracing`).

A scheduler without observers pays for nothing of this but a look at an empty tuple.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal, Protocol

from vacancy.clients.scheduler.placement import Outcome, PlacementRequest
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.resources.model.errors import (
    ClaimLost,
    NoValidHost,
    OutcomeUnknown,
    SearchGivenUp,
    VacancyError,
)

if TYPE_CHECKING:
    from vacancy.projections.diagnostics.summary import Explanation

TraceParentOf = Callable[[str], str | None]
"""The W3C trace context of a claim, by the claim's id; None where the claim is not traced."""


class RequestWatch(Protocol):
    """Watches one request from where the scheduler accepts it to its outcome. The scheduler's thread calls all methods, and none
    may raise."""

    def queried(self, took_s: float, tables_ms: int) -> None:
        """Candidates were looked for. Of requests that share a query, the first has it. `tables_ms` is the newest log time in the
        tables then."""

    def claimed(self, claim: str, cell: str, root: str) -> None:
        """A claim was made, and is sent next."""

    def decided(self, claim: str, verdict: str, waited_s: float) -> None:
        """The claim's verdict is known, `waited_s` after it was made: `accepted`, or the reason of the rejection."""

    def ended(self, outcome: Outcome, explain: Callable[[], Explanation]) -> None:
        """The outcome is known. `explain` says what each constraint removed; it takes longer than a query."""

    def abandoned(self) -> None:
        """The caller stopped before the outcome was known. Does nothing after `ended`."""


MoveKind = Literal["move", "resize", "replace", "evacuate", "move to cell"]


class MoveWatch(Protocol):
    """Watches the move, the resize or the replacement of one consumer. The scheduler's thread calls all methods, and none may raise."""

    def claimed(self, claim: str, cell: str, root: str) -> None:
        """A claim was made, and is sent next."""

    def decided(self, claim: str, verdict: str, waited_s: float) -> None:
        """The claim's verdict is known, `waited_s` after it was made."""

    def ended(self, outcome: str, reason: str) -> None:
        """It has ended: `placed`, `no_valid_host`, `lost`, `gave_up`, `unknown` or `failed`. All but `placed` have a reason."""


class SchedulerObserver(Protocol):
    """Watches the requests and the moves of one scheduler."""

    def accepted(
        self, request: PlacementRequest, compiled: CompiledRequest, consumer: str
    ) -> RequestWatch | None:
        """A request comes in. None: it is not watched."""

    def moving(self, kind: MoveKind, consumer: str) -> MoveWatch | None:
        """A consumer that holds something is moved. None: it is not watched."""

    def trace_parent(self, claim: str) -> str | None:
        """The trace context that goes into the log with a claim; None: none."""


def watches_of(
    observers: Iterable[SchedulerObserver],
    request: PlacementRequest,
    compiled: CompiledRequest,
    consumer: str,
) -> tuple[RequestWatch, ...]:
    """The watches of one request."""
    found = (one.accepted(request, compiled, consumer) for one in observers)
    return tuple(watch for watch in found if watch is not None)


class MoveWatches:
    """The watches of one move."""

    def __init__(self, watches: tuple[MoveWatch, ...]) -> None:
        self._watches = watches

    def claimed(self, claim: str, cell: str, root: str) -> None:
        """See `MoveWatch.claimed`."""
        for one in self._watches:
            one.claimed(claim, cell, root)

    def decided(self, claim: str, verdict: str, waited_s: float) -> None:
        """See `MoveWatch.decided`."""
        for one in self._watches:
            one.decided(claim, verdict, waited_s)

    def ended(self, outcome: str, reason: str = "") -> None:
        """See `MoveWatch.ended`."""
        for one in self._watches:
            one.ended(outcome, reason)


@contextmanager
def watched_move(
    observers: Iterable[SchedulerObserver], kind: MoveKind, consumer: str
) -> Iterator[MoveWatches]:
    """Watch a move. What is raised is its outcome."""
    found = (one.moving(kind, consumer) for one in observers)
    watches = MoveWatches(tuple(one for one in found if one is not None))
    try:
        yield watches
    except BaseException as error:
        outcome = next((name for type_, name in _OUTCOMES if isinstance(error, type_)), "failed")
        watches.ended(outcome, error.what if isinstance(error, VacancyError) else type(error).__name__)
        raise
    watches.ended("placed")


_OUTCOMES: Final = (
    *((NoValidHost, "no_valid_host"), (ClaimLost, "lost"), (SearchGivenUp, "gave_up")),
    (OutcomeUnknown, "unknown"),
)


def trace_parents(observers: Sequence[SchedulerObserver]) -> TraceParentOf | None:
    """The function that gives the trace contexts of claims; None where nobody watches."""
    if not observers:
        return None

    def of(claim: str) -> str | None:
        return next((found for one in observers if (found := one.trace_parent(claim))), None)

    return of
