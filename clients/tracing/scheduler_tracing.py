"""The spans of a scheduler: one for each request, and in it its queries and its claims. The context of a claim goes into the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, TracerProvider

from vacancy.clients.scheduler.observer import MoveKind, MoveWatch, RequestWatch
from vacancy.clients.scheduler.placement import Outcome, PlacementRequest
from vacancy.projections.query.compiled_request import CompiledRequest

if TYPE_CHECKING:
    from vacancy.projections.diagnostics.summary import Explanation

TRACER: Final = "vacancy"

_log = logging.getLogger("vacancy.scheduler")


class SchedulerTracing:
    """Spans of the requests of schedulers, by `provider` (None: the one that is set for the process).

    A request's span is below the span that is current where its placement starts, so a service sees its own request and the
    placement in one trace. A request that is not sampled costs no more than this decision.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer(TRACER, version("vacancy"), provider)

    def observer(self, scheduler: str) -> SchedulerTraces:
        """The observer of the scheduler with this name."""
        return SchedulerTraces(self._tracer, scheduler)


class SchedulerTraces:
    """Traces the requests of one scheduler. See `SchedulerObserver`."""

    def __init__(self, tracer: Tracer, scheduler: str) -> None:
        self.tracer = tracer
        self._scheduler = scheduler
        self.contexts: dict[str, str] = {}
        """Claim -> its trace context, of claims without a verdict."""

    def accepted(
        self, request: PlacementRequest, compiled: CompiledRequest, consumer: str
    ) -> RequestWatch | None:
        """See `SchedulerObserver.accepted`."""
        span = self.tracer.start_span("vacancy place")
        if not span.is_recording():
            return None
        span.set_attributes({"vacancy.scheduler": self._scheduler, "vacancy.consumer": consumer})
        return _RequestSpans(self, span)

    def moving(self, kind: MoveKind, consumer: str) -> MoveWatch | None:
        """See `SchedulerObserver.moving`."""
        span = self.tracer.start_span("vacancy move")
        if not span.is_recording():
            return None
        named = {"vacancy.scheduler": self._scheduler, "vacancy.consumer": consumer, "vacancy.kind": kind}
        span.set_attributes(named)
        return _MoveSpans(self.tracer, span)

    def trace_parent(self, claim: str) -> str | None:
        """See `SchedulerObserver.trace_parent`."""
        return self.contexts.get(claim)


class _RequestSpans:
    """The spans of one request."""

    __slots__ = ("_claims", "_context", "_span", "_traces")

    def __init__(self, traces: SchedulerTraces, span: Span) -> None:
        self._traces, self._span = traces, span
        self._context = trace.set_span_in_context(span)
        self._claims: dict[str, Span] = {}

    def queried(self, took_s: float, tables_ms: int) -> None:
        """See `RequestWatch.queried`."""
        ended_ns = time.time_ns()
        query = self._traces.tracer.start_span(
            "vacancy query",
            self._context,
            attributes={"vacancy.tables.time_ms": tables_ms},
            start_time=ended_ns - int(took_s * 1e9),
        )
        query.end(ended_ns)

    def claimed(self, claim: str, cell: str, root: str) -> None:
        """See `RequestWatch.claimed`."""
        span = self._traces.tracer.start_span(
            "vacancy claim",
            self._context,
            kind=SpanKind.PRODUCER,
            attributes={"vacancy.claim": claim, "vacancy.cell": cell, "vacancy.node": root},
        )
        self._claims[claim] = span
        self._traces.contexts[claim] = trace_parent(span)

    def decided(self, claim: str, verdict: str, waited_s: float) -> None:
        """See `RequestWatch.decided`."""
        span = self._end(claim)
        if span is not None:
            span.set_attribute("vacancy.verdict", verdict)
            span.end()

    def ended(self, outcome: Outcome, explain: Callable[[], Explanation]) -> None:
        """See `RequestWatch.ended`."""
        named = {"vacancy.request": outcome.request, "vacancy.outcome": outcome.status}
        if outcome.claim:
            named |= {"vacancy.claim": outcome.claim, "vacancy.cell": outcome.cell}
        self._span.set_attributes(named)
        if outcome.status != "placed":
            self._span.set_status(Status(StatusCode.ERROR, outcome.reason))
        about = {"consumer": outcome.consumer, "claim": outcome.claim, "reason": outcome.reason}
        about |= {"request": outcome.request, "outcome": outcome.status, **span_ids(self._span)}
        _log.info("request ended", extra=about)
        self._end_all()

    def abandoned(self) -> None:
        """See `RequestWatch.abandoned`."""
        if self._span.is_recording():
            self._span.set_status(Status(StatusCode.ERROR, "the caller did not wait for the outcome"))
            self._end_all()

    def _end_all(self) -> None:
        for claim in list(self._claims):
            if (span := self._end(claim)) is not None:  # without a verdict
                span.end()
        self._span.end()

    def _end(self, claim: str) -> Span | None:
        self._traces.contexts.pop(claim, None)
        return self._claims.pop(claim, None)


class _MoveSpans:
    """The spans of one move: its own, and one for each of its claims."""

    __slots__ = ("_claims", "_context", "_span", "_tracer")

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer, self._span = tracer, span
        self._context = trace.set_span_in_context(span)
        self._claims: dict[str, Span] = {}

    def claimed(self, claim: str, cell: str, root: str) -> None:
        """See `MoveWatch.claimed`."""
        attributes = {"vacancy.claim": claim, "vacancy.cell": cell, "vacancy.node": root}
        self._claims[claim] = self._tracer.start_span(
            "vacancy claim", self._context, kind=SpanKind.PRODUCER, attributes=attributes
        )

    def decided(self, claim: str, verdict: str, waited_s: float) -> None:
        """See `MoveWatch.decided`."""
        span = self._claims.pop(claim)
        span.set_attribute("vacancy.verdict", verdict)
        span.end()

    def ended(self, outcome: str, reason: str) -> None:
        """See `MoveWatch.ended`."""
        for span in self._claims.values():  # without a verdict
            span.end()
        self._span.set_attribute("vacancy.outcome", outcome)
        if outcome != "placed":
            self._span.set_status(Status(StatusCode.ERROR, reason))
        self._span.end()


def trace_parent(span: Span) -> str:
    """A span's context as W3C's `traceparent`."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def span_ids(span: Span) -> dict[str, str]:
    """The ids of a span for log lines, under the names that OpenTelemetry gives them there."""
    context = span.get_span_context()
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
