"""What can watch a scheduler at work: its metrics (`clients.metrics`) and its traces (`clients.tracing`).

A scheduler without observers pays for nothing of this but a look at an empty tuple.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from vacancy.clients.scheduler.placement import Outcome, PlacementRequest
from vacancy.projections.query.compiled_request import CompiledRequest

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


class SchedulerObserver(Protocol):
    """Watches the requests of one scheduler."""

    def accepted(
        self, request: PlacementRequest, compiled: CompiledRequest, consumer: str
    ) -> RequestWatch | None:
        """A request comes in. None: it is not watched."""

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


def trace_parents(observers: Sequence[SchedulerObserver]) -> TraceParentOf | None:
    """The function that gives the trace contexts of claims; None where nobody watches."""
    if not observers:
        return None

    def of(claim: str) -> str | None:
        return next((found for one in observers if (found := one.trace_parent(claim))), None)

    return of
